# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The steps of a proof at the console: policies and banks a bar a step; trials with their summary; results kept."""

from __future__ import annotations

import gzip
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from flow_rag_vla.core.files import replaced_file, write_text

if TYPE_CHECKING:
    from flow_rag_vla.evaluate.trials.plan import Plan
    from flow_rag_vla.proof.stages import Ground, ProofSettings


def prepare_steps(console: Console, jobs: Sequence[tuple[Path, ProofSettings]], workers: int) -> None:
    """Policies and banks, with a bar a step."""
    from flow_rag_vla.cli.progress import StageBar, StageBars, progress_display
    from flow_rag_vla.proof.stages import prepare_all

    with progress_display(console) as display:
        bars: dict[str, StageBar] = {}
        stages = StageBars(display)

        def note(step: str, done: int, total: int, text: str) -> None:
            if step not in bars:
                bars[step] = stages.bar(step)
            bars[step](done, total, text)

        prepare_all(jobs, workers, note)


def measure(console: Console, work: Path, settings: ProofSettings, item: Ground, workers: int) -> int:
    """Run the trials on one ground and print their summary; how many broke.

    Raises:
        TrialError: if they cannot be run.
    """
    from flow_rag_vla import __version__
    from flow_rag_vla.proof.stages import TEST_SEED, plans, trials_path

    about = {
        "command": "flow_rag_vla proof",
        "started": time.strftime("%Y-%m-%dT%H:%M:%S"),
        "version": __version__,
        "episodes": settings.episodes,
        "first_seed": TEST_SEED,
        "settings": {**asdict(settings), "grounds": [str(one) for one in settings.grounds]},
    }
    folder = trials_path(work, item, settings)
    return run_trials(console, plans(work, settings, item), folder, about, workers)


def run_trials(console: Console, trials: Sequence[Plan], folder: Path, about: Mapping[str, Any], workers: int) -> int:
    """Run what of some plans a folder lacks, each with a bar, and print the summary of all; how many trials broke.

    Raises:
        TrialError: if they cannot be run.
    """
    from flow_rag_vla.cli.paired_trials import Tally, print_summary
    from flow_rag_vla.cli.progress import progress_display
    from flow_rag_vla.evaluate.trials.session import REPORT, TRIALS, run_plan

    for plan in trials:
        with progress_display(console) as display:
            summary = run_plan(
                plan, folder, workers=workers, resume=(folder / TRIALS).is_file(),
                about=about, progress=Tally(display).note,
            )  # fmt: skip
    print_summary(console, summary)
    console.print(f"report: {folder / REPORT}", highlight=False)
    return len(summary.broken)


def publish(folder: Path, results: Path, item: str) -> None:
    """Copy the summaries and every trial of a ground to where they are read."""
    from flow_rag_vla.evaluate.trials.session import SUMMARY, TABLES, TRIALS

    results.mkdir(parents=True, exist_ok=True)
    for name in (SUMMARY, TABLES):
        write_text(results / f"{item}-{name}", (folder / name).read_text(encoding="utf-8"))
    with replaced_file(results / f"{item}-{TRIALS}.gz") as temporary:
        # No time in the file: the same trials give the same bytes.
        temporary.write_bytes(gzip.compress((folder / TRIALS).read_bytes(), mtime=0))
