# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""``flow_rag_vla ask``: a command in words to a checked plan, and with ``--run`` the plan done in the simulator."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.markup import escape

from flow_rag_vla.cli.model_options import ALLOWED_TOOLS, KEY_VARIABLE, TOOLS, ask_model
from flow_rag_vla.cli.saying import complain, warn
from flow_rag_vla.cli.signals import INTERRUPTED, interruptible, uninterrupted

if TYPE_CHECKING:
    from flow_rag_vla.llm.provider import ProviderSettings
    from flow_rag_vla.llm.request import Answer
    from flow_rag_vla.llm.schemas import PlanStep, TaskPlan
    from flow_rag_vla.nodes.operator import Operator

LOOK_FOR_S = 5.0
"""How long a first sign of a graph that runs already is looked for. Each of its nodes reports once a second."""


def complete_provider(incomplete: str) -> list[str]:
    """Names for the shell's completion."""
    from flow_rag_vla.llm.registry import provider_names

    return [name for name in provider_names() if name.startswith(incomplete)]


def ask(
    command: str = typer.Argument(..., help="What to do, in English or Korean; hosted models take any language."),
    provider: str = typer.Option(
        "",
        "--provider",
        "-p",
        help="rules, claude, openai, local, or one that a package added; empty: LLM_PROVIDER, else rules.",
        autocompletion=complete_provider,
    ),
    model: str = typer.Option("", help="The provider's model: a name, a folder or a hub id; empty: its default."),
    base_url: str = typer.Option("", help="Server that speaks the provider's format, such as vLLM or Ollama."),
    key_variable: str = KEY_VARIABLE,
    tool: list[str] = TOOLS,
    allow_tool: list[str] = ALLOWED_TOOLS,
    deadline: float = typer.Option(30.0, min=0.1, help="Seconds in which the plan must be there."),
    run: bool = typer.Option(False, "--run", help="Do it, step by step, in the simulator."),
    answer_within: float = typer.Option(
        60.0, min=1.0, max=3600.0, help="Seconds in which you say yes where a plan asks you; else it is not done."
    ),
    seed: int = typer.Option(100_000, min=0, help="Seed of the first step's scene; the next ones count up."),
    namespace: str = typer.Option("", help="Namespace of the graph."),
    runs: Path = typer.Option(Path("runs"), help="Folder for the run's own folder, if a graph is to be started."),
    as_json: bool = typer.Option(False, "--json", help="Print the plan as JSON."),
) -> None:
    """Plan a command in words, and with [bold]--run[/bold] do it in the simulator.

    The default provider, [bold]rules[/bold], is a grammar: it needs no network, and refuses what it does not know.

    [bold]Examples[/bold]

      flow_rag_vla ask "pick the red cube and put it in the blue bin"

      flow_rag_vla ask "서랍을 열고 빨간 큐브를 통에 넣어줘" --run

      flow_rag_vla ask "open the drawer slowly and put the red cube in the bin" --run

      flow_rag_vla ask "tidy up the red thing" -p openai --base-url http://localhost:11434/v1 --model qwen3

      flow_rag_vla ask "put away what slips the most" -p claude --tool "python friction_server.py"
    """
    console = Console(soft_wrap=True)
    from flow_rag_vla.deliberation.care import as_careful_as_said
    from flow_rag_vla.llm.provider import ProviderSettings

    settings = ProviderSettings(model, base_url, key_variable)
    # Where the plan is JSON, standard output is the plan alone.
    answer = _answer(
        command, provider, settings, deadline, tool, allow_tool, lambda line: typer.echo(line, err=as_json)
    )
    made: TaskPlan = answer.value  # type: ignore[assignment]
    plan = as_careful_as_said(made, command)
    if as_json:
        typer.echo(plan.model_dump_json(indent=2))
    else:
        cost = "" if not answer.cost else f", {answer.cost:.4f}"
        console.print(f"[dim]{answer.provider}, {answer.model}: {answer.seconds * 1e3:.1f} ms{cost}[/dim]")
        for number, step in enumerate(plan.steps, 1):
            console.print(f"{number}. {escape(step.spoken)}  [dim]{step.task} {step.target}[/dim]")
    if not plan.accepted:
        if not as_json:
            console.print(f"[yellow]refused ({plan.refusal})[/yellow]: {escape(plan.reason)}")
        raise typer.Exit(1)
    if run:
        pace = _make_sure(console, command, plan, answer_within)
        raise typer.Exit(_run(console, plan.steps, pace, seed, namespace, runs))


