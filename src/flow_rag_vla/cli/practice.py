# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""``flow_rag_vla practice``: a policy tries, and what would have been right where it fails becomes a bank of cases."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from flow_rag_vla.cli.known import SCENE, TASKS
from flow_rag_vla.cli.saying import complain

if TYPE_CHECKING:
    from flow_rag_vla.evaluate.trials.rehearsal import Rehearsed
    from flow_rag_vla.evaluate.trials.search import Searched


def practice(
    task: Annotated[str, typer.Option(help=f"What is practised: {TASKS}")],
    output: Annotated[Path, typer.Option(help="Folder that gets the bank; must hold none yet, unless --add")],
    variant: Annotated[str, typer.Option(help=SCENE)] = "object_size",
    checkpoint: Annotated[Path | None, typer.Option(help="Folder of the policy; default: the one that ships")] = None,
    episodes: Annotated[int, typer.Option(min=1, help="How many")] = 80,
    seed: Annotated[int, typer.Option(min=0, help="Of the first start; tests begin at 100000")] = 70_000,
    source: Annotated[
        str,
        typer.Option(
            help="Who says what would have been right: expert; takeover: the expert, as far as a robot could know of "
            "it; rehearsal: nobody, what succeeds in a simulated copy and then in fact; search: nobody, attempts with "
            "a shifted perception"
        ),
    ] = "expert",
    rounds: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="With expert and takeover: how often a start that failed is tried again with what is remembered by "
            "then, at most; all starts are tried so once more at the end; default: 3 with expert",
        ),
    ] = None,
    add: Annotated[
        bool,
        typer.Option(
            "--add", help="With expert and takeover: go on with the bank that is there, with other starts or scenes"
        ),
    ] = False,
    attempts: Annotated[int, typer.Option(min=2, help="With search: attempts after a failure, at most")] = 8,
    tries: Annotated[int, typer.Option(min=1, help="With rehearsal: what is tried in a copy, at most")] = 12,
    in_place: Annotated[
        bool,
        typer.Option(
            "--in-place",
            help="With search and rehearsal: things stay as the failure left them, no start is set up again",
        ),
    ] = False,
    relabel: Annotated[
        bool, typer.Option(help="With search: the shift that was found also labels attempts that failed")
    ] = True,
    copies: Annotated[
        int, typer.Option(min=0, help="With search: simulated copies in which shifts are tried beforehand")
    ] = 0,
    fine_tune: Annotated[
        Path | None,
        typer.Option(help="Also fine-tune the policy on the same labels, into this folder: the control `--dagger`"),
    ] = None,
) -> None:
    """Let a policy practise, and remember its failures with what would have been right.

    With --source expert the simulator's scripted expert takes over where the policy is stuck, and says what would have
    been right before that too; then the start is tried again with what is remembered by then. With --source takeover
    only what it does then counts, and where its hand closed, as with a person and a robot. With --source rehearsal
    nobody helps: a simulated copy is fitted to what was seen, what would have been right is searched for in it, and
    done. With --source search the policy tries with a shifted perception until it succeeds twice.

    Examples:
      flow_rag_vla practice --task open_drawer --episodes 80 --output runs/bank

      flow_rag_vla practice --task open_drawer --source rehearsal --output runs/found

      flow_rag_vla evaluate --task open_drawer --variant object_size --cases runs/found --memory off,consensus

      flow_rag_vla practice --task open_drawer --checkpoint runs/proof/policy-0 --output runs/b --fine-tune runs/tuned
    """
    from flow_rag_vla.cli.progress import StageBars, progress_display
    from flow_rag_vla.core.goal import UnknownTaskError, check_task
    from flow_rag_vla.evaluate.trials.bank import open_bank
    from flow_rag_vla.evaluate.trials.practice import SOURCES, practise
    from flow_rag_vla.evaluate.trials.protocol import TrialError
    from flow_rag_vla.evaluate.trials.rehearsal import RehearsalSettings, read_rehearsals
    from flow_rag_vla.evaluate.trials.scenes import check_scene
    from flow_rag_vla.evaluate.trials.search import SearchSettings, read_searches
    from flow_rag_vla.evaluate.trials.simulated_spec import simulated_spec
    from flow_rag_vla.policy.checkpoint import CheckpointError
    from flow_rag_vla.policy.situation import SituationKeyError

    console = Console()
    try:
        check_task(task)
        check_scene(variant)
        if source not in SOURCES:
            raise TrialError(f"source {source!r} is not known; known: {', '.join(SOURCES)}")
        spec = simulated_spec(task, variant, checkpoint=checkpoint)
        if fine_tune is not None:
            _check_fine_tuning(checkpoint, fine_tune)
        with progress_display(console) as display:
            bar = StageBars(display).bar("Practice")

            def note(done: int, total: int, failures: int) -> None:
                bar(done, total, f"failed {failures}")

            settings = SearchSettings(attempts=attempts, reset=not in_place, relabel=relabel, copies=copies)
            rehearsing = RehearsalSettings(tries=tries, reset=not in_place)
            failed = practise(
                output, spec, episodes, seed, source=source, rounds=rounds, add=add, search=settings,
                rehearsal=rehearsing, progress=note,
            )  # fmt: skip
        tuned = "" if fine_tune is None else _fine_tuned(checkpoint, output, fine_tune)
        cases = open_bank(output).cases()
        searches, rehearsals = read_searches(output), read_rehearsals(output)
    except (UnknownTaskError, TrialError, CheckpointError, SituationKeyError) as error:
        complain(console, error)
        raise typer.Exit(2) from error
    console.print(f"failed {failed} of {episodes}; {len(cases)} cases in {output}", highlight=False)
    if fine_tune is not None:
        console.print(f"{fine_tune}: the policy fine-tuned on the same labels, revision {tuned}", highlight=False)
    if searches:
        _tell_searches(console, searches)
    if rehearsals:
        _tell_rehearsals(console, rehearsals)


