# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The tasks, their instructions in words, and how words are understood.

The grammar is small and says so: it knows the simulator's tasks and objects. A language model that
understands more ends in the same :class:`Goal`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass


class UnknownTaskError(ValueError):
    """An instruction or a task name that is not understood."""


@dataclass(frozen=True, slots=True)
class Goal:
    """What is to be done: a task and the object it is done to."""

    task: str
    target: str

    @property
    def instruction(self) -> str:
        """The goal in words."""
        return TASKS[self.task].template.format(target=OBJECT_WORDS[self.target])

    @property
    def index(self) -> int:
        """Place of this goal in ``GOALS``: what policies are conditioned on."""
        return GOALS.index(self)


@dataclass(frozen=True, slots=True)
class TaskWords:
    """How one task is spoken of."""

    template: str
    targets: tuple[str, ...]
    verbs: tuple[str, ...]


OBJECT_WORDS: Mapping[str, str] = {
    "red_cube": "red cube",
    "blue_box": "blue box",
    "yellow_cylinder": "yellow cylinder",
    "drawer": "drawer",
}

TASKS: Mapping[str, TaskWords] = {
    "pick_and_place": TaskWords(
        "put the {target} in the bin",
        ("red_cube", "blue_box", "yellow_cylinder"),
        ("put", "place", "pick", "drop", "move"),
    ),
    "push": TaskWords("push the {target} to the green zone", ("yellow_cylinder",), ("push", "slide")),
    "stack": TaskWords("stack the {target} on the blue box", ("red_cube",), ("stack",)),
    "open_drawer": TaskWords("open the {target}", ("drawer",), ("open", "pull")),
}

GOALS: tuple[Goal, ...] = tuple(Goal(task, target) for task, words in TASKS.items() for target in words.targets)


def task_names() -> tuple[str, ...]:
    """Every task that can be asked for."""
    return tuple(TASKS)


def check_task(task: str) -> str:
    """Return the task name, or raise UnknownTaskError with the known ones."""
    if task not in TASKS:
        raise UnknownTaskError(f"unknown task {task!r}; known tasks: {', '.join(TASKS)}")
    return task


def parse_instruction(text: str) -> Goal:
    """Find the goal that an instruction means.

    Raises:
        UnknownTaskError: with the instructions that are understood.
    """
    words = set(re.findall(r"[a-z]+", text.lower()))
    # Those with few verbs first: "move" may be said of any of them, "stack" of one.
    for task, spoken in sorted(TASKS.items(), key=lambda item: len(item[1].verbs)):
        if not words & set(spoken.verbs):
            continue
        matches = [target for target in spoken.targets if set(OBJECT_WORDS[target].split()) & words]
        exact = [target for target in matches if set(OBJECT_WORDS[target].split()) <= words]
        for found in (exact, matches):
            if len(found) == 1:
                return Goal(task, found[0])
    known = "; ".join(goal.instruction for goal in GOALS)
    raise UnknownTaskError(f"instruction {text!r} is not understood; understood are: {known}")
