# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Scores plans against a list of commands whose right steps are known."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from flow_rag_vla.core.goal import Goal
from flow_rag_vla.llm.schemas import TaskPlan

CODES = {
    "Pr": Goal("pick_and_place", "red_cube"),
    "Pb": Goal("pick_and_place", "blue_box"),
    "Py": Goal("pick_and_place", "yellow_cylinder"),
    "Uy": Goal("push", "yellow_cylinder"),
    "Sr": Goal("stack", "red_cube"),
    "Od": Goal("open_drawer", "drawer"),
}


@dataclass(frozen=True, slots=True)
class Command:
    """A command with the steps that it asks for; none: it must be refused."""

    language: str
    goals: tuple[Goal, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one command: ``correct``, ``refused`` (though it could be done) or ``wrong``."""

    command: Command
    plan: TaskPlan
    outcome: str


def read_commands(path: Path) -> list[Command]:
    """The commands of a tab-separated file: language, codes of ``CODES`` or X, text.

    Raises:
        ValueError: naming the line that is none.
    """
    commands = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line or line.startswith("#"):
            continue
        try:
            language, codes, text = line.split("\t")
            goals = () if codes == "X" else tuple(CODES[code] for code in codes.split())
        except (ValueError, KeyError) as error:
            raise ValueError(f"{path}:{number}: {line!r} is not 'language, codes, text' between tabs") from error
        commands.append(Command(language, goals, text))
    return commands


def judge(commands: Iterable[Command], planner: Callable[[str], TaskPlan]) -> list[Verdict]:
    """Each command's verdict. A refusal of what must be refused is correct."""
    verdicts = []
    for command in commands:
        plan = planner(command.text)
        if plan.goals == command.goals:
            outcome = "correct"
        elif not plan.accepted:
            outcome = "refused"
        else:
            outcome = "wrong"
        verdicts.append(Verdict(command, plan, outcome))
    return verdicts


def table(verdicts: Sequence[Verdict]) -> str:
    """Counts by language and by whether the command can be done."""
    lines = [f"{'':24} {'all':>5} {'correct':>8} {'refused':>8} {'wrong':>6}"]
    groups = [
        (f"{language}, {what}", [item for item in verdicts if item.command.language == language
                                 and bool(item.command.goals) is doable])
        for language in sorted({item.command.language for item in verdicts})
        for what, doable in (("can be done", True), ("must be refused", False))
    ]  # fmt: skip
    for name, group in [*groups, ("together", list(verdicts))]:
        counts = [sum(item.outcome == outcome for item in group) for outcome in ("correct", "refused", "wrong")]
        lines.append(f"{name:24} {len(group):5} {counts[0]:8} {counts[1]:8} {counts[2]:6}")
    return "\n".join(lines)
