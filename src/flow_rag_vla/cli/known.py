# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Names that commands take, for their help texts. Tests hold them to what is there, which would cost imports here."""

from __future__ import annotations

from flow_rag_vla.core.goal import task_names

TASKS = ", ".join(task_names())

VARIANTS = "plain, held_out_strip, object_size, friction or camera_shift"
SCENE = f"The scene: {VARIANTS} (docs/evaluation.md)"

SEVERITIES = "debug, info, warn, error or fatal"

FAULTS = (
    "kill, restart, pause, delay, drop, duplicate, reorder, disk full, corrupt database, clock jump, processor hogs or "
    "emergency stop"
)
