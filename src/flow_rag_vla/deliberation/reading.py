# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A second reader of a command: whether a plan is what the words say.

A language model may be wrong, or may have followed words that were not the operator's. The grammar of the simulator's
tasks reads the command alone, never the scene. Where it understands the command otherwise than the model, or sees that
it is no command, a person is asked. Where it does not understand, every step must at least name its target in the words
that were said.
"""

from __future__ import annotations

import re
import unicodedata

from flow_rag_vla.llm.schemas import TaskPlan
from flow_rag_vla.llm.task_language.meaning import KNOWN
from flow_rag_vla.llm.task_language.reader import read_command

_COLOURS = {
    "red": ("red", "빨간", "빨강", "붉은"),
    "blue": ("blue", "파란", "파랑", "푸른"),
    "yellow": ("yellow", "노란", "노랑"),
}
_SHAPES = {
    "cube": ("cube", "block", "큐브", "정육면체", "블록", "블럭"),
    "box": ("box", "block", "상자", "박스", "블록", "블럭"),
    "cylinder": ("cylinder", "원기둥", "원통", "실린더"),
    "drawer": ("drawer", "cabinet", "서랍"),
}
_EVERYTHING = ("everything", "all", "전부", "모두")


def second_reading(instruction: str, plan: TaskPlan) -> tuple[str, ...]:
    """Reasons why a person should look at a plan before it is done; none if the words say the same.

    Args:
        instruction: the operator's words.
        plan: an accepted plan that is said to mean them.
    """
    read = read_command(instruction)
    if read.accepted:
        if read.goals == plan.goals:
            return ()
        meant = "; then ".join(goal.instruction for goal in read.goals)
        return (f"the grammar reads the command as: {meant}",)
    if read.refusal != "not_understood":
        return (f"the grammar refuses the command ({read.refusal}): {read.reason}",)
    said = unicodedata.normalize("NFKC", instruction).lower()
    if any(_in(said, word) for word in _EVERYTHING):
        return ()
    return tuple(
        f"step {number} is about the {step.target.replace('_', ' ')}, which the command does not name"
        for number, step in enumerate(plan.steps, 1)
        if not _mentioned(said, step.target)
    )


def _mentioned(said: str, target: str) -> bool:
    thing = KNOWN[target]
    words = list(_SHAPES.get(thing.shape, (thing.shape,)))
    for colour in thing.colours:
        words += _COLOURS.get(colour, (colour,))
    return any(_in(said, word) for word in words)


def _in(said: str, word: str) -> bool:
    """Whether a word is said: as a word of its own in English, as part of one in Korean, where particles follow."""
    if word.isascii():
        return re.search(rf"(?<![a-z]){re.escape(word)}s?(?![a-z])", said) is not None
    return word in said
