# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Pictures to labelled objects: detect, drop doubles, segment, tighten boxes to masks, drop doubles again, embed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import islice

from flow_rag_vla.labeling.detections import Detections, Origin
from flow_rag_vla.labeling.pipeline.boxes import tightened, without_doubles
from flow_rag_vla.labeling.pipeline.errors import LabelingError
from flow_rag_vla.labeling.pipeline.images import Image, check_image
from flow_rag_vla.labeling.pipeline.request import LabelRequest
from flow_rag_vla.labeling.pipeline.stages import Detector, Embedder, Segmenter
from flow_rag_vla.labeling.pipeline.tiles import detect_tiled


@dataclass(frozen=True, slots=True)
class StageTimes:
    """Seconds that each stage took; ``rest``: checks, doubles, tightening: what the pipeline itself costs."""

    detect: float = 0.0
    segment: float = 0.0
    embed: float = 0.0
    rest: float = 0.0

    @property
    def total(self) -> float:
        """Seconds of all stages."""
        return self.detect + self.segment + self.embed + self.rest

    def __add__(self, other: StageTimes) -> StageTimes:
        """Sums stage by stage."""
        return StageTimes(*(getattr(self, item.name) + getattr(other, item.name) for item in fields(self)))


@dataclass(frozen=True, slots=True)
class LabelledImage:
    """What was found in one picture, and the seconds of its share of the batch."""

    detections: Detections
    times: StageTimes


@dataclass(frozen=True, slots=True)
class ImageSource:
    """A picture that is read when its turn comes.

    name: a path, or a place in a video or bag; load: gives (H, W, 3) uint8 RGB or raises LabelingError
    stamp_ns: when it was taken, nanoseconds, or None where nobody knows
    """

    name: str
    load: Callable[[], Image]
    stamp_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """One picture of a run: either what was found, or why it could not be labelled.

    place: of the picture in the run, from 0; image: its pixels, None where it could not be read
    """

    place: int
    source: ImageSource
    image: Image | None
    labelled: LabelledImage | None
    error: LabelingError | None = None


class LabelingPipeline:
    """The stages in a row. Not safe for use by two threads at once.

    A stage that a detector has done already (masks, embeddings) is not done again unless a backend for it is given.
    A label of a result is the category of the request whose phrase found it, or the detector's own name for it.
    ``origin.model`` joins the names of all backends with ``+``, ``origin.revision`` their revisions.
    """

    def __init__(
        self, detector: Detector, segmenter: Segmenter | None = None, embedder: Embedder | None = None
    ) -> None:
        self.detector = detector
        self.segmenter = segmenter
        self.embedder = embedder
        backends = [backend for backend in (detector, segmenter, embedder) if backend is not None]
        self._model = "+".join(backend.name for backend in backends)
        self._revision = "+".join(backend.revision for backend in backends)

    @property
    def name(self) -> str:
        """Names of the backends, joined with ``+``."""
        return self._model

    @property
    def revision(self) -> str:
        """Revisions of the backends, joined with ``+``."""
        return self._revision

    def label(self, images: Sequence[Image], request: LabelRequest | None = None) -> list[LabelledImage]:
        """What is in some pictures, which go through the models as one batch.

        Args:
            images: each (H, W, 3) uint8 RGB; sizes may differ.
            request: what to look for; default: all that the detector knows, at its default threshold.

        Returns:
            One ``LabelledImage`` a picture, best scores first.

        Raises:
            ImageError: for a malformed picture; PromptError: for an unknown prompt.
        """
        request = request or LabelRequest()
        if not images:
            return []
        begin = time.perf_counter()
        checked = [check_image(image, f"image {place}") for place, image in enumerate(images)]
        phrases = request.phrases()
        asked = tuple(phrases)
        clock = time.perf_counter()
        if request.tiling is None:
            found = self.detector.detect(checked, asked, request.threshold)
        else:
            found = [detect_tiled(self.detector, image, asked, request.threshold, request.tiling) for image in checked]
        detect = time.perf_counter() - clock
        origin = Origin(self._model, self._revision, "; ".join(asked), request.threshold)
        found = [self._named(item, phrases, origin, request.overlap) for item in found]
        segment = embed = 0.0
        if self.segmenter is not None:
            clock = time.perf_counter()
            masks = self.segmenter.segment(checked, found)
            segment = time.perf_counter() - clock
            drawn = [tightened(item, each) for item, each in zip(found, masks, strict=True)]
            # Two words for one thing may give it a loose box and a close one; drawn in to one mask they are doubles.
            found = [without_doubles(item, request.overlap) for item in drawn]
        if self.embedder is not None:
            clock = time.perf_counter()
            vectors = self.embedder.embed(checked, found)
            embed = time.perf_counter() - clock
            found = [replace(item, embeddings=each) for item, each in zip(found, vectors, strict=True)]
        total = time.perf_counter() - begin
        share = 1.0 / len(images)
        rest = total - detect - segment - embed
        times = StageTimes(detect * share, segment * share, embed * share, rest * share)
        return [LabelledImage(item, times) for item in found]

    def run(
        self, sources: Iterable[ImageSource], request: LabelRequest | None = None, batch: int = 4
    ) -> Iterator[Outcome]:
        """Label many pictures, ``batch`` at a time, in their order. A bad picture is reported and the run goes on.

        Raises:
            PromptError: for an unknown prompt: with it no picture can be labelled.
        """
        request = request or LabelRequest()
        stream = iter(sources)
        place = 0
        while chunk := list(islice(stream, max(1, batch))):
            images: list[Image | None] = []
            errors: list[LabelingError | None] = []
            for source in chunk:
                try:
                    loaded = check_image(source.load(), source.name)
                    self.admit(loaded, request)
                    images.append(loaded)
                    errors.append(None)
                except LabelingError as problem:
                    images.append(None)
                    errors.append(problem)
            labelled = iter(self.label([image for image in images if image is not None], request))
            for source, image, error in zip(chunk, images, errors, strict=True):
                yield Outcome(place, source, image, None if image is None else next(labelled), error)
                place += 1

    def admit(self, image: Image, request: LabelRequest) -> None:
        """Refuse a picture that is too much for this pipeline; this one takes any.

        Args:
            image: (H, W, 3) uint8 RGB.
            request: what is asked of it.

        Raises:
            LabelingError: it is too much.
        """

    @staticmethod
    def _named(found: Detections, phrases: dict[str, str], origin: Origin, overlap: float) -> Detections:
        named = replace(found, labels=tuple(phrases.get(label, label) for label in found.labels), origin=origin)
        # Its rows come best first.
        return without_doubles(named, overlap)
