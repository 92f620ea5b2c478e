# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""``flow_rag_vla proof``: what the memory is worth on a declared ground, made again from nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from flow_rag_vla.cli.saying import complain


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
        int | None,
        typer.Option(min=1, help="Fresh starts of each training seed, with --claims 80 (of a task 40); default: 134"),
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
    online: Annotated[
        bool,
        typer.Option(
            "--online", help="No practice: the memory begins empty and learns of each failure, by --source, on the way"
        ),
    ] = False,
    results: Annotated[
        Path | None, typer.Option(help="Folder that gets the summaries and every trial, e.g. docs/results")
    ] = None,
    claims: Annotated[
        bool,
        typer.Option("--claims", help="Every row of the first page, each with one policy: within the hour"),
    ] = False,
    quick: Annotated[bool, typer.Option("--quick", help="One training seed, few episodes: does it run?")] = False,
) -> None:
    """Train policies from few demonstrations, let them fail in a declared gap, and measure what the memory makes of it.

    An interrupted proof goes on where it stopped. Its 3,700 trials alone take about forty minutes on two free cores.
    With --claims all rows of the first page but that of the running graph are made, each with one policy where the
    page has three.

    Examples:
      flow_rag_vla proof

      flow_rag_vla proof --claims

      flow_rag_vla proof --ground pick_and_place/held_out_strip --variants off,dagger,by_cause --repeated off,by_cause

      flow_rag_vla proof --source rehearsal

      flow_rag_vla proof --source rehearsal --online
    """
    from flow_rag_vla.cli.proof_claims import make_claims
    from flow_rag_vla.cli.proof_run import measure, prepare_steps, publish
    from flow_rag_vla.core.goal import UnknownTaskError, check_task
    from flow_rag_vla.evaluate.external.environment import ExternalError
    from flow_rag_vla.evaluate.trials.lessons import PRACTISED
    from flow_rag_vla.evaluate.trials.practice import SOURCES
    from flow_rag_vla.evaluate.trials.protocol import TrialError
    from flow_rag_vla.evaluate.trials.scenes import check_scene
    from flow_rag_vla.evaluate.trials.session import TABLES
    from flow_rag_vla.proof.stages import USUAL_SOURCE, Ground, ProofSettings, ground_name, trials_path

    console = Console()
    settings = ProofSettings()
    if quick:
        settings = replace(settings, training_seeds=(0,), iterations=300, tuning=100, practice=6, episodes=3, repeats=0,
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
        own = (ground, demonstrations, training_seed, practice, source, rounds, variants, repeated)
        if claims and (online or any(value is not None for value in own)):
            raise TrialError(
                "--claims names grounds, demonstrations, training seed, practice, source, rounds and variants itself"
            )
        if online and source not in PRACTISED:
            raise TrialError(f"--online learns by --source {' or '.join(PRACTISED)}; it was {source or USUAL_SOURCE!r}")
        if online and any(value is not None for value in (practice, rounds, repeated)):
            raise TrialError("--online has no practice: leave out --practice, --rounds and --repeated")
        if online:
            settings = replace(settings, online=True, variants="off,online+by_cause", repeats=0, repeated="")
        if source is not None and source not in SOURCES:
            raise TrialError(f"source {source!r} is not known; known: {', '.join(SOURCES)}")
        if rounds and source in ("rehearsal", "search"):
            raise TrialError(f"--rounds {rounds}: source {source!r} tries again by itself; leave them out")
        settings = replace(settings, **{name: value for name, value in given.items() if value is not None})
        if claims:
            if quick:
                episodes = settings.episodes
            raise typer.Exit(make_claims(console, work, settings, episodes, workers, results))
        prepare_steps(console, [(work, settings)], workers)
        for item in settings.grounds:
            console.print(f"[bold]{item.task}, {item.scene}")
            folder = trials_path(work, item, settings)
            broken = measure(console, work, settings, item, workers)
            if results is not None:
                publish(folder, results, ground_name(item, settings.source, online=online))
            if broken:
                console.print(f"[red]{broken} trials broke; they are in {folder / TABLES}")
                raise typer.Exit(1)
    except (UnknownTaskError, TrialError, ExternalError) as error:
        complain(console, error)
        raise typer.Exit(2) from error
