# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Which fault is injected in which round, drawn from a seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

KILL, RESTART, PAUSE = "kill", "restart", "pause"
DELAY, DROP, DUPLICATE, REORDER = "delay", "drop", "duplicate", "reorder"
DISK_FULL, CORRUPT, CLOCK, HOGS, STOP = (
    "disk full",
    "corrupt database",
    "clock jump",
    "processor hogs",
    "emergency stop",
)

KINDS: dict[str, str] = {
    KILL: "kill -9 of a node",
    RESTART: "a node is ended by SIGINT and started again",
    PAUSE: "SIGSTOP of a node, then SIGCONT",
    DELAY: "messages of a topic come late, action chunks by 300 and 500 ms among them",
    DROP: "messages of a topic are lost",
    DUPLICATE: "messages of a topic come twice",
    REORDER: "messages of a topic come in another order",
    DISK_FULL: "a node may write no more (file size limit): the memory or the recorder",
    CORRUPT: "the memory's database is overwritten in places while its node is down",
    CLOCK: "the system clock of every process jumps, forward or back",
    HOGS: "a busy loop on each core",
    STOP: "the emergency stop, then its release",
}

LINKS = ("action_chunk", "correction", "embedding", "robot_state", "camera/front/image_raw")
"""Topics whose messages can be delayed, lost, doubled and put in another order."""

_WRITERS = ("failure_memory", "recorder")
_WEIGHTS = {KILL: 5, RESTART: 2, PAUSE: 4, DELAY: 4, DROP: 2, DUPLICATE: 2, REORDER: 2, DISK_FULL: 2, CORRUPT: 1,
            CLOCK: 3, HOGS: 2, STOP: 3}  # fmt: skip
"""How often a kind is drawn beside the others."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault.

    target: a node, a topic, or empty
    seconds: how long it lasts; amount: seconds of delay or of the clock's jump, or a share of the messages
    """

    kind: str
    target: str = ""
    seconds: float = 0.0
    amount: float = 0.0

    @property
    def text(self) -> str:
        """The fault in a few words."""
        parts = [self.kind, self.target]
        if self.kind in (DELAY, CLOCK):
            parts.append(f"{self.amount:+.2f} s" if self.kind == CLOCK else f"{1e3 * self.amount:.0f} ms")
        elif self.kind in (DROP, DUPLICATE, REORDER):
            parts.append(f"{self.amount:.0%}")
        if self.seconds and self.kind != CLOCK:
            parts.append(f"for {self.seconds:.1f} s")
        return " ".join(part for part in parts if part)


def draw_plan(
    seed: int, rounds: int, nodes: Sequence[str], only_paused: Sequence[str] = (), without: Sequence[str] = ()
) -> tuple[Fault, ...]:
    """The faults of that many rounds: the same for the same arguments.

    Every kind comes once before any comes at random, and every node is killed once before any is killed again, as far
    as the rounds reach.

    Args:
        seed: of the generator.
        rounds: how many faults.
        nodes: names of the nodes that may be killed, restarted and paused.
        only_paused: further ones that may only be paused.
        without: kinds that are left out.

    Raises:
        ValueError: if nothing is left to draw from.
    """
    random = np.random.default_rng(seed)
    kinds = [kind for kind in KINDS if kind not in without]
    if not kinds or not nodes:
        raise ValueError("no kind of fault is left, or no node to inject it into")
    weights = np.array([_WEIGHTS[kind] for kind in kinds], dtype=float)
    first = [kinds[index] for index in random.permutation(len(kinds))]
    victims: dict[str, list[str]] = {}
    faults = []
    for number in range(rounds):
        kind = first[number] if number < len(first) else str(random.choice(kinds, p=weights / weights.sum()))
        names = [*nodes, *only_paused] if kind == PAUSE else list(nodes)
        faults.append(_drawn(kind, random, names, victims))
    return tuple(faults)


def _drawn(kind: str, random: np.random.Generator, nodes: Sequence[str], victims: dict[str, list[str]]) -> Fault:
    if kind in (KILL, RESTART, PAUSE):
        left = victims.setdefault(kind, [])
        if not left:
            left += [nodes[index] for index in random.permutation(len(nodes))]
        seconds = float(random.uniform(0.06, 1.2)) if kind == PAUSE else 0.0
        return Fault(kind, left.pop(), seconds)
    seconds = float(random.uniform(0.8, 1.6))
    if kind == DELAY:
        amounts = {
            "action_chunk": (0.3, 0.5), "correction": (0.05, 0.3), "embedding": (0.1, 0.4),
            "camera/front/image_raw": (0.1, 0.6),
        }  # fmt: skip
        topic = str(random.choice(LINKS))
        return Fault(kind, topic, seconds, float(random.choice(amounts.get(topic, (0.05, 0.2)))))
    if kind in (DROP, DUPLICATE, REORDER):
        return Fault(kind, str(random.choice(LINKS)), seconds, float(random.choice([0.2, 0.5, 1.0])))
    if kind == DISK_FULL:
        return Fault(kind, str(random.choice(_WRITERS)), seconds)
    if kind == CORRUPT:
        return Fault(kind, "failure_memory")
    if kind == CLOCK:
        # Not by more: the middleware's own threads, discovery among them, wait as long as the clock was set back.
        size = float(random.choice([0.3, 1.0, 10.0]))
        return Fault(kind, "", seconds, size * float(random.choice([-1.0, 1.0])))
    if kind == HOGS:
        return Fault(kind, "", seconds)
    return Fault(kind, "", float(random.uniform(0.4, 0.8)))
