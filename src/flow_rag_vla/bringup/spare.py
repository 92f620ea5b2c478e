# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A spare process for nodes that die: it has loaded the libraries that they need, and waits to become one of them.

Most of the time that a node is away after its death goes into its imports: nearly all of it into ``import torch`` where
it has a network, and where it has none, into rclpy, numpy and messages. A spare has that behind it. It is started once
the graph runs, imports at the lowest priority, and then costs memory only.
"""

from __future__ import annotations

import json
import select
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

MODULE = "flow_rag_vla.nodes.standby"
"""The program of the spare."""

HEAVY = ("camera_encoder", "flow_policy")
"""Nodes with a network, that one spare can become."""

LIGHT = (
    "episode_manager",
    "failure_detector",
    "failure_memory",
    "lifecycle_manager",
    "recorder",
    "robot_camera",
)
"""Nodes without, that another one can. Neither becomes the loop or the bridge to an arm: nothing is to be loaded there
that they do not use."""

READY = b"ready\n"

LEAST_FREE_BYTES = 1_000_000_000
"""With less memory free there is no spare: a node takes longer to come back, and nothing else."""


def command_line(nodes: Sequence[str]) -> list[str]:
    """The command that starts a spare for these nodes."""
    return [sys.executable, "-m", MODULE, *nodes]


class Spare:
    """At most one waiting process. One thread calls it at a time.

    Args:
        log: file for what it says before it is a node.
        nodes: that it can become.
    """

    def __init__(self, log: Path, nodes: Sequence[str] = HEAVY) -> None:
        self._log, self.nodes = log, tuple(nodes)
        self._popen: subprocess.Popen[bytes] | None = None

    @property
    def ready(self) -> bool:
        """Whether one waits with everything loaded."""
        popen = self._popen
        if popen is None or popen.poll() is not None or popen.stdout is None:
            return False
        return bool(select.select([popen.stdout], [], [], 0.0)[0])

    @property
    def pid(self) -> int | None:
        """Process id of the one that waits, or loads."""
        return self._popen.pid if self._popen is not None else None

    def prepare(self, environment: Mapping[str, str]) -> None:
        """Start one in an environment, unless one is there or memory is short."""
        if self._popen is not None or psutil.virtual_memory().available < LEAST_FREE_BYTES:
            return
        with self._log.open("ab") as log:
            self._popen = subprocess.Popen(
                command_line(self.nodes),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=dict(environment),
                start_new_session=True,
            )

    def become(self, module: str, arguments: Sequence[str], log: Path) -> subprocess.Popen[bytes] | None:
        """Make the waiting process a node; None, and no spare any more, if none is ready.

        Args:
            module: the node's.
            arguments: its command line after the program.
            log: file that its output is added to.
        """
        ready, popen = self.ready, self._popen
        if popen is None:
            return None
        if not ready or popen.stdin is None or popen.stdout is None or popen.stdout.readline() != READY:
            # It would only take the processor from the node that is started instead.
            self.close()
            return None
        self._popen = None
        order = {"module": module, "arguments": list(arguments), "log": str(log)}
        try:
            popen.stdin.write(json.dumps(order).encode() + b"\n")
            popen.stdin.close()
        except OSError:
            popen.kill()
            popen.wait()
            return None
        finally:
            popen.stdout.close()
        return popen

    def close(self) -> None:
        """End the one that waits."""
        popen, self._popen = self._popen, None
        if popen is None:
            return
        popen.kill()
        popen.communicate()
