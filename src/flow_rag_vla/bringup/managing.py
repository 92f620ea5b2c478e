# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Which transition each managed node needs next, so that all of them reach one state, in the order of the data flow.

No ROS: ``nodes.lifecycle_manager`` tells it what it sees, and asks for what this says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

UNCONFIGURED, INACTIVE, ACTIVE = "unconfigured", "inactive", "active"
"""States that nodes can be brought to, by the labels that the standard gives them."""

LEVELS = (UNCONFIGURED, INACTIVE, ACTIVE)

_UP = {UNCONFIGURED: "configure", INACTIVE: "activate"}
_DOWN = {ACTIVE: "deactivate", INACTIVE: "cleanup"}
_GOALS = {"configure": INACTIVE, "activate": ACTIVE, "deactivate": INACTIVE, "cleanup": UNCONFIGURED}

TRIES = 5
"""Refusals in a row after which a node is left alone until it is started again, or all are asked for anew."""

FIRST_PAUSE_S = 1.0
"""After a refusal; doubled with each one more."""


@dataclass
class _Node:
    """What is known of one node. ``state`` is empty while nobody answers for it."""

    state: str = ""
    asked: str = ""
    """Transition that is under way."""
    begun: bool = False
    """Whether it was heard to begin."""
    unheard: str = ""
    """Transition that is over and may yet be heard to begin: answers and events come on different ways."""
    refusals: int = 0
    due_s: float = 0.0
    left: bool = False
    """Whether a person took it out of work."""


class Managing:
    """Brings nodes to one state. Times are of one steady clock, seconds.

    Up, all are configured at once and activated one after the other; nobody waits for one that is not there, or that
    cannot be brought up: the nodes downstream do without what it gives, as when it dies later. Down, one after the
    other, the last first.

    Args:
        nodes: in the order of the data flow.
    """

    def __init__(self, nodes: Sequence[str]) -> None:
        self._nodes = {name: _Node() for name in nodes}
        self.target = ACTIVE

    def ask(self, target: str) -> None:
        """Bring all nodes to a state, also those that a person had taken out, or that had been given up."""
        self.target = target
        for node in self._nodes.values():
            node.left, node.refusals, node.due_s = False, 0, 0.0

    def seen(self, name: str, state: str) -> None:
        """A node says that it is in this state."""
        node = self._nodes[name]
        if state == self.target:
            node.refusals = 0
        node.state = state

    def gone(self, name: str) -> None:
        """Nobody answers for a node any more; what comes back is a new one."""
        self._nodes[name] = _Node()

    def moved(self, name: str, transition: str) -> None:
        """A node began a transition; one that was not asked for here was by a person, or by the node itself."""
        node = self._nodes[name]
        if node.asked == transition:
            node.begun = True
            return
        if node.unheard == transition:
            node.unheard = ""
            return
        if transition in ("deactivate", "cleanup", "shutdown"):
            node.left = True
        elif transition in ("configure", "activate"):
            node.left = False

    def answered(self, name: str, success: bool, now_s: float) -> None:
        """What was asked of a node is done, or was refused."""
        node = self._nodes[name]
        if success:
            node.state = _GOALS.get(node.asked, node.state)
        else:
            node.due_s = now_s + FIRST_PAUSE_S * 2.0**node.refusals
            node.refusals += 1
        node.unheard = "" if node.begun else node.asked
        node.asked, node.begun = "", False

    def next(self, now_s: float) -> list[tuple[str, str]]:
        """(node, transition) to ask for now; each is under way until ``answered`` or ``gone``."""
        level = LEVELS.index(self.target)
        found = []
        for name, node in self._nodes.items():
            if node.asked or node.left or node.refusals >= TRIES or now_s < node.due_s or node.state not in LEVELS:
                continue
            present = LEVELS.index(node.state)
            if present < level and (node.state == UNCONFIGURED or not self._waits(name, node.state, up=True)):
                found.append((name, _UP[node.state]))
            elif present > level and not self._waits(name, node.state, up=False):
                found.append((name, _DOWN[node.state]))
        for name, transition in found:
            self._nodes[name].asked = transition
        return found

    @property
    def ready(self) -> bool:
        """Whether every node is in the state that is asked for."""
        return all(node.state == self.target for node in self._nodes.values())

    @property
    def given_up(self) -> tuple[str, ...]:
        """Nodes that refused too often."""
        return tuple(name for name, node in self._nodes.items() if node.refusals >= TRIES)

    @property
    def states(self) -> dict[str, str]:
        """What each node does, in words."""
        return {name: _words(node) for name, node in self._nodes.items()}

    def _waits(self, name: str, state: str, *, up: bool) -> bool:
        """Whether a node before this one (up), or after it (down), has yet to go the same way."""
        names = list(self._nodes)
        place = names.index(name)
        for other in names[:place] if up else names[place + 1 :]:
            node = self._nodes[other]
            on_its_way = node.asked or (node.state in LEVELS and node.refusals == 0)
            if node.left or not on_its_way:
                continue
            behind = node.state not in LEVELS or (
                LEVELS.index(node.state) <= LEVELS.index(state)
                if up
                else LEVELS.index(node.state) >= LEVELS.index(state)
            )
            if behind:
                return True
        return False


def _words(node: _Node) -> str:
    if node.asked:
        return f"{node.state or 'unknown'}, asked to {node.asked}"
    text = node.state or "not there"
    if node.left:
        return f"{text}, left to a person"
    if node.refusals >= TRIES:
        return f"{text}, given up after {node.refusals} refusals"
    return f"{text}, refused {node.refusals} times" if node.refusals else text
