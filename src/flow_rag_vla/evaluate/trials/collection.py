# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Makes a bank of cases: episodes without memory, whose failures are remembered and corrected."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from flow_rag_vla.evaluate.trials.bank import DATABASE, read_episodes
from flow_rag_vla.evaluate.trials.plan import fresh_starts
from flow_rag_vla.evaluate.trials.protocol import Trial, TrialError, TrialResult
from flow_rag_vla.evaluate.trials.simulated_spec import SimulatedSpec
from flow_rag_vla.evaluate.trials.variants import OFF

BANK_SEEDS = 70_000
"""First seed of a bank by default: nothing is trained on it, and tests begin later."""


def collect_bank(
    folder: str | Path,
    specs: Sequence[SimulatedSpec],
    episodes: int,
    first_seed: int = BANK_SEEDS,
    *,
    progress: Callable[[int, int, TrialResult | None], None] | None = None,
) -> int:
    """Run ``episodes`` starts of each bench without memory into a bank; go on where an interrupted run stopped.

    The benches take turns, so that a bank cut short has seen each alike. Memories grow in one process: it is this one.

    Returns:
        How many episodes failed, those of earlier runs among them.

    Raises:
        TrialError: if the folder holds a bank of other episodes, or a bench cannot be run.
    """
    root = Path(folder)
    trials = [
        Trial(spec.key, OFF, start, place=number * len(specs) + turn)
        for number, start in enumerate(fresh_starts(episodes, first_seed))
        for turn, spec in enumerate(specs)
    ]
    known = read_episodes(root)
    if (root / DATABASE).is_file() and not known:
        raise TrialError(f"{root} holds a database of unknown episodes; collect into another folder")
    for trial, found in zip(trials, known, strict=False):
        if (trial.bench, trial.start) != (found.bench, found.start):
            raise TrialError(
                f"{root}: episode {found.place} began at seed {found.start.seed} of {found.bench}, now it would be "
                f"{trial.start.seed} of {trial.bench}; collect into another folder"
            )
    failed = sum(not item.success for item in known)
    if progress is not None:
        progress(min(len(known), len(trials)), len(trials), None)
    benches = {spec.key: spec.build() for spec in specs}
    try:
        for done, trial in enumerate(trials[len(known) :], len(known) + 1):
            result = benches[trial.bench].collect(root, trial)
            failed += not result.success
            if progress is not None:
                progress(done, len(trials), result)
    finally:
        for bench in benches.values():
            bench.close()
    # What an interrupted episode would be undone with: all of them are whole.
    for copy in root.glob("before-*.db"):
        copy.unlink()
    return failed
