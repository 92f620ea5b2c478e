# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What the nodes of a running graph have made, as the middleware tells every participant."""

from __future__ import annotations

from collections.abc import Collection

from rclpy.node import Node

from flow_rag_vla.bringup.security.audit import Endpoints
from flow_rag_vla.nodes.graph_client import GraphClient


def endpoints_of(node: Node, names: Collection[str], namespace: str = "") -> dict[str, Endpoints]:
    """Endpoints of those of the nodes ``names`` in a namespace that ``node`` knows of at this moment."""
    home = f"/{namespace.strip('/')}"
    there = {name for name, place in node.get_node_names_and_namespaces() if place == home and name in names}
    return {
        name: Endpoints(
            [topic for topic, _ in node.get_publisher_names_and_types_by_node(name, home)],
            [topic for topic, _ in node.get_subscriber_names_and_types_by_node(name, home)],
            [service for service, _ in node.get_service_names_and_types_by_node(name, home)],
            [service for service, _ in node.get_client_names_and_types_by_node(name, home)],
        )
        for name in sorted(there)
    }


class EndpointsWatch(GraphClient):
    """Use as a context manager."""

    def __init__(self, namespace: str = "") -> None:
        super().__init__("endpoints_watch", namespace)
        self._namespace = namespace

    def look(self, names: Collection[str]) -> dict[str, Endpoints]:
        """``endpoints_of`` the nodes ``names``."""
        return endpoints_of(self._node, names, self._namespace)
