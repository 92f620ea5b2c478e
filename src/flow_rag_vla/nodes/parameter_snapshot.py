# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Asks every node for its parameters once, so that a bag says with which settings its decisions were made."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rcl_interfaces.msg import Parameter, ParameterEvent
from rcl_interfaces.srv import GetParameters, ListParameters
from rclpy.node import Node
from rclpy.serialization import serialize_message

from flow_rag_vla.nodes.asking import Asking
from flow_rag_vla.nodes.stamps import to_stamp


@dataclass(slots=True)
class _Asked:
    listing: Any
    getting: Any
    names: Asking[Any, Any]
    values: Asking[Any, Any]
    known: list[str] | None = None
    done: bool = False


class ParameterSnapshot:
    """Hands one serialized ``ParameterEvent`` a node to ``put(data, received_ns)``; all in the executor's thread."""

    def __init__(self, node: Node, put: Callable[[bytes, int], None]) -> None:
        self._node = node
        self._put = put
        self._asked: dict[str, _Asked] = {}

    def look(self) -> None:
        """Ask nodes that are new; call it now and then."""
        present = set()
        for name, namespace in self._node.get_node_names_and_namespaces():
            if name.startswith("_") or name == self._node.get_name():
                continue
            present.add(f"{namespace.rstrip('/')}/{name}")
        for gone in set(self._asked) - present:
            self._close(self._asked.pop(gone))
        for name in present:
            asked = self._asked.get(name)
            if asked is None:
                asked = self._asked[name] = self._new(name)
            if asked.done:
                continue
            if asked.known is None:
                asked.names.turn(ListParameters.Request())
            else:
                asked.values.turn(GetParameters.Request(names=asked.known))

    def _new(self, name: str) -> _Asked:
        listing = self._node.create_client(ListParameters, f"{name}/list_parameters")
        getting = self._node.create_client(GetParameters, f"{name}/get_parameters")
        return _Asked(
            listing,
            getting,
            Asking(listing, lambda answer: self._on_names(name, answer)),
            Asking(getting, lambda answer: self._on_values(name, answer)),
        )

    def _on_names(self, name: str, answer: ListParameters.Response) -> None:
        asked = self._asked.get(name)
        if asked is None:
            return
        asked.known = list(answer.result.names)
        asked.values.turn(GetParameters.Request(names=asked.known))

    def _on_values(self, name: str, answer: GetParameters.Response) -> None:
        asked = self._asked.get(name)
        if asked is None or asked.known is None:
            return
        now_ns = time.time_ns()
        event = ParameterEvent(stamp=to_stamp(now_ns), node=name)
        event.new_parameters = [
            Parameter(name=key, value=value) for key, value in zip(asked.known, answer.values, strict=False)
        ]
        self._put(serialize_message(event), now_ns)
        self._close(asked)

    def _close(self, asked: _Asked) -> None:
        if not asked.done:
            asked.done = True
            self._node.destroy_client(asked.listing)
            self._node.destroy_client(asked.getting)
