# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""One run folder for all tests of the report, built once by the simulator."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


def _builder() -> ModuleType:
    # Test folders are no packages here (--import-mode=importlib), so the file beside this one is loaded by path.
    name = "flow_rag_vla_test_run_builder"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name("run_builder.py"))
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


@pytest.fixture(scope="session")
def build_run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """``build_run(name, simulated_clock=False, close=True)``: a folder with a drop, a canceled and a good episode."""
    from flow_rag_vla.core.goal import Goal

    made: dict[tuple[str, bool, bool], Path] = {}

    def build(name: str, simulated_clock: bool = False, close: bool = True) -> Path:
        key = (name, simulated_clock, close)
        if key not in made:
            module = _builder()
            folder = tmp_path_factory.mktemp(name)
            builder = module.RunBuilder(folder, camera_rate=4.0, simulated_clock=simulated_clock)
            cube, box = Goal("pick_and_place", "red_cube"), Goal("pick_and_place", "blue_box")
            plan = [
                module.PlannedEpisode(cube, 1, drop_after=14, timeout=2.6),
                module.PlannedEpisode(box, 2, remembered=True),
            ]
            builder.build(plan, close=close)
            builder.interrupt(3, plan[0])
            made[key] = folder
        return made[key]

    return build


@pytest.fixture(scope="session")
def run_folder(build_run: Any) -> Path:
    """A whole run folder; tests copy it before they change it."""
    folder = build_run("run")
    assert isinstance(folder, Path)
    return folder
