# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""``flow_rag_vla deliberate``: a command in words to a checked and scored plan, or a hold with its reason."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.markup import escape

from flow_rag_vla.cli.ask import complete_provider
from flow_rag_vla.cli.asking import said_yes, somebody_there
from flow_rag_vla.cli.model_options import KEY_VARIABLE
from flow_rag_vla.cli.saying import complain
from flow_rag_vla.cli.signals import INTERRUPTED

if TYPE_CHECKING:
    from flow_rag_vla.deliberation.scene import Scene
    from flow_rag_vla.deliberation.stages import Approval, Decision, Scored
    from flow_rag_vla.llm.schemas import TaskPlan

_MARKS = {"passed": "[green]✓[/green]", "ask": "[yellow]?[/yellow]", "refused": "[red]✗[/red]"}


def deliberate(
    command: str = typer.Argument(..., help="What to do, in English or Korean; hosted models take any language."),
    scene: Path | None = typer.Option(
        None, "--scene", help='JSON list of things: [{"name": "red cube", "position": [0.45, -0.1, 0.02]}].'
    ),
    simulated: int = typer.Option(
        -1, "--simulated", min=-1, help="Take the simulator's scene of this seed, of the plan's first task."
    ),
    logs: list[Path] = typer.Option([], "--log", help="Runs, trials or rehearsals that say what episodes have shown."),
    memory: Path | None = typer.Option(None, help="Database of the failure memory."),
    profile: str = typer.Option(
        "", help="The arm's profile: one that ships (franka, ...) or a YAML file; empty: the simulated arm."
    ),
    rehearse: int = typer.Option(
        0, min=0, max=100, help="First do each task so many times in the simulator, and keep that in --rehearsals."
    ),
    rehearsals: Path = typer.Option(Path("runs/rehearsals.jsonl"), help="File of rehearsals; read if it is there."),
    provider: str = typer.Option(
        "",
        "--provider",
        "-p",
        help="rules, claude, openai, local, or an added one; empty: LLM_PROVIDER.",
        autocompletion=complete_provider,
    ),
    model: str = typer.Option("", help="The provider's model; empty: its default."),
    base_url: str = typer.Option("", help="Server that speaks the provider's format."),
    key_variable: str = KEY_VARIABLE,
    deadline: float = typer.Option(60.0, min=0.1, max=3600.0, help="Seconds for the decision."),
    ask_below: float = typer.Option(0.0, min=0.0, max=1.0, help="Score below which you are asked."),
    as_json: bool = typer.Option(False, "--json", help="Print the decision as JSON; asks nobody."),
) -> None:
    """Decide about a command: plan, checks, seven measured criteria, and your word where it is risky. Moves nothing.

    [bold]Examples[/bold]

      flow_rag_vla deliberate "put the red cube in the bin" --simulated 3

      flow_rag_vla deliberate "open the drawer" --rehearse 6

      flow_rag_vla deliberate "서랍을 열어줘" --log runs/2026-01-31_12-00-00 --scene table.json
    """
    from flow_rag_vla.bringup.resources import robots_folder
    from flow_rag_vla.deliberation.deliberation import Deliberation, DeliberationSettings, Nobody
    from flow_rag_vla.deliberation.limits import profile_limits, simulated_limits
    from flow_rag_vla.deliberation.planners import FolderRecall, LanguagePlanner
    from flow_rag_vla.deliberation.scene import SceneError
    from flow_rag_vla.deliberation.stages import Question, plain
    from flow_rag_vla.llm.errors import LlmError
    from flow_rag_vla.llm.provider import ProviderSettings
    from flow_rag_vla.llm.registry import chosen_provider, make_provider
    from flow_rag_vla.llm.service import LanguageModel
    from flow_rag_vla.robot.fields import ProfileError
    from flow_rag_vla.robot.profile import find_profile, load_profile

    console = Console(soft_wrap=True, highlight=False)
    # What the pipeline logs of a stage that failed is in the decision, which is shown.
    logging.getLogger("flow_rag_vla.residency").addHandler(logging.NullHandler())
    _check_there([*logs, *([memory] if memory is not None else [])])
    try:
        robot = profile_limits(load_profile(find_profile(profile, robots_folder()))) if profile else simulated_limits()
        made = make_provider(chosen_provider(provider), ProviderSettings(model, base_url, key_variable))
        known = _read_scene(scene)
        if known is None and simulated >= 0:
            known = _simulated_scene(command, simulated)
    except (LlmError, ProfileError, SceneError, OSError, ValueError) as error:
        complain(console, error)
        raise typer.Exit(2) from None
    if rehearse:
        _rehearse(console, command, rehearse, rehearsals)
    recall = FolderRecall([*logs, rehearsals], memory)
    approver = Nobody() if as_json or not somebody_there(console) else _Person(console, deadline)
    deliberation = Deliberation(
        LanguagePlanner(LanguageModel(made)),
        recall=recall,
        approver=approver,
        settings=DeliberationSettings(ask_below=ask_below),
    )
    try:
        decision = asyncio.run(deliberation.decide(Question("here", command, robot, known, deadline)))
    except KeyboardInterrupt:
        console.print("[yellow]held[/yellow]: withdrawn; nothing was decided")
        raise typer.Exit(INTERRUPTED) from None
    if as_json:
        typer.echo(json.dumps(plain(decision), ensure_ascii=False, indent=2))
    else:
        _show(console, decision)
    raise typer.Exit(0 if decision.accepted else 1)


