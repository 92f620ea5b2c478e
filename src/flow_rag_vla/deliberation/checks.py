# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Whether a plan may be done: every check is told with its value and its limit, and nothing passes by default.

A plan is refused, or asks a person, or is clear. There is no fourth outcome: what cannot be checked because something
is not known either refuses the plan or asks a person, as each check says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from flow_rag_vla.control.pace import invalid_pace
from flow_rag_vla.core.goal import Goal
from flow_rag_vla.deliberation.care import paces
from flow_rag_vla.deliberation.limits import RobotLimits, distance, time_limit
from flow_rag_vla.deliberation.reading import second_reading
from flow_rag_vla.deliberation.scene import Scene, needed_names
from flow_rag_vla.failure.phase import PUSH_TASKS
from flow_rag_vla.llm.feasibility import conflict
from flow_rag_vla.llm.schemas import TaskPlan

REMEDY = (
    "; give one with the goal, have the labeling node publish what it sees (its parameter publish), or do without "
    "(parameter require_scene false)"
)
"""Behind the refusal of a command without a scene."""


class Finding(Enum):
    """What one check came to."""

    PASSED = "passed"
    ASK = "ask"
    """A person must say yes."""
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Check:
    """One check of a plan. step: from 1, 0 for the plan as a whole; text: one sentence with value and limit."""

    name: str
    finding: Finding
    text: str
    step: int = 0


@dataclass(frozen=True, slots=True)
class CheckSettings:
    """How strict plans are looked at.

    most_steps: steps; longest: seconds that the steps may take together by their time limits
    margin: metres that a place must be inside the workspace
    least_certainty: of a thing in the scene, below which it does not count as seen
    stop_distance, ask_distance: metres from a person to where the robot will be, below which a plan is refused, or asks
    require_scene: whether a plan without a scene is refused; otherwise it asks nobody, and says what was not checked

    Raises:
        ValueError: for what makes no sense.
    """

    most_steps: int = 8
    longest: float = 90.0
    margin: float = 0.02
    least_certainty: float = 0.5
    stop_distance: float = 0.5
    ask_distance: float = 1.5
    require_scene: bool = False

    def __post_init__(self) -> None:
        if self.most_steps < 1 or not self.longest > 0.0 or self.margin < 0.0:
            raise ValueError(
                f"most_steps {self.most_steps}, longest {self.longest} s, margin {self.margin} m: expected at least 1, "
                "above 0 and at least 0"
            )
        if not 0.0 <= self.least_certainty <= 1.0:
            raise ValueError(f"least_certainty is {self.least_certainty}, expected 0 to 1")
        if not 0.0 <= self.stop_distance <= self.ask_distance:
            raise ValueError(
                f"stop_distance is {self.stop_distance} m and ask_distance {self.ask_distance} m, expected 0 to "
                "ask_distance"
            )


@dataclass(frozen=True, slots=True)
class CheckReport:
    """All checks of one plan, in the order in which they were made."""

    checks: tuple[Check, ...]

    @property
    def refusals(self) -> tuple[str, ...]:
        """Why it must not be done."""
        return tuple(check.text for check in self.checks if check.finding is Finding.REFUSED)

    @property
    def questions(self) -> tuple[str, ...]:
        """Why a person is asked."""
        return tuple(check.text for check in self.checks if check.finding is Finding.ASK)

    @property
    def passed(self) -> bool:
        """Whether nothing speaks against it; a person may still have to say yes."""
        return bool(self.checks) and not self.refusals


def check_plan(
    plan: TaskPlan,
    scene: Scene | None,
    robot: RobotLimits,
    *,
    instruction: str = "",
    speed_scale: float = 1.0,
    settings: CheckSettings | None = None,
) -> CheckReport:
    """Check a plan against robot, workspace, scene and the words that were said.

    Args:
        plan: steps or a refusal.
        scene: what is known to be there; None: nothing is known.
        robot: its limits.
        instruction: the operator's words; empty: there is no second reading.
        speed_scale: share of the commanded speed at which it would be done, above 0 and at most 1; a step's own may be
            less.
        settings: how strict.
    """
    settings = settings or CheckSettings()
    if not plan.accepted:
        return CheckReport(
            (Check("refusal", Finding.REFUSED, f"the command is refused ({plan.refusal}): {plan.reason}"),)
        )
    goals = plan.goals
    # What makes no sense is refused below; until then it counts as the whole speed.
    sensible = [1.0 if invalid_pace(pace) else pace for pace in paces(plan, speed_scale)]
    checks = [*_whole(goals, settings, sensible), *_speed(plan, robot, speed_scale, max(sensible, default=1.0))]
    if instruction:
        reasons = second_reading(instruction, plan)
        checks += [Check("second reading", Finding.ASK, reason) for reason in reasons]
        if not reasons:
            checks.append(Check("second reading", Finding.PASSED, "the words say the same"))
    if scene is None:
        finding = Finding.REFUSED if settings.require_scene else Finding.PASSED
        text = "there is no scene: whether the things are there, and whether people are near, is not known"
        checks.append(Check("scene", finding, text + (REMEDY if settings.require_scene else "")))
        return CheckReport(tuple(checks))
    moved: set[str] = set()
    for number, goal in enumerate(goals, 1):
        checks += _present(number, goal, scene, robot, settings, moved)
        moved.add(goal.target)
    checks += _people(goals, scene, settings)
    return CheckReport(tuple(checks))


