# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What ``bringup.spare`` starts: loads what some nodes import, then forks one for each order on its standard input.

Its arguments name the nodes. What it forks is no child of its own but of whoever started it, who hears its process id
on standard output. It goes on when the spare ends.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import importlib.util
import json
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flow_rag_vla.bringup.spare import READY
from flow_rag_vla.core.processes import end_with_parent, name_thread

_LOWEST = 19
_PACKAGE = "flow_rag_vla.nodes"


def main() -> int:
    """Wait for orders, until there are no more; a process that is forked ends with its node's exit code."""
    end_with_parent(signal.SIGKILL)
    name_thread("standby")
    # Priorities are a thread's on Linux, and cannot be raised again: the thread that forks keeps its own.
    loader = threading.Thread(target=_load, args=(sys.argv[1:],), name="loader", daemon=True)
    _yield_session(_LOWEST)
    loader.start()
    loader.join()
    _yield_session(0)
    os.write(sys.stdout.fileno(), READY)
    while line := sys.stdin.readline():
        if _fork():
            # Without the libraries' own ends: that of lttng-ust cancels its threads, which a fork does not copy.
            os._exit(_code(json.loads(line)))
    return 0


def _fork() -> bool:
    """Fork a child of whoever adopts orphans, which then tells its process id; true in that child.

    Nothing runs here but this thread, and two of the tracing library's that wait for a session which nobody opens: no
    lock is held, nothing is left behind half done. Python warns of any second thread.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        between = os.fork()
    if between:
        os.waitpid(between, 0)
        return False
    parent = os.getpid()
    if os.fork():
        os._exit(0)
    while os.getppid() == parent:
        time.sleep(0.0005)
    # Processors are shared out by session, and a signal to the spare's is not for this one.
    os.setsid()
    try:
        os.write(sys.stdout.fileno(), b"%d\n" % os.getpid())
    except OSError:
        # Whoever asked has started another one by now.
        os._exit(0)
    return True


def _code(order: dict[str, Any]) -> int:
    """The exit code of a node, once all is done that Python does at the end of a process."""
    try:
        return _be(order)
    except SystemExit as end:
        if end.code is not None and not isinstance(end.code, int):
            sys.stderr.write(f"{end.code}\n")
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        # As multiprocessing does in what it forks: threads that are to be waited for, then what was registered.
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()


def _be(order: dict[str, Any]) -> int:
    module = str(order["module"])
    log = os.open(order["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.close(log)
    os.close(nothing)
    # Every node that comes of this spare would draw the same numbers; Python's own generator sees to that by itself.
    np.random.seed()
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
