# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A spare process for nodes that die: it has loaded the libraries that they need, and forks to become one of them.

Most of the time that a node is away after its death goes into its imports: nearly all of it into ``import torch`` where
it has a network, and where it has none, into rclpy, numpy and messages. A spare has that behind it. It is started once
the graph runs, imports at the lowest priority, and then costs memory only, which it shares with the nodes that come of
it. It stays: a node that dies again at once finds it ready.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import psutil

from flow_rag_vla.core.adopted import Adopted, adopt_orphans

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
"""Nodes without, that another one can."""

IN_TIME = ("robot", "controller")
"""The bridge to an arm and the loop. Each has a spare of its own: nothing is loaded there that they do not use."""

GROUPS = (LIGHT, *((node,) for node in IN_TIME), HEAVY)
"""The nodes of each spare, in the order in which spares load: the light one is soon there."""

READY = b"ready\n"

FORKED_WITHIN_S = 2.0
"""A spare takes some hundredths of a second to fork. One that takes longer is given up: the node is started anew."""

LEAST_FREE_BYTES = 1_000_000_000
"""With less memory free there is no spare: a node takes longer to come back, and nothing else."""


def group_of(node: str) -> tuple[str, ...]:
    """The nodes of the spare that can become one; empty if none can."""
    return next((group for group in GROUPS if node in group), ())


def command_line(nodes: Sequence[str]) -> list[str]:
    """The command that starts a spare for these nodes."""
    return [sys.executable, "-m", MODULE, *nodes]


class Spare:
    """At most one waiting process, and the nodes that it forks. One thread calls it at a time.

    Args:
        log: file for what it says before it is a node.
        nodes: that it can become.
    """

    def __init__(self, log: Path, nodes: Sequence[str] = HEAVY) -> None:
        self._log, self.nodes = log, tuple(nodes)
        self._popen: subprocess.Popen[bytes] | None = None
        self._loaded = False

    @property
    def ready(self) -> bool:
        """Whether one waits with everything loaded."""
        if not self._loaded and self._popen is not None and self._said(0.0) == READY:
            self._loaded = True
        return self._loaded and self._popen is not None and self._popen.poll() is None

    @property
    def pid(self) -> int | None:
        """Process id of the one that waits, or loads."""
        return self._popen.pid if self._popen is not None else None

    def prepare(self, environment: Mapping[str, str]) -> None:
        """Start one in an environment, unless one is there or memory is short.

        From then on this process is the parent of every descendant whose own parent ended.
        """
        if self._popen is not None and self._popen.poll() is not None:
            self.close()
        if self._popen is not None or psutil.virtual_memory().available < LEAST_FREE_BYTES or not adopt_orphans():
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

    def become(self, module: str, arguments: Sequence[str], log: Path) -> Adopted | None:
        """Have the waiting process fork a node, which is a child of this process; None if none is ready.

        One that still loads is ended: it would only take the processor from the node that is started instead.

        Args:
            module: the node's.
            arguments: its command line after the program.
            log: file that its output is added to.
        """
        order = json.dumps({"module": module, "arguments": list(arguments), "log": str(log)})
        if self.ready and self._popen is not None:
            with contextlib.suppress(OSError, ValueError):
                _pipe(self._popen.stdin).write(order.encode() + b"\n")
                _pipe(self._popen.stdin).flush()
                return Adopted(int(self._said(FORKED_WITHIN_S)))
        self.close()
        return None

    def close(self) -> None:
        """End the one that waits. What has come of it goes on."""
        popen, self._popen, self._loaded = self._popen, None, False
        if popen is None:
            return
        # First of all: a node that it is just about to fork cannot tell its process id any more, and ends.
        for pipe in (popen.stdout, popen.stdin):
            with contextlib.suppress(OSError):
                _pipe(pipe).close()
        popen.kill()
        popen.wait()

    def _said(self, timeout_s: float) -> bytes:
        """The line that it has said, empty if there is none within a time; it says each with one write."""
        assert self._popen is not None
        pipe = _pipe(self._popen.stdout)
        return os.read(pipe.fileno(), 64) if select.select([pipe], [], [], timeout_s)[0] else b""


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None, "both ends were asked for"
    return pipe
