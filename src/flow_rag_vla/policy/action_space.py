# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Actions as the network sees them: the free columns, scaled to order one."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from flow_rag_vla.core.action import ACTION_DIM, MAX_ROTATION_PER_TICK, MAX_TRANSLATION_PER_TICK

FREE_COLUMNS = (0, 1, 2, 5, 6)
"""Roll and pitch stay zero: demonstrations never turn about them, and small predicted drifts would tilt the hand."""

FREE_DIM = len(FREE_COLUMNS)
_SCALE = np.array([MAX_TRANSLATION_PER_TICK] * 3 + [MAX_ROTATION_PER_TICK] + [0.5], dtype=np.float32)
_OFFSET = np.array([0.0, 0.0, 0.0, 0.0, 0.5], dtype=np.float32)


def normalised(actions: NDArray[np.floating]) -> NDArray[np.float32]:
    """(..., 7) actions to (..., FREE_DIM) float32, each column about -1..1."""
    columns = np.asarray(actions, dtype=np.float32)[..., list(FREE_COLUMNS)]
    return np.asarray((columns - _OFFSET) / _SCALE, dtype=np.float32)


def actions_from(normal: NDArray[np.floating] | torch.Tensor) -> NDArray[np.float32]:
    """(..., FREE_DIM) back to (..., 7) float32: roll and pitch exactly 0, the gripper either 0 or 1."""
    values = normal.detach().cpu().numpy() if isinstance(normal, torch.Tensor) else np.asarray(normal)
    columns = values.astype(np.float32) * _SCALE + _OFFSET
    columns[..., -1] = columns[..., -1] >= 0.5
    actions = np.zeros((*columns.shape[:-1], ACTION_DIM), dtype=np.float32)
    actions[..., list(FREE_COLUMNS)] = columns
    return actions
