# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Splits: nothing leaks, the seed decides, and shares are met as far as groups allow."""

from __future__ import annotations

from collections import Counter, defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flow_rag_vla.labeling.datasets.dataset import Annotation, DatasetItem, Split
from flow_rag_vla.labeling.datasets.errors import DatasetError
from flow_rag_vla.labeling.datasets.splits import SplitRatios, groups_of, parse_ratios, with_splits


def item(number, source="", episode="", tracks=(), digest="", category="cup"):
    labels = [
        Annotation(f"{number}-{place}", category, (0.0, 0.0, 4.0, 4.0), track=track)
        for place, track in enumerate(tracks or ("",))
    ]
    return DatasetItem(f"i{number:04d}", f"i{number:04d}.png", 8, 8, source_id=source, episode=episode, sha256=digest,
                       annotations=tuple(labels))  # fmt: skip


WORDS = st.sampled_from(["", "a", "b", "c", "d", "e"])
ITEMS = st.lists(
    st.tuples(WORDS, WORDS, st.lists(WORDS, max_size=3), st.sampled_from(["", "1", "2"])), min_size=1, max_size=25
).map(lambda rows: [item(number, *row[:2], tuple(row[2]), row[3]) for number, row in enumerate(rows)])
RATIOS = st.sampled_from(["8,1,1", "1,0,0", "0.5,0.5,0", "0,1,1", "6,2,2"])


@settings(max_examples=200, deadline=None)
@given(ITEMS, RATIOS, st.integers(0, 99), st.randoms())
def test_no_source_episode_track_or_picture_is_in_two_splits_and_the_seed_decides(items, text, seed, random):
    ratios = parse_ratios(text)
    wanted = {split for split, share in ratios.shares.items() if share > 0}
    if len(groups_of(items)) < len(wanted):
        with pytest.raises(DatasetError) as caught:
            with_splits(items, ratios, seed)
        assert caught.value.code == "split_impossible"
        return
    done = with_splits(items, ratios, seed)
    assert [one.image_id for one in done] == [one.image_id for one in items]
    seen = defaultdict(set)
    for one in done:
        for key in (("source", one.source_id), ("episode", one.episode), ("digest", one.sha256)):
            seen[key].add(one.split)
        for label in one.annotations:
            seen["track", label.track].add(one.split)
    assert all(len(splits) == 1 for key, splits in seen.items() if key[1])
    assert {one.split for one in done} == wanted
    shuffled = list(items)
    random.shuffle(shuffled)
    again = {one.image_id: one.split for one in with_splits(shuffled, ratios, seed)}
    assert again == {one.image_id: one.split for one in done}


def test_pictures_of_a_source_that_is_apart_are_dealt_out_and_what_else_binds_them_still_does():
    items = [item(number, source="folder") for number in range(20)]
    items += [item(20 + number, source="film") for number in range(10)]
    items[0], items[1] = item(0, "folder", "e1"), item(1, "folder", "e1")
    items[2], items[3] = item(2, "folder", tracks=("t",)), item(3, "folder", tracks=("t",))
    items[4], items[5] = item(4, "folder", digest="d"), item(5, "folder", digest="d")
    with pytest.raises(DatasetError, match="--apart"):
        with_splits(items, SplitRatios())
    done = with_splits(items, SplitRatios(0.6, 0.2, 0.2), apart={"folder"})
    splits = [one.split for one in done]
    assert len(groups_of(items, {"folder"})) == 18 and len(groups_of(items)) == 2
    assert len(set(splits[20:])) == 1 and all(splits[place] is splits[place + 1] for place in (0, 2, 4))
    assert Counter(splits) == {Split.TRAIN: 18, Split.VAL: 6, Split.TEST: 6}


def test_shares_are_met_and_rare_categories_are_in_every_split():
    items = [item(number, source=f"s{number}", category="rare" if number % 10 == 0 else "cup") for number in range(300)]
    done = with_splits(items, SplitRatios(0.8, 0.1, 0.1), seed=4)
    assert Counter(one.split for one in done) == {Split.TRAIN: 240, Split.VAL: 30, Split.TEST: 30}
    rare = Counter(one.split for one in done if one.annotations[0].category == "rare")
    assert rare == {Split.TRAIN: 24, Split.VAL: 3, Split.TEST: 3}
    other = with_splits(items, SplitRatios(0.8, 0.1, 0.1), seed=5)
    assert [one.split for one in done] != [one.split for one in other]


def test_a_later_version_keeps_the_splits_of_the_pictures_it_had():
    items = [item(number, source=f"s{number}") for number in range(20)]
    before = {one.image_id: one.split for one in with_splits(items, SplitRatios(), seed=1)}
    more = [*items, *(item(number, source=f"s{number}") for number in range(20, 60))]
    after = {one.image_id: one.split for one in with_splits(more, SplitRatios(), seed=2, keep=before)}
    assert {name: after[name] for name in before} == before
    assert Counter(after.values()) == {Split.TRAIN: 48, Split.VAL: 6, Split.TEST: 6}


def test_ratios_that_are_none_are_refused():
    for text in ("", "1,1", "0,0,0", "-1,1,1", "nan,1,1", "a,b,c", "inf,1,1"):
        with pytest.raises(DatasetError):
            parse_ratios(text)
    with pytest.raises(DatasetError):
        SplitRatios(0.5, 0.5, 0.5)
