# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What of a bag is played, under which names, and on which clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from flow_rag_vla.data.bag import SAME_CLOCK_NS, Bag
from flow_rag_vla.data.message_values import stamp_ns

GROUPS: Mapping[str, tuple[str, ...]] = {
    "images": ("camera/front/image_raw", "camera/wrist/image_raw"),
    "embedding": ("embedding",),
    "chunk": ("action_chunk",),
    "correction": ("correction", "memory_statistics"),
    "command": ("command", "tick_inputs", "loop_statistics"),
    "failure": ("failure_event", "failure_score"),
}
"""Names for topics that nodes can make anew."""

NEVER = ("/clock", "/rosout", "/parameter_events", "/diagnostics")
"""Belong to the processes that run now: the player gives /clock itself, the others would tell of nodes long gone."""


COMMANDS = (
    "trajectory_msgs/msg/JointTrajectory",
    "std_msgs/msg/Float64MultiArray",
    "geometry_msgs/msg/PoseStamped",
    "geometry_msgs/msg/TwistStamped",
    "geometry_msgs/msg/Twist",
)
"""Message types that drivers of arms and mobile bases obey. What the graph itself publishes is of other ones."""


@dataclass(frozen=True, slots=True)
class Playlist:
    """names: topic in the bag to its name now; muted: topics of the bag that are not played.

    clock_offset_ns: what to add to times of reception to get the clock on which the stamps were made; 0 where that was
    the system's clock
    withheld: those of the muted that nobody muted, but which a robot that listens might obey
    """

    names: Mapping[str, str]
    muted: tuple[str, ...]
    clock_offset_ns: int = 0
    withheld: tuple[str, ...] = ()


def playlist(bag: Bag, topics: Sequence[str] = (), mute: Sequence[str] = (), remap: Sequence[str] = ()) -> Playlist:
    """Decide what is played: all that is not muted, and no ``COMMANDS`` that are not named.

    Args:
        bag: to be played.
        topics: only these, absolute or relative; empty: all.
        mute: names or ``GROUPS`` that are left out.
        remap: pairs ``old:=new``.

    Raises:
        ValueError: for a topic that is not in the bag, or a pair that is none.
    """
    chosen = {_found(bag, name) for name in topics} if topics else set(bag.topics) - set(NEVER)
    silent = {name for item in mute for wanted in GROUPS.get(item, (item,)) for name in _every(bag, wanted)}
    for item in mute:
        if item not in GROUPS and not _every(bag, item):
            raise ValueError(f"cannot mute {item!r}: no such topic in the bag, and not one of {', '.join(GROUPS)}")
    renamed = {}
    for pair in remap:
        before, separator, after = pair.partition(":=")
        if not separator or not before or not after:
            raise ValueError(f"remap {pair!r} is not of the form old:=new")
        renamed[_found(bag, before)] = after
    named = renamed.keys() if not topics else chosen
    withheld = {name for name in chosen - silent - named if bag.topics[name].msgtype in COMMANDS}
    played = sorted(chosen - silent - withheld)
    return Playlist(
        {name: renamed.get(name, name) for name in played},
        tuple(sorted(set(bag.topics) - set(played))),
        _clock_offset(bag),
        tuple(sorted(withheld)),
    )


def _found(bag: Bag, name: str) -> str:
    found = bag.find(name)
    if found is None:
        raise ValueError(f"topic {name!r} is not in {bag.path}; it holds {', '.join(bag.topics) or 'none'}")
    return found


def _every(bag: Bag, name: str) -> list[str]:
    """Every topic of that name, in whichever namespace."""
    relative = name.lstrip("/")
    return [topic for topic in bag.topics if topic.lstrip("/") == relative or topic.endswith("/" + relative)]


def _clock_offset(bag: Bag) -> int:
    """Between time of reception and stamp of the first stamped message; 0 if they are of the same clock."""
    for wanted in ("robot_state", "command", "joint_states", "camera/front/image_raw"):
        topic = bag.find(wanted)
        for entry in islice(bag.messages([topic]), 100) if topic is not None else ():
            header: Any = getattr(entry.message, "header", None)
            # A stamp of zero is none.
            stamp = 0 if header is None else stamp_ns(header)
            if stamp:
                offset = stamp - entry.log_ns
                return 0 if abs(offset) < SAME_CLOCK_NS else offset
    return 0
