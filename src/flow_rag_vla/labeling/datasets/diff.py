# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What changed between two versions of a dataset."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from flow_rag_vla.labeling.datasets.dataset import Annotation, DatasetItem, LabelDataset

_IMAGE_FIELDS = ("sha256", "split", "width", "height", "licence", "episode", "source")
_LABEL_FIELDS = ("category", "box", "rle", "polygons", "confidence", "validated", "validated_by", "track", "origin")
_WORDS = {"rle": "mask", "polygons": "mask"}


@dataclass(frozen=True, slots=True)
class Changed:
    """A picture or an annotation that is in both versions. fields: what is different."""

    identity: str
    fields: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DatasetDiff:
    """From one version to another: ids of pictures and annotations."""

    old: str
    new: str
    added_images: tuple[str, ...]
    removed_images: tuple[str, ...]
    changed_images: tuple[Changed, ...]
    added_labels: tuple[str, ...]
    removed_labels: tuple[str, ...]
    changed_labels: tuple[Changed, ...]
    added_categories: tuple[str, ...]
    removed_categories: tuple[str, ...]

    @property
    def empty(self) -> bool:
        """Whether nothing changed."""
        lists = (
            self.added_images, self.removed_images, self.changed_images, self.added_labels, self.removed_labels,
            self.changed_labels, self.added_categories, self.removed_categories,
        )  # fmt: skip
        return not any(lists)


def diff(old: LabelDataset, new: LabelDataset) -> DatasetDiff:
    """What changed from one version to another. Pictures and annotations are the same if their ids are."""
    before, after = {item.image_id: item for item in old.items}, {item.image_id: item for item in new.items}
    labels_before, labels_after = _labels(old), _labels(new)
    return DatasetDiff(
        old=old.label,
        new=new.label,
        added_images=tuple(name for name in after if name not in before),
        removed_images=tuple(name for name in before if name not in after),
        changed_images=_changed(before, after, _IMAGE_FIELDS),
        added_labels=tuple(name for name in labels_after if name not in labels_before),
        removed_labels=tuple(name for name in labels_before if name not in labels_after),
        changed_labels=_changed(labels_before, labels_after, _LABEL_FIELDS),
        added_categories=tuple(name for name in new.categories if name not in old.categories),
        removed_categories=tuple(name for name in old.categories if name not in new.categories),
    )


def _labels(dataset: LabelDataset) -> dict[str, Annotation]:
    return {one.annotation_id: one for item in dataset.items for one in item.annotations}


def _changed(
    before: dict[str, DatasetItem] | dict[str, Annotation],
    after: dict[str, DatasetItem] | dict[str, Annotation],
    fields: tuple[str, ...],
) -> tuple[Changed, ...]:
    found = []
    for name, was in before.items():
        now = after.get(name)
        if now is None or now == was:
            continue
        different = [_WORDS.get(one, one) for one in fields if getattr(was, one) != getattr(now, one)]
        if different:
            found.append(Changed(name, tuple(dict.fromkeys(different))))
    return tuple(found)


def diff_text(found: DatasetDiff) -> str:
    """A few lines for people."""
    lines = [f"{found.old} -> {found.new}"]
    for what, added, removed, changed in (
        ("pictures", found.added_images, found.removed_images, found.changed_images),
        ("labels", found.added_labels, found.removed_labels, found.changed_labels),
    ):
        fields = Counter(field for one in changed for field in one.fields)
        said = ", ".join(f"{field} {count}" for field, count in sorted(fields.items()))
        lines.append(
            f"{what}: {len(added)} added, {len(removed)} removed, {len(changed)} changed{f' ({said})' if said else ''}"
        )
    for what, names in (("added", found.added_categories), ("removed", found.removed_categories)):
        if names:
            lines.append(f"categories {what}: {', '.join(names)}")
    return "\n".join(lines)
