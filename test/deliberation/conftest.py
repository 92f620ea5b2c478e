"""A table on which everything is in its place, and the arm beside it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import tabletop

from flow_rag_vla.deliberation.limits import RobotLimits, simulated_limits
from flow_rag_vla.deliberation.scene import Scene


@pytest.fixture
def table() -> Scene:
    """Everything that tasks speak of, where the robot reaches it."""
    return tabletop.table()


@pytest.fixture
def robot() -> RobotLimits:
    """The simulated arm's limits."""
    return simulated_limits()
