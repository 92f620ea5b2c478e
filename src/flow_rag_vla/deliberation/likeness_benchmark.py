# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Whether the start that a case is of is found again before the hand has moved, among other starts of the same task."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from flow_rag_vla.deliberation.likeness import LEAST_SITUATION
from flow_rag_vla.deliberation.rehearsal import rehearse
from flow_rag_vla.evaluate.trials.labelled import Seen
from flow_rag_vla.evaluate.trials.protocol import Start
from flow_rag_vla.evaluate.trials.rig import Rig
from flow_rag_vla.policy.observation import proprioception


@dataclass(frozen=True, slots=True)
class Found:
    """How often the own start's case came first, of ``starts``.

    moved: with the hand where the case's was; still: with the hand as it is
    alike: starts whose own case counts as alike, with the hand moved
    own: median cosine to the own case with the hand moved; others: 95 % of the cosines to other starts' are below
    """

    task: str
    starts: int
    moved: int
    still: int
    alike: int
    own: float
    others: float


def found_again(rig: Rig, seeds: range) -> Iterator[Found | None]:
    """None after each start, then the figures.

    A case is what is seen and felt last before the hand is on something; it is looked for by what was seen at first.

    Args:
        rig: of one task.
        seeds: of the starts, at least 2.
    """
    goals, firsts, cases = [], [], []
    for seed in seeds:
        done = rehearse(rig, Start(seed, seed))
        goals.append(done.goal)
        firsts.append(done.seen[0])
        cases.append(_before_contact(done.seen))
        yield None
    hands = np.stack([proprioception(case.state) for case in cases])
    held = np.stack([rig.key(case.embedding, hand, goal) for case, hand, goal in zip(cases, hands, goals, strict=True)])
    moved, still = [], []
    for first, goal in zip(firsts, goals, strict=True):
        felt = proprioception(first.state)
        moved.append(np.sum(rig.key.as_if(first.embedding, felt, goal, hands) * held, axis=1))
        still.append(held @ rig.key(first.embedding, felt, goal))
    by_moved, by_still, own = np.array(moved), np.array(still), np.arange(len(goals))
    values = by_moved[own, own]
    yield Found(
        rig.spec.task,
        len(goals),
        int(np.sum(by_moved.argmax(axis=1) == own)),
        int(np.sum(by_still.argmax(axis=1) == own)),
        int(np.sum(values >= LEAST_SITUATION)),
        float(np.median(values)),
        float(np.percentile(by_moved[own[:, None] != own], 95)),
    )


def _before_contact(seen: tuple[Seen, ...]) -> Seen:
    first = seen[0].phase
    return next((one for one, after in pairwise(seen) if after.phase != first), seen[-1])
