# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What speaks for a plan and what against it: Bentham's seven criteria with measured terms, hard vetoes first.

Bentham 1789, "An Introduction to the Principles of Morals and Legislation", chapter IV: the value of a pleasure or pain
lies in its intensity, duration, certainty, propinquity, fecundity, purity and extent. Here each is a figure of the
plan, measured where the term says. A term without data is unknown: it takes no number, and the score is the interval
between the worst and the best that it could be.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from flow_rag_vla.core.goal import Goal
from flow_rag_vla.deliberation.chance import Chance, chance
from flow_rag_vla.deliberation.checks import CheckReport, places
from flow_rag_vla.deliberation.history import SIDE_EFFECTS, CaseHistory, EpisodeFact, by_task
from flow_rag_vla.deliberation.limits import RobotLimits, distance, time_limit
from flow_rag_vla.deliberation.scene import Scene, needed_names
from flow_rag_vla.failure.rules import PULL_TASKS
from flow_rag_vla.failure.thresholds import RuleThresholds

CRITERIA: Mapping[str, str] = {
    "certainty": "chance that every step succeeds",
    "intensity": "share of force and speed limits that is left at the peak",
    "duration": "share of the time limits that is left",
    "propinquity": "seconds until the hand is first on something",
    "fecundity": "chance that one failure brings no further one",
    "purity": "share of episodes without a collision or a drop",
    "extent": "people and other things within reach of the way",
}

LEAST_EPISODES = 5
"""Episodes of a task below which a figure of them is not given."""

SETTLING_S = 3.0
"""Seconds of free motion in which a person can still step back: propinquity counts in these."""


@dataclass(frozen=True, slots=True)
class Term:
    """One criterion of one plan.

    value: in ``unit``; None: not known
    low, high: ends of its 95 % interval where counts make one, else the value
    good, good_low, good_high: how good that is, 0 to 1; 0 and 1 at the ends while it is not known
    samples: episodes that it rests on; source: where it was measured, or why it is not known
    """

    name: str
    value: float | None
    unit: str
    good: float | None
    good_low: float = 0.0
    good_high: float = 1.0
    low: float = math.nan
    high: float = math.nan
    samples: int = 0
    source: str = ""

    @property
    def known(self) -> bool:
        """Whether there is a number."""
        return self.value is not None


@dataclass(frozen=True, slots=True)
class PlanScore:
    """All seven terms, and what they come to.

    vetoes: why the plan must not be done, whatever the terms say
    low, high: the score's range, 0 to 1: unknown terms at their worst and at their best
    score: of the known terms alone, by their weights; None if certainty is not known
    """

    terms: tuple[Term, ...]
    vetoes: tuple[str, ...]
    low: float
    high: float
    score: float | None

    @property
    def unknown(self) -> tuple[str, ...]:
        """Names of the terms without a number."""
        return tuple(term.name for term in self.terms if not term.known)


@dataclass(frozen=True, slots=True)
class ScoreSettings:
    """How terms become a score.

    weights: of the criteria, by name
    certainty_floor: upper end of the chance of success below which a plan is vetoed
    reach: metres around target and destination within which other things count as within reach

    Raises:
        ValueError: for what makes no sense.
    """

    weights: Mapping[str, float] = field(default_factory=lambda: dict.fromkeys(CRITERIA, 1.0))
    certainty_floor: float = 0.2
    reach: float = 0.15

    def __post_init__(self) -> None:
        if set(self.weights) != set(CRITERIA):
            raise ValueError(f"weights are of {', '.join(self.weights)}, expected one each of {', '.join(CRITERIA)}")
        for name, weight in self.weights.items():
            if not (math.isfinite(weight) and weight >= 0.0):
                raise ValueError(f"weight of {name} is {weight}, expected at least 0")
        if not any(self.weights.values()):
            raise ValueError("all weights are 0; give at least one criterion a weight")
        if not 0.0 <= self.certainty_floor <= 1.0 or not self.reach > 0.0:
            raise ValueError(
                f"certainty_floor is {self.certainty_floor} and reach {self.reach} m, expected 0 to 1 and above 0"
            )


@dataclass(frozen=True, slots=True)
class Experience:
    """What is known of the past: episodes of any log, and what failure memories know by task."""

    facts: tuple[EpisodeFact, ...] = ()
    cases: Mapping[str, CaseHistory] = field(default_factory=dict)


