# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Parameters of the bag player."""

from __future__ import annotations

from dataclasses import dataclass

from flow_rag_vla.core.parameters import parameter


@dataclass(frozen=True, slots=True)
class BagPlayerParameters:
    """A recorded bag in place of the robot: its topics, and its time on /clock."""

    bag: str = parameter("", "Bag folder, run folder, .mcap or .db3 file")
    rate: float = parameter(1.0, "Speed of the bag's time", minimum=0.01, maximum=100.0, live=True)
    paused: bool = parameter(False, "Begin paused")
    loop: bool = parameter(False, "Begin again at the end")
    start: float = parameter(0.0, "Where to begin, counted from the first message", unit="s", minimum=0.0, maximum=1e9)
    duration: float = parameter(0.0, "How much to play; 0: to the end", unit="s", minimum=0.0, maximum=1e9)
    topics: tuple[str, ...] = parameter(
        (), "Topics to play, absolute or relative; none: all but those that are muted or that a robot obeys"
    )
    mute: tuple[str, ...] = parameter(
        (),
        "Topics that are not played, so that others make them anew: names, or the groups images, embedding, chunk, "
        "correction, command, failure",
    )
    remap: tuple[str, ...] = parameter((), "New names of topics, each as old:=new")
    step: float = parameter(
        0.025, "How much bag time one call of bag_player/step plays", unit="s", minimum=0.001, maximum=60.0, live=True
    )
    clock_period: float = parameter(
        0.0125, "Bag time between two messages on /clock", unit="s", minimum=0.001, maximum=1.0
    )
    end: bool = parameter(True, "End the node when the bag has been played; else it stays, and step or loop go on")
    wait_for: tuple[str, ...] = parameter(
        (), "Nodes, relative or absolute, that must subscribe to something before the bag begins"
    )
