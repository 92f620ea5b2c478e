# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""``flow_rag_vla proof --claims``: every row of the first page about the memory, made again with one policy each."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from flow_rag_vla.cli.proof_run import measure, prepare_steps, publish, run_trials
from flow_rag_vla.core.files import write_text

if TYPE_CHECKING:
    from flow_rag_vla.evaluate.external.bench import ExternalBenchSpec
    from flow_rag_vla.proof.stages import ProofSettings

CLAIMS_PAGE = "claims.md"
COMMAND = "flow_rag_vla proof --claims"


def make_claims(
    console: Console, work: Path, settings: ProofSettings, episodes: int | None, workers: int, results: Path | None
) -> int:
    """Make each row of the first page with one policy, and print what came of it; the exit code.

    Args:
        console: that is told.
        work: folder of policies, banks and trials; what is there is kept.
        settings: what the claims do not say themselves.
        episodes: fresh starts of each row, of each task in other people's environments; None: as each claim says.
        workers: processes.
        results: gets the summaries, every trial and the page.

    Raises:
        TrialError, ExternalError: if something cannot be made or run.
    """
    from flow_rag_vla.cli.tables import table_console
    from flow_rag_vla.evaluate.trials.session import SUMMARY
    from flow_rag_vla.proof.claims import (
        CLAIMS,
        COLUMNS,
        EPISODES,
        EXTERNAL,
        claim_folder,
        claim_row,
        claim_settings,
        claims_markdown,
    )
    from flow_rag_vla.proof.stages import trials_path

    started, whole = time.monotonic(), not work.exists()
    settings = replace(settings, episodes=episodes or EPISODES)
    broken, rows = 0, []
    # What takes a package of its own comes first: without it nobody waits for the rest.
    external = _prepare_external(console, work / EXTERNAL.name, settings, workers)
    jobs = [(claim_folder(work, claim), claim_settings(claim, settings)) for claim in CLAIMS]
    prepare_steps(console, jobs, workers)
    for claim, (folder, asked) in zip(CLAIMS, jobs, strict=True):
        console.print(
            f"[bold]{claim.ground.task}, {claim.ground.scene}, corrections: {claim.source}{', online' * claim.online}"
        )
        broken += measure(console, folder, asked, claim.ground, workers)
        trials = trials_path(folder, claim.ground, asked)
        if results is not None:
            publish(trials, results, claim.name)
        content = json.loads((trials / SUMMARY).read_text(encoding="utf-8"))
        rows.append([claim.name, *claim_row(content, claim.memory)])
    console.print(f"[bold]{EXTERNAL.name}")
    trials = work / f"trials-{EXTERNAL.name}"
    broken += _measure_external(console, trials, external, episodes or EXTERNAL.episodes, workers)
    if results is not None:
        publish(trials, results, EXTERNAL.name)
    content = json.loads((trials / SUMMARY).read_text(encoding="utf-8"))
    rows.append([EXTERNAL.name, *claim_row(content, EXTERNAL.memory)])
    table = Table(*COLUMNS)
    for row in rows:
        table.add_row(*row)
    table_console().print(table)
    page = claims_markdown(rows, COMMAND, time.monotonic() - started if whole else None)
    for place in [work, *([results] if results is not None else [])]:
        write_text(place / CLAIMS_PAGE, page)
    console.print(f"these figures: {work / CLAIMS_PAGE}", highlight=False)
    return 1 if broken else 0


def _prepare_external(console: Console, folder: Path, settings: ProofSettings, workers: int) -> list[ExternalBenchSpec]:
    """Policies and banks in other people's environments.

    Raises:
        ExternalError: if they cannot be made, for example without their package.
    """
    from flow_rag_vla.evaluate.external.study import prepared_benches
    from flow_rag_vla.proof.claims import EXTERNAL, TRAINING_SEED, external_preparation

    return prepared_benches(
        EXTERNAL.tasks,
        folder,
        policy_seeds=(TRAINING_SEED,),
        preparation=external_preparation(settings),
        workers=workers,
        report=lambda text: console.print(text, highlight=False),
    )


def _measure_external(
    console: Console, folder: Path, specs: list[ExternalBenchSpec], episodes: int, workers: int
) -> int:
    """Run the trials in other people's environments and print their summary; how many broke.

    Raises:
        TrialError: if they cannot be run.
    """
    from flow_rag_vla.evaluate.trials.plan import make_plan
    from flow_rag_vla.evaluate.trials.variants import parse_all
    from flow_rag_vla.proof.claims import EXTERNAL
    from flow_rag_vla.proof.stages import TEST_SEED

    plan = make_plan(specs, parse_all(EXTERNAL.variants), episodes=episodes, first_seed=TEST_SEED)
    about = {"command": COMMAND, "episodes": episodes, "first_seed": TEST_SEED}
    return run_trials(console, [plan], folder, about, workers)