def score_plan(
    goals: Sequence[Goal],
    report: CheckReport,
    scene: Scene | None,
    robot: RobotLimits,
    experience: Experience,
    *,
    speed_scale: float = 1.0,
    settings: ScoreSettings | None = None,
) -> PlanScore:
    """Score a plan.

    Args:
        goals: its steps; at least one unless the checks refuse it.
        report: what the checks came to; each refusal is a veto.
        scene: what is known to be there.
        robot: its limits.
        experience: what episodes have shown.
        speed_scale: share of the commanded speed at which it would be done.
        settings: weights and floors.
    """
    settings = settings or ScoreSettings()
    vetoes = list(report.refusals)
    if not report.checks:
        vetoes.append("the plan was not checked")
    if not goals:
        vetoes.append("there is nothing to do")
        terms = tuple(_unknown(name, "", "there is no plan") for name in CRITERIA)
        return PlanScore(terms, tuple(vetoes), 0.0, 0.0, None)
    facts = by_task(experience.facts)
    terms = (
        _certainty(goals, facts, experience.cases),
        _intensity(goals, facts, robot, speed_scale),
        _duration(goals, facts),
        _propinquity(goals, facts),
        _fecundity(goals, facts),
        _purity(goals, facts),
        _extent(goals, scene, settings.reach),
    )
    certainty = terms[0]
    if certainty.known and certainty.high < settings.certainty_floor:
        vetoes.append(
            f"the chance of success is at most {certainty.high:.2f} with 97.5 % confidence, expected at least "
            f"{settings.certainty_floor:g} ({certainty.source})"
        )
    weights = settings.weights
    total = sum(weights.values())
    low = sum(weights[term.name] * term.good_low for term in terms) / total
    high = sum(weights[term.name] * term.good_high for term in terms) / total
    known = [(weights[term.name], term.good) for term in terms if term.good is not None]
    weight = sum(one for one, _ in known)
    score = sum(one * good for one, good in known) / weight if certainty.known and weight > 0.0 else None
    return PlanScore(terms, tuple(vetoes), low, high, score)


def _certainty(
    goals: Sequence[Goal], facts: Mapping[str, Sequence[EpisodeFact]], cases: Mapping[str, CaseHistory]
) -> Term:
    chances: list[Chance] = []
    sources: list[str] = []
    for task in dict.fromkeys(goal.task for goal in goals):
        found = _task_chance(task, facts.get(task, ()), cases.get(task))
        if found is None:
            return _unknown("certainty", "", f"no episode of {task} and no use of a case of it is on record")
        chances += [found[0]] * sum(goal.task == task for goal in goals)
        sources.append(f"{task}: {found[0]}, {found[1]}")
    mean, low, high = (math.prod(values) for values in zip(*((c.mean, c.low, c.high) for c in chances), strict=True))
    return Term(
        "certainty", mean, "", mean, low, high, low, high, min(one.trials for one in chances), "; ".join(sources)
    )


