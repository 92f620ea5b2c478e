# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Puts the permission before what changes memory or motion: service handlers and goals of a node.

Whether a node's process has it does not change while it runs. So a permitted handler is the handler itself, and costs
nothing. The rule, and which services need it, is in ``bringup.security.permission``; ``NodeParameters`` asks it for
parameters.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

from rclpy.action import GoalResponse
from rclpy.lifecycle import LifecycleNode
from rclpy.node import Node

from flow_rag_vla.bringup.security.permission import refusal

Handler = TypeVar("Handler", bound=Callable[..., Any])

PARAMETER = "open_to_network"
COMPLAINT_EVERY_S = 5.0


def refusal_of(node: Node) -> str:
    """Why this node refuses changes; empty if it does not. Its parameters must have been declared."""
    return refusal(os.environ, bool(node.get_parameter(PARAMETER).value))


def permitted(node: Node, handler: Handler) -> Handler | Callable[..., Any]:
    """The handler of a service that changes something, or one that answers with the reason why it may not.

    The response is as it is when nothing was done (no success, nothing counted), with the reason in ``message``.
    """
    reason = refusal_of(node)
    if not reason:
        return handler

    def refuse(_request: Any, response: Any) -> Any:
        _complain(node, reason)
        # A lifecycle transition's answer has room for neither.
        if hasattr(response, "message"):
            response.message = reason
        if hasattr(response, "code"):
            response.code = "not_permitted"
        return response

    return refuse


def permitted_goals(node: Node, accept: Callable[[Any], GoalResponse]) -> Callable[[Any], GoalResponse]:
    """The goal callback of an action that changes something, or one that rejects every goal and logs the reason."""
    reason = refusal_of(node)
    if not reason:
        return accept

    def reject(_goal: Any) -> GoalResponse:
        _complain(node, reason)
        return GoalResponse.REJECT

    return reject


def guard_transitions(node: Node) -> None:
    """Put the permission before a managed node's ``change_state``, which rclpy itself offers."""
    if isinstance(node, LifecycleNode):
        service = node._service_change_state
        service.callback = permitted(node, service.callback)


def _complain(node: Node, reason: str) -> None:
    node.get_logger().warning(f"a change was {reason}", throttle_duration_sec=COMPLAINT_EVERY_S)
