# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""An explanation in words: sections of sentences, which the terminal and the page both show."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.control.ladder import Mode
from flow_rag_vla.core.action import GRIPPER, ROTATION, TICK_NS, TRANSLATION, CorrectionMode
from flow_rag_vla.evaluate.decisions.explanation import ExplainedChunk, Explanation, clamp_words
from flow_rag_vla.evaluate.decisions.memory import is_shaping

_EPISODE = {0: "idle", 1: "resetting", 2: "running", 3: "succeeded", 4: "failed", 5: "canceled"}

_MECHANISM = {
    CorrectionMode.GUIDANCE: "the first part of the flow was pulled toward a stored correction",
    CorrectionMode.NEGATIVE: "samples near chunks that failed before were turned away from",
    CorrectionMode.RESIDUAL: "the controller added a clipped offset to the rows not yet committed",
    CorrectionMode.BLEND: "the controller averaged the rows with a rule's action (the baseline)",
    CorrectionMode.SHIFT: "the target was taken to be where the misreadings of similar failures say, before sampling",
    CorrectionMode.HOLD: "the memory asked the controller to hold",
}


@dataclass(frozen=True, slots=True)
class Section:
    """One question, and the answer in sentences."""

    title: str
    sentences: tuple[str, ...]


def sections(found: Explanation) -> list[Section]:
    """The explanation, from the command back to what caused it."""
    return [
        Section("Command", tuple(_command(found))),
        *([Section("Why nothing was followed", tuple(_hold(found)))] if found.command.mode is not Mode.FOLLOW else []),
        Section("Observation", tuple(_observation(found))),
        Section("Chunk", tuple(_chunk(found))),
        Section("Memory", tuple(_memory(found))),
        Section("Arbiter and limits", tuple(_limits(found))),
        Section("Made again", tuple(_again(found))),
    ]


def headline(found: Explanation) -> str:
    """Tick, time, mode, in one line."""
    command = found.command
    text = f"tick {command.tick}, {found.seconds:.3f} s into the recording: {command.mode.name}"
    if command.mode is Mode.FOLLOW:
        return f"{text}, row {command.chunk_index} of chunk {command.chunk_id}"
    return f"{text} ({command.reason.name})"


def _command(found: Explanation) -> list[str]:
    command = found.command
    lines = [f"action {_row(command.action)}"]
    if command.target is not None:
        place = ", ".join(f"{value:.4f}" for value in command.target.position)
        lines.append(f"target ({place}) m, fingers {command.target.gripper_width * 1e3:.1f} mm apart")
    else:
        lines.append("no target: no robot state had arrived, so no pose was safe to name")
    status = found.status
    if status is not None and not status.episode_id:
        lines.append("no episode had begun")
    elif status is not None:
        lines.append(
            f"episode {status.episode_id} ({status.task}, {_EPISODE.get(status.state, str(status.state))}"
            + (f", phase {status.phase}" if status.phase else "")
            + (f", {status.elapsed:.2f} s in)" if status.running else ")")
        )
    if found.failure is not None:
        event = found.failure
        lines.append(f"a failure began here: {event.description or event.detector}")
        lines += [
            f"evidence: {item.name} {item.value:.4g} {item.unit} against {item.threshold:.4g} {item.unit}"
            for item in event.evidence
        ]
    return lines


def _hold(found: Explanation) -> list[str]:
    command = found.command
    lines = [f"{command.reason.name}: {command.reason_text or 'no text'}"]
    if found.made is not None:
        lines += list(found.made.refusals)
    if not found.observations:
        lines.append("no observation came in the 1.5 s before")
    lines += [f"observation {item.age_s:.3f} s old: {item.what}" for item in found.observations[-8:]]
    return lines


def _observation(found: Explanation) -> list[str]:
    chunk, command = found.chunk, found.command
    if chunk is None:
        return ["no chunk was in force, so no observation stands behind this command"]
    age = (command.stamp_ns - chunk.planned.stamp_ns) * 1e-6
    lines = [f"pictures stamped {chunk.planned.stamp_ns} ns, {age:.1f} ms old at this tick"]
    if chunk.seen is not None:
        lines.append(f"embedding of {chunk.seen.encoder} {chunk.seen.revision}, {chunk.seen.values.size} numbers")
    if chunk.state is not None:
        distance = (chunk.state.stamp_ns - chunk.planned.stamp_ns) * 1e-6
        place = ", ".join(f"{value:.4f}" for value in chunk.state.position)
        lines.append(
            f"robot state {abs(distance):.1f} ms from it: tool at ({place}) m, fingers "
            f"{chunk.state.gripper_width * 1e3:.1f} mm apart, squeezing {chunk.state.gripper_effort:.1f} N"
        )
    return lines


