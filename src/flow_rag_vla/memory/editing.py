# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What may be known better about a case later, and the case as it then is.

Whether a change may be made is the memory's to say.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from flow_rag_vla.control.integrator import MotionLimits
from flow_rag_vla.core.failure import FailureType
from flow_rag_vla.memory.case import Array, FailureCase
from flow_rag_vla.memory.guard import within_limits


@dataclass(frozen=True, slots=True)
class CaseEdit:
    """One change of a case; what is None, or not to be forgotten, stays as it is.

    correction: (H, 7) float32, what would have been right, units of ActionChunk; its source as in ``FailureCase``
    misreading: (3,) float32, metres along the base's axes, by which the target was misread
    """

    correction: Array | None = None
    correction_source: str = "human"
    forget_correction: bool = False
    misreading: Array | None = None
    forget_misreading: bool = False
    failure_type: FailureType | None = None
    note: str | None = None

    @property
    def kind(self) -> str:
        """What the history calls it: learned by the robot, or edited by a person."""
        learned = self.correction is not None and self.correction_source != "human"
        return "learned" if learned or self.misreading is not None else "edited"

    def applied(self, case: FailureCase, limits: MotionLimits) -> tuple[FailureCase, str]:
        """The case with this change, and in words what was changed.

        limits: of motion, to which the correction of a later success is cut
        """
        said: list[str] = []
        if self.correction is not None:
            correction = self.correction
            if self.correction_source == "later_success":
                # The policy may have asked for more than the controller then did.
                correction = within_limits(correction, limits)
            case = replace(case, correction=correction, correction_source=self.correction_source)
            said.append(f"correction by {self.correction_source}")
        elif self.forget_correction:
            case = replace(case, correction=None, correction_source="")
            said.append("correction forgotten")
        if self.misreading is not None:
            case = replace(case, misreading=self.misreading)
            said.append("misreading")
        elif self.forget_misreading:
            case = replace(case, misreading=None)
            said.append("misreading forgotten")
        if self.failure_type is not None:
            said.append(f"type {case.failure_type.name.lower()} to {self.failure_type.name.lower()}")
            case = replace(case, failure_type=self.failure_type)
        if self.note is not None:
            case = replace(case, note=self.note)
            said.append("note")
        return case, ", ".join(said) or "nothing"