def places(goal: Goal, scene: Scene) -> tuple[tuple[float, float, float], ...]:
    """Where the robot will be for a goal, as far as the scene says: of the target, then of its destination."""
    found = []
    for name in needed_names(goal):
        things = [thing for thing in scene.named(name) if thing.position is not None]
        if things and things[0].position is not None:
            found.append(things[0].position)
    return tuple(found)


def _whole(goals: Sequence[Goal], settings: CheckSettings, sensible: Sequence[float]) -> list[Check]:
    checks = [
        _either(
            "steps",
            len(goals) <= settings.most_steps,
            f"{len(goals)} steps, at most {settings.most_steps} are taken at once",
        )
    ]
    problem = conflict(goals)
    checks.append(_either("order", not problem, problem or "the steps can follow each other on one table"))
    # What is done slower may take longer.
    seconds = sum(time_limit(goal.task) / pace for goal, pace in zip(goals, sensible, strict=True))
    text = f"the steps may take {seconds:.3g} s by their time limits, at most {settings.longest:g} s"
    checks.append(_either("horizon", seconds <= settings.longest, text))
    return checks


def _speed(plan: TaskPlan, robot: RobotLimits, speed_scale: float, fastest: float) -> list[Check]:
    scales = ((0, speed_scale), *((number, step.speed_scale) for number, step in enumerate(plan.steps, 1)))
    wrong = [Check("speed", Finding.REFUSED, text, step) for step, scale in scales if (text := invalid_pace(scale))]
    if wrong:
        return wrong
    speed = robot.commanded_speed * fastest
    text = f"the tool is led by up to {speed:.2f} m/s, the {robot.name} may {robot.tool_speed:.2f} m/s"
    return [_either("speed", speed <= robot.tool_speed * (1.0 + 1e-9), text)]


def _present(
    number: int, goal: Goal, scene: Scene, robot: RobotLimits, settings: CheckSettings, moved: set[str]
) -> list[Check]:
    checks = []
    if goal.task not in PUSH_TASKS and not robot.has_gripper:
        checks.append(Check("gripper", Finding.REFUSED, f"the {robot.name} has no gripper", number))
    if scene.passing:
        text = "what is seen now is not looked at: the simulator builds the scene of each task anew"
        return [*checks, Check("object", Finding.PASSED, text, number)]
    for name in needed_names(goal):
        word = name.replace("_", " ")
        seen = scene.named(name)
        if not seen:
            near = ", ".join(other.replace("_", " ") for other in scene.nearest_names(name)) or "nothing at all"
            checks.append(Check("object", Finding.REFUSED, f"there is no {word}; nearest names: {near}", number))
            continue
        best = seen[0]
        sure = [thing for thing in seen if thing.certainty >= settings.least_certainty]
        if not sure:
            text = f"the {word} was seen with certainty {best.certainty:.2f}, expected {settings.least_certainty:g}"
            checks.append(Check("object", Finding.REFUSED, f"{text}; look again", number))
            continue
        if len(sure) > 1:
            text = f"there are {len(sure)} things called {word}; which one is meant is not known"
            checks.append(Check("object", Finding.ASK, text, number))
        checks.append(Check("object", Finding.PASSED, f"the {word} is there, certainty {best.certainty:.2f}", number))
        if name in moved:
            # Where an earlier step has put it is checked as that step's destination.
            continue
        for thing in sure:
            if thing.position is None:
                checks.append(Check("workspace", Finding.ASK, f"where the {word} is, is not known", number))
                continue
            beyond = robot.outside(thing.position, settings.margin)
            text = (
                f"the {word} is {beyond * 100:.1f} cm outside the workspace (margin {settings.margin * 100:g} cm); "
                "move it"
                if beyond > 0.0
                else f"the {word} is inside the workspace"
            )
            checks.append(_either("workspace", beyond <= 0.0, text, number))
    return checks


def _people(goals: Sequence[Goal], scene: Scene, settings: CheckSettings) -> list[Check]:
    ways = [] if scene.passing else [place for goal in goals for place in places(goal, scene)]
    checks = []
    for person in scene.people:
        if person.position is None or not ways:
            checks.append(Check("people", Finding.ASK, "somebody is there; how near is not known"))
            continue
        near = min(distance(person.position, place) for place in ways)
        text = f"somebody is {near:.2f} m from where the robot will be"
        if near < settings.stop_distance:
            checks.append(Check("people", Finding.REFUSED, f"{text}, expected {settings.stop_distance:g} m; step back"))
        elif near < settings.ask_distance:
            checks.append(Check("people", Finding.ASK, f"{text}, nearer than {settings.ask_distance:g} m"))
        else:
            checks.append(Check("people", Finding.PASSED, text))
    return checks or [Check("people", Finding.PASSED, "the scene shows nobody")]


def _either(name: str, passed: bool, text: str, step: int = 0) -> Check:
    return Check(name, Finding.PASSED if passed else Finding.REFUSED, text, step)
