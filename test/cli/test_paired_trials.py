# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Paired trials at the console: what ``on`` means is said before they run, and kept with what they show."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from flow_rag_vla.cli.paired_trials import PairedTrials, run_paired
from flow_rag_vla.core.failure import FailureType
from flow_rag_vla.evaluate.trials import session
from flow_rag_vla.evaluate.trials.analysis import plain, summarise
from flow_rag_vla.evaluate.trials.bank import BankEpisode, GrowingBank
from flow_rag_vla.evaluate.trials.protocol import Start, TrialError
from flow_rag_vla.evaluate.trials.simulated_spec import SimulatedSpec
from flow_rag_vla.evaluate.trials.tables import label
from flow_rag_vla.memory.case import SITUATION, FailureCase


def bank(folder: Path, encoder: str) -> str:
    with GrowingBank(folder, 0) as growing:
        vector = np.eye(8, dtype=np.float32)[0]
        actions = np.zeros((16, 7), dtype=np.float32)
        growing.memory.add(FailureCase(FailureType.COLLISION, "push", "reach", encoder, "1", vector, actions))
        growing.finish(BankEpisode(0, "x", Start(1, 1), False, (1,)))
    return str(folder)


@pytest.fixture
def planned(monkeypatch):
    """What would have been run, instead of running it."""
    seen: dict[str, object] = {}

    def run_plan(plan, folder, *, about, **_):
        seen.update(variants=[str(item) for item in plan.variants], about=about)
        return summarise([], about)

    monkeypatch.setattr(session, "run_plan", run_plan)
    return seen


def run(specs, memory: str | None, folder: Path, preset: str | None = None) -> str:
    console = Console(file=io.StringIO(), width=200)
    run_paired(console, specs, PairedTrials(memory, preset, 1, 5, None, 1, folder, False))
    return console.file.getvalue()


def test_on_is_what_the_graph_does_where_the_bank_allows_it(tmp_path, planned):
    spec = SimulatedSpec("push", "plain", "a@1", cases=bank(tmp_path / "situations", SITUATION))
    said = run([spec], "on,shuffled,guide", tmp_path)
    assert planned["variants"] == ["off", "by_cause", "shuffled+by_cause", "guide"]
    assert "memory on is by_cause\n" in said and "memory shuffled is shuffled+by_cause\n" in said
    about = plain(summarise([], planned["about"]))["about"]
    assert [label(name, about) for name in planned["variants"]] == [
        "off", "on (by_cause)", "shuffled (shuffled+by_cause)", "guide",
    ]  # fmt: skip


def test_on_is_dispatch_where_it_does_not_and_says_what_would(tmp_path, planned):
    spec = SimulatedSpec("push", "plain", "a@1", cases=bank(tmp_path / "pictures", "compact"))
    said = run([spec], "off,on", tmp_path)
    assert planned["variants"] == ["off", "dispatch"]
    assert "memory on is dispatch: what the graph does needs situations" in said and "flow_rag_vla practice" in said
    assert "memory" not in run([spec], "dispatch,guide", tmp_path)
    # A memory that grows is another matter than the bank: it is what the source of its corrections allows.
    growing = SimulatedSpec("push", "plain", "a@1", workspace="somewhere")
    assert "memory on is dispatch: what the graph does needs situations, which --source" in run(
        [growing], "on", tmp_path, "online"
    )
    assert planned["variants"] == ["off", "online+dispatch"]
    assert "memory on is by_cause\n" in run([replace(growing, source="takeover")], "on", tmp_path, "online")
    assert planned["variants"] == ["off", "online+by_cause"]
    # A preset without --memory means what it meant, whatever the bank.
    situations = replace(spec, cases=bank(tmp_path / "situations", SITUATION))
    run([situations], None, tmp_path, "controls")
    assert planned["variants"][-1] == "dispatch"
    run([situations], "on", tmp_path, "controls")
    assert planned["variants"][-1] == "by_cause"


def test_on_must_mean_one_thing_on_every_bench(tmp_path, planned):
    specs = [
        SimulatedSpec("push", "plain", f"{encoder}@1", cases=bank(tmp_path / encoder, encoder))
        for encoder in (SITUATION, "compact")
    ]
    with pytest.raises(TrialError, match=r"means by_cause with the cases .*name the method instead"):
        run(specs, "off,on", tmp_path)
    run(specs, "off,guide", tmp_path)
    assert planned["variants"] == ["off", "guide"]