def _check_there(paths: list[Path]) -> None:
    """Refuse logs and memories that are named and are not there: a typing error must not read as no experience."""
    for path in paths:
        if not path.expanduser().exists():
            raise typer.BadParameter(f"{path} is not there; name an existing one, or leave it out")


class _Person:
    """Whoever sits at the terminal, until a deadline."""

    def __init__(self, console: Console, deadline: float) -> None:
        self._console, self._ends = console, time.monotonic() + deadline
        self._withdrawn = threading.Event()

    async def approve(self, scored: Scored) -> Approval:
        """Ask, in a thread, since reading waits. The thread ends with the question."""
        import getpass

        from flow_rag_vla.deliberation.stages import Approval

        for question in scored.questions:
            self._console.print(f"[yellow]?[/yellow] {escape(question)}")
        steps = "; then ".join(step.spoken for step in scored.checked.recalled.interpreted.planned.plan.steps)
        left = max(self._ends - time.monotonic(), 0.0)
        try:
            said = await asyncio.to_thread(said_yes, self._console, f"do it: {steps}", left, self._withdrawn)
        finally:
            self._withdrawn.set()
        if said is None:
            raise TimeoutError("nobody answered in time")
        return Approval(said, getpass.getuser())


def _read_scene(path: Path | None) -> Scene | None:
    from flow_rag_vla.deliberation.scene import Scene, SceneError, Thing

    if path is None:
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        things = []
        for value in values:
            position = value.get("position")
            place = None if position is None else tuple(float(number) for number in position)
            things.append(
                Thing(
                    str(value["name"]),
                    place,  # type: ignore[arg-type]
                    float(value.get("certainty", 1.0)),
                    str(value.get("source", path.name)),
                    bool(value.get("person", False)),
                )
            )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, SceneError):
            raise
        raise SceneError(f"{path} is no list of things with a name and a position ({error}); see --help") from None
    return Scene(tuple(things), path.name)


def _plan(command: str) -> TaskPlan:
    from flow_rag_vla.llm.task_language.reader import read_command

    return read_command(command)


def _simulated_scene(command: str, seed: int) -> Scene | None:
    from flow_rag_vla.deliberation.scene import simulated_scene
    from flow_rag_vla.sim.scene import sample_scene

    plan = _plan(command)
    if not plan.goals:
        return None
    goal = plan.goals[0]
    return simulated_scene(sample_scene(goal.task, "plain", seed, goal))


def _rehearse(console: Console, command: str, count: int, path: Path) -> None:
    """Do each task of the command in the simulator, and add it to the file."""
    from rich.progress import track

    from flow_rag_vla.deliberation.history import fact_to_json
    from flow_rag_vla.deliberation.rehearsal import rehearse
    from flow_rag_vla.evaluate.trials.protocol import Start
    from flow_rag_vla.evaluate.trials.rig import Rig
    from flow_rag_vla.evaluate.trials.simulated_spec import simulated_spec

    path.parent.mkdir(parents=True, exist_ok=True)
    for task in dict.fromkeys(goal.task for goal in _plan(command).goals):
        rig = Rig(simulated_spec(task, "plain"))
        try:
            for seed in track(range(80_000, 80_000 + count), f"rehearsing {task}", console=console, transient=True):
                fact = rehearse(rig, Start(seed, seed)).fact
                with path.open("a", encoding="utf-8") as stream:
                    stream.write(fact_to_json(fact))
        finally:
            rig.close()


def _show(console: Console, decision: Decision) -> None:
    from rich.table import Table

    colour = {"accepted": "green", "held": "yellow"}.get(decision.outcome.value, "red")
    for check in decision.report.checks if decision.report is not None else ():
        step = f"step {check.step}: " if check.step else ""
        console.print(f"{_MARKS[check.finding.value]} {step}{escape(check.text)}", markup=True)
    if decision.score is not None:
        table = Table("criterion", "value", "good", "episodes", "source")
        for term in decision.score.terms:
            value = "not known" if term.value is None else f"{term.value:.2f} {term.unit}".strip()
            good = f"{term.good_low:.2f} to {term.good_high:.2f}"
            table.add_row(term.name, value, good, str(term.samples or ""), term.source)
        console.print(table)
    console.print(f"[bold {colour}]{decision.outcome.value}[/bold {colour}]: {escape(decision.reason)}")
    if decision.accepted and decision.speed_scale < 1.0:
        console.print(f"to be done at {decision.speed_scale:.0%} of the speed, by how the command sounds")
    console.print(f"[dim]{escape(decision.summary)}[/dim]")
