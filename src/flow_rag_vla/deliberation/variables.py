# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What may have had to do with a failure: variables of each episode, from its log and from its start.

A log names the task, the scene's variant and its seed; the start that they stand for is built again, and says how
large, heavy and slippery things were and where they stood. A robot without a simulator has the log's own fields only.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.core.goal import TASKS
from flow_rag_vla.deliberation.history import EpisodeFact
from flow_rag_vla.deliberation.scene import DESTINATIONS
from flow_rag_vla.deliberation.surd import (
    MOST_SOURCES,
    TooFewError,
    joint_counts,
    needed_episodes,
    shuffled_together,
    split,
)
from flow_rag_vla.sim.scene import VARIANTS, SceneSpec, sample_scene

Value = float | str

MOST_CATEGORIES = 4
"""Names of a variable that stay apart; the rarer ones are one together."""

CHOSEN = 3
"""Variables that are chosen where none are named."""


class VariableError(ValueError):
    """A variable that the episodes do not have; the text names those that they have."""


@dataclass(frozen=True, slots=True)
class Table:
    """Variables by name, a value an episode; which episodes failed, and from which start each began, (N,) int64."""

    columns: Mapping[str, tuple[Value, ...]]
    failed: NDArray[np.int64]
    starts: NDArray[np.int64]

    @property
    def episodes(self) -> int:
        """How many."""
        return len(self.failed)

    def halves(self) -> tuple[Table, Table]:
        """The episodes of every other start, and the rest: no start is in both."""
        even = self.starts % 2 == 0
        return self._part(np.flatnonzero(even)), self._part(np.flatnonzero(~even))

    def _part(self, rows: NDArray[np.intp]) -> Table:
        columns = {name: tuple(values[row] for row in rows) for name, values in self.columns.items()}
        return Table(columns, self.failed[rows], self.starts[rows])


@dataclass(frozen=True, slots=True)
class States:
    """A variable cut into states. labels: (N,) int64, states from 0; names: of the states, by number."""

    labels: NDArray[np.int64]
    names: tuple[str, ...]


def episode_table(facts: Sequence[EpisodeFact]) -> Table:
    """Variables of these episodes; what does not differ among them is left out.

    A variable that some of the episodes do not have is left out too: a drawer has no mass.
    """
    rows = [_variables(fact) for fact in facts]
    shared = [name for name in (rows[0] if rows else {}) if all(name in row for row in rows)]
    columns = {name: tuple(row[name] for row in rows) for name in shared}
    numbers: dict[tuple[str, str, int], int] = {}
    starts = [numbers.setdefault((fact.task, fact.variant, fact.seed), len(numbers)) for fact in facts]
    return Table(
        {name: values for name, values in columns.items() if len(set(values)) > 1},
        np.array([not fact.success for fact in facts], dtype=np.int64),
        np.array(starts, dtype=np.int64),
    )


def states_of(values: Sequence[Value], bins: int) -> States:
    """A variable as states: names as they are, numbers in ``bins`` parts with as many episodes each.

    Raises:
        ValueError: for fewer than 2 bins.
    """
    if bins < 2:
        raise ValueError(f"bins is {bins}, expected at least 2")
    if any(isinstance(value, str) for value in values):
        return _named(values)
    numbers = np.array(values, dtype=np.float64)
    different = np.unique(numbers)
    if len(different) <= bins:
        return States(np.searchsorted(different, numbers).astype(np.int64), tuple(f"{value:g}" for value in different))
    edges = np.unique(np.quantile(numbers, np.linspace(0, 1, bins + 1)[1:-1]))
    labels = np.searchsorted(edges, numbers, side="right").astype(np.int64)
    present, packed = np.unique(labels, return_inverse=True)
    ends = [f"{value:.3g}" for value in edges]
    names = [f"below {ends[0]}", *(f"{low} to {high}" for low, high in itertools.pairwise(ends))]
    names.append(f"{ends[-1]} and up")
    return States(packed.astype(np.int64), tuple(names[label] for label in present))


def chosen(table: Table, names: Sequence[str]) -> Mapping[str, tuple[Value, ...]]:
    """The columns of these names.

    Raises:
        VariableError: for a name that the table lacks.
    """
    for name in names:
        if name not in table.columns:
            known = ", ".join(table.columns) or "none: nothing differs among the episodes"
            raise VariableError(f"the episodes have no variable {name!r}; they have: {known}")
    return {name: table.columns[name] for name in names}


