# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Two sets of decisions about the same recording, side by side: where they part, by how much, and which case did it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from flow_rag_vla.control.loop import Command
from flow_rag_vla.core.action import GRIPPER, ROTATION, TRANSLATION, ActionChunk, CorrectionMode
from flow_rag_vla.core.correction import Correction
from flow_rag_vla.core.rotation import quaternion_conjugate, quaternion_multiply, rotation_vector_from_quaternion
from flow_rag_vla.evaluate.decisions.fingerprint import chunk_bytes, command_bytes, correction_bytes
from flow_rag_vla.evaluate.decisions.memory import is_shaping
from flow_rag_vla.evaluate.decisions.replay import Decisions

JOINED_TICKS = 8
"""Ticks of agreement that do not yet end a stretch of difference."""


@dataclass(frozen=True, slots=True)
class Cause:
    """What shaped a chunk in one variant and not, or otherwise, in the other.

    variant: in which the memory acted; stamp_ns: of the observation at which it did; inherited: by going on from a
    chunk that it shaped
    """

    variant: str
    mode: CorrectionMode
    strength: float
    case_ids: tuple[int, ...]
    stamp_ns: int
    inherited: bool = False

    @property
    def sentence(self) -> str:
        """The cause in words."""
        cases = ", ".join(map(str, self.case_ids)) or "no case named"
        how = "went on from a chunk that was shaped by" if self.inherited else "shaped by"
        return f"{self.variant}: {how} {self.mode.name.lower()} (case {cases}, strength {self.strength:.2f})"


@dataclass(frozen=True, slots=True)
class TickDifference:
    """One tick at which the commands differ. Metres, radians, gripper opening 0 to 1, of the actions as sent.

    target_m: distance of the absolute targets
    """

    tick: int
    stamp_ns: int
    translation_m: float
    rotation_rad: float
    gripper: float
    target_m: float
    modes: tuple[str, str]
    chunk_stamps: tuple[int | None, int | None]


