# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What the memory says where nothing needs to be corrected: stored successes, each asked about without its own episode.

A success is a situation in which no case should matter. The memory speaks wherever something failed nearby, and mostly
says there what was done anyway. So two shares are told: in how many successes it speaks, and in how many what it says
is another action than the one that went well: those are false retrievals. Both for several stated rates of the
conformal gate, of which 1 is none, beside a memory that answers with the nearest case's correction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flow_rag_vla.evaluate.trials.bank import CaseBank, TemporaryMemory
from flow_rag_vla.evaluate.trials.protocol import TrialError
from flow_rag_vla.memory.case import Array, FailureCase
from flow_rag_vla.memory.consensus import ConsensusMemory, ConsensusSettings
from flow_rag_vla.memory.ledger import SuccessSituation
from flow_rag_vla.memory.lesson import DISAGREEMENT, disagreement
from flow_rag_vla.memory.misreadings import FARTHEST

RATES = (1.0, 0.3, 0.15)
"""Stated shares of successes that may pass the gate."""

NEAREST = "nearest case"


@dataclass(frozen=True, slots=True)
class Retrieval:
    """One way to answer. successes: asked about; spoken: answered; false: of them, with another action than was done.

    distance: median over those spoken in, root mean square in largest steps between the answer and what was done
    """

    way: str
    successes: int
    spoken: int
    false: int
    distance: float


def false_retrievals(
    folder: str | Path,
    episodes: int = 8,
    rates: Sequence[float] = RATES,
    progress: Callable[[int, int], None] | None = None,
) -> list[Retrieval]:
    """Ask a bank's memory about its successes, those of one episode after the other left out.

    Args:
        folder: of the bank.
        episodes: with successes, spread over the bank, at most.
        rates: stated false-retrieval rates.
        progress: (episodes done, of how many).

    Raises:
        TrialError: if the bank has no cases, no successes, or does not say which cases are of which episode.
    """
    bank = CaseBank(folder)
    cases = bank.cases()
    with bank.memory() as whole:
        stamp = whole.memory.stamp
        successes = [] if stamp is None else whole.memory.ledger.successes(stamp)
    if not cases or not successes or not bank.episodes:
        raise TrialError(f"{folder} lacks cases, successes or its list of episodes; make it with practice")
    numbers = sorted({item.episode_id for item in successes})
    chosen = [numbers[place] for place in np.unique(np.linspace(0, len(numbers) - 1, episodes).round().astype(int))]
    owned = {item.place + 1: frozenset(item.cases) for item in bank.episodes}
    found: dict[str, list[float | None]] = {NEAREST: [], **{gate_name(rate): [] for rate in rates}}
    for done, number in enumerate(chosen):
        others = [case for case in cases if case.case_id not in owned.get(number, frozenset())]
        rest = [item for item in successes if item.episode_id != number]
        asked = [item for item in successes if item.episode_id == number]
        with TemporaryMemory(others, (), rest) as made:
            for way, answer in _ways(made, rates):
                for item in asked:
                    said = answer(item)
                    found[way].append(None if said is None else disagreement(said, item.actions))
        if progress is not None:
            progress(done + 1, len(chosen))
    return [_summed(way, distances) for way, distances in found.items()]


def gate_name(rate: float) -> str:
    """What a stated rate is called."""
    return "consensus, no gate" if rate >= 1.0 else f"consensus, gate at {100 * rate:g} %"


def _ways(
    made: TemporaryMemory, rates: Sequence[float]
) -> Iterator[tuple[str, Callable[[SuccessSituation], Array | None]]]:
    memory = made.memory

    def nearest(item: SuccessSituation) -> Array | None:
        result = memory.search(
            item.embedding, stamp=item.stamp, k=1, threshold=FARTHEST, task=item.task, phase=item.phase
        )
        first: FailureCase | None = next(iter(memory.cases(one.case_id for one in result.cases).values()), None)
        return None if first is None else first.correction

    yield NEAREST, nearest
    for rate in rates:
        consensus = ConsensusMemory(memory, ConsensusSettings(false_retrieval_rate=rate))

        def agreed(item: SuccessSituation, consensus: ConsensusMemory = consensus) -> Array | None:
            return consensus.answer(
                item.embedding, stamp=item.stamp, task=item.task, phase=item.phase, stamp_ns=0
            ).correction.actions

        yield gate_name(rate), agreed


def _summed(way: str, distances: Sequence[float | None]) -> Retrieval:
    said = [distance for distance in distances if distance is not None]
    false = sum(distance >= DISAGREEMENT for distance in said)
    return Retrieval(way, len(distances), len(said), false, float(np.median(said)) if said else 0.0)
