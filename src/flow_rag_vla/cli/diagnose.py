# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""``flow_rag_vla diagnose``: why a simulated start fails, what might be tried, and whether that helps."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.markup import escape

from flow_rag_vla.cli.ask import complete_provider
from flow_rag_vla.cli.known import SCENE, TASKS
from flow_rag_vla.cli.model_options import KEY_VARIABLE
from flow_rag_vla.cli.saying import complain, warn

if TYPE_CHECKING:
    from flow_rag_vla.deliberation.admission import SimulationCheck
    from flow_rag_vla.deliberation.diagnosis import Diagnosed, FailureSeen
    from flow_rag_vla.deliberation.rehearsal import Rehearsed
    from flow_rag_vla.evaluate.trials.rig import Rig
    from flow_rag_vla.llm.text_store import TextStore


def diagnose(
    task: str = typer.Argument(..., help=f"The task: {TASKS}."),
    seed: int = typer.Argument(..., min=0, help="Seed of the start, and of the policy's noise."),
    variant: str = typer.Option("plain", help=f"{SCENE}."),
    checkpoint: Path | None = typer.Option(None, help="Folder of the policy; none: the shipped."),
    provider: str = typer.Option(
        "",
        "--provider",
        "-p",
        help="claude, openai, local or an added one; rules: by a template.",
        autocompletion=complete_provider,
    ),
    model: str = typer.Option("", help="The provider's model; empty: its default."),
    base_url: str = typer.Option("", help="Server that speaks the provider's format."),
    key_variable: str = KEY_VARIABLE,
    manuals: str = typer.Option(
        "",
        help="Passages that the model is given, see flow_rag_vla knowledge: a file or postgresql://...; empty: none.",
    ),
    embedder: str = typer.Option("", help="As the passages were kept: minilm, local or openai; empty: minilm."),
    embedder_model: str = typer.Option("", help="The embedder's model; empty: its default."),
    proposal: str = typer.Option("", help="Check this proposal instead: retry, regrasp or slower."),
    admit: Path | None = typer.Option(
        None, help="Database of a memory of situations that gets the correction, if the check passes."
    ),
) -> None:
    """Do a start; if it fails, explain it from its evidence, and check the proposal in the simulator.

    A proposal counts as checked when the policy fails there by itself and the proposal succeeds twice with different
    noise. Only then does --admit put what it did into the memory.

    [bold]Examples[/bold]

      flow_rag_vla diagnose open_drawer 51000 --variant object_size

      flow_rag_vla diagnose push 51003 -p openai --base-url http://localhost:11434/v1 --model qwen3 --admit memory.db

      flow_rag_vla diagnose push 51003 -p claude --manuals ~/.ros/flow_rag_vla/knowledge.db
    """
    from flow_rag_vla.core.goal import UnknownTaskError, check_task
    from flow_rag_vla.deliberation.admission import NotAdmittedError, check_in_simulation
    from flow_rag_vla.deliberation.diagnosis import diagnose as explain
    from flow_rag_vla.deliberation.diagnosis import in_words
    from flow_rag_vla.deliberation.rehearsal import rehearse
    from flow_rag_vla.evaluate.trials.protocol import Start, TrialError
    from flow_rag_vla.evaluate.trials.rig import Rig
    from flow_rag_vla.evaluate.trials.scenes import check_scene
    from flow_rag_vla.evaluate.trials.simulated_spec import simulated_spec
    from flow_rag_vla.llm.errors import LlmError
    from flow_rag_vla.llm.knowledge import MANUALS
    from flow_rag_vla.llm.provider import ProviderSettings
    from flow_rag_vla.llm.registry import chosen_provider, make_provider
    from flow_rag_vla.llm.service import LanguageModel
    from flow_rag_vla.memory.store import StoreError
    from flow_rag_vla.policy.checkpoint import CheckpointError
    from flow_rag_vla.policy.situation import SituationKeyError

    console = Console(soft_wrap=True, highlight=False)
    rig: Rig | None = None
    store: TextStore | None = None
    try:
        check_task(task)
        check_scene(variant)
        language_model = LanguageModel(
            make_provider(chosen_provider(provider), ProviderSettings(model, base_url, key_variable))
        )
        store = _opened(manuals, embedder, embedder_model)
        rig = Rig(simulated_spec(task, variant, checkpoint=checkpoint))
        start = Start(seed, seed)
        with console.status("doing the start"):
            taken = rehearse(rig, start)
        if taken.success:
            console.print(f"start {seed} succeeds after {taken.fact.duration:.1f} s: there is nothing to explain")
            return
        seen = _seen(rig, taken)
        if store is not None:
            seen = replace(seen, manuals=tuple(store.search(in_words(seen), 3, [MANUALS])))
            console.print(f"{len(seen.manuals)} passages of manuals are given")
        diagnosed = asyncio.run(explain(language_model, seen))
        _say(console, diagnosed)
        found = diagnosed.diagnosis
        if proposal:
            found = type(found).model_validate({**found.model_dump(), "proposal": proposal})
        console.print(f"proposal: {found.proposal}, certainty {found.certainty:.2f}")
        with console.status("checking the proposal in the simulator"):
            check = check_in_simulation(rig, start, found, taken)
        console.print(f"{'[green]passed' if check.passed else '[yellow]not passed'}[/]: {escape(str(check))}")
        if admit is not None:
            ids = _admitted(rig, admit, check, found.cause)
            console.print(f"{len(ids)} cases in {admit}" + (f": {', '.join(map(str, ids))}" if ids else ""))
    except (UnknownTaskError, TrialError, CheckpointError, SituationKeyError, LlmError, StoreError) as error:
        complain(console, error)
        raise typer.Exit(2) from None
    except (NotAdmittedError, ValueError) as error:
        warn(console, error)
        raise typer.Exit(1) from None
    finally:
        if store is not None:
            store.close()
        if rig is not None:
            rig.close()