def _make_sure(console: Console, command: str, plan: TaskPlan, answer_within: float) -> float:
    """The share of the speed at which the plan is done; a step's own may be less.

    Ends here unless the plan passes its checks, and whoever sits here says yes where they ask.
    """
    from flow_rag_vla.cli.asking import said_yes, somebody_there
    from flow_rag_vla.deliberation.checks import check_plan
    from flow_rag_vla.deliberation.limits import simulated_limits
    from flow_rag_vla.deliberation.urgency import urgency_of

    tone = urgency_of(command)
    report = check_plan(plan, None, simulated_limits(), instruction=command, speed_scale=tone.speed_scale)
    if not report.passed:
        console.print(f"[red]not done[/red]: {escape('; '.join(report.refusals))}")
        raise typer.Exit(1)
    questions = [*report.questions, *([f"the command sounds alarmed ({', '.join(tone.words)})"] if tone.asks else [])]
    for question in questions:
        console.print(f"[yellow]?[/yellow] {escape(question)}")
    if questions:
        problem = ""
        if not somebody_there(console):
            problem = "a person has to say yes, at a terminal"
        else:
            try:
                said = said_yes(console, "do it", answer_within)
            except KeyboardInterrupt:
                console.print("\n[red]not done[/red]: withdrawn")
                raise typer.Exit(INTERRUPTED) from None
            problem = f"nobody answered within {answer_within:g} s" if said is None else "" if said else "you said no"
        if problem:
            console.print(f"[red]not done[/red]: {problem}")
            raise typer.Exit(1)
    if tone.speed_scale < 1.0:
        console.print(f"at {tone.speed_scale:.0%} of the speed, by how the command sounds")
    return tone.speed_scale


def _answer(
    command: str,
    provider: str,
    settings: ProviderSettings,
    deadline: float,
    tools: Sequence[str],
    allowed: Sequence[str],
    say: Callable[[str], None],
) -> Answer:
    from flow_rag_vla.llm.errors import LlmError
    from flow_rag_vla.llm.prompts import make_request
    from flow_rag_vla.llm.registry import chosen_provider, make_provider
    from flow_rag_vla.llm.request import deadline_in
    from flow_rag_vla.llm.schemas import TaskPlan
    from flow_rag_vla.llm.service import LanguageModel

    async def asked() -> Answer:
        language_model = LanguageModel(made)
        try:
            request = make_request(command, deadline_in(deadline), TaskPlan)
            return await ask_model(language_model, request, tools, allowed, say)
        finally:
            await language_model.close()

    try:
        made = make_provider(chosen_provider(provider), settings)
        return asyncio.run(asked())
    except LlmError as error:
        typer.echo(f"no plan ({error.kind}): {error}", err=True)
        raise typer.Exit(1) from None


def _run(console: Console, steps: Sequence[PlanStep], pace: float, seed: int, namespace: str, runs: Path) -> int:
    """Do the steps in the graph that runs, or in one that is started for them; 0 if all were done."""
    from flow_rag_vla.bringup.graph import sim_graph
    from flow_rag_vla.bringup.resources import default_params_file
    from flow_rag_vla.bringup.supervisor import Supervisor
    from flow_rag_vla.cli.graph_run import START_TIMEOUT_S, GraphEnded, GraphRun, new_run_folder
    from flow_rag_vla.nodes.operator import Operator, OperatorError

    graph: GraphRun | None = None
    try:
        with interruptible(), Operator(namespace) as operator:
            processes = sim_graph({"namespace": namespace, "record": "false"}, default_params_file())
            names = [process.spec.name for process in processes]
            with console.status("looking for a running graph"):
                running = operator.sees_a_graph(names, LOOK_FOR_S)
            if running:
                # However long it takes to be whole: a second graph beside it would be a second hand on the robot.
                with console.status("waiting for the graph that runs"):
                    operator.wait_until_up(names, START_TIMEOUT_S, _nothing)
                console.print("doing it in the graph that runs")
                return _do(console, operator, steps, pace, seed, _nothing, lasting=True)
            folder = new_run_folder(runs)
            console.print(f"run [bold]{folder}[/bold]")
            arguments = {"namespace": namespace, "record": "false", "run_folder": str(folder)}
            processes = sim_graph(arguments, default_params_file())
            graph = GraphRun(Supervisor(processes, folder / "log", lambda sentence: warn(console, sentence)), names)
            graph.start()
            with console.status(f"starting {len(processes)} nodes"):
                graph.wait_until_up(operator)
            return _do(console, operator, steps, pace, seed, graph.check)
    except KeyboardInterrupt:
        console.print("stopping")
        return INTERRUPTED
    except (OperatorError, GraphEnded) as error:
        complain(console, error)
    finally:
        if graph is not None:
            with uninterrupted():
                graph.supervisor.stop()
    return 1


def _do(
    console: Console,
    operator: Operator,
    steps: Sequence[PlanStep],
    pace: float,
    seed: int,
    check: Callable[[], None],
    *,
    lasting: bool = False,
) -> int:
    """One ExecuteTask a step; what fails ends the plan, since later steps rest on it.

    lasting: whether the graph goes on without this command
    """
    from flow_rag_vla_interfaces.action import ExecuteTask

    for number, step in enumerate(steps, 1):
        goal = ExecuteTask.Goal(
            instruction=step.goal.instruction,
            task=step.task,
            seed=seed + number - 1,
            speed_scale=min(pace, step.speed_scale),
        )
        with console.status(f"step {number} of {len(steps)}: {step.spoken}"):
            result = operator.execute(goal, check, lasting=lasting)
        mark = "[green]✓[/green]" if result.success else "[red]✗[/red]"
        reason = "" if result.success else f"  [dim]{result.reason}[/dim]"
        done = f"{mark} step {number}/{len(steps)}  {step.goal.instruction}  {result.outcome}"
        console.print(f"{done}  {result.duration:.1f} s{reason}")
        if not result.success:
            if number < len(steps):
                console.print(f"[yellow]{len(steps) - number} steps are left out[/yellow]")
            return 1
    return 0


def _nothing() -> None:
    """A graph that somebody else runs is not ours to watch."""
