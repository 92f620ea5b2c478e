# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Starts a node, spins it, and ends it cleanly whatever happens."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType

import rclpy
from rclpy.executors import Executor, ExternalShutdownException
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from rclpy.task import Future
from rclpy.utilities import get_rmw_implementation_identifier

from flow_rag_vla.bringup.discovery import Transport, beyond_loopback, choose_profile
from flow_rag_vla.bringup.log_folder import choose_log_folder
from flow_rag_vla.bringup.security.permission import stay_local
from flow_rag_vla.core.middleware_watch import watch_middleware
from flow_rag_vla.core.parameters import ParameterError
from flow_rag_vla.core.processes import SUPERVISOR_VARIABLE, end_with_parent
from flow_rag_vla.nodes.clock_guard import ClockGuard
from flow_rag_vla.nodes.executor import NodeExecutor

_ENDING = {signal.SIGINT, signal.SIGTERM}


class StartError(RuntimeError):
    """A node cannot start; the message says what is missing and how to get it."""


def run(
    make_node: Callable[[], Node],
    args: list[str] | None = None,
    make_executor: Callable[[], Executor] = NodeExecutor,
    *,
    transport: Transport = Transport.LOOPBACK,
) -> int:
    """Spin one node until SIGINT or SIGTERM; return the exit code.

    0 after a clean end, 2 when the node could not start because of its parameters or files (one line says why).

    transport: what its messages go over. Shared memory is quicker for pictures. But Fast DDS opens, and judges, a
        reader's memory in the thread that publishes, and waits for locks in it that processes of lower priority hold:
        with a reader that was stopped or killed that took up to 0.34 s, and one whose memory was made anew meanwhile
        never heard of the publisher again. So what must be in time, or must arrive, goes over the loopback interface
        instead. A transport chosen by FASTDDS_BUILTIN_TRANSPORTS wins.
    """
    # A supervisor that is killed cannot end its nodes.
    supervisor = os.environ.get(SUPERVISOR_VARIABLE, "")
    if supervisor.isdecimal() and not end_with_parent(signal.SIGINT, int(supervisor)):
        print(f"{_program()}: not started: process {supervisor}, which supervises it, is gone", file=sys.stderr)
        return 2
    # The signal itself does nothing but wake a thread that ends the spin: a callback is never cut in half, the context
    # is valid until the node is destroyed, and a wait inside rcl ends at once instead of at its next event. Blocking
    # the signals would not do: libraries start threads when they are imported, which take what the others block.
    ended, signaled = os.pipe()
    os.set_blocking(signaled, False)
    signal.set_wakeup_fd(signaled, warn_on_full_buffer=False)
    for number in _ENDING:
        signal.signal(number, _nothing)
    stay_local(os.environ)
    choose_log_folder(os.environ)
    fast_dds = get_rmw_implementation_identifier().startswith("rmw_fastrtps")
    here = choose_profile(os.environ, fast_dds=fast_dds, transport=transport)
    rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    stop: Future[None] = Future()
    if fast_dds:
        watch_middleware(_program())
    threading.Thread(target=_wait_for_end, args=(ended, stop), name="signals", daemon=True).start()
    executor = make_executor()
    node: Node | None = None
    try:
        node = make_node()
        if here and (addresses := beyond_loopback()):
            raise StartError(
                f"the middleware listens beyond this host ({', '.join(addresses)}) although its profile says not; set "
                "FASTDDS_BUILTIN_TRANSPORTS=UDPv4 to do without that profile"
            )
        executor.add_node(node)
        node.get_logger().debug("ready")
        with ClockGuard(executor):
            executor.spin_until_future_complete(stop)
    except ExternalShutdownException:
        pass
    except (ParameterError, StartError) as error:
        print(f"{_program()}: {error}", file=sys.stderr)
        return 2
    finally:
        if node is not None:
            executor.remove_node(node)
            node.destroy_node()
        executor.shutdown()
        rclpy.try_shutdown()
        # A terminal's Ctrl-C reaches a node twice, from the terminal and from launch. The interpreter gives handlers
        # back to the system as it ends, and the second would then kill a node that had ended well.
        for number in _ENDING:
            signal.signal(number, signal.SIG_IGN)
    return 0


def _wait_for_end(ended: int, stop: Future[None]) -> None:
    while os.read(ended, 1)[0] not in _ENDING:
        pass
    stop.set_result(None)


def _nothing(_signal: int, _frame: FrameType | None) -> None:
    """Keeps the default handler, which would raise somewhere, from being used."""


def _program() -> str:
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    return spec.name.rsplit(".", 1)[-1] if spec is not None else os.path.basename(sys.argv[0])
