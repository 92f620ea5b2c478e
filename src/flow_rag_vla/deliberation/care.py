"""At what share of the speed a command is done, and why: whoever asks for the least is heard."""

from __future__ import annotations

from dataclasses import dataclass

from flow_rag_vla.control.pace import invalid_pace
from flow_rag_vla.deliberation.urgency import urgency_of


@dataclass(frozen=True, slots=True)
class Care:
    """pace: share of the speed, above 0 and at most 1; reason: why it is below 1, empty at full speed."""

    pace: float = 1.0
    reason: str = ""


def care_of(asked: float, instruction: str) -> Care:
    """The care that a request and its words ask for together.

    Args:
        asked: speed scale of the request, such as that of a checked plan.
        instruction: the operator's words. How they sound can only lower the speed.

    Raises:
        ValueError: if ``asked`` is no number above 0 and at most 1.
    """
    problem = invalid_pace(asked)
    if problem is not None:
        raise ValueError(f"{problem}; 1 is full speed")
    tone = urgency_of(instruction)
    pace = tone.slowed(asked)
    reasons = [f"asked for {asked:.2g}"] if asked < 1.0 else []
    if tone.speed_scale < 1.0:
        words = ", ".join(tone.words) or "its tone"
        reasons.append(f"how the command sounds ({words}) allows {tone.speed_scale:.2g}")
    return Care(pace, "; ".join(reasons))
