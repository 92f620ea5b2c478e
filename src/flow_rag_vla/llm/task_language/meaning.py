# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What clauses mean: goals in order, or a refusal. The same for both languages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

from flow_rag_vla.core.goal import GOALS, OBJECT_WORDS, Goal
from flow_rag_vla.llm.feasibility import STACK_BASE, conflict
from flow_rag_vla.llm.schemas import PlanStep, Refusal, TaskPlan

MAX_STEPS = 8


class Refused(Exception):
    """A command is not carried out; the kind is one of ``schemas.Refusal``."""

    def __init__(self, kind: Refusal, reason: str) -> None:
        super().__init__(reason)
        self.kind: Refusal = kind
        self.reason = reason


class Relation(Enum):
    """How a destination is spoken of."""

    IN = "in"
    TO = "to"
    ON = "on"


class Turn(Enum):
    """When a clause is said to come: its place among the clauses must be that one."""

    FIRST = "first"
    LAST = "last"


class Pronoun(Enum):
    """A word that stands for what was named before, or for all there is."""

    IT = "it"
    THEM = "them"
    ALL = "everything"


@dataclass(frozen=True, slots=True)
class Verb:
    """What a verb can ask for: subsets of grasp, bin, stack, zone, open."""

    word: str
    can: frozenset[str]


@dataclass(frozen=True, slots=True)
class Clause:
    """One thing asked for.

    objects: names of ``KNOWN``, none if none is named
    speed: share, see ``manner``
    turns: what is said of its place in the order
    """

    verb: Verb
    objects: tuple[str, ...] = ()
    pronoun: Pronoun | None = None
    relation: Relation | None = None
    place: str = ""
    speed: float = 1.0
    turns: frozenset[Turn] = frozenset()

    def slowed(self, speed: float) -> Clause:
        """The same at no more than this speed."""
        return replace(self, speed=min(self.speed, speed))

    def at_turn(self, *turns: Turn) -> Clause:
        """The same with that said of its place in the order."""
        return replace(self, turns=self.turns.union(turns))


@dataclass(frozen=True, slots=True)
class Thing:
    """Something that has a name in the scene: its shape, and the colours that it may be called."""

    shape: str
    colours: frozenset[str]


KNOWN: dict[str, Thing] = {
    "red_cube": Thing("cube", frozenset({"red"})),
    "blue_box": Thing("box", frozenset({"blue"})),
    "yellow_cylinder": Thing("cylinder", frozenset({"yellow"})),
    "drawer": Thing("drawer", frozenset()),
    # Its walls are a bluish grey (0.48, 0.51, 0.56), and there is only one.
    "bin": Thing("bin", frozenset({"grey", "blue"})),
    "green_zone": Thing("zone", frozenset({"green"})),
}
LOOSE = ("red_cube", "blue_box", "yellow_cylinder")

_WORDS = {**OBJECT_WORDS, "bin": "bin", "green_zone": "green zone"}


