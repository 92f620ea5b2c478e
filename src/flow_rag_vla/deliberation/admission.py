# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""How a diagnosis' proposal becomes a case: after a check in the simulator, or by a person's word. In no other way.

The failed start is set up again and done as the diagnosis proposes. It counts as checked only if the policy fails there
again by itself, and the proposal succeeds twice with different noise: once may be luck. What the proposal did in the
situations that the failed attempt met is then the correction. A person may admit a correction without the simulator,
with a name that is kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.core.failure import FailureType
from flow_rag_vla.core.goal import Goal
from flow_rag_vla.deliberation.rehearsal import AS_TAKEN, Rehearsed, Way, rehearse
from flow_rag_vla.evaluate.trials.labelled import Keeper, Labelled, Seen, within_limits
from flow_rag_vla.evaluate.trials.protocol import Start
from flow_rag_vla.evaluate.trials.rig import Rig
from flow_rag_vla.evaluate.trials.search import seen_with
from flow_rag_vla.llm.schemas import FailureDiagnosis
from flow_rag_vla.memory.case import CORRECTION_SOURCES, FailureCase
from flow_rag_vla.memory.guard import within_limits as guard_limits
from flow_rag_vla.memory.lesson import SAME_SITUATION
from flow_rag_vla.memory.memory import FailureMemory
from flow_rag_vla.policy.observation import proprioception
from flow_rag_vla.policy.policy import SHIFT_SHAPE

SLOWER = 0.6
"""Share of the speed that the proposal ``slower`` stands for."""

SOURCE = "language_model"
"""Who a checked correction is said to come from; the weakest source but a rule."""


class NotAdmittedError(ValueError):
    """A proposal that may not enter the memory; the text says why."""


@dataclass(frozen=True, slots=True)
class SimulationCheck:
    """What the simulator said of a proposal.

    failed: whether the policy failed again by itself; successes: of the proposal, one per noise
    """

    start: Start
    way: Way
    failed: bool
    successes: tuple[bool, ...]
    taken: Rehearsed = field(repr=False)
    attempts: tuple[Rehearsed, ...] = field(default=(), repr=False)

    @property
    def passed(self) -> bool:
        """Whether the proposal helps where nothing else would have."""
        return self.failed and len(self.successes) >= 2 and all(self.successes)

    def __str__(self) -> str:
        if not self.failed:
            return f"the policy succeeds at start {self.start.seed} by itself: there is nothing to correct"
        done = sum(self.successes)
        return f"{self.way.name}: {done} of {len(self.successes)} attempts succeeded at start {self.start.seed}"


@dataclass(frozen=True, slots=True)
class PersonCheck:
    """A person's word. name: who; reason: theirs."""

    name: str
    reason: str = ""


def ways_of(diagnosis: FailureDiagnosis) -> tuple[Way, Way] | None:
    """What a diagnosis proposes, with two draws of noise; None where it proposes what no simulator can check.

    An offset moves where the tool is felt to be the other way: the policy then goes by the offset further.
    """
    name = diagnosis.proposal
    if name == "offset":
        offset = diagnosis.offset
        rows = np.zeros(SHIFT_SHAPE)
        rows[-1] = -np.array([offset.dx_mm, offset.dy_mm, offset.dz_mm]) / 1000.0
        if not rows.any():
            return None
        shift = tuple(tuple(float(value) for value in row) for row in rows)
        return Way(name, 0, shift), Way(name, 1, shift)
    if name == "slower":
        return Way(name, 0, speed_scale=SLOWER), Way(name, 1, speed_scale=SLOWER)
    if name in ("retry", "regrasp"):
        return Way(name, 1), Way(name, 2)
    return None


def check_in_simulation(
    rig: Rig, start: Start, diagnosis: FailureDiagnosis, taken: Rehearsed | None = None
) -> SimulationCheck:
    """Do what a diagnosis proposes at the start that failed.

    Args:
        rig: policy and world.
        start: that failed.
        diagnosis: whose proposal is checked.
        taken: this rig's own rehearsal of the start as taken; None: it is done again.

    Raises:
        NotAdmittedError: for a proposal that the simulator cannot check.
    """
    ways = ways_of(diagnosis)
    if ways is None:
        raise NotAdmittedError(
            f"the simulator cannot check the proposal {diagnosis.proposal!r}"
            + (" without an offset" if diagnosis.proposal == "offset" else "; ask a person")
        )
    if taken is None:
        taken = rehearse(rig, start, AS_TAKEN)
    elif taken.way != AS_TAKEN or taken.fact.seed != start.seed:
        raise NotAdmittedError(f"the rehearsal {taken.way.name!r} of {taken.fact.seed} is not of start {start.seed}")
    if taken.success:
        return SimulationCheck(start, ways[0], False, (), taken)
    attempts: list[Rehearsed] = []
    for way in ways:
        attempts.append(rehearse(rig, start, way))
        if not attempts[-1].success:
            break
    return SimulationCheck(start, ways[0], True, tuple(one.success for one in attempts), taken, tuple(attempts))


