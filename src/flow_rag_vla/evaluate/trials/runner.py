# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Plays trials in worker processes, in an order that keeps pairs together, and keeps each result at once."""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

from flow_rag_vla.core.processes import end_with_parent
from flow_rag_vla.evaluate.trials.journal import Journal
from flow_rag_vla.evaluate.trials.protocol import ONLINE, Bench, BenchSpec, Start, Trial, TrialError, TrialResult
from flow_rag_vla.evaluate.trials.variants import Variant

_BENCHES: dict[str, Bench] = {}
"""Of a worker process: each bench is built once."""


@dataclass(frozen=True, slots=True)
class Broken:
    """A trial that raised instead of ending; it is not kept, so that the next start runs it again."""

    trial: Trial
    reason: str


def paired_trials(
    specs: Sequence[BenchSpec], variants: Sequence[Variant], starts: Mapping[str, Sequence[Start]], block: str
) -> list[Trial]:
    """Every variant at every start of each bench, the variants of one start next to each other.

    Args:
        specs: the benches.
        variants: what the memory does.
        starts: by bench key.
        block: what the starts have to do with the memory.

    Raises:
        TrialError: if a bench cannot run a variant.
    """
    for spec in specs:
        for variant in variants:
            spec.check(str(variant))
    longest = max((len(some) for some in starts.values()), default=0)
    return [
        Trial(spec.key, str(variant), starts[spec.key][place], block, place)
        for place in range(longest)
        for spec in specs
        if place < len(starts.get(spec.key, ()))
        for variant in variants
    ]


def run_trials(
    specs: Sequence[BenchSpec], trials: Sequence[Trial], journal: Journal, workers: int
) -> Generator[TrialResult | Broken, None, None]:
    """Run the trials that the journal lacks; each result is in it before it is given.

    One worker runs them in this process. Several are processes that end with this one. Closing the iterator (or an
    exception in the caller, Ctrl-C too) waits for the trials under way, keeps them, and starts no more.

    Raises:
        ValueError: for fewer than 1 worker.
        TrialError: if a worker process dies, or a trial names a bench that is not given.
    """
    if workers < 1:
        raise ValueError(f"workers is {workers}, expected at least 1")
    by_key = {spec.key: spec for spec in specs}
    missing = [trial for trial in trials if trial.key not in journal.results]
    unknown = next((trial for trial in missing if trial.bench not in by_key), None)
    if unknown is not None:
        raise TrialError(f"trial of bench {unknown.bench!r}, but the benches are {', '.join(by_key)}")
    if workers == 1:
        try:
            for trial in missing:
                outcome = _run(by_key[trial.bench], trial)
                if isinstance(outcome, TrialResult):
                    journal.append(outcome)
                yield outcome
        finally:
            _close_benches()
        return
    yield from _run_in_processes(by_key, missing, journal, workers)


def _run_in_processes(
    specs: Mapping[str, BenchSpec], trials: Sequence[Trial], journal: Journal, workers: int
) -> Generator[TrialResult | Broken, None, None]:
    queue, waiting = _Queue(trials), dict[Future[TrialResult | Broken], Trial]()
    # Spawned, not forked: torch's threads do not survive a fork.
    pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"), initializer=_start_worker)
    try:
        while True:
            # No more than there are workers: what is not begun can then be dropped at once.
            while len(waiting) < workers and (trial := queue.next()) is not None:
                waiting[pool.submit(_run, specs[trial.bench], trial)] = trial
            if not waiting:
                return
            for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                trial = waiting.pop(future)
                outcome = future.result()
                if isinstance(outcome, TrialResult):
                    journal.append(outcome)
                queue.done(trial)
                yield outcome
    except BrokenProcessPool as error:
        raise TrialError(
            f"a worker process died ({error}); what was done is kept: start again with --resume, with fewer --workers "
            "if memory ran out"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)
        for future in waiting:
            if future.done() and not future.cancelled() and future.exception() is None:
                outcome = future.result()
                if isinstance(outcome, TrialResult):
                    journal.append(outcome)


class _Queue:
    """Trials in order; of those whose memory grows, one at a time of each bench and variant."""

    def __init__(self, trials: Sequence[Trial]) -> None:
        self._waiting = deque(trials)
        self._growing: set[tuple[str, str]] = set()

    def next(self) -> Trial | None:
        """The first trial that may run now."""
        for place, trial in enumerate(self._waiting):
            chain = _chain(trial)
            if chain is None or chain not in self._growing:
                del self._waiting[place]
                if chain is not None:
                    self._growing.add(chain)
                return trial
        return None

    def done(self, trial: Trial) -> None:
        """A trial has ended."""
        chain = _chain(trial)
        if chain is not None:
            self._growing.discard(chain)


def _chain(trial: Trial) -> tuple[str, str] | None:
    return (trial.bench, trial.variant) if trial.block == ONLINE else None


def _start_worker() -> None:
    # Ctrl-C reaches the whole process group: the command decides what becomes of the trials under way.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()


def _run(spec: BenchSpec, trial: Trial) -> TrialResult | Broken:
    try:
        bench = _BENCHES.get(spec.key)
        if bench is None:
            bench = _BENCHES[spec.key] = spec.build()
        return bench.run(trial)
    except TrialError as error:
        return Broken(trial, str(error))
    except Exception as error:
        # One trial that breaks must not end a night of others; it is named in the end.
        return Broken(trial, f"{type(error).__name__}: {error}")


def _close_benches() -> None:
    while _BENCHES:
        _BENCHES.popitem()[1].close()