def _opened(where: str, embedder: str, model: str) -> TextStore | None:
    """The store of manuals; None where none is named.

    Raises:
        LlmError: if it is not there, or made by another embedder.
    """
    if not where:
        return None
    from flow_rag_vla.llm.embedding.base import EmbedderSettings
    from flow_rag_vla.llm.embedding.choice import make_embedder
    from flow_rag_vla.llm.text_store import TextStore, held_by

    held_by(where)
    return TextStore(where, make_embedder(embedder, EmbedderSettings(model)))


def _seen(rig: Rig, taken: Rehearsed) -> FailureSeen:
    """What there is to explain: the detector's first report, and pictures of how the world stands now."""
    from flow_rag_vla.deliberation.diagnosis import FailureSeen
    from flow_rag_vla.llm.request import Picture
    from flow_rag_vla.memory.images import encoded
    from flow_rag_vla.sim.camera import FRONT, WRIST

    report = taken.reports[0] if taken.reports else None
    return FailureSeen(
        taken.kind,
        rig.spec.task,
        report.phase.value if report is not None else "",
        report.evidence if report is not None else (),
        report.confidence if report is not None else 0.0,
        report.description if report is not None else "",
        taken.last_wrench,
        (
            Picture("front camera when the attempt had ended", encoded("front", rig.world.render(FRONT)).data),
            Picture("wrist camera when the attempt had ended", encoded("wrist", rig.world.render(WRIST)).data),
        ),
    )


def _say(console: Console, diagnosed: Diagnosed) -> None:
    found = diagnosed.diagnosis
    by = f"{diagnosed.source}: {diagnosed.note}" if diagnosed.note else diagnosed.source
    console.print(f"[bold]{found.failure}[/bold]: {escape(found.cause)}  [dim]({by})[/dim]", markup=True)
    for line in found.evidence:
        console.print(f"  {line}", markup=False)


def _admitted(rig: Rig, database: Path, check: SimulationCheck, cause: str) -> tuple[int, ...]:
    """Put a proposal that passed into a memory; the cases' numbers.

    Raises:
        NotAdmittedError: if it did not pass.
        StoreError: if the database cannot be used.
    """
    from flow_rag_vla.deliberation.admission import admit_checked
    from flow_rag_vla.memory.memory import FailureMemory

    memory, _ = FailureMemory.open(database)
    try:
        return admit_checked(rig, memory, check, cause)
    finally:
        memory.close()
