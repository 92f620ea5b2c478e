# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What ``bringup.spare`` starts: loads what some nodes import, then waits on standard input for which one to be.

Its arguments name the nodes.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import importlib.util
import json
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from flow_rag_vla.bringup.spare import READY
from flow_rag_vla.core.processes import end_with_parent, name_thread

_LOWEST = 19
_PACKAGE = "flow_rag_vla.nodes"


def main() -> int:
    """Wait, and be a node; its exit code, or 0 if none was asked for."""
    end_with_parent(signal.SIGKILL)
    name_thread("standby")
    # Priorities are a thread's on Linux, and cannot be raised again: the thread that will be the node keeps its own.
    loader = threading.Thread(target=_load, args=(sys.argv[1:],), name="loader", daemon=True)
    _yield_session(_LOWEST)
    loader.start()
    loader.join()
    _yield_session(0)
    os.write(sys.stdout.fileno(), READY)
    line = sys.stdin.readline()
    if not line:
        return 0
    order = json.loads(line)
    module = str(order["module"])
    log = os.open(order["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.close(log)
    os.close(nothing)
    # As if it had been started as `python -m <module>`: this is what names a node in its own messages.
    sys.argv = [module, *order["arguments"]]
    globals()["__spec__"] = importlib.util.find_spec(module)
    name_thread(module.rsplit(".", 1)[-1])
    return int(importlib.import_module(module).main())


def _yield_session(niceness: int) -> None:
    """Where the kernel shares processors out by session, a thread's niceness says nothing to the other nodes."""
    with contextlib.suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(niceness), encoding="ascii")


def _load(nodes: Sequence[str]) -> None:
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LOWEST)
    for name in nodes:
        importlib.import_module(f"{_PACKAGE}.{name}")
    # What other nodes need stays for good: nobody is to look through it for garbage.
    gc.freeze()


if __name__ == "__main__":
    raise SystemExit(main())
