# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A program's own node beside a running graph: what the console commands that speak ROS have in common."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from types import TracebackType
from typing import TypeVar

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions

from flow_rag_vla.bringup.discovery import choose_profile
from flow_rag_vla.bringup.log_folder import choose_log_folder
from flow_rag_vla.bringup.security.grants import OPERATOR
from flow_rag_vla.bringup.security.permission import stay_local
from flow_rag_vla.bringup.security.policy import enclave_arguments

_PATIENCE_S = 2.0
"""How long leaving waits for a callback that runs."""

Self = TypeVar("Self", bound="GraphClient")


class GraphClient:
    """Use as a context manager.

    From ``__enter__`` on, a thread of its own runs the callbacks of ``self._node``; the methods of a subclass belong to
    the caller's thread. The context is its own too: several live in one process, and none handles its signals.
    """

    def __init__(self, name: str, namespace: str = "") -> None:
        """Make the node; subclasses then add to ``self._node`` what they need."""
        self._context = rclpy.Context()
        stay_local(os.environ)
        choose_profile(os.environ)
        choose_log_folder(os.environ)
        args = enclave_arguments(os.environ, OPERATOR, namespace) or None
        rclpy.init(args=args, context=self._context, signal_handler_options=SignalHandlerOptions.NO)
        self._node = rclpy.create_node(name, namespace=namespace or None, context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=self._spin, name=name, daemon=True)

    def __enter__(self: Self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()
        self._executor.shutdown(timeout_sec=_PATIENCE_S)
        self._thread.join(timeout=_PATIENCE_S)
        self._free()
        self._node.destroy_node()
        rclpy.shutdown(context=self._context)

    def _leave(self) -> None:
        """Say goodbye while callbacks still run."""

    def _free(self) -> None:
        """Destroy what the node does not destroy by itself, such as action clients."""

    def _spin(self) -> None:
        with suppress(ExternalShutdownException):
            self._executor.spin()
