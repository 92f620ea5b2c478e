# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Profiles that ship, and one that tests may change."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

ROBOTS = Path(__file__).resolve().parents[2] / "config" / "robots"
SHIPPED = sorted(path.stem for path in ROBOTS.glob("*.yaml"))


@pytest.fixture
def profile_values() -> dict:
    """The mock's profile as plain values."""
    return yaml.safe_load((ROBOTS / "mock.yaml").read_text(encoding="utf-8"))


@pytest.fixture(params=SHIPPED)
def shipped(request):
    """Each profile that ships."""
    from flow_rag_vla.robot.profile import load_profile

    return load_profile(ROBOTS / f"{request.param}.yaml")


@pytest.fixture
def mock_profile():
    """The mock's profile."""
    from flow_rag_vla.robot.profile import load_profile

    return load_profile(ROBOTS / "mock.yaml")
