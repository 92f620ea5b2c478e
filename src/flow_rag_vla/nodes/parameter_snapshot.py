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

from flow_rag_vla.nodes.stamps import to_stamp


@dataclass(slots=True)
class _Asked:
    listing: Any
    getting: Any
    sent: bool = False
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
                asked = self._asked[name] = _Asked(
                    self._node.create_client(ListParameters, f"{name}/list_parameters"),
                    self._node.create_client(GetParameters, f"{name}/get_parameters"),
                )
            if not asked.sent and asked.listing.service_is_ready() and asked.getting.service_is_ready():
                asked.sent = True
                future = asked.listing.call_async(ListParameters.Request())
                future.add_done_callback(lambda answer, name=name: self._on_names(name, answer))

    def _on_names(self, name: str, answer: Any) -> None:
        asked, result = self._asked.get(name), answer.result()
        if asked is None or result is None:
            return
        names = list(result.result.names)
        future = asked.getting.call_async(GetParameters.Request(names=names))
        future.add_done_callback(lambda values: self._on_values(name, names, values))

    def _on_values(self, name: str, names: list[str], answer: Any) -> None:
        asked, result = self._asked.get(name), answer.result()
        if asked is None or result is None:
            return
        now_ns = time.time_ns()
        event = ParameterEvent(stamp=to_stamp(now_ns), node=name)
        event.new_parameters = [
            Parameter(name=key, value=value) for key, value in zip(names, result.values, strict=False)
        ]
        self._put(serialize_message(event), now_ns)
        self._close(asked)

    def _close(self, asked: _Asked) -> None:
        if not asked.done:
            asked.done = True
            self._node.destroy_client(asked.listing)
            self._node.destroy_client(asked.getting)
