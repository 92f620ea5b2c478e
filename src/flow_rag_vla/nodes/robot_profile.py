# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The profile of an arm, for the nodes that cannot start without it."""

from __future__ import annotations

from flow_rag_vla.bringup.resources import robots_folder
from flow_rag_vla.nodes.runtime import StartError
from flow_rag_vla.robot.fields import ProfileError
from flow_rag_vla.robot.profile import RobotProfile, find_profile, load_profile


def profile_of(name: str) -> RobotProfile:
    """A profile by name or file.

    Raises:
        StartError: saying what is wrong with it.
    """
    try:
        return load_profile(find_profile(name, robots_folder()))
    except ProfileError as error:
        raise StartError(str(error)) from None
