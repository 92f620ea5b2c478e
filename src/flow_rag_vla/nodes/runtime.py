"""Starts a node, spins it, and ends it cleanly whatever happens."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from types import FrameType

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from flow_rag_vla.core.parameters import ParameterError


def run(make_node: Callable[[], Node], args: list[str] | None = None) -> int:
    """Spin one node until SIGINT or SIGTERM; return the exit code.

    0 after a clean end, 2 when the node could not start because of its parameters or files (one line says why).
    """
    rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    executor = SingleThreadedExecutor()
    node: Node | None = None

    def stop(_signal: int, _frame: FrameType | None) -> None:
        # Ends the spin from inside: rclpy.shutdown() in a handler would invalidate the context under a callback.
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    try:
        node = make_node()
        executor.add_node(node)
        executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except (ParameterError, StartError) as error:
        print(f"{sys.argv[0].rsplit('/', 1)[-1]}: {error}", file=sys.stderr)
        return 2
    finally:
        # A second Ctrl-C while files are being closed would lose what this node still holds.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if node is not None:
            node.destroy_node()
        executor.shutdown()
        rclpy.try_shutdown()
    return 0


class StartError(RuntimeError):
    """A node cannot start; the message says what is missing and how to get it."""
