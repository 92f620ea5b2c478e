# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What a memory says where nothing failed: how often it speaks there, and how often it would change something."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from flow_rag_vla.cli.main import app
from flow_rag_vla.core.failure import FailureType
from flow_rag_vla.evaluate.benchmarks.retrieval import NEAREST, false_retrievals, gate_name
from flow_rag_vla.evaluate.trials.bank import DATABASE, EPISODES, SETTINGS, BankEpisode
from flow_rag_vla.evaluate.trials.protocol import Start, TrialError
from flow_rag_vla.memory.case import EncoderStamp, FailureCase
from flow_rag_vla.memory.ledger import SuccessSituation
from flow_rag_vla.memory.memory import FailureMemory
from flow_rag_vla.memory.store import FailureStore

STAMP = EncoderStamp("situation", "1", 16)


def near(seed: int) -> np.ndarray:
    """A unit vector close to all others of this kind."""
    values = np.ones(16) + 0.15 * np.random.default_rng(seed).normal(size=16)
    return (values / np.linalg.norm(values)).astype(np.float32)


def chunk(step: float) -> np.ndarray:
    actions = np.zeros((16, 7), dtype=np.float32)
    actions[:, 0] = step
    return actions


@pytest.fixture
def bank(tmp_path: Path) -> Path:
    """One failure whose correction goes the other way than what went well in six episodes close by."""
    memory = FailureMemory(FailureStore(tmp_path / DATABASE), SETTINGS)
    case = FailureCase(
        FailureType.GRASP_FAILURE, "push", "reach", STAMP.encoder, STAMP.revision, near(0), chunk(0.0), chunk(-0.01),
        "expert",
    )  # fmt: skip
    case_id = memory.add(case).case_id
    for number in range(2, 8):
        memory.observe_done(
            [SuccessSituation("push", "reach", STAMP, near(10 * number + k), chunk(0.01), number) for k in range(3)]
        )
    memory.close()
    lines = [BankEpisode(0, "b", Start(1, 1), False, (case_id,))]
    lines += [BankEpisode(place, "b", Start(1 + place, 1), True) for place in range(1, 7)]
    (tmp_path / EPISODES).write_text("".join(json.dumps(asdict(line)) + "\n" for line in lines))
    return tmp_path


def test_successes_have_a_say_that_the_nearest_case_does_not_give_them(bank: Path) -> None:
    done: list[tuple[int, int]] = []
    found = {item.way: item for item in false_retrievals(bank, 6, (1.0, 0.3), progress=lambda *some: done.append(some))}
    nearest, free, gated = found[NEAREST], found[gate_name(1.0)], found[gate_name(0.3)]
    assert done[-1] == (6, 6)
    assert {item.successes for item in found.values()} == {18}
    assert (nearest.spoken, nearest.false) == (18, 18)
    # The consensus speaks as well, and says what went well.
    assert (free.spoken, free.false) == (18, 0)
    assert free.distance < 0.5 * nearest.distance
    assert gated.spoken < free.spoken


def test_a_bank_without_successes_or_episodes_is_refused_by_the_command_too(bank: Path) -> None:
    (bank / EPISODES).unlink()
    with pytest.raises(TrialError, match="lacks cases, successes or its list of episodes"):
        false_retrievals(bank)
    runner = CliRunner()
    refused = runner.invoke(app, ["bench", "retrieval", "--bank", str(bank)])
    assert refused.exit_code == 2 and "lacks cases" in " ".join(refused.output.split())
    assert runner.invoke(app, ["bench", "retrieval"]).exit_code == 2
