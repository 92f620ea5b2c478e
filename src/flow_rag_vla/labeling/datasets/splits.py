# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Train, val and test, such that nothing that one of them shows is in another.

Pictures of one source, one episode or one thing (track), and pictures with the same bytes, stay together, also over
several steps: a source that shares an episode with another is in its group. Whole groups are dealt out. Of a folder of
pictures that were not taken in a row somebody may say so: then its pictures are no group by themselves.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from flow_rag_vla.labeling.datasets.dataset import DatasetItem, Split
from flow_rag_vla.labeling.datasets.errors import DatasetError

_PICTURES = ""
"""Stands for the pictures themselves among the categories that are to be balanced."""


@dataclass(frozen=True, slots=True)
class SplitRatios:
    """Shares of the pictures, 0 to 1, with the sum 1.

    Raises:
        DatasetError: they are none.
    """

    train: float = 0.8
    val: float = 0.1
    test: float = 0.1

    def __post_init__(self) -> None:
        shares = self.shares.values()
        if not all(math.isfinite(share) and 0.0 <= share <= 1.0 for share in shares) or abs(sum(shares) - 1) > 1e-6:
            raise DatasetError(f"split {self.train}, {self.val}, {self.test}: give three shares with the sum 1")

    @property
    def shares(self) -> dict[Split, float]:
        """By split."""
        return {Split.TRAIN: self.train, Split.VAL: self.val, Split.TEST: self.test}


def parse_ratios(text: str) -> SplitRatios:
    """Ratios of a text such as ``0.8,0.1,0.1`` or ``8,1,1``.

    Raises:
        DatasetError: it is none.
    """
    try:
        train, val, test = (float(part) for part in text.split(","))
    except ValueError as error:
        raise DatasetError(f"split {text!r}: give three numbers, such as 0.8,0.1,0.1") from error
    total = train + val + test
    if not (math.isfinite(total) and total > 0 and min(train, val, test) >= 0):
        raise DatasetError(f"split {text!r}: give three numbers of 0 or more, such as 0.8,0.1,0.1")
    return SplitRatios(train / total, val / total, test / total)


def groups_of(items: Sequence[DatasetItem], apart: Collection[str] = ()) -> list[list[int]]:
    """Places of the pictures that belong together, group by group; apart: ids of sources that bind nothing."""
    parent = list(range(len(items)))

    def root(place: int) -> int:
        while parent[place] != place:
            parent[place] = parent[parent[place]]
            place = parent[place]
        return place

    first: dict[tuple[str, str], int] = {}
    for place, item in enumerate(items):
        for key in _identities(item, apart):
            parent[root(place)] = root(first.setdefault(key, place))
    groups: dict[int, list[int]] = {}
    for place in range(len(items)):
        groups.setdefault(root(place), []).append(place)
    return list(groups.values())


def _identities(item: DatasetItem, apart: Collection[str]) -> Iterable[tuple[str, str]]:
    yield "image", item.image_id
    for name, value in (
        ("source", "" if item.source_id in apart else item.source_id or item.source),
        ("episode", item.episode),
        ("sha256", item.sha256),
    ):
        if value:
            yield name, value
    for annotation in item.annotations:
        if annotation.track:
            yield "track", annotation.track


def with_splits(
    items: Sequence[DatasetItem],
    ratios: SplitRatios,
    seed: int = 0,
    keep: Mapping[str, Split] | None = None,
    apart: Collection[str] = (),
) -> tuple[DatasetItem, ...]:
    """The same pictures in the same order, each with its split; the same pictures and seed give the same splits.

    Large groups are dealt out first, each to where pictures and categories are furthest behind their shares; of equals,
    the seed decides. A split with a share above 0 gets at least one group.

    Args:
        items: pictures with their annotations.
        ratios: what share of the pictures each split should have; groups are not cut, so it is not met exactly.
        seed: of the order in which groups of one size are dealt out.
        keep: splits of pictures (by id) from an earlier version: a group with one of them stays there. Where groups
            of several splits have become one, it goes where most of its pictures were.
        apart: ids of sources whose pictures show scenes of their own and need not stay together.

    Raises:
        DatasetError: ``split_impossible``: there are fewer groups than splits with a share above 0.
    """
    groups = groups_of(items, apart)
    wanted = [split for split, share in ratios.shares.items() if share > 0]
    if items and len(groups) < len(wanted):
        raise DatasetError(
            f"pictures: {len(items)}; groups of them that share no source, episode or track: {len(groups)}, fewer than "
            f"the {len(wanted)} splits asked for: add sources, ask for fewer splits (such as 1,0,0), or say that the "
            "pictures of a folder are apart, if each shows a scene of its own (--apart)",
            "split_impossible",
        )
    contents = [_content(items, group) for group in groups]
    keys = [min(items[place].image_id for place in group) for group in groups]
    order = sorted(range(len(groups)), key=lambda place: (-len(groups[place]), _drawn(seed, keys[place])))
    total: Counter[str] = Counter()
    for content in contents:
        total.update(content)
    have: dict[Split, Counter[str]] = {split: Counter() for split in Split}
    chosen: dict[int, Split] = {}
    for place in order:
        split = _kept(items, groups[place], keep or {})
        if split is not None:
            chosen[place] = split
            have[split].update(contents[place])
    rest = [place for place in order if place not in chosen]
    for number, place in enumerate(rest):
        empty = [split for split in wanted if not have[split]]
        candidates = empty if len(rest) - number <= len(empty) else wanted
        split = max(candidates, key=lambda one: _need(one, contents[place], have, total, ratios.shares))
        chosen[place] = split
        have[split].update(contents[place])
    splits = {place: chosen[number] for number, group in enumerate(groups) for place in group}
    return tuple(replace(item, split=splits[place]) for place, item in enumerate(items))


def _content(items: Sequence[DatasetItem], group: Sequence[int]) -> Counter[str]:
    content = Counter({_PICTURES: len(group)})
    for place in group:
        content.update(annotation.category for annotation in items[place].annotations)
    return content


def _kept(items: Sequence[DatasetItem], group: Sequence[int], keep: Mapping[str, Split]) -> Split | None:
    before = Counter(keep[items[place].image_id] for place in group if items[place].image_id in keep)
    return max(Split, key=lambda split: before[split]) if before else None


def _need(
    split: Split,
    content: Mapping[str, int],
    have: Mapping[Split, Mapping[str, int]],
    total: Mapping[str, int],
    shares: Mapping[Split, float],
) -> float:
    """How far a split is behind its share of what a group holds; the pictures count as much as all categories."""
    behind = {
        name: (shares[split] * total[name] - have[split].get(name, 0)) / (shares[split] * total[name])
        for name in content
    }
    classes = [value for name, value in behind.items() if name != _PICTURES]
    return behind[_PICTURES] + (sum(classes) / len(classes) if classes else 0.0)


def _drawn(seed: int, key: str) -> bytes:
    return hashlib.sha256(f"{seed}/{key}".encode()).digest()
