# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""``flow_rag_vla regret``: what failures cost beside what could have been done."""

from __future__ import annotations

from pathlib import Path

import typer
from rich.console import Console

from flow_rag_vla.cli.known import TASKS, VARIANTS
from flow_rag_vla.cli.saying import complain


def regret(
    bank: Path = typer.Argument(..., help="Folder of a bank of cases, made by practice or evaluate --collect."),
    task: str = typer.Option(..., help=f"The task that it was made of: {TASKS}."),
    variant: str = typer.Option("plain", help=f"The scene that it was made of: {VARIANTS}."),
    checkpoint: Path | None = typer.Option(None, help="Folder of the policy that it was made of; none: the shipped."),
    method: str = typer.Option("consensus", help="How the bank's memory acts, as in evaluate --memory."),
    starts: int = typer.Option(10, min=1, help="Failed starts that are done again, the first ones of the bank."),
    output: Path | None = typer.Option(None, help="File that gets a JSON line a start."),
    best: int = typer.Option(10, min=1, help="Cases that are listed."),
) -> None:
    """Do failed starts again in other ways, with other noise, more slowly, with the memory, and say what it is worth.

    Ranks the bank's cases by the regret that its memory closes, and names the starts where data are worth collecting.
    Each start is done five times: allow ten seconds for it.

    [bold]Examples[/bold]

      flow_rag_vla regret runs/bank --task open_drawer --variant object_size --output runs/regret.jsonl
    """
    from rich.table import Table

    from flow_rag_vla.cli.progress import StageBars, progress_display
    from flow_rag_vla.core.goal import UnknownTaskError, check_task
    from flow_rag_vla.deliberation.regret import bank_regrets, ranked_cases, to_collect, write_regrets
    from flow_rag_vla.evaluate.trials.bank import CaseBank
    from flow_rag_vla.evaluate.trials.protocol import TrialError
    from flow_rag_vla.evaluate.trials.rig import Rig
    from flow_rag_vla.evaluate.trials.scenes import check_scene
    from flow_rag_vla.evaluate.trials.simulated_spec import simulated_spec
    from flow_rag_vla.policy.checkpoint import CheckpointError
    from flow_rag_vla.policy.situation import SituationKeyError

    console = Console(soft_wrap=True, highlight=False)
    rig: Rig | None = None
    try:
        check_task(task)
        check_scene(variant)
        cases = CaseBank(bank)
        rig = Rig(simulated_spec(task, variant, checkpoint=checkpoint))
        with progress_display(console) as display:
            bar = StageBars(display).bar("Starts")
            found = bank_regrets(rig, cases, method, starts=starts, progress=lambda done, total: bar(done, total, ""))
    except (UnknownTaskError, TrialError, CheckpointError, SituationKeyError) as error:
        complain(console, error)
        raise typer.Exit(2) from None
    finally:
        if rig is not None:
            rig.close()
    table = Table("start", "taken", "best way", "regret", "memory closes", "asks for")
    for one in found:
        table.add_row(
            str(one.start.seed),
            f"{one.taken.value:.2f}",
            f"{one.best.way} {one.best.value:.2f}",
            f"{one.regret:.2f}",
            f"{one.closed:+.2f}",
            one.advice.value,
        )
    console.print(table)
    wanted = to_collect(found)
    seeds = ", ".join(f"{one.start.seed} ({one.advice.value})" for one in wanted) or "nowhere"
    console.print(f"data are worth collecting at: {seeds}")
    worths = ranked_cases(found)[:best]
    console.print("cases: " + (", ".join(f"{worth.case_id} ({worth.closed:+.2f})" for worth in worths) or "none"))
    if output is not None:
        write_regrets(output, found)
        console.print(str(output))
