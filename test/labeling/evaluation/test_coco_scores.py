# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import numpy as np
import pytest

from flow_rag_vla.labeling.evaluation.coco import BOXES, MASKS, CocoCount, CocoScores

WIDTH, HEIGHT = 160, 120
CATEGORIES = ("cup", "bowl", "spoon", "never there")


def random_set(seed: int) -> list[tuple[tuple, tuple]]:
    """Pictures with things of three categories; what is found is near, doubled, mistaken, imagined or left out."""
    rng = np.random.default_rng(seed)
    pictures = []
    for _ in range(12):
        true = [random_box(rng) for _ in range(rng.integers(0, 6))]
        labels = [CATEGORIES[rng.integers(3)] for _ in true]
        found = [
            (np.clip(box + rng.normal(0, 4, 4), 0, [WIDTH, HEIGHT] * 2), label if rng.random() < 0.8 else "bowl")
            for box, label in zip(true, labels, strict=True)
            for _ in range(rng.integers(0, 3))
        ]
        found += [(random_box(rng), CATEGORIES[rng.integers(3)]) for _ in range(rng.integers(0, 4))]
        found = [(box, label) for box, label in found if box[2] > box[0] + 1 and box[3] > box[1] + 1]
        # Two decimals: equal scores must be counted alike as well.
        scores = np.round(rng.random(len(found)), 2).astype(np.float32)
        boxes = np.asarray([box for box, _ in found], np.float32).reshape(-1, 4)
        pictures.append(
            (
                (np.asarray(true, np.float32).reshape(-1, 4), labels, masks_of(np.asarray(true).reshape(-1, 4))),
                (boxes, [label for _, label in found], scores, masks_of(boxes)),
            )
        )
    return pictures


def random_box(rng: np.random.Generator) -> np.ndarray:
    size = np.exp(rng.uniform(np.log(6), np.log(110), 2))
    left, top = rng.uniform(0, WIDTH - 6), rng.uniform(0, HEIGHT - 6)
    return np.asarray([left, top, min(WIDTH, left + size[0]), min(HEIGHT, top + size[1])])


def masks_of(boxes: np.ndarray) -> np.ndarray:
    """An ellipse in each box."""
    rows, columns = np.indices((HEIGHT, WIDTH)) + 0.5
    masks = np.zeros((len(boxes), HEIGHT, WIDTH), np.bool_)
    for mask, (left, top, right, bottom) in zip(masks, boxes, strict=True):
        x, y = (left + right) / 2, (top + bottom) / 2
        mask[:] = ((columns - x) / (right - left)) ** 2 + ((rows - y) / (bottom - top)) ** 2 <= 0.25
    return masks


def by_pycocotools(pictures: list, kind: str) -> list[float]:
    """COCO's own count of the same things."""
    from pycocotools import mask as codec
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def entries(picture: int, boxes: np.ndarray, labels: list[str], masks: np.ndarray) -> list[dict]:
        rows = []
        for box, label, mask in zip(boxes.tolist(), labels, masks, strict=True):
            left, top, right, bottom = box
            area = float(mask.sum()) if kind == MASKS else (right - left) * (bottom - top)
            rows.append(
                {
                    "image_id": picture, "category_id": CATEGORIES.index(label) + 1, "iscrowd": 0, "area": area,
                    "bbox": [left, top, right - left, bottom - top],
                    "segmentation": codec.encode(np.asfortranarray(mask.astype(np.uint8))),
                }
            )  # fmt: skip
        return rows

    coco = COCO()
    truth, found = [], []
    for place, (true, seen) in enumerate(pictures, 1):
        truth += entries(place, *true)
        for row, score in zip(entries(place, seen[0], seen[1], seen[3]), seen[2], strict=True):
            found.append({key: row[key] for key in ("image_id", "category_id", "bbox")} | {"score": float(score)})
            if kind == MASKS:
                found[-1].pop("bbox")
                found[-1]["segmentation"] = row["segmentation"]
    coco.dataset = {
        "images": [{"id": place + 1, "width": WIDTH, "height": HEIGHT} for place in range(len(pictures))],
        "annotations": [row | {"id": place + 1} for place, row in enumerate(truth)],
        "categories": [{"id": place + 1, "name": name} for place, name in enumerate(CATEGORIES)],
    }
    coco.createIndex()
    counted = COCOeval(coco, coco.loadRes(found), kind)
    counted.evaluate()
    counted.accumulate()
    counted.summarize()
    return [float(value) for value in counted.stats[:9]]


def counted(pictures: list, kind: str) -> CocoScores:
    count = CocoCount(CATEGORIES, kind)
    for true, found in pictures:
        count.add((WIDTH, HEIGHT), true, found)
    return count.scores()


@pytest.mark.parametrize("kind", [BOXES, MASKS])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_scores_are_those_of_pycocotools(seed: int, kind: str) -> None:
    pictures = random_set(seed)
    scores = counted(pictures, kind)
    expected = by_pycocotools(pictures, kind)
    names = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar1", "ar10", "ar100")
    assert 0.02 < expected[0] < 0.95
    for name, value in zip(names, expected, strict=True):
        own = getattr(scores, name)
        assert (-1.0 if own is None else own) == pytest.approx(value, abs=1e-6), name
    assert set(scores.by_category) == {"cup", "bowl", "spoon"}
    assert np.mean([row.ap for row in scores.by_category.values()]) == pytest.approx(scores.ap, abs=1e-9)


def test_nothing_found_and_nothing_there_have_scores() -> None:
    empty = (np.zeros((0, 4), np.float32), [], np.zeros((0, HEIGHT, WIDTH), np.bool_))
    nothing = (empty[0], [], np.zeros(0, np.float32), empty[2])
    (true, _), *_ = (entry for entry in random_set(4) if entry[0][1])
    missed = counted([(true, nothing)], BOXES)
    assert missed.ap == 0.0 and {row.ap for row in missed.by_category.values()} == {0.0}
    assert counted([(empty, nothing)], BOXES).by_category == {}
    found = counted([(true, (true[0], true[1], np.ones(len(true[1]), np.float32), true[2]))], BOXES)
    assert found.ap == 1.0