def _check_fine_tuning(checkpoint: Path | None, folder: Path) -> None:
    """Find out before the episodes, not after them.

    Raises:
        TrialError: if the policy kept nothing of its training to mix the labels with, or the folder is taken.
    """
    from flow_rag_vla.evaluate.trials.protocol import TrialError
    from flow_rag_vla.learn.few_demonstrations import SAMPLES

    if checkpoint is None or not (checkpoint / SAMPLES).is_file():
        raise TrialError(
            f"--fine-tune mixes labels with what the policy was trained on, and {checkpoint or 'the one that ships'} "
            f"keeps no {SAMPLES}; take a policy of `flow_rag_vla proof`, such as --checkpoint runs/proof/policy-0"
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise TrialError(f"--fine-tune {folder} is there already; name another folder")


def _fine_tuned(checkpoint: Path | None, bank: Path, folder: Path) -> str:
    """The revision of the control; the bank stays whatever comes of it.

    Raises:
        TrialError: if practice gave no labels.
    """
    from flow_rag_vla.evaluate.trials.practice import LABELS
    from flow_rag_vla.evaluate.trials.protocol import TrialError
    from flow_rag_vla.learn.few_demonstrations import SAMPLES
    from flow_rag_vla.learn.fine_tune import fine_tune
    from flow_rag_vla.learn.samples import read_samples

    assert checkpoint is not None  # checked before
    if not (bank / LABELS).is_file():
        raise TrialError(f"{bank} holds no labels: nothing failed, so there is nothing to fine-tune on; add --episodes")
    return fine_tune(checkpoint, read_samples(bank / LABELS), read_samples(checkpoint / SAMPLES), folder)


def _tell_searches(console: Console, searches: Sequence[Searched]) -> None:
    found = [item for item in searches if item.found is not None]
    attempts = sum(item.attempts for item in searches)
    rate = f"{attempts / len(found):.1f}" if found else "-"
    console.print(
        f"found a correction in {len(found)} of {len(searches)} failed episodes, {rate} attempts for each; "
        f"{sum(item.luck for item in searches)} successes could not be confirmed, "
        f"{sum(item.refused for item in searches)} cases were refused; the first shift succeeded in "
        f"{sum(item.first for item in searches)}",
        highlight=False,
    )


def _tell_rehearsals(console: Console, rehearsals: Sequence[Rehearsed]) -> None:
    solved = sum(item.found is not None for item in rehearsals)
    done = sum(bool(item.in_place or item.reset) for item in rehearsals)
    stuck = sum(item.in_place is True for item in rehearsals)
    tried = sum(item.tries for item in rehearsals) / len(rehearsals)
    console.print(
        f"{solved} of {len(rehearsals)} failed episodes were solved in a copy, after {tried:.1f} tries each, and "
        f"{done} then in fact ({stuck} on from where the arm was stuck); "
        f"{sum(item.labels for item in rehearsals)} observations were labelled, "
        f"{sum(item.doubtful for item in rehearsals)} left out as doubtful",
        highlight=False,
    )
