# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What a failure cost beside what could have been done: counterfactual regret, by doing it in the simulator.

A failed start is set up again and done in other ways: with other noise, more slowly, with the failure memory acting.
Regret is what the best way is worth less what the taken one was (Savage 1951, "The Theory of Statistical Decision",
Journal of the American Statistical Association 46). The taken way is done again too: with the same start and noise it
fails the same way, so nothing has to be believed. Regret is known only of what was simulated, in that simulator.

It ranks. A start whose regret the memory's way closes has cases worth keeping. A start where another way succeeds and
the memory's does not is one to practise on: a correction exists and is not known. A start in which every way fails
needs somebody who shows how.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from flow_rag_vla.core.files import write_text
from flow_rag_vla.core.goal import Goal
from flow_rag_vla.deliberation.rehearsal import AS_TAKEN, Rehearsed, Way, rehearse
from flow_rag_vla.evaluate.trials.answers import ANSWERS, AnswerContext, Answering, key_stamp, memory_stamp
from flow_rag_vla.evaluate.trials.bank import CaseBank
from flow_rag_vla.evaluate.trials.protocol import Start, TrialError
from flow_rag_vla.evaluate.trials.rig import Rig
from flow_rag_vla.memory.memory import FailureMemory
from flow_rag_vla.policy.situation import NAME

WAYS = (Way("other noise", 1), Way("other noise again", 2), Way("slower", speed_scale=0.6))
"""What is tried without the memory."""

MakeAnswering = Callable[[Goal], Answering]
"""The memory's way for a goal; made anew for each episode."""


class Advice(str, enum.Enum):
    """What a regretted start asks for."""

    KEEP = "keep"
    """The memory's way does it: its cases are worth their place."""
    PRACTISE = "practise"
    """Another way does it and the memory's does not: a correction is to be found."""
    SHOW = "show"
    """No way does it: somebody has to show how."""
    NOTHING = "nothing"
    """It was no failure."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one way was worth, 0 to 1."""

    way: str
    value: float
    success: bool


@dataclass(frozen=True, slots=True)
class Regret:
    """One start and what could have been done.

    cases: ids of those that came of it; memory: names of the memory's ways
    """

    start: Start
    taken: Outcome
    others: tuple[Outcome, ...]
    cases: tuple[int, ...] = ()
    memory: tuple[str, ...] = ()

    @property
    def best(self) -> Outcome:
        """The way that is worth most, the taken one among them; the first of equals."""
        return max((self.taken, *self.others), key=lambda one: one.value)

    @property
    def regret(self) -> float:
        """What the best way is worth less what the taken one was, 0 to 1."""
        return self.best.value - self.taken.value

    @property
    def closed(self) -> float:
        """What the memory's best way is worth less what the taken one was; 0 without one, below 0 where it hurts."""
        worth = [one.value for one in self.others if one.way in self.memory]
        return max(worth) - self.taken.value if worth else 0.0

    @property
    def advice(self) -> Advice:
        """What this start asks for."""
        if self.taken.success:
            return Advice.NOTHING
        if any(one.success for one in self.others if one.way in self.memory):
            return Advice.KEEP
        return Advice.PRACTISE if any(one.success for one in self.others) else Advice.SHOW


@dataclass(frozen=True, slots=True)
class CaseWorth:
    """What a case is worth by the starts that it came of. closed: mean regret that the memory's way closes there."""

    case_id: int
    closed: float
    starts: int


def regret_of(
    rig: Rig,
    start: Start,
    *,
    ways: Sequence[Way] = WAYS,
    memories: Mapping[str, MakeAnswering] | None = None,
    cases: Sequence[int] = (),
) -> Regret:
    """Do a start again as it was taken, and in every other way.

    Args:
        rig: policy and world.
        start: that failed.
        ways: without the memory.
        memories: ways of the memory by name.
        cases: that came of the start.
    """
    memories = memories or {}
    names = [way.name for way in ways]
    if len({*names, *memories, AS_TAKEN.name}) != len(names) + len(memories) + 1:
        raise ValueError(f"ways {', '.join((*names, *memories))}: every way needs a name of its own")
    taken = rehearse(rig, start)
    others = [_outcome(rehearse(rig, start, way)) for way in ways]
    for name, make in memories.items():
        others.append(_outcome(rehearse(rig, start, Way(name), make(taken.goal))))
    return Regret(start, _outcome(taken), tuple(others), tuple(cases), tuple(memories))


def bank_memory(rig: Rig, memory: FailureMemory, method: str) -> MakeAnswering:
    """A bank's memory that acts as a method of trials does.

    Raises:
        TrialError: for a method that is not known.
    """
    if method not in ANSWERS:
        raise TrialError(f"memory {method!r} is not known in this simulator; it knows {', '.join(ANSWERS)}")
    by_key = memory.stamp is not None and memory.stamp.encoder == NAME

    def make(goal: Goal) -> Answering:
        stamp = key_stamp(rig.key) if by_key else memory_stamp(rig.encoder)
        return ANSWERS[method](AnswerContext(memory, stamp, rig.policy, rig.encoder, goal, rig.key if by_key else None))

    return make


def bank_regrets(
    rig: Rig,
    bank: CaseBank,
    method: str,
    *,
    starts: int,
    ways: Sequence[Way] = WAYS,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Regret]:
    """Regret of the first failed starts of a bank, its own memory among the ways.

    Raises:
        TrialError: if the bank holds no failed start of this policy, task and scene.
    """
    failed = [item for item in bank.episodes if item.bench == rig.spec.key and not item.success][:starts]
    if not failed:
        raise TrialError(
            f"{bank.folder} holds no failed start of {rig.spec.key}; name the policy, task and scene that it was made "
            "of"
        )
    with bank.memory() as temporary:
        memories = {f"memory: {method}": bank_memory(rig, temporary.memory, method)}
        found = []
        for number, item in enumerate(failed, 1):
            found.append(regret_of(rig, item.start, ways=ways, memories=memories, cases=item.cases))
            progress(number, len(failed))
    return found


def ranked_cases(regrets: Sequence[Regret]) -> tuple[CaseWorth, ...]:
    """Cases by the regret that the memory's way closes at their starts, those worth most first."""
    closed: dict[int, list[float]] = {}
    for one in regrets:
        for case_id in one.cases:
            closed.setdefault(case_id, []).append(one.closed)
    worths = [CaseWorth(case_id, sum(values) / len(values), len(values)) for case_id, values in closed.items()]
    return tuple(sorted(worths, key=lambda worth: (-worth.closed, worth.case_id)))


def to_collect(regrets: Sequence[Regret]) -> tuple[Regret, ...]:
    """Starts where data are worth collecting: those to practise on by their regret, then those to be shown."""
    wanted = [one for one in regrets if one.advice in (Advice.PRACTISE, Advice.SHOW)]
    return tuple(sorted(wanted, key=lambda one: (one.advice is Advice.SHOW, -one.regret, one.start.seed)))


def write_regrets(path: Path, regrets: Sequence[Regret]) -> None:
    """Keep them, a JSON line each."""
    lines = (
        json.dumps({**asdict(one), "regret": one.regret, "closed": one.closed, "advice": one.advice.value}) + "\n"
        for one in regrets
    )
    write_text(path, "".join(lines))


def _outcome(rehearsed: Rehearsed) -> Outcome:
    return Outcome(rehearsed.way.name, round(rehearsed.value, 6), rehearsed.success)
