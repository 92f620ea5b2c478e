# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""COCO's detection scores (Lin et al. 2014, arXiv 1405.0312), counted by faster-coco-eval.

Precision is averaged over ten overlaps from 0.50 to 0.95, 101 points of recall, and the categories that are in the
truth. The result equals that of COCO's own pycocotools.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.labeling.detections import Boxes, Masks
from flow_rag_vla.labeling.pipeline.errors import ModelError

BOXES, MASKS = "bbox", "segm"
"""What is compared."""
EXTRA = "detector-training"
_STATS = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar1", "ar10", "ar100")


@dataclass(frozen=True, slots=True)
class CategoryScore:
    """One category, 0 to 1. recall: most that was found, mean over the overlaps; things: how many there are."""

    ap: float
    ap50: float
    recall: float
    things: int


@dataclass(frozen=True, slots=True)
class CocoScores:
    """Over all categories, each 0 to 1; None where the truth has nothing of the kind.

    ap: mean over overlaps of 0.50 to 0.95; ap50, ap75: at one; small: below 32 x 32 pixels, large: above 96 x 96
    ar1, ar10, ar100: recall when only so many of a picture are taken
    """

    ap: float
    ap50: float
    ap75: float
    ap_small: float | None
    ap_medium: float | None
    ap_large: float | None
    ar1: float
    ar10: float
    ar100: float
    by_category: Mapping[str, CategoryScore]

    def values(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


NOTHING = CocoScores(0.0, 0.0, 0.0, None, None, None, 0.0, 0.0, 0.0, {})
"""Of pictures in which nothing is."""


class CocoCount:
    """Gathers pictures, then scores them. Masks are kept as run lengths: a thousand pictures fit in memory."""

    def __init__(self, categories: Sequence[str], kind: str = BOXES) -> None:
        """Take the categories that count; a thing or a detection of another is passed over.

        Raises:
            ModelError: if faster-coco-eval is not installed; it names the extra.
        """
        try:
            import faster_coco_eval
        except ImportError as error:
            raise ModelError(
                f"scores need faster-coco-eval ({error}); install it: pip install 'flow_rag_vla[{EXTRA}]'",
                "extra_missing",
            ) from error
        self._library = faster_coco_eval
        self._numbers = {name: place + 1 for place, name in enumerate(categories)}
        self._kind = kind
        self._images: list[dict[str, Any]] = []
        self._truth: list[dict[str, Any]] = []
        self._found: list[dict[str, Any]] = []

    def add(
        self,
        size: tuple[int, int],
        true: tuple[Boxes, Sequence[str], Masks | None],
        found: tuple[Boxes, Sequence[str], NDArray[np.float32], Masks | None],
    ) -> None:
        """Count one picture in.

        Args:
            size: width and height, pixels.
            true: boxes, categories and masks of what is there.
            found: boxes, categories, scores and masks of what was found.

        Raises:
            ValueError: where masks are compared and there are none.
        """
        picture = len(self._images) + 1
        self._images.append({"id": picture, "width": size[0], "height": size[1]})
        for entry in self._entries(picture, true[0], true[1], true[2]):
            self._truth.append(entry | {"id": len(self._truth) + 1, "iscrowd": 0})
        scores = found[2]
        for row, entry in self._numbered(picture, found[0], found[1], found[3]):
            # The library takes a detection's area from its box if it has one, also where masks are compared.
            kept = ("image_id", "category_id", "segmentation" if self._kind == MASKS else "bbox")
            self._found.append({key: entry[key] for key in kept} | {"score": float(scores[row])})

    def scores(self) -> CocoScores:
        """The scores of all that was counted in."""
        if not self._truth:
            return NOTHING
        if not self._found:
            return self._nothing_found()
        coco: Any = self._library.COCO({"images": self._images, "annotations": self._truth, "categories": self._named})
        counted: Any = self._library.COCOeval_faster(coco, coco.loadRes(self._found), self._kind, print_function=_quiet)
        counted.evaluate()
        counted.accumulate()
        counted.summarize()
        values = [float(value) for value in counted.stats[: len(_STATS)]]
        by_name: dict[str, Any] = {
            name: None if value < 0.0 and name.startswith("ap_") else max(0.0, value)
            for name, value in zip(_STATS, values, strict=True)
        }
        return CocoScores(**by_name, by_category=self._by_category(counted.eval))

    @property
    def _named(self) -> list[dict[str, Any]]:
        return [{"id": number, "name": name} for name, number in self._numbers.items()]

    def _by_category(self, counted: Mapping[str, Any]) -> dict[str, CategoryScore]:
        """From arrays over overlap, recall, category, area and how many were taken (the last: 100)."""
        precision, recall = np.asarray(counted["precision"]), np.asarray(counted["recall"])
        things = self._things()
        found = {}
        for name, number in self._numbers.items():
            if not things[name]:
                continue
            own = precision[:, :, number - 1, 0, -1]
            found[name] = CategoryScore(
                float(own.mean()), float(own[0].mean()), float(recall[:, number - 1, 0, -1].mean()), things[name]
            )
        return found

    def _nothing_found(self) -> CocoScores:
        rows = {name: CategoryScore(0.0, 0.0, 0.0, count) for name, count in self._things().items() if count}
        return CocoScores(0.0, 0.0, 0.0, None, None, None, 0.0, 0.0, 0.0, rows)

    def _things(self) -> dict[str, int]:
        counts = np.bincount([entry["category_id"] for entry in self._truth], minlength=len(self._numbers) + 1)
        return {name: int(counts[number]) for name, number in self._numbers.items()}

    def _entries(self, picture: int, boxes: Boxes, labels: Sequence[str], masks: Masks | None) -> list[dict[str, Any]]:
        return [entry for _, entry in self._numbered(picture, boxes, labels, masks)]

    def _numbered(
        self, picture: int, boxes: Boxes, labels: Sequence[str], masks: Masks | None
    ) -> list[tuple[int, dict[str, Any]]]:
        rows = []
        for row, (box, label) in enumerate(zip(boxes, labels, strict=True)):
            number = self._numbers.get(label)
            if number is None:
                continue
            left, top, right, bottom = (float(value) for value in box)
            entry: dict[str, Any] = {
                "image_id": picture,
                "category_id": number,
                "bbox": [left, top, right - left, bottom - top],
                "area": (right - left) * (bottom - top),
            }
            if self._kind == MASKS:
                if masks is None:
                    raise ValueError(f"masks are compared, and picture {picture} has none")
                entry |= {"segmentation": self._run_lengths(masks[row]), "area": float(np.count_nonzero(masks[row]))}
            rows.append((row, entry))
        return rows

    def _run_lengths(self, mask: NDArray[np.bool_]) -> dict[str, Any]:
        from faster_coco_eval import mask as codec

        return dict(codec.encode(np.asfortranarray(mask.astype(np.uint8))))


def _quiet(*_words: object) -> None:
    """The library prints its table; the scores are returned instead."""
