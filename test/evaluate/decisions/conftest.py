# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Recorded runs of one process, and the policy that made them."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from flow_rag_vla.policy.policy import FlowPolicy


def _stage() -> ModuleType:
    # Test folders are no packages here (--import-mode=importlib), so the file beside this one is loaded by path.
    name = "flow_rag_vla_test_stage"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name("stage.py"))
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


@pytest.fixture(scope="session")
def policy() -> FlowPolicy:
    torch.set_num_threads(1)
    return FlowPolicy.load()


@pytest.fixture
def perform(tmp_path_factory: pytest.TempPathFactory, policy: FlowPolicy) -> Any:
    """``perform(ticks, seed=0, ...)``: a fresh recorded run, and what was decided in it."""

    def run(ticks: int, *, mode: Any = None, stop_at: int = -1, **options: Any) -> Any:
        module = _stage()
        stage = module.Stage(tmp_path_factory.mktemp("stage"), policy, **options)
        return stage.run(ticks, **({} if mode is None else {"mode": mode}), stop_at=stop_at)

    return run
