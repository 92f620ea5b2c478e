# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Where each node stands in the picture of the graph, and which way its arrows take.

What there is to draw is not written here: it comes from the declared endpoints. A topic between two nodes is an arrow,
or stands in the box of the node that hears it. `check` refuses nodes without a place and arrows without a topic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flow_rag_vla.bringup.endpoints import Topic
from flow_rag_vla.bringup.graph import NodeSpec

Point = tuple[float, float]
"""Pixels from the upper left corner of the picture."""

PERSON = "anyone"
"""Who publishes what no node publishes."""


class LayoutError(ValueError):
    """The declared graph and the places in this module do not fit; the message says what to change here."""


@dataclass(frozen=True, slots=True)
class Box:
    """A node's box: upper left corner and size, pixels."""

    left: float
    top: float
    width: float = 176
    height: float = 100


@dataclass(frozen=True, slots=True)
class Label:
    """Where an arrow's name stands: base line of its last line, pixels; ``anchor`` as SVG names it."""

    at: Point
    anchor: str = "middle"
    characters: int = 30
    """Longest line; longer names are broken after a slash or a comma."""


@dataclass(frozen=True, slots=True)
class Arrow:
    """The way of topics from their publisher to some of those that hear them."""

    topics: tuple[str, ...]
    publisher: str
    kind: str
    ways: Mapping[str, tuple[Point, ...]]
    """Corners of the way to each subscriber; the first begins at the publisher, the others may branch off it."""
    labels: tuple[Label, ...]


KINDS: Mapping[str, str] = {
    "sense": "what is sensed",
    "plan": "what is to be done",
    "memory": "what failures taught",
    "failure": "what went wrong",
    "task": "which episode runs",
    "person": "what a person says",
}

WIDTH, HEIGHT = 1076, 690

PLACES: Mapping[str, Box] = {
    "failure_memory": Box(536, 24, width=240, height=128),
    "simulator_camera": Box(20, 216),
    "camera_encoder": Box(300, 216),
    "flow_policy": Box(568, 216),
    "controller": Box(860, 216),
    "simulator": Box(20, 420),
    "episode_manager": Box(300, 420),
    "failure_detector": Box(568, 420),
    PERSON: Box(860, 420),
}

BESIDE: Mapping[str, Box] = {
    name: Box(20 + 150 * place, 600, width=136, height=76)
    for place, name in enumerate(
        ("lifecycle_manager", "recorder", "llm", "deliberation", "labeling", "dashboard", "remote_policy")
    )
}
"""Nodes that belong to no arrow: those that all others have to do with, and those that are started on request."""

ARROWS: tuple[Arrow, ...] = (
    Arrow(
        ("simulator/ground_truth",), "simulator", "sense",
        {"simulator_camera": ((60, 420), (60, 316)), "episode_manager": ((196, 486), (300, 486))},
        (Label((68, 350), "start"), Label((248, 478), characters=12)),
    ),
    Arrow(
        ("camera/front/image_raw", "camera/wrist/image_raw"), "simulator_camera", "sense",
        {"camera_encoder": ((196, 266), (300, 266))},
        (Label((248, 258), characters=12),),
    ),
    Arrow(
        ("robot_state",), "simulator", "sense",
        {
            "controller": ((160, 420), (160, 392), (916, 392), (916, 316)),
            "flow_policy": ((620, 392), (620, 316)),
            "episode_manager": ((350, 392), (350, 420)),
            "failure_detector": ((620, 392), (620, 420)),
        },
        (Label((250, 385)),),
    ),
    Arrow(
        ("embedding",), "camera_encoder", "sense",
        {"flow_policy": ((476, 266), (568, 266)), "failure_memory": ((420, 216), (420, 88), (536, 88))},
        (Label((522, 258)), Label((478, 80))),
    ),
    Arrow(
        ("episode_status",), "episode_manager", "task",
        {
            "controller": ((430, 420), (430, 352), (964, 352), (964, 316)),
            "flow_policy": ((690, 352), (690, 316)),
            "failure_detector": ((690, 352), (690, 420)),
        },
        (Label((520, 345)),),
    ),
    Arrow(
        ("action_chunk",), "flow_policy", "plan",
        {"controller": ((744, 266), (860, 266))},
        (Label((814, 258)),),
    ),
    Arrow(
        ("correction",), "failure_memory", "memory",
        {"flow_policy": ((656, 152), (656, 216)), "controller": ((776, 88), (948, 88), (948, 216))},
        (Label((664, 188), "start"), Label((862, 80))),
    ),
    Arrow(
        ("command",), "controller", "plan",
        {
            "simulator": ((1036, 266), (1056, 266), (1056, 552), (108, 552), (108, 520)),
            "episode_manager": ((388, 552), (388, 520)),
            "failure_detector": ((656, 552), (656, 520)),
        },
        (Label((860, 545)),),
    ),
    Arrow(
        ("failure_event",), "failure_detector", "failure",
        {
            "episode_manager": ((568, 470), (476, 470)),
            "failure_memory": ((744, 470), (760, 470), (760, 152)),
        },
        (Label((522, 462)), Label((768, 440), "start")),
    ),
    Arrow(
        ("emergency_stop", "takeover"), PERSON, "person",
        {"controller": ((1006, 420), (1006, 316))},
        (Label((998, 412), "end"),),
    ),
)  # fmt: skip


def check(topics: Sequence[Topic], nodes: Sequence[NodeSpec]) -> None:
    """Hold places and arrows against the declared graph.

    Raises:
        LayoutError: naming a node without a place, or an arrow that no declared topic backs, and what to change.
    """
    declared = {topic.name: topic for topic in topics}
    for spec in nodes:
        if spec.name not in PLACES and spec.name not in BESIDE:
            raise LayoutError(f"the node {spec.name!r} has no place in the picture; add it to PLACES or BESIDE")
    known = {spec.name for spec in nodes} | {PERSON}
    for name in (*PLACES, *BESIDE):
        if name not in known:
            raise LayoutError(f"the picture has a place for {name!r}, which is no node; take it out")
    for arrow in ARROWS:
        for name in arrow.topics:
            topic = declared.get(name)
            if topic is None:
                raise LayoutError(f"the picture has an arrow for {name!r}, which is no topic; take it out of ARROWS")
            if arrow.publisher not in (topic.publishers or (PERSON,)):
                raise LayoutError(f"{arrow.publisher!r} does not publish {name!r}; change the arrow in ARROWS")
            for subscriber in arrow.ways:
                if subscriber not in topic.subscribers:
                    raise LayoutError(f"{subscriber!r} does not hear {name!r}; take that way out of ARROWS")


def heard_otherwise(node: str, topics: Sequence[Topic]) -> tuple[str, ...]:
    """Topics that the node hears without an arrow, in the order of their declaration."""
    drawn = {name for arrow in ARROWS if node in arrow.ways for name in arrow.topics}
    return tuple(topic.name for topic in topics if node in topic.subscribers and topic.name not in drawn)
