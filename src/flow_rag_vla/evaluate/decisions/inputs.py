# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What a recorded chunk was made of: embedding, robot state, goal, the chunk before, the memory's answer."""

from __future__ import annotations

import dataclasses

from flow_rag_vla.control.pace import carried
from flow_rag_vla.core.action import ActionChunk, CorrectionMode
from flow_rag_vla.core.correction import Correction
from flow_rag_vla.core.goal import Goal, UnknownTaskError, parse_instruction
from flow_rag_vla.core.state import RobotState
from flow_rag_vla.evaluate.decisions.fingerprint import chunk_bytes
from flow_rag_vla.evaluate.decisions.recording import DecisionRecording, Planned, Seen, timed_out
from flow_rag_vla.policy.policy import FlowPolicy

STATE_REACH_NS = 100_000_000
"""How far from an embedding the state may be that a policy on a loaded machine went by."""


def chunk_inputs(
    recording: DecisionRecording, planned: Planned, policy: FlowPolicy | None = None
) -> tuple[Seen, RobotState, Goal] | str:
    """Embedding, robot state and goal that a chunk was made of; a sentence if one of them is not in the bag.

    The chunk says by which state the policy went. In bags from before it did, it is the one whose stamp is nearest
    among those that had reached the policy. On a loaded machine that may have been late or lost on the way to the
    policy, though not to the recorder, or the other way round: with ``policy`` the state is found with which the
    recorded chunk comes out, bit for bit.
    """
    seen = recording.embedding(planned.stamp_ns)
    if seen is None:
        return "the embedding of a chunk is not in the bag; the chunk is taken as recorded"
    said = None if planned.value is None else recording.state(planned.value.provenance.state_stamp_ns)
    state = said or recording.state_near(planned.stamp_ns, planned.log_ns)
    if state is None:
        return "the robot state of a chunk is not in the bag; the chunk is taken as recorded"
    goal = goal_at(recording, planned)
    if goal is None:
        return "the episode of a chunk is not in the bag; the chunk is taken as recorded"
    if policy is not None and said is None:
        state = _state_used(recording, planned, policy, seen, goal) or state
    return seen, state, goal


def goal_at(recording: DecisionRecording, planned: Planned) -> Goal | None:
    """The goal for which a chunk was made: that of the newest running episode before it."""
    status = recording.running_at(planned.log_ns)
    if status is None:
        return None
    try:
        return parse_instruction(status.instruction)
    except UnknownTaskError:
        return None


def chunk_before(recording: DecisionRecording, chunk: ActionChunk, log_ns: int) -> ActionChunk | None:
    """The recorded chunk that one goes on from."""
    found = None
    for item in recording.chunks:
        if item.log_ns >= log_ns:
            break
        if item.value is not None and item.value.chunk_id == chunk.chunk_id - 1:
            found = item.value
    return found


def answer_used(recording: DecisionRecording, planned: Planned, chunk: ActionChunk) -> Correction:
    """The memory's answer that the policy had in hand when it made a recorded chunk."""
    told = recording.told(planned.stamp_ns)
    if timed_out(chunk) or told is None or told.value is None:
        return Correction(planned.stamp_ns, CorrectionMode.TIMEOUT if timed_out(chunk) else CorrectionMode.NONE)
    return told.value


def _state_used(
    recording: DecisionRecording, planned: Planned, policy: FlowPolicy, seen: Seen, goal: Goal
) -> RobotState | None:
    """The state with which the recorded chunk comes out; None if there is none, as with another policy."""
    known = recording.states_used
    if planned.stamp_ns in known:
        return known[planned.stamp_ns]
    chunk = planned.value
    found = None
    if chunk is not None and policy.revision == chunk.provenance.policy_revision:
        previous = chunk_before(recording, chunk, planned.log_ns) if chunk.committed else None
        correction = answer_used(recording, planned, chunk)
        for state in recording.states_around(planned.stamp_ns, planned.log_ns, STATE_REACH_NS):
            made = policy.act(
                seen.values,
                state,
                goal,
                seed=chunk.provenance.noise_seed,
                stamp_ns=planned.stamp_ns,
                previous=carried(previous, planned.stamp_ns, recording.pace_at(planned.log_ns)),
                delay_ticks=chunk.committed,
                correction=correction,
            )
            if chunk_bytes(dataclasses.replace(made, chunk_id=chunk.chunk_id)) == chunk_bytes(chunk):
                found = state
                break
    known[planned.stamp_ns] = found
    return found
