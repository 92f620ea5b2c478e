# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A declared graph as a launch description: what the files in ``launch/`` have in common.

Only launch files import this module; everything else runs where launch is not installed.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from launch.actions import DeclareLaunchArgument, LogInfo, OpaqueFunction, Shutdown
from launch.logging import get_logger
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from flow_rag_vla.bringup.graph import Argument, Process
from flow_rag_vla.bringup.resources import default_params_file
from flow_rag_vla.bringup.security.policy import enclave_arguments
from flow_rag_vla.bringup.supervisor import GIVE_UP_AFTER, PATIENCE_S, SHORT_LIFE_S
from flow_rag_vla.core.middleware_watch import LOOK_EVERY_S, OutsideWatch
from flow_rag_vla.core.processes import SUPERVISOR_VARIABLE
from launch import LaunchContext, LaunchDescription

RESPAWN_DELAY_S = 0.2
"""launch knows one delay for all deaths. What a node costs that dies at once is its start, not this."""


_REFUSED = 2
"""Exit code of a node that could not start, because of its parameters or files."""


class GivingUp:
    """Ends the launch of a node that cannot be kept up, as the console command does.

    launch alone would start it for ever, and each start takes a processor from the loop for as long as it imports. What
    counts are ends in a row that came soon after the one before, or that said that the node could not start.
    """

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._name, self._clock = name, clock
        self._ended = -float("inf")
        self._count = 0

    def __call__(self, event: Any, _context: LaunchContext) -> list[LogInfo | Shutdown] | None:
        """Take one end of the process; what is to be done then."""
        now = self._clock()
        again = event.returncode == _REFUSED or now - self._ended < SHORT_LIFE_S + RESPAWN_DELAY_S
        self._count = self._count + 1 if again else 1
        self._ended = now
        if self._count < GIVE_UP_AFTER:
            return None
        said = f"{self._name} ended {self._count} times in a row as soon as it was started; what it said last is above"
        return [LogInfo(msg=said), Shutdown(reason=said)]


def launch_description(
    arguments: Sequence[Argument], graph: Callable[[Mapping[str, str], Path], tuple[Process, ...]]
) -> LaunchDescription:
    """Described arguments, then the nodes that ``graph`` makes of their values."""

    def start(context: LaunchContext) -> list[Node]:
        values = {argument.name: LaunchConfiguration(argument.name).perform(context) for argument in arguments}
        nodes = {process.spec.name: launch_node(process) for process in graph(values, default_params_file())}
        threading.Thread(target=_watch_middleware, args=(nodes,), name="middleware", daemon=True).start()
        return list(nodes.values())

    declared = [
        DeclareLaunchArgument(
            argument.name,
            default_value=argument.default,
            description=argument.description,
            choices=list(argument.choices) or None,
        )
        for argument in arguments
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=start)])


def kill_locked_out(nodes: Mapping[str, Node], watch: OutsideWatch) -> None:
    """Kill whoever cannot be heard any more, for launch to start it again; to be called again and again."""
    for name, node in nodes.items():
        started = node.process_details
        if started is not None and watch.locked_out(name, started["pid"]):
            get_logger("launch").error(f"{name} has locked itself out of its middleware and is killed")
            # It may have ended at this very moment.
            with suppress(ProcessLookupError):
                os.kill(started["pid"], signal.SIGKILL)


def _watch_middleware(nodes: Mapping[str, Node]) -> None:
    watch = OutsideWatch()
    while True:
        time.sleep(LOOK_EVERY_S)
        kill_locked_out(nodes, watch)


def launch_node(process: Process) -> Node:
    """The launch action that starts one process of the graph."""
    return Node(
        package="flow_rag_vla",
        executable=process.spec.name,
        name=process.spec.name,
        namespace=process.namespace,
        parameters=[process.params_file, process.overrides],
        arguments=["--ros-args", "--log-level", process.log_level, *_enclave(process)],
        # A launch that is killed would leave a robot that goes on moving.
        additional_env={SUPERVISOR_VARIABLE: str(os.getpid())},
        output="screen",
        emulate_tty=True,
        respawn=process.spec.respawn,
        respawn_delay=RESPAWN_DELAY_S,
        # As long as the console command waits: on a busy machine eight nodes that end at once take more than 5 s.
        sigterm_timeout=str(PATIENCE_S),
        on_exit=(
            GivingUp(process.spec.name) if process.spec.respawn else Shutdown(reason=f"{process.spec.name} ended")
        ),
    )


def _enclave(process: Process) -> list[str]:
    return enclave_arguments(os.environ, process.spec.name, process.namespace)