def most_telling(table: Table, bins: int, count: int = CHOSEN, *, shuffles: int = 20, seed: int = 0) -> tuple[str, ...]:
    """Names of the variables that together say most about the failures, one or two at a time.

    Pairs are looked at, not single variables: what matters only together with another says nothing by itself. From
    what a pair says, what it says about shuffled failures is taken off, since many states say much by chance. Whoever
    decomposes them must do so on other episodes than these, or chance is found that was looked for.

    Args:
        table: episodes to choose on.
        bins: states of a number.
        count: of variables, at most.
        shuffles: of the failures.
        seed: of the shuffles.

    Raises:
        TooFewError: if no pair has enough episodes.
        VariableError: if nothing differs among the episodes.
    """
    if not table.columns:
        raise VariableError("nothing differs among the episodes but their outcome")
    count = min(count, MOST_SOURCES)
    states = {name: states_of(values, bins).labels for name, values in table.columns.items()}
    names = list(states)
    groups: list[tuple[str, ...]] = [(names[0],)] if len(names) == 1 else list(itertools.combinations(names, 2))
    rng = np.random.default_rng(seed)
    shuffled = [shuffled_together(table.failed, table.starts, rng) for _ in range(shuffles)]
    told: list[tuple[float, tuple[str, ...]]] = []
    for group in groups:
        columns = [states[name] for name in group]
        if table.episodes < needed_episodes(joint_counts(columns, table.failed).shape):
            continue
        whole = _information(columns, table.failed)
        told.append((whole - float(np.mean([_information(columns, target) for target in shuffled])), group))
    if not told:
        raise TooFewError(f"{table.episodes} episodes are too few to choose variables by; name one or two")
    found: dict[str, None] = {}
    for _, group in sorted(told, key=lambda one: -one[0]):
        for name in group:
            if len(found) < count:
                found[name] = None
    return tuple(found)


def _information(columns: Sequence[NDArray[np.int64]], target: NDArray[np.int64]) -> float:
    return split(joint_counts(columns, target), [str(place) for place in range(len(columns))])[1]


def _variables(fact: EpisodeFact) -> dict[str, Value]:
    found: dict[str, Value] = {"task": fact.task, "variant": fact.variant}
    if fact.method:
        found["method"] = fact.method
    else:
        found["memory"] = "acted" if fact.corrected else "did not act"
    spec = _start(fact.task, fact.variant, fact.seed) if fact.task in TASKS and fact.variant in VARIANTS else None
    return found if spec is None else {**found, **_of_start(spec)}


@lru_cache(maxsize=65_536)
def _start(task: str, variant: str, seed: int) -> SceneSpec:
    return sample_scene(task, variant, seed)


def _of_start(spec: SceneSpec) -> dict[str, Value]:
    found: dict[str, Value] = {"target": spec.goal.target}
    if spec.drawer is not None:
        drawer = spec.drawer
        place, yaw = drawer.position, drawer.yaw
        found |= {"scale": drawer.scale, "friction": drawer.handle_friction, "stiffness": drawer.friction}
    else:
        thing = spec.object(spec.goal.target)
        place, yaw = thing.position, thing.yaw
        found |= {"width": thing.grasp_width, "mass": thing.mass, "friction": thing.friction}
        destination = _place_of(spec, DESTINATIONS[spec.task])
        if destination is not None:
            found["way"] = math.dist(place[:2], destination[:2])
        others = [math.dist(place[:2], entry.position[:2]) for entry in spec.objects if entry is not thing]
        if others:
            found["clearance"] = min(others)
    found |= {"x": place[0], "y": place[1], "yaw": yaw}
    if spec.camera_offsets:
        found["camera shift"] = math.hypot(*spec.camera_offsets[0].translation)
    return found


def _place_of(spec: SceneSpec, name: str) -> tuple[float, float, float] | None:
    furniture = {"bin": spec.bin, "green_zone": spec.zone}.get(name)
    if furniture is not None:
        return furniture.position
    return next((entry.position for entry in spec.objects if entry.name == name), None)


def _named(values: Sequence[Value]) -> States:
    counted = Counter(str(value) for value in values)
    ranked = [name for name, _ in counted.most_common()]
    kept = sorted(ranked if len(ranked) <= MOST_CATEGORIES else ranked[: MOST_CATEGORIES - 1])
    names = [*kept, *(["other"] if len(kept) < len(ranked) else [])]
    labels = [kept.index(str(value)) if str(value) in kept else len(kept) for value in values]
    return States(np.array(labels, dtype=np.int64), tuple(names))
