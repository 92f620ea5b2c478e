"""Parameters of the controller."""

from __future__ import annotations

from dataclasses import dataclass

from flow_rag_vla.core.parameters import parameter


@dataclass(frozen=True, slots=True)
class ControllerParameters:
    """The 40 Hz loop: when a chunk or a state is too old, and how far any command may go."""

    max_observation_age: float = parameter(
        0.6, "Age of a chunk's observation above which its rows are no longer followed", unit="s",
        minimum=0.05, maximum=5.0, live=True,
    )
