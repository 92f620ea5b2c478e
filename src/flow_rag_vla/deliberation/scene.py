# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What is known to stand on the table, as it enters a deliberation: names and places that somebody measured.

Names come from labels and may hold any text. They are data: a name is compared with the names of tasks, shown to people
and quoted to language models; nothing that it says is ever done.
"""

from __future__ import annotations

import difflib
import math
import unicodedata
from dataclasses import dataclass

from flow_rag_vla.core.goal import Goal
from flow_rag_vla.llm.request import Message
from flow_rag_vla.sim.scene import SceneSpec
from flow_rag_vla.sim.tasks import handle_position

Point = tuple[float, float, float]

MOST_THINGS = 64
LONGEST_NAME = 60
FARTHEST = 10.0
"""Metres from the base beyond which a place is a mistake."""

DESTINATIONS = {"pick_and_place": "bin", "push": "green_zone", "stack": "blue_box", "open_drawer": ""}
"""Where a task's target goes, by the names of things; empty: it stays where it is."""

PEOPLE = frozenset({"person", "human", "operator", "hand", "man", "woman", "child", "people"})
"""Names that mean somebody, whatever else is said of them."""


class SceneError(ValueError):
    """A scene that makes no sense; the text names thing, value and remedy."""


@dataclass(frozen=True, slots=True)
class Thing:
    """One thing, or person, that was seen.

    name: as it was labelled
    position: metres in the base frame; None if it is not known
    certainty: 0 to 1; source: who says so; person: whether it is somebody

    Raises:
        SceneError: for what cannot be.
    """

    name: str
    position: Point | None = None
    certainty: float = 1.0
    source: str = ""
    person: bool = False

    def __post_init__(self) -> None:
        name = plain_name(self.name)
        if not name:
            raise SceneError("a thing has no name; leave it out, or call it 'unknown'")
        if not (math.isfinite(self.certainty) and 0.0 <= self.certainty <= 1.0):
            raise SceneError(f"certainty of {name!r} is {self.certainty}, expected 0 to 1")
        if self.position is not None:
            if len(self.position) != 3 or not all(math.isfinite(value) for value in self.position):
                raise SceneError(f"position of {name!r} is {self.position}, expected three finite numbers in metres")
            if math.hypot(*self.position) > FARTHEST:
                raise SceneError(
                    f"position of {name!r} is {math.hypot(*self.position):.1f} m from the base, expected at most "
                    f"{FARTHEST:g}; give metres in the base frame"
                )
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "person", self.person or not PEOPLE.isdisjoint(key_of(name).split("_")))

    @property
    def key(self) -> str:
        """The name as tasks spell names."""
        return key_of(self.name)


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything that was seen, from one source.

    passing: whether something else will stand there when a plan is done, as where a simulator builds the scene of each
        task anew: then it says nothing of the things that a plan needs

    Raises:
        SceneError: for too much.
    """

    things: tuple[Thing, ...] = ()
    source: str = ""
    passing: bool = False

    def __post_init__(self) -> None:
        if len(self.things) > MOST_THINGS:
            raise SceneError(f"{len(self.things)} things are given, at most {MOST_THINGS}; give what is within reach")

    def named(self, name: str) -> tuple[Thing, ...]:
        """Things of that name that are no people, the most certain first."""
        found = [thing for thing in self.things if thing.key == name and not thing.person]
        return tuple(sorted(found, key=lambda thing: -thing.certainty))

    @property
    def people(self) -> tuple[Thing, ...]:
        """Everybody in it."""
        return tuple(thing for thing in self.things if thing.person)

    def nearest_names(self, name: str, count: int = 3) -> tuple[str, ...]:
        """Names in the scene that are spelled most like one, the most alike first."""
        known = list(dict.fromkeys(thing.key for thing in self.things if not thing.person))
        ranked = sorted(known, key=lambda other: -difflib.SequenceMatcher(None, name, other).ratio())
        return tuple(ranked[:count])

    def quoted(self) -> tuple[Message, ...]:
        """The scene as data for a language model; nothing for an empty one, or one that will be another."""
        if not self.things or self.passing:
            return ()
        lines = [_line(thing) for thing in self.things]
        return (Message("data", "\n".join(lines), f"scene {self.source}".strip()),)


def needed_names(goal: Goal) -> tuple[str, ...]:
    """Names of the things that must be there for a goal."""
    destination = DESTINATIONS[goal.task]
    return (goal.target, destination) if destination else (goal.target,)


def plain_name(text: str) -> str:
    """A label on one line without invisible characters, cut to ``LONGEST_NAME``."""
    folded = unicodedata.normalize("NFKC", text)
    visible = "".join(" " if unicodedata.category(mark)[0] in "CZ" else mark for mark in folded)
    return " ".join(visible.split())[:LONGEST_NAME].strip()


def key_of(name: str) -> str:
    """A name as tasks spell names: ``Red cube`` is ``red_cube``."""
    return "_".join("".join(mark if mark.isalnum() else " " for mark in name.lower()).split())


def _line(thing: Thing) -> str:
    where = "place unknown"
    if thing.position is not None:
        where = "at ({:.3f}, {:.3f}, {:.3f}) m".format(*thing.position)
    return f"- label: {thing.name!r}; {where}; certainty {thing.certainty:.2f}"


def simulated_scene(spec: SceneSpec) -> Scene:
    """What stands where at a start of the simulator, as it is."""
    things = [Thing(entry.name, entry.position, source="simulator") for entry in spec.objects]
    for name, furniture in (("bin", spec.bin), ("green_zone", spec.zone)):
        if furniture is not None:
            things.append(Thing(name, furniture.position, source="simulator"))
    if spec.drawer is not None:
        x, y, z = (float(value) for value in handle_position(spec, 0.0))
        things.append(Thing("drawer", (x, y, z), source="simulator"))
    return Scene(tuple(things), f"{spec.task} {spec.variant} {spec.seed}")