def admit_checked(rig: Rig, memory: FailureMemory, check: SimulationCheck, note: str = "") -> tuple[int, ...]:
    """Put a checked proposal's corrections into a memory of the policy's situations; give the ids of its cases.

    Raises:
        NotAdmittedError: if the check did not pass.
    """
    if not check.passed:
        raise NotAdmittedError(f"not admitted: {check}")
    keeper = Keeper(memory, rig.key)
    labelled = _labelled(rig, check)
    said = f"{note}; " if note else ""
    return keeper.failure(
        check.start.seed,
        rig.spec.task,
        check.taken.goal,
        check.taken.kind if check.taken.reports else FailureType.TIMEOUT,
        labelled,
        source=SOURCE,
        note=f"{said}checked in simulation: {check}",
    )


def proposed_correction(
    memory: FailureMemory, case_id: int, proposal: str, offset_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
) -> NDArray[np.float32]:
    """(H, 7) float32: a case's failed chunk, done as a diagnosis proposes.

    What the policy asked for is first cut to the limits of motion, as the controller did. ``slower`` is the speed that
    the simulator checks; ``offset`` ends the chunk that much further, in equal parts a row, and is not cut: the guard
    says where it asks too much.

    Args:
        memory: that has the case.
        case_id: its number.
        proposal: a diagnosis'.
        offset_mm: millimetres in the base frame, for ``offset``.

    Raises:
        NotAdmittedError: for a proposal that says no motion.
        CaseError: if the case is not there.
    """
    rows = guard_limits(memory.get(case_id).failed_actions, memory.settings.guard.limits)
    if proposal == "slower":
        rows[:, :3] *= SLOWER
    elif proposal == "offset" and any(offset_mm):
        rows[:, :3] += np.array(offset_mm, dtype=np.float32) / 1000.0 / len(rows)
    else:
        without = " without an offset" if proposal == "offset" else ""
        raise NotAdmittedError(f"not admitted: the proposal {proposal!r}{without} says no motion; give the rows to do")
    return rows


def admit_by_person(
    memory: FailureMemory, case_id: int, correction: NDArray[np.floating], check: PersonCheck
) -> FailureCase:
    """Give a case a correction that a person stands for. What its note said before stays.

    Raises:
        NotAdmittedError: for a person without a name, or a case that has a correction which is trusted more.
        CaseError: if the case is not there, or its guard stops the correction.
    """
    if not check.name.strip():
        raise NotAdmittedError("not admitted: the person has no name; say who stands for it")
    before = memory.get(case_id)
    if CORRECTION_SOURCES.index(before.correction_source) > CORRECTION_SOURCES.index(SOURCE):
        raise NotAdmittedError(
            f"not admitted: case {case_id} has a correction by {before.correction_source}, which is trusted more than "
            f"one by {SOURCE}; drop that first: memory edit {case_id} --forget-correction"
        )
    reason = f": {check.reason.strip()}" if check.reason.strip() else ""
    said = f"{before.note}; " if before.note else ""
    return memory.edit(
        case_id,
        correction=np.asarray(correction, dtype=np.float32),
        correction_source=SOURCE,
        note=f"{said}admitted by {check.name.strip()}{reason}",
    )


def _labelled(rig: Rig, check: SimulationCheck) -> list[Labelled]:
    """What was right in the situations of the failed attempt, then in those of the attempts that succeeded.

    A situation of the failed attempt is labelled by what an attempt that succeeded did in the same situation, if it met
    it. Where the proposal moved the perception, what the policy does there without it is what failed.
    """
    goal = check.taken.goal
    done = [(item, _key(rig, item, goal)) for attempt in check.attempts for item in attempt.seen]
    scale = check.way.speed_scale
    found = []
    for item in check.taken.seen:
        key = _key(rig, item, goal)
        likest, likeness = max(((other, float(key @ one)) for other, one in done), key=lambda pair: pair[1])
        if likeness > SAME_SITUATION:
            found.append(Labelled(item, item.chunk.actions, _right(likest, scale)))
    for item, _ in done:
        alone = seen_with(rig.policy, item, goal, None)
        found.append(Labelled(item, alone, _right(item, scale)))
    return found


def _right(item: Seen, scale: float) -> NDArray[np.float32]:
    """(H, 7) float32: what was done, inside the limits and at the speed at which it was done."""
    right = within_limits(item.chunk.actions)
    right[:, :3] *= scale
    return right


def _key(rig: Rig, item: Seen, goal: Goal) -> NDArray[np.float32]:
    return rig.key(item.embedding, proprioception(item.state), goal)
