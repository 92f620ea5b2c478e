# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""``flow_rag_vla proof``: what the memory is worth on a declared ground, made again from nothing."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from flow_rag_vla.cli.saying import complain
from flow_rag_vla.core.files import replaced_file, write_text

if TYPE_CHECKING:
    from flow_rag_vla.proof.stages import Ground, ProofSettings

CLAIMS_PAGE = "claims.md"


def proof(
    work: Annotated[
        Path,
        typer.Option(help="Folder of policies, banks and trials; what is there is kept, and refused if made otherwise"),
    ] = Path("runs/proof"),
    workers: Annotated[int, typer.Option(min=1, help="Processes")] = 2,
    ground: Annotated[
        list[str] | None, typer.Option(help="TASK/SCENE; repeat; default: open_drawer/object_size")
    ] = None,
    episodes: Annotated[
        int | None, typer.Option(min=1, help="Fresh starts of each training seed; default: 134")
    ] = None,
    demonstrations: Annotated[
        int | None, typer.Option(min=1, help="Of each goal, from which each policy is trained; default: 20")
    ] = None,
    training_seed: Annotated[
        list[int] | None, typer.Option(min=0, help="Seed of a policy; repeat for several; default: 0, 1, 2")
    ] = None,
    practice: Annotated[int | None, typer.Option(min=1, help="Practice episodes of each bank; default: 100")] = None,
    source: Annotated[
        str | None,
        typer.Option(
            help="Who says in practice what would have been right: expert, takeover, rehearsal or search, as "
            "`practice --source`; default: expert"
        ),
    ] = None,
    rounds: Annotated[
        int | None,
        typer.Option(min=0, help="How often a start that failed in practice is tried again, at most; default: 0"),
    ] = None,
    variants: Annotated[
        str | None,
        typer.Option(
            help="What the memory does, as in evaluate --memory; "
            "default: off,retry,blend,shuffled+by_cause,dagger,by_cause:50,by_cause"
        ),
    ] = None,
    repeated: Annotated[
        str | None,
        typer.Option(help="The same for the starts that failed in practice, tried again; default: off,by_cause"),
    ] = None,
    results: Annotated[
        Path | None, typer.Option(help="Folder that gets the summaries and every trial, e.g. docs/results")
    ] = None,
    claims: Annotated[
        bool,
        typer.Option("--claims", help="Every ground of the first page, each with one policy: within the hour"),
    ] = False,
    quick: Annotated[bool, typer.Option("--quick", help="One training seed, few episodes: does it run?")] = False,
) -> None:
    """Train policies from few demonstrations, let them fail in a declared gap, and measure what the memory makes of it.

    An interrupted proof goes on where it stopped. Its 3,700 trials alone take about forty minutes on two free cores.
    With --claims all three grounds of the first page are made, each with one policy where the page has three.

    Examples:
      flow_rag_vla proof

      flow_rag_vla proof --claims

      flow_rag_vla proof --ground pick_and_place/held_out_strip --variants off,dagger,by_cause --repeated off,by_cause

      flow_rag_vla proof --source rehearsal
    """
    from flow_rag_vla.core.goal import UnknownTaskError, check_task
    from flow_rag_vla.evaluate.trials.practice import SOURCES
    from flow_rag_vla.evaluate.trials.protocol import TrialError
    from flow_rag_vla.evaluate.trials.scenes import check_scene
    from flow_rag_vla.evaluate.trials.session import TABLES
    from flow_rag_vla.proof.stages import Ground, ProofSettings, ground_name, trials_path

    console = Console()
    settings = ProofSettings()
    if quick:
        settings = replace(settings, training_seeds=(0,), iterations=300, practice=6, episodes=3, repeats=0,
                           variants="off,shuffled+by_cause,dagger,by_cause")  # fmt: skip
    try:
        if ground:
            strange = [name for name in ground if name.count("/") != 1]
            if strange:
                raise TrialError(f"--ground {strange[0]!r} is no TASK/SCENE; give for example open_drawer/object_size")
            named = (name.partition("/") for name in ground)
            chosen = tuple(Ground(check_task(task), check_scene(scene)) for task, _, scene in named)
            settings = replace(settings, grounds=chosen)
        given: dict[str, Any] = {
            "episodes": episodes, "practice": practice, "rounds": rounds, "variants": variants, "repeated": repeated,
            "source": source, "demonstrations": demonstrations,
            "training_seeds": tuple(training_seed) if training_seed else None,
        }  # fmt: skip
        if claims and (ground or demonstrations or training_seed or source or rounds is not None or variants):
            raise TrialError(
                "--claims names grounds, demonstrations, training seed, source, rounds and variants itself"
            )
        if source is not None and source not in SOURCES:
            raise TrialError(f"source {source!r} is not known; known: {', '.join(SOURCES)}")
        if rounds and source in ("rehearsal", "search"):
            raise TrialError(f"--rounds {rounds}: source {source!r} tries again by itself; leave them out")
        settings = replace(settings, **{name: value for name, value in given.items() if value is not None})
        if claims:
            raise typer.Exit(_make_claims(console, work, settings, workers, results))
        _prepare(console, [(work, settings)], workers)
        for item in settings.grounds:
            console.print(f"[bold]{item.task}, {item.scene}")
            broken = _measure(console, work, settings, item, workers)
            if results is not None:
                _publish(trials_path(work, item, settings.source), results, ground_name(item, settings.source))
            if broken:
                folder = trials_path(work, item, settings.source)
                console.print(f"[red]{broken} trials broke; they are in {folder / TABLES}")
                raise typer.Exit(1)
    except (UnknownTaskError, TrialError) as error:
        complain(console, error)
        raise typer.Exit(2) from error


