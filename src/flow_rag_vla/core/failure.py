# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The kinds of failure, and the evidence for one."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class FailureType(IntEnum):
    """Values equal FailureEvent.TYPE_*."""

    UNKNOWN = 0
    GRASP_FAILURE = 1
    COLLISION = 2
    DROP = 3
    MISALIGNMENT = 4
    TIMEOUT = 5


@dataclass(frozen=True, slots=True)
class Evidence:
    """One measured reason: a value beside the threshold it crossed."""

    name: str
    value: float
    threshold: float
    unit: str = ""