def find_thing(colour: str, shapes: frozenset[str], spoken: str) -> str:
    """The one thing that colour (empty: not said) and possible shapes mean.

    Raises:
        Refused: if there is none, or more than one.
    """
    found = [name for name, thing in KNOWN.items() if thing.shape in shapes and (not colour or colour in thing.colours)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise Refused("unknown_object", f"there is no {spoken!r}; there are: {', '.join(_WORDS.values())}")
    raise Refused("ambiguous", f"{spoken!r} may be the {' or the '.join(_WORDS[name] for name in found)}; say which")


def plan(clauses: Sequence[Clause]) -> TaskPlan:
    """The plan that clauses mean, in their order.

    Raises:
        Refused: with the first thing that is missing or cannot be done.
    """
    goals: list[Goal] = []
    speeds: list[float] = []
    held: tuple[str, ...] = ()
    held_at = 1.0
    last: tuple[str, ...] = ()
    _check_turns(clauses)
    for clause in clauses:
        objects = _objects(clause, held, last)
        if held and objects != held:
            raise Refused("incomplete", f"it is not said where the {_spoken(held)} is to go")
        last = objects
        if "grasp" in clause.verb.can and clause.relation is None:
            if not set(objects) <= set(LOOSE):
                raise Refused("impossible", f"the {_spoken(objects)} cannot be picked up")
            held, held_at = objects, clause.speed
            continue
        goals += [_goal(clause, name) for name in objects]
        # What is picked up slowly and then put down is one task, all of it slow.
        speeds += [min(clause.speed, held_at)] * len(objects)
        held, held_at = (), 1.0
    if held:
        raise Refused("incomplete", f"it is not said where the {_spoken(held)} is to go")
    if not goals:
        raise Refused("incomplete", "nothing is asked for")
    if len(goals) > MAX_STEPS:
        raise Refused("impossible", f"{len(goals)} steps are asked for, at most {MAX_STEPS} are taken at once")
    problem = conflict(goals)
    if problem:
        raise Refused("impossible", problem)
    steps = [
        PlanStep.model_validate({"task": goal.task, "target": goal.target, "speed_scale": speed})
        for goal, speed in zip(goals, speeds, strict=True)
    ]
    return TaskPlan(steps=steps, refusal="none", reason="")


def refusal(refused: Refused) -> TaskPlan:
    """A refusal as the plan that says so."""
    return TaskPlan(steps=[], refusal=refused.kind, reason=refused.reason[:400])


def _check_turns(clauses: Sequence[Clause]) -> None:
    """Refuse "open the drawer and first ...": the order of the clauses is not the one that is asked for."""
    for number, clause in enumerate(clauses, 1):
        for turn, place in ((Turn.FIRST, 1), (Turn.LAST, len(clauses))):
            if turn in clause.turns and number != place:
                raise Refused(
                    "ambiguous",
                    f"what is to be done {turn.value} is said as number {number} of {len(clauses)}; say the steps in "
                    "their order",
                )


def _objects(clause: Clause, held: tuple[str, ...], last: tuple[str, ...]) -> tuple[str, ...]:
    if clause.pronoun is Pronoun.ALL:
        if "bin" not in clause.verb.can or clause.place != "bin":
            raise Refused("ambiguous", f"'everything' can be put in the bin, not {clause.verb.word!r}; name one thing")
        return LOOSE
    if clause.pronoun is not None:
        if len(last) != 1 if clause.pronoun is Pronoun.IT else len(last) < 2:
            raise Refused("ambiguous", f"it is not clear what {clause.pronoun.value!r} means; name it")
        return last
    if clause.objects:
        twice = [name for name in clause.objects if clause.objects.count(name) > 1]
        if twice:
            raise Refused("ambiguous", f"the {_WORDS[twice[0]]} is named twice, and there is only one")
        return clause.objects
    if held:
        return held
    raise Refused("incomplete", f"it is not said what to {clause.verb.word}")


def _goal(clause: Clause, name: str) -> Goal:
    verb, thing = clause.verb, _WORDS[name]
    if "open" in verb.can and clause.relation is None:
        if name != "drawer":
            raise Refused("impossible", f"the {thing} cannot be opened; the drawer can")
        return Goal("open_drawer", "drawer")
    if clause.relation is None:
        raise Refused("incomplete", f"it is not said where to {verb.word} the {thing}")
    place = _WORDS[clause.place]
    wanted = None
    if clause.place == "bin" and clause.relation is not Relation.ON and "bin" in verb.can:
        wanted = Goal("pick_and_place", name)
    elif clause.place == "green_zone" and "zone" in verb.can:
        wanted = Goal("push", name)
    elif clause.place == STACK_BASE and clause.relation is Relation.ON and "stack" in verb.can:
        wanted = Goal("stack", name)
    if wanted is None or wanted not in GOALS:
        can = "; ".join(goal.instruction for goal in GOALS)
        raise Refused(
            "impossible",
            f"the robot cannot {verb.word} the {thing} {clause.relation.value} the {place}; it can: {can}",
        )
    return wanted


def _spoken(names: Sequence[str]) -> str:
    return " and the ".join(_WORDS[name] for name in names)
