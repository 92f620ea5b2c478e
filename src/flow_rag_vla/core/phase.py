# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Names of the stretches of a manipulation, as far as a robot can tell them from its own gripper."""

from __future__ import annotations

from enum import Enum


class Phase(str, Enum):
    """A case is remembered, and later looked up, within its phase."""

    IDLE = "idle"
    REACH = "reach"
    GRASP = "grasp"
    TRANSPORT = "transport"
    RELEASE = "release"
