# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""How the labeling node offers actions whose work is done elsewhere: any goal is taken, and its work watched."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node

from flow_rag_vla.nodes.permission import permitted_goals

LOOK_S = 0.2
"""Seconds between looks at what is under way: of feedback, and how long work goes on at most once the loop is late."""

Handle: TypeAlias = "ServerGoalHandle[Any, Any, Any]"


def serve_actions(
    node: Node,
    actions: Sequence[tuple[Any, str, Callable[[Handle], Awaitable[Any]]]],
    on_cancel: Callable[[Handle], CancelResponse],
    look: Callable[[], None],
) -> list[ActionServer[Any, Any, Any]]:
    """Offer actions on a node that may change things; else every goal is rejected and the reason logged.

    Args:
        node: that offers them.
        actions: type, name and what does a goal, each.
        on_cancel: told of each goal that is to be withdrawn.
        look: called every ``LOOK_S`` seconds, also while the node's clock stands.
    """
    group = ReentrantCallbackGroup()
    servers = [
        ActionServer(
            node,
            kind,
            name,
            execute,
            callback_group=group,
            goal_callback=permitted_goals(node, lambda _goal: GoalResponse.ACCEPT),
            cancel_callback=on_cancel,
        )
        for kind, name, execute in actions
    ]
    node.create_timer(LOOK_S, look, clock=Clock(clock_type=ClockType.STEADY_TIME))
    return servers
