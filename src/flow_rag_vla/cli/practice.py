"""``flow_rag_vla practice``: a policy tries, and what would have been right where it fails becomes a bank of cases."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from flow_rag_vla.cli.saying import complain

if TYPE_CHECKING:
    from flow_rag_vla.evaluate.trials.rehearsal import Rehearsed
    from flow_rag_vla.evaluate.trials.search import Searched


def practice(
    task: Annotated[str, typer.Option(help="What is practised")],
    output: Annotated[Path, typer.Option(help="Folder that gets the bank; must hold none yet")],
    variant: Annotated[str, typer.Option(help="Scene variant")] = "object_size",
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
) -> None:
    """Let a policy practise, and remember its failures with what would have been right.

    With --source expert the simulator's scripted expert takes over where the policy is stuck, and says what would have
    been right before that too. With --source takeover only what it does then counts, and where its hand closed, as with
    a person and a robot. With --source rehearsal nobody helps: a simulated copy is fitted to what was seen, what would
    have been right is searched for in it, and done. With --source search the policy tries with a shifted perception
    until it succeeds twice.

    Examples:
      flow_rag_vla practice --task open_drawer --episodes 80 --output runs/bank

      flow_rag_vla practice --task open_drawer --source rehearsal --output runs/found

      flow_rag_vla evaluate --task open_drawer --variant object_size --cases runs/found --memory off,consensus
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
        with progress_display(console) as display:
            bar = StageBars(display).bar("Practice")

            def note(done: int, total: int, failures: int) -> None:
                bar(done, total, f"failed {failures}")

            settings = SearchSettings(attempts=attempts, reset=not in_place, relabel=relabel, copies=copies)
            rehearsing = RehearsalSettings(tries=tries, reset=not in_place)
            failed = practise(
                output, spec, episodes, seed, source=source, search=settings, rehearsal=rehearsing, progress=note
            )
        cases = open_bank(output).cases()
        searches, rehearsals = read_searches(output), read_rehearsals(output)
    except (UnknownTaskError, TrialError, CheckpointError, SituationKeyError) as error:
        complain(console, error)
        raise typer.Exit(2) from error
    console.print(f"failed {failed} of {episodes}; {len(cases)} cases in {output}", highlight=False)
    if searches:
        _tell_searches(console, searches)
    if rehearsals:
        _tell_rehearsals(console, rehearsals)


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