def _task_chance(task: str, facts: Sequence[EpisodeFact], cases: CaseHistory | None) -> tuple[Chance, str] | None:
    """Success of a task, and where it was counted; episodes first, since they count each attempt once."""
    if len(facts) >= LEAST_EPISODES:
        shaped = sum(fact.corrected for fact in facts)
        return chance(sum(fact.success for fact in facts), len(facts)), f"episodes, {shaped} of them shaped by cases"
    if cases is None:
        return None
    # An episode that several cases shaped is counted by each of them, so it had at least as many episodes as the case
    # that was used most: that many are counted, at the rate of all uses.
    trials = cases.largest
    if trials >= LEAST_EPISODES:
        text = f"{cases.successes} of {cases.uses} uses of {cases.cases} cases, counted as {trials} episodes"
        return chance(trials * cases.successes // cases.uses, trials), text
    if cases.baseline.episodes >= LEAST_EPISODES:
        whole = math.floor(cases.baseline.successes), math.floor(cases.baseline.episodes)
        return chance(*whole), "episodes that no case shaped"
    return None


def _intensity(
    goals: Sequence[Goal], facts: Mapping[str, Sequence[EpisodeFact]], robot: RobotLimits, speed_scale: float
) -> Term:
    thresholds = RuleThresholds()
    speed = robot.commanded_speed * speed_scale / robot.tool_speed
    margins, samples = [1.0 - speed], []
    for task in dict.fromkeys(goal.task for goal in goals):
        forces = [fact.peak_force for fact in facts.get(task, ()) if fact.peak_force is not None]
        if len(forces) < LEAST_EPISODES:
            return _unknown(
                "intensity", "", f"the speed leaves {1.0 - speed:.2f} of its limit; no log of {task} holds forces"
            )
        limit = thresholds.collision_force_pull if task in PULL_TASKS else thresholds.collision_force_contact
        margins.append(1.0 - statistics.quantiles(forces, n=20)[-1] / limit)
        samples.append(len(forces))
    left = min(max(min(margins), 0.0), 1.0)
    source = f"speed {speed:.2f} of its limit; 95 % of {min(samples)} rehearsals or more below the force told"
    return Term("intensity", left, "", left, left, left, left, left, min(samples), source)


def _duration(goals: Sequence[Goal], facts: Mapping[str, Sequence[EpisodeFact]]) -> Term:
    found = _medians(goals, facts, lambda fact: fact.duration if fact.success else None)
    if isinstance(found, str):
        return _unknown("duration", "s", found)
    seconds, samples = found
    good = min(max(1.0 - seconds / sum(time_limit(goal.task) for goal in goals), 0.0), 1.0)
    source = "medians of episodes that succeeded, summed over the steps"
    return Term("duration", seconds, "s", good, good, good, seconds, seconds, samples, source)


def _propinquity(goals: Sequence[Goal], facts: Mapping[str, Sequence[EpisodeFact]]) -> Term:
    found = _medians(goals[:1], facts, lambda fact: fact.first_contact)
    if isinstance(found, str):
        return _unknown("propinquity", "s", found)
    seconds, samples = found
    good = min(seconds / SETTLING_S, 1.0)
    source = "median time of the first step until the hand was on something"
    return Term("propinquity", seconds, "s", good, good, good, seconds, seconds, samples, source)


def _fecundity(goals: Sequence[Goal], facts: Mapping[str, Sequence[EpisodeFact]]) -> Term:
    failed = [fact for goal in dict.fromkeys(goals) for fact in facts.get(goal.task, ()) if fact.failures]
    # Time that runs out ends an episode: nothing can follow it, and it follows from whatever was there before.
    real = [[kind for kind in fact.failures if kind != "timeout"] for fact in failed]
    real = [kinds for kinds in real if kinds]
    if len(real) < LEAST_EPISODES:
        return _unknown("fecundity", "", f"{len(real)} episodes with a failure are on record, {LEAST_EPISODES} needed")
    alone = chance(sum(len(kinds) == 1 for kinds in real), len(real))
    return _of_chance("fecundity", alone, "episodes with a failure in which it stayed the only one")


def _purity(goals: Sequence[Goal], facts: Mapping[str, Sequence[EpisodeFact]]) -> Term:
    seen = [fact for task in dict.fromkeys(goal.task for goal in goals) for fact in facts.get(task, ())]
    if len(seen) < LEAST_EPISODES:
        return _unknown("purity", "", f"{len(seen)} episodes are on record, {LEAST_EPISODES} needed")
    clean = chance(sum(SIDE_EFFECTS.isdisjoint(fact.failures) for fact in seen), len(seen))
    moved = [fact.moved_others for fact in seen if fact.moved_others is not None]
    more = f"; other things were moved by up to {100 * max(moved):.1f} cm in {len(moved)} rehearsals" if moved else ""
    return _of_chance("purity", clean, f"episodes without a collision or a drop{more}")


def _extent(goals: Sequence[Goal], scene: Scene | None, reach: float) -> Term:
    if scene is None:
        return _unknown("extent", "", "there is no scene")
    if scene.passing:
        return _unknown("extent", "", "the scene will be another when the plan is done")
    meant = {name for goal in goals for name in needed_names(goal)}
    ways = [place for goal in goals for place in places(goal, scene)]
    if not ways:
        return _unknown("extent", "", "the scene says of no target where it is")
    others = [thing for thing in scene.things if thing.person or thing.key not in meant]
    lost = sum(thing.position is None for thing in others)
    near = sum(
        any(distance(thing.position, place) <= reach for place in ways)
        for thing in others
        if thing.position is not None
    )
    good, worst = 1.0 / (1 + near), 1.0 / (1 + near + lost)
    source = (
        f"things and people within {reach * 100:g} cm of target or destination, by the scene {scene.source}".strip()
    )
    more = f"; {lost} whose place is not known may be too" if lost else ""
    return Term("extent", float(near), "", good, worst, good, near, near + lost, len(scene.things), source + more)


def _medians(
    goals: Sequence[Goal],
    facts: Mapping[str, Sequence[EpisodeFact]],
    value: Callable[[EpisodeFact], float | None],
) -> tuple[float, int] | str:
    """Sum over goals of a figure's median, and the smallest number of episodes; or why it is not known."""
    total, samples = 0.0, []
    for goal in goals:
        values = [one for one in map(value, facts.get(goal.task, ())) if one is not None]
        if len(values) < LEAST_EPISODES:
            return f"{len(values)} episodes of {goal.task} say so, {LEAST_EPISODES} needed"
        total += statistics.median(values)
        samples.append(len(values))
    return total, min(samples)


def _of_chance(name: str, found: Chance, source: str) -> Term:
    return Term(name, found.mean, "", found.mean, found.low, found.high, found.low, found.high, found.trials, source)


def _unknown(name: str, unit: str, why: str) -> Term:
    return Term(name, None, unit, None, source=why)
