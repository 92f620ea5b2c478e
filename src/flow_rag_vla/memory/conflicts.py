# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Cases that contradict each other: nearly the same situation, and corrections far apart. One of them must be wrong.

Both cannot be followed, and their mean is worse than either (two ways around an obstacle average into it). The one
with the worse credit loses; of equals the one whose correction comes from the less trusted source (see
``CORRECTION_SOURCES``); of equals the younger one. The loser is retired, not dropped: it can be restored.
"""

from __future__ import annotations

from flow_rag_vla.memory.case import CORRECTION_SOURCES, FailureCase, action_distance, credit


def contradict(first: FailureCase, second: FailureCase, distance: float) -> bool:
    """Whether two cases of one situation are corrected in ways further apart than this ``action_distance``."""
    if first.correction is None or second.correction is None:
        return False
    return action_distance(first.correction, second.correction) > distance


def prevails(first: FailureCase, second: FailureCase, weight: float = 2.0) -> bool:
    """Whether the first of two contradicting cases stays, the first being the older one; see the module.

    weight: of the prior of both credits.
    """
    return _standing(first, weight) >= _standing(second, weight)


def lost_to(loser: str, winner: FailureCase, name: str, distance: float) -> str:
    """One sentence on a contradiction, for people."""
    return (
        f"{loser} contradicts {name}: same situation, corrections {distance:.3f} apart; {name} has the better credit "
        f"({winner.successes} of {winner.uses}, correction by {winner.correction_source}) and stays"
    )


def _standing(case: FailureCase, weight: float) -> tuple[float, int, int]:
    return credit(case.uses, case.successes, weight), CORRECTION_SOURCES.index(case.correction_source), case.uses
