# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""``robot --check`` says of a profile what somebody who is about to run it has to know."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flow_rag_vla.bringup import discovery
from flow_rag_vla.bringup.resources import robots_folder, share_folder
from flow_rag_vla.cli.main import app


def checked(profile: Path | str) -> str:
    result = CliRunner().invoke(app, ["robot", "--check", str(profile)])
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


@pytest.fixture
def permitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the system is made to permit a socket."""
    file = tmp_path / "rmem_max"
    file.write_text("4194304", encoding="ascii")
    monkeypatch.setattr(discovery, "LARGEST_BUFFER", file)
    return file


@pytest.mark.parametrize("name", ["franka", "ur5e", "so101"])
def test_each_profile_that_ships_can_be_used_and_reaches_most_of_its_workspace(name: str, permitted: Path) -> None:
    said = checked(name)
    reached = re.search(r"orientation as there: (\d+) of 125 points", said)
    assert reached and int(reached[1]) >= 60
    assert "inside the workspace" in said and said.endswith("the profile can be used") and "rmem_max" not in said


def test_raw_cameras_are_named_where_the_system_has_too_little_room_for_them(permitted: Path, tmp_path: Path) -> None:
    permitted.write_text("212992", encoding="ascii")
    assert "raw images above 425984 bytes" in checked("franka")
    packed = tmp_path / "packed.yaml"
    text = (robots_folder() / "franka.yaml").read_text(encoding="utf-8")
    text = text.replace("../../urdf", str(share_folder() / "urdf"))
    packed.write_text(text.replace(", image: ", ", compressed: true, image: "), encoding="utf-8")
    said = checked(packed)
    assert said.count("(compressed)") == 2 and "rmem_max" not in said
