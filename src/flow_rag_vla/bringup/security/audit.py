# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Holds what nodes really do against their grants."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from flow_rag_vla.bringup.security.grants import Grant

_ACTION_SERVICES = ("send_goal", "cancel_goal", "get_result")
_ACTION_TOPICS = ("feedback", "status")


@dataclass(frozen=True, slots=True)
class Endpoints:
    """What one running node has made, by absolute name; those of its actions too."""

    publishes: Sequence[str] = ()
    subscribes: Sequence[str] = ()
    serves: Sequence[str] = ()
    requests: Sequence[str] = ()


def absolute(name: str, node: str, namespace: str = "") -> str:
    """A name of a grant as the graph knows it."""
    home = f"/{namespace.strip('/')}".rstrip("/")
    if name.startswith("/"):
        return name
    return f"{home}/{node}{name[1:]}" if name.startswith("~") else f"{home}/{name}"


def granted(grant: Grant, namespace: str = "") -> Endpoints:
    """A grant as patterns of absolute names, its actions taken apart into their services and topics."""

    def names(*given: str) -> list[str]:
        return [absolute(name, grant.node, namespace) for name in given]

    def parts(actions: Sequence[str], of: Sequence[str]) -> Iterator[str]:
        return (f"{action}/_action/{part}" for action in actions for part in of)

    return Endpoints(
        names(*grant.publishes, *parts(grant.executes, _ACTION_TOPICS)),
        names(*grant.subscribes, *parts(grant.calls, _ACTION_TOPICS)),
        names(*grant.serves, *parts(grant.executes, _ACTION_SERVICES)),
        names(*grant.requests, *parts(grant.calls, _ACTION_SERVICES)),
    )


def beyond(grants: Sequence[Grant], observed: Mapping[str, Endpoints], namespace: str = "") -> list[str]:
    """One sentence for everything that a node does and its grant does not name, in order.

    Args:
        grants: see ``grants.grants``.
        observed: what each running node has made, by its name.
        namespace: of the graph.
    """
    allowed = {grant.node: granted(grant, namespace) for grant in grants}
    found = []
    for node, made in sorted(observed.items()):
        may = allowed.get(node)
        if may is None:
            found.append(f"{node} has no enclave")
            continue
        for does, names, patterns in (
            ("publishes", made.publishes, may.publishes),
            ("subscribes to", made.subscribes, may.subscribes),
            ("serves", made.serves, may.serves),
            ("calls", made.requests, may.requests),
        ):
            found += [
                f"{node} {does} {name}"
                for name in sorted(names)
                if not any(fnmatchcase(name, pattern) for pattern in patterns)
            ]
    return found