def _chunk(found: Explanation) -> list[str]:
    explained = found.chunk
    if explained is None:
        return ["none"]
    chunk, source = explained.chunk, explained.chunk.provenance
    row = found.command.chunk_index
    arrived = (explained.planned.log_ns - found.tick.log_ns) * 1e-6
    lines = [
        f"chunk {chunk.chunk_id} for {chunk.task or 'any task'}: {chunk.horizon} rows of "
        f"{TICK_NS // 1_000_000} ms, recorded {-arrived:.0f} ms before this command",
        f"policy {source.policy} {source.policy_revision}, noise seed {source.noise_seed}",
        f"sampled in {explained.planned.inference_ms:.1f} ms after waiting {explained.planned.wait_ms:.2f} ms for the "
        "memory" + ("" if explained.waited else ", whose answer came too late"),
    ]
    if chunk.committed:
        lines.append(f"its first {chunk.committed} rows repeat chunk {chunk.chunk_id - 1}, which was being executed")
    if found.command.mode is Mode.FOLLOW and row < chunk.horizon:
        committed = " (a committed row)" if row < chunk.committed else ""
        lines.append(f"row {row}{committed}: {_row(chunk.actions[row])}")
        if chunk.uncertainty is not None:
            lines.append(f"spread of the samples there: {chunk.uncertainty[row]:.3f}")
    return lines


def _memory(found: Explanation) -> list[str]:
    explained = found.chunk
    mode = found.command.provenance.correction
    lines = []
    if explained is None or (explained.correction is None and not found.cases):
        lines.append("no answer of the memory is on record for this observation")
    elif is_shaping(mode):
        strength = found.command.provenance.correction_strength
        lines.append(f"{mode.name}, strength {strength:.3f}: {_MECHANISM.get(mode, 'it acted')}")
        shift = None if explained is None or explained.correction is None else explained.correction.shift
        if mode is CorrectionMode.SHIFT and shift is not None:
            x, y, z = (1e3 * strength * float(value) for value in shift)
            lines.append(f"the target was taken to be {x:+.0f}, {y:+.0f}, {z:+.0f} mm (x, y, z) from where it was read")
    elif mode is CorrectionMode.TIMEOUT:
        lines.append("TIMEOUT: its answer came later than its budget, the chunk was sampled without it")
    else:
        lines.append("NONE: it had nothing credible to say; the policy was on its own")
    if not math.isnan(found.threshold):
        lines.append(f"a case counts from a similarity of {found.threshold:.3f}")
    for case in found.cases:
        source = f", correction from {case.source}" if case.source else ""
        known = source or (", a correction is known" if case.has_correction else ", no correction known")
        lines.append(
            f"case {case.case_id}{' (used)' if case.used else ''}: similarity {case.similarity:.4f}, "
            f"{case.failure_type} in {case.phase or 'any phase'}{known}; used {case.uses} times, {case.successes} went "
            f"well, credit {case.credit:.2f}"
        )
    if explained is not None and explained.without is not None:
        lines += _counterfactual(found, explained)
    return lines


def _counterfactual(found: Explanation, explained: ExplainedChunk) -> list[str]:
    assert explained.without is not None
    change = explained.chunk.actions - explained.without.actions
    apart = np.linalg.norm(np.cumsum(change[:, :3], axis=0), axis=1)
    lines = [
        f"without it the same noise gives a chunk that ends {apart[-1] * 1e3:.1f} mm elsewhere "
        f"(largest gap {apart.max() * 1e3:.1f} mm)"
    ]
    row = found.command.chunk_index
    if found.command.mode is Mode.FOLLOW and row < explained.without.horizon:
        lines.append(f"row {row} would be: {_row(explained.without.actions[row])}")
    return lines


def _limits(found: Explanation) -> list[str]:
    made, command = found.made, found.command
    lines = []
    if made is not None and made.asked is not None:
        chunk = found.chunk.chunk if found.chunk is not None else None
        if chunk is not None and command.chunk_index < chunk.horizon:
            changed = made.asked - chunk.actions[command.chunk_index]
            if float(np.abs(changed).max()) > 0.0:
                lines.append(f"the arbiter changed the row by {_row(changed)}")
            else:
                lines.append("the arbiter passed the row on as it was")
        difference = command.action - made.asked
        step = float(np.linalg.norm(difference[:3])) * 1e3
        if float(np.abs(difference).max()) > 1e-7:
            lines.append(f"the limits changed it by {_row(difference)} ({step:.2f} mm)")
    words = clamp_words(command.clamps)
    lines += words or ["no limit was met"]
    if found.state is not None and command.target is not None:
        lead = float(np.linalg.norm(command.target.position - found.state.position)) * 1e3
        lines.append(f"the target is {lead:.1f} mm ahead of the measured tool")
    return lines


def _again(found: Explanation) -> list[str]:
    lines = []
    if found.same:
        lines.append("the control loop, run again on this recording, gives this command bit for bit")
    explained = found.chunk
    if explained is not None:
        if explained.remade:
            lines.append("the policy, run again on this observation, gives this chunk bit for bit")
        elif explained.remade is False:
            lines.append("the policy, run again, gives another chunk: other weights, settings or another processor")
        else:
            lines.append(explained.problem)
    return [*lines, *(f"note: {note}" for note in found.notes)]


def _row(values: NDArray[np.floating]) -> str:
    move = ", ".join(f"{value * 1e3:+.2f}" for value in values[TRANSLATION])
    turn = ", ".join(f"{value:+.4f}" for value in values[ROTATION])
    return f"move ({move}) mm, turn ({turn}) rad, gripper {float(values[GRIPPER]):.3f}"