def _make_claims(console: Console, work: Path, settings: ProofSettings, workers: int, results: Path | None) -> int:
    """Make each ground of the first page with one policy, and print what came of it; the exit code."""
    from flow_rag_vla.cli.tables import table_console
    from flow_rag_vla.evaluate.trials.session import SUMMARY
    from flow_rag_vla.proof.claims import CLAIMS, COLUMNS, claim_folder, claim_row, claim_settings, claims_markdown
    from flow_rag_vla.proof.stages import ground_name, trials_path

    started, whole = time.monotonic(), not work.exists()
    broken, rows = 0, []
    jobs = [(claim_folder(work, claim), claim_settings(claim, settings)) for claim in CLAIMS]
    _prepare(console, jobs, workers)
    for claim, (folder, asked) in zip(CLAIMS, jobs, strict=True):
        console.print(f"[bold]{claim.ground.task}, {claim.ground.scene}")
        broken += _measure(console, folder, asked, claim.ground, workers)
        trials = trials_path(folder, claim.ground)
        if results is not None:
            _publish(trials, results, ground_name(claim.ground))
        rows.append([str(claim.ground), *claim_row(json.loads((trials / SUMMARY).read_text(encoding="utf-8")))])
    table = Table(*COLUMNS)
    for row in rows:
        table.add_row(*row)
    table_console().print(table)
    page = claims_markdown(rows, "flow_rag_vla proof --claims", time.monotonic() - started if whole else None)
    for place in [work, *([results] if results is not None else [])]:
        write_text(place / CLAIMS_PAGE, page)
    console.print(f"these figures: {work / CLAIMS_PAGE}", highlight=False)
    return 1 if broken else 0


def _prepare(console: Console, jobs: Sequence[tuple[Path, ProofSettings]], workers: int) -> None:
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


def _measure(console: Console, work: Path, settings: ProofSettings, item: Ground, workers: int) -> int:
    """Run the trials on one ground and print their summary; how many broke.

    Raises:
        TrialError: if they cannot be run.
    """
    from flow_rag_vla import __version__
    from flow_rag_vla.cli.paired_trials import Tally, print_summary
    from flow_rag_vla.cli.progress import progress_display
    from flow_rag_vla.evaluate.trials.session import REPORT, TRIALS, run_plan
    from flow_rag_vla.proof.stages import TEST_SEED, plans, trials_path

    folder = trials_path(work, item, settings.source)
    about = {
        "command": "flow_rag_vla proof",
        "started": time.strftime("%Y-%m-%dT%H:%M:%S"),
        "version": __version__,
        "episodes": settings.episodes,
        "first_seed": TEST_SEED,
        "settings": {**asdict(settings), "grounds": [str(one) for one in settings.grounds]},
    }
    for plan in plans(work, settings, item):
        with progress_display(console) as display:
            summary = run_plan(
                plan, folder, workers=workers, resume=(folder / TRIALS).is_file(),
                about=about, progress=Tally(display).note,
            )  # fmt: skip
    print_summary(console, summary)
    console.print(f"report: {folder / REPORT}", highlight=False)
    return len(summary.broken)


def _publish(folder: Path, results: Path, item: str) -> None:
    """Copy the summaries and every trial of a ground to where they are read."""
    from flow_rag_vla.evaluate.trials.session import SUMMARY, TABLES, TRIALS

    results.mkdir(parents=True, exist_ok=True)
    for name in (SUMMARY, TABLES):
        write_text(results / f"{item}-{name}", (folder / name).read_text(encoding="utf-8"))
    with replaced_file(results / f"{item}-{TRIALS}.gz") as temporary:
        # No time in the file: the same trials give the same bytes.
        temporary.write_bytes(gzip.compress((folder / TRIALS).read_bytes(), mtime=0))