@dataclass(frozen=True, slots=True)
class Stretch:
    """Neighbouring ticks at which the commands differ, with the largest differences among them."""

    first: TickDifference
    last: TickDifference
    ticks: int
    translation_m: float
    target_m: float
    gripper: float
    causes: tuple[Cause, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Everything in which two variants differ. chunks, corrections: stamps of those that do."""

    names: tuple[str, str]
    ticks: int
    differences: tuple[TickDifference, ...]
    stretches: tuple[Stretch, ...]
    chunks: tuple[int, ...]
    corrections: tuple[int, ...]
    digests: tuple[Mapping[str, str], Mapping[str, str]]

    @property
    def equal(self) -> bool:
        """Whether every bit of every decision is the same."""
        return self.digests[0] == self.digests[1]

    @property
    def cases(self) -> dict[int, int]:
        """Case id to the number of ticks in whose difference it had a part."""
        found: dict[int, int] = {}
        for stretch in self.stretches:
            for case_id in {case_id for cause in stretch.causes for case_id in cause.case_ids}:
                found[case_id] = found.get(case_id, 0) + stretch.ticks
        return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def compare(one: Decisions, other: Decisions) -> Comparison:
    """Compare tick by tick.

    Raises:
        ValueError: if they are not of the same recording.
    """
    if [tick.command.tick for tick in one.ticks] != [tick.command.tick for tick in other.ticks]:
        raise ValueError(f"{one.name} and {other.name} are not of the same recording: their ticks differ")
    chunks = _different(one.chunks, other.chunks, lambda made: chunk_bytes(made.chunk))
    corrections = _different(one.answers, other.answers, lambda answer: correction_bytes(answer.correction))
    causes = _causes(one, other, set(chunks))
    differences = []
    for left, right in zip(one.ticks, other.ticks, strict=True):
        if command_bytes(left.command) == command_bytes(right.command):
            continue
        differences.append(_difference(left.command, right.command, (left.chunk_stamp_ns, right.chunk_stamp_ns)))
    return Comparison(
        (one.name, other.name),
        len(one.ticks),
        tuple(differences),
        tuple(_stretches(differences, causes)),
        chunks,
        corrections,
        (one.digest(), other.digest()),
    )


def _different(one: Mapping[int, object], other: Mapping[int, object], content: object) -> tuple[int, ...]:
    bytes_of = content
    assert callable(bytes_of)
    return tuple(
        stamp
        for stamp in sorted(set(one) | set(other))
        if stamp not in one or stamp not in other or bytes_of(one[stamp]) != bytes_of(other[stamp])
    )


def _causes(one: Decisions, other: Decisions, differing: set[int]) -> dict[int, tuple[Cause, ...]]:
    """Causes of each chunk that differs: its own correction, or that of the chunks it goes on from."""
    causes: dict[int, tuple[Cause, ...]] = {}
    before: tuple[Cause, ...] = ()
    for stamp in sorted(set(one.chunks) | set(other.chunks)):
        left, right = one.chunks.get(stamp), other.chunks.get(stamp)
        own = []
        if (
            left is not None
            and right is not None
            and correction_bytes(left.correction) != correction_bytes(right.correction)
        ):
            for name, made in ((one.name, left), (other.name, right)):
                if _shapes(made.chunk, made.correction):
                    used = made.correction
                    own.append(Cause(name, used.mode, used.strength, used.case_ids, stamp))
        goes_on = any(made is not None and made.chunk.committed > 0 for made in (left, right))
        inherited = (
            tuple(Cause(item.variant, item.mode, item.strength, item.case_ids, item.stamp_ns, True) for item in before)
            if goes_on and not own
            else ()
        )
        found = tuple(own) or inherited
        # What is equal again has nothing to hand on.
        before = found if stamp in differing else ()
        causes[stamp] = found
    return causes


def _shapes(chunk: ActionChunk, correction: Correction) -> bool:
    return is_shaping(correction.mode) and (
        chunk.provenance.correction == correction.mode or correction.mode not in _IN_POLICY
    )


_IN_POLICY = frozenset({CorrectionMode.GUIDANCE, CorrectionMode.NEGATIVE, CorrectionMode.SHIFT})


def _difference(left: Command, right: Command, stamps: tuple[int | None, int | None]) -> TickDifference:
    change = left.action.astype(np.float64) - right.action.astype(np.float64)
    target = 0.0
    turn = float(np.linalg.norm(change[ROTATION]))
    if left.target is not None and right.target is not None:
        target = float(np.linalg.norm(left.target.position - right.target.position))
        between = quaternion_multiply(left.target.orientation, quaternion_conjugate(right.target.orientation))
        turn = max(turn, float(np.linalg.norm(rotation_vector_from_quaternion(between))))
    return TickDifference(
        left.tick,
        left.stamp_ns,
        float(np.linalg.norm(change[TRANSLATION])),
        turn,
        abs(float(change[GRIPPER])),
        target if math.isfinite(target) else 0.0,
        (left.mode.name, right.mode.name),
        stamps,
    )


def _stretches(differences: list[TickDifference], causes: Mapping[int, tuple[Cause, ...]]) -> list[Stretch]:
    groups: list[list[TickDifference]] = []
    for item in differences:
        if groups and 0 < item.tick - groups[-1][-1].tick <= JOINED_TICKS:
            groups[-1].append(item)
        else:
            groups.append([item])
    return [
        Stretch(
            group[0],
            group[-1],
            len(group),
            max(item.translation_m for item in group),
            max(item.target_m for item in group),
            max(item.gripper for item in group),
            _joined([causes.get(stamp, ()) for item in group for stamp in item.chunk_stamps if stamp is not None]),
        )
        for group in groups
    ]


def _joined(found: list[tuple[Cause, ...]]) -> tuple[Cause, ...]:
    """Each mechanism with its cases once, its own before what was inherited, strongest first."""
    best: dict[tuple[str, CorrectionMode, tuple[int, ...]], Cause] = {}
    for group in found:
        for cause in group:
            key = (cause.variant, cause.mode, cause.case_ids)
            known = best.get(key)
            if known is None or (known.inherited, -known.strength) > (cause.inherited, -cause.strength):
                best[key] = cause
    return tuple(sorted(best.values(), key=lambda item: (item.stamp_ns, item.inherited, item.variant)))
