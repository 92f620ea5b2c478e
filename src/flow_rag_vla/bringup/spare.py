"""A spare process for the heavy nodes: it has loaded the libraries that they need, and waits to become one of them.

Nearly all of the time that a node with a network is away after its death goes into ``import torch``. The spare has that
behind it. It is started once the graph runs, imports at the lowest priority, and then costs memory only.
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
"""Nodes that it can become."""

READY = b"ready\n"

LEAST_FREE_BYTES = 1_000_000_000
"""With less memory free there is no spare: a node takes longer to come back, and nothing else."""


def command_line() -> list[str]:
    """The command that starts a spare."""
    return [sys.executable, "-m", MODULE]


class Spare:
    """At most one waiting process. One thread calls it at a time.

    Args:
        log: file for what it says before it is a node.
    """

    def __init__(self, log: Path) -> None:
        self._log = log
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
                command_line(),
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
