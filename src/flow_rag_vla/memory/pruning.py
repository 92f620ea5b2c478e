# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Which case goes when the memory is full.

A group is one task, phase and failure type. The last case of a group never goes: a rare failure is the one that is
forgotten most expensively. Among the others the one of least value goes, where

    value = (1 - similarity to the nearest other case of its group)   how much ground would be lost
          + (credit - 1/2)                                            what using it has been good for, 0 if unused
          + CORRECTION_VALUE if a correction is known

so that a case beside another one goes before a lone one, one that hurt before an unused one, and an unused one before
one that helped. Of equals the older goes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from flow_rag_vla.memory.case import Array, GroupKey, credit
from flow_rag_vla.memory.index import CaseIndex, Ids
from flow_rag_vla.memory.store import CaseSummary

CORRECTION_VALUE = 0.25
"""What a known correction is worth, in units of cosine distance: it cost an expert or a later success."""

SAMPLE = 128
"""Cases looked at for one that goes: comparing all with all would cost a second at 10,000 and minutes at a million."""


def case_value(uses: int, successes: int, has_correction: bool, nearest_similarity: float) -> float:
    """Value of keeping a case, see above; ``nearest_similarity`` is to another case of its group."""
    return (1.0 - nearest_similarity) + (credit(uses, successes) - 0.5) + (CORRECTION_VALUE if has_correction else 0.0)


def least_valuable(cases: Sequence[CaseSummary], nearest: Array) -> CaseSummary:
    """The case to drop, given each one's similarity (N,) to its nearest neighbour; of equals the oldest."""
    return min(
        zip(cases, nearest.tolist(), strict=True),
        key=lambda pair: (
            case_value(pair[0].uses, pair[0].successes, pair[0].has_correction, pair[1]),
            pair[0].created_ns,
            pair[0].case_id,
        ),
    )[0]


def nearest_others(index: CaseIndex, group: GroupKey, ids: Ids, arriving: Array | None) -> Array:
    """Similarity (N,) of members of a group to their nearest other member, or to one that is about to arrive.

    Args:
        index: holds the group.
        group: whose members they are.
        ids: members (N,).
        arriving: (D,) float32 embedding of a new case of this group, or None.
    """
    vectors = index.vectors(group, ids)
    similarities, neighbours = index.search_group(group, vectors, 2)
    # A case's own row is not always the first: an exact copy of it ties.
    others = np.where(neighbours == ids[:, np.newaxis], -np.inf, similarities)
    nearest = others.max(axis=1)
    if arriving is not None:
        nearest = np.maximum(nearest, vectors @ arriving)
    return np.asarray(nearest, dtype=np.float32)


def candidates(index: CaseIndex, arriving: GroupKey, generator: np.random.Generator) -> dict[GroupKey, Ids]:
    """At most ``SAMPLE`` cases, by group, any of which may go; none of them is the last of its group.

    Args:
        index: holds the active cases.
        arriving: group of the new case, which counts as a member.
        generator: draws the sample if there are more.
    """
    found = {group: index.members(group) for group, size in index.sizes().items() if size + (group == arriving) > 1}
    total = sum(len(ids) for ids in found.values())
    if total <= SAMPLE:
        return found
    groups = list(found)
    ends = np.cumsum([len(found[group]) for group in groups])
    drawn = np.sort(generator.choice(total, SAMPLE, replace=False))
    owner = np.searchsorted(ends, drawn, side="right")
    return {
        groups[place]: found[groups[place]][drawn[owner == place] - (ends[place - 1] if place else 0)]
        for place in np.unique(owner).tolist()
    }
