# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Each failure as a story: what was seen, why it counts as one, and what the memory made of it."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from flow_rag_vla.core.failure import Evidence
from flow_rag_vla.data.bag import Bag, images
from flow_rag_vla.data.episode_record import CorrectionUse, EpisodeRecord, FailureRecord
from flow_rag_vla.evaluate.report.digest import Answer, Digest, Failure, RetrievedCase

STRIP_OFFSETS_S = (-1.2, -0.6, 0.0, 0.6, 1.2)
"""Moments of the camera strip, around the event."""

FRAME_REACH_NS = 400_000_000
"""A frame further than this from its moment is left out: cameras give ten a second."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture of a strip: seconds from the event, JPEG or PNG as a data URI; None where there is no picture."""

    offset_s: float
    source: str | None


@dataclass(frozen=True, slots=True)
class FailureStory:
    """Everything a page says about one failure."""

    episode: EpisodeRecord
    failure: FailureRecord
    frames: tuple[Frame, ...]
    wrist_frames: tuple[Frame, ...]
    retrieved: tuple[RetrievedCase, ...]
    threshold: float
    answered: str
    memory: tuple[str, ...]

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """The measured reasons."""
        return self.failure.evidence


def failure_stories(
    records: Sequence[EpisodeRecord], digest: Digest | None, bag: Bag | None, limit: int = 40
) -> tuple[FailureStory, ...]:
    """A story for each failure of the records, at most ``limit``, oldest first.

    Without a bag the pictures and the memory's answers are missing; the rest is told.
    """
    stories: list[FailureStory] = []
    for record in records:
        for failure in record.failures:
            if len(stories) == limit:
                return tuple(stories)
            moment = _moment(failure, digest)
            answer = _answer_before(digest, moment)
            stories.append(
                FailureStory(
                    record,
                    failure,
                    _strip(bag, "camera/front/image_raw", moment),
                    _strip(bag, "camera/wrist/image_raw", moment),
                    answer.cases if answer is not None else (),
                    answer.threshold if answer is not None else float("nan"),
                    answer.mode if answer is not None else "",
                    tuple(_memory_sentences(record, failure, records, answer)),
                )
            )
    return tuple(stories)


def _moment(failure: FailureRecord, digest: Digest | None) -> int | None:
    """Reception time of the event."""
    if digest is None:
        return None
    match = _event(failure, digest.failures)
    return match.log_ns if match is not None else digest.received_at(failure.stamp_ns)


def _event(failure: FailureRecord, events: Sequence[Failure]) -> Failure | None:
    return next(
        (item for item in events if (item.event_id, item.stamp_ns) == (failure.event_id, failure.stamp_ns)), None
    )


def _answer_before(digest: Digest | None, moment: int | None) -> Answer | None:
    """The memory's best informed answer in the second before the event."""
    if digest is None or moment is None:
        return None
    recent = [item for item in digest.answers if moment - 1_000_000_000 <= item.log_ns <= moment]
    if not recent:
        return None
    return max(recent, key=lambda item: (item.mode != "none", item.cases[0].similarity if item.cases else -2.0))


def _strip(bag: Bag | None, topic: str, moment: int | None) -> tuple[Frame, ...]:
    if bag is None or moment is None or bag.find(topic) is None:
        return ()
    reach = int(abs(STRIP_OFFSETS_S[0]) * 1e9) + FRAME_REACH_NS
    found = list(images(bag, topic, max(0, moment - reach), moment + reach + 1))
    frames = []
    for offset in STRIP_OFFSETS_S:
        wanted = moment + int(offset * 1e9)
        near = min(found, key=lambda item: abs(item[0] - wanted), default=None)
        usable = near is not None and abs(near[0] - wanted) <= FRAME_REACH_NS
        frames.append(Frame(offset, picture_uri(near[1]) if usable and near is not None else None))
    return tuple(frames)


def picture_uri(pixels: NDArray[np.uint8], width: int = 192) -> str:
    """A picture as a data URI: WebP, scaled to ``width``."""
    image = Image.fromarray(pixels)
    image = image.resize((width, max(1, round(image.height * width / image.width))), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    image.save(stream, "WEBP", quality=82, method=4)
    return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


def _memory_sentences(
    record: EpisodeRecord, failure: FailureRecord, records: Sequence[EpisodeRecord], answer: Answer | None
) -> list[str]:
    sentences = []
    if answer is None:
        sentences.append("Before: no answer of the memory is on record for this moment.")
    elif not answer.cases:
        sentences.append("Before: the memory knew nothing like this situation.")
    elif answer.mode in ("none", "timeout"):
        best = answer.cases[0].similarity
        why = "its answer came too late" if answer.mode == "timeout" else f"below the threshold {answer.threshold:.2f}"
        if answer.mode == "none" and best >= answer.threshold:
            why = "no correction was credible"
        sentences.append(f"Before: the closest case was {best:.2f} similar, {why}: the policy acted alone.")
    else:
        cases = ", ".join(f"#{case.case_id}" for case in answer.cases[:3])
        how = f"{answer.mode} at strength {answer.strength:.2f} from case {cases}"
        sentences.append(f"Before: {how}. It was not enough.")
    after = [use for use in record.corrections if use.last_ns >= failure.stamp_ns]
    if after:
        sentences.append(f"After, in this episode: {_uses(after)}.")
    else:
        sentences.append("After, in this episode: the memory shaped nothing.")
    sentences.append(f"The episode ended in {record.outcome}: {record.reason}.")
    sentences.append(_later(record, failure, records))
    return sentences


def _uses(uses: Sequence[CorrectionUse]) -> str:
    parts = []
    for mode in dict.fromkeys(use.mode for use in uses):
        chosen = [use for use in uses if use.mode == mode]
        chunks = sum(use.chunks for use in chosen)
        cases = sorted({case for use in chosen for case in use.case_ids})
        named = ", ".join(f"#{case}" for case in cases[:4]) + (" and others" if len(cases) > 4 else "")
        parts.append(f"{mode} in {chunks} chunk{'s' if chunks != 1 else ''}" + (f" (case {named})" if cases else ""))
    return "; ".join(parts)


def _later(record: EpisodeRecord, failure: FailureRecord, records: Sequence[EpisodeRecord]) -> str:
    later = [
        item
        for item in records
        if item.scored
        and item.episode_id > record.episode_id
        and (item.task, item.variant) == (record.task, record.variant)
    ]
    if not later:
        return "Later: no further episode of this task was scored."
    again = sum(1 for item in later if any(other.failure_type == failure.failure_type for other in item.failures))
    done = sum(1 for item in later if item.succeeded)
    kind = failure.failure_type.replace("_", " ")
    return f"Later: {done} of {len(later)} further episode{'s' if len(later) != 1 else ''} of this task succeeded; " + (
        f"{kind} came back in {again}." if again else f"{kind} did not come back."
    )
