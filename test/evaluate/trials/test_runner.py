# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The order in which trials run and what is kept of them; test_simulated_trials.py runs real ones in processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from flow_rag_vla.evaluate.trials.journal import Journal, read_trials
from flow_rag_vla.evaluate.trials.plan import fresh_starts
from flow_rag_vla.evaluate.trials.protocol import FRESH, ONLINE, Start, Trial, TrialError, TrialResult
from flow_rag_vla.evaluate.trials.runner import Broken, _Queue, paired_trials, run_trials
from flow_rag_vla.evaluate.trials.variants import parse_all


@dataclass
class CoinBench:
    """An environment without physics: a start succeeds if its seed is even; ``guide`` mends multiples of three."""

    spec: CoinSpec
    ran: list[str]
    closed: bool = False

    def run(self, trial: Trial) -> TrialResult:
        if trial.start.seed == self.spec.breaks_at:
            raise ZeroDivisionError("the coin broke")
        self.ran.append(trial.key)
        seed = trial.start.seed
        success = seed % 2 == 0 or (trial.variant == "guide" and seed % 3 == 0)
        return TrialResult(trial, self.spec.task, self.spec.scene, self.spec.policy, success, 1.0)

    def close(self) -> None:
        self.closed = True


@dataclass
class CoinSpec:
    breaks_at: int = -1
    task: str = "toss"
    scene: str = "table"
    policy: str = "thumb@1"
    bench: CoinBench | None = None

    @property
    def key(self) -> str:
        return f"coin/{self.task}/{self.scene}/{self.policy}"

    def check(self, variant: str) -> None:
        if variant == "retry":
            raise TrialError("a coin falls once")

    def failed_starts(self) -> tuple[Start, ...]:
        return (Start(1, 1), Start(3, 3))

    def build(self) -> CoinBench:
        self.bench = CoinBench(self, [])
        return self.bench


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal(tmp_path / "trials.jsonl") as opened:
        yield opened


@pytest.fixture
def trials() -> Callable[[CoinSpec, int], list[Trial]]:
    def make(spec: CoinSpec, count: int) -> list[Trial]:
        return paired_trials([spec], parse_all("off,guide"), {spec.key: fresh_starts(count, 0)}, FRESH)

    return make


def test_the_variants_of_a_start_run_next_to_each_other(journal: Journal, trials) -> None:
    spec = CoinSpec()
    done = [item for item in run_trials([spec], trials(spec, 4), journal, 1) if isinstance(item, TrialResult)]
    assert [(item.trial.start.seed, item.trial.variant) for item in done] == [
        (seed, variant) for seed in range(4) for variant in ("off", "guide")
    ]
    assert read_trials(journal.path) == done
    assert spec.bench is not None
    assert spec.bench.closed


def test_a_second_start_skips_what_is_there(journal: Journal, trials) -> None:
    spec = CoinSpec()
    first = run_trials([spec], trials(spec, 5), journal, 1)
    kept = [next(first) for _ in range(3)]
    first.close()
    again = CoinSpec()
    rest = list(run_trials([again], trials(again, 5), journal, 1))
    assert len(kept) + len(rest) == 10
    assert again.bench is not None
    assert len(again.bench.ran) == 7
    assert len(read_trials(journal.path)) == 10


def test_a_trial_that_breaks_ends_no_other_and_is_run_again(journal: Journal, trials) -> None:
    spec = CoinSpec(breaks_at=1)
    outcomes = list(run_trials([spec], trials(spec, 3), journal, 1))
    broken = [item for item in outcomes if isinstance(item, Broken)]
    assert [item.trial.start.seed for item in broken] == [1, 1]
    assert "ZeroDivisionError: the coin broke" in broken[0].reason
    whole = CoinSpec()
    assert [item.trial.start.seed for item in run_trials([whole], trials(whole, 3), journal, 1)] == [1, 1]


def test_what_cannot_be_run_is_refused_before_anything_runs(journal: Journal, trials) -> None:
    spec = CoinSpec()
    with pytest.raises(TrialError, match="falls once"):
        paired_trials([spec], parse_all("retry"), {spec.key: fresh_starts(2, 0)}, FRESH)
    with pytest.raises(TrialError, match="coin/toss"):
        next(run_trials([CoinSpec(task="other")], trials(spec, 1), journal, 1))
    with pytest.raises(ValueError, match="workers is 0"):
        next(run_trials([spec], trials(spec, 1), journal, 0))


def test_growing_memories_run_one_trial_at_a_time_and_others_beside_them() -> None:
    spec = CoinSpec()
    queue = _Queue(paired_trials([spec], parse_all("off,online+guide"), {spec.key: fresh_starts(3, 0)}, ONLINE))
    first = [queue.next() for _ in range(2)]
    assert [(item.variant, item.place) for item in first if item] == [("off", 0), ("online+guide", 0)]
    assert queue.next() is None
    assert first[1] is not None
    queue.done(first[1])
    following = queue.next()
    assert following is not None
    assert (following.variant, following.place) == ("online+guide", 1)
