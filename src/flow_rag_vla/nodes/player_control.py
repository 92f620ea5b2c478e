"""The person's hand on a playing bag: pause, resume, step and speed, as service calls that wait for no answer."""

from __future__ import annotations

import threading
from contextlib import suppress
from types import TracebackType

import rclpy
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions
from std_srvs.srv import Trigger

SLOWEST, FASTEST = 0.01, 100.0


class PlayerControl:
    """Use as a context manager. The methods may be called from any one thread."""

    def __init__(self, namespace: str = "", rate: float = 1.0) -> None:
        self._context = rclpy.Context()
        rclpy.init(context=self._context, signal_handler_options=SignalHandlerOptions.NO)
        self._node = rclpy.create_node("player_control", namespace=namespace or None, context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        create = self._node.create_client
        self._clients = {name: create(Trigger, f"bag_player/{name}") for name in ("pause", "resume", "step")}
        self._parameters = create(SetParameters, "bag_player/set_parameters")
        self._thread = threading.Thread(target=self._spin, name="player control", daemon=True)
        self.paused = False
        self.rate = rate

    def __enter__(self) -> PlayerControl:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._executor.shutdown(timeout_sec=2.0)
        self._thread.join(timeout=2.0)
        self._node.destroy_node()
        rclpy.shutdown(context=self._context)

    def toggle(self) -> str:
        """Pause, or go on."""
        self.paused = not self.paused
        self._clients["pause" if self.paused else "resume"].call_async(Trigger.Request())
        return "paused" if self.paused else "playing"

    def step(self) -> str:
        """Play one step, and pause."""
        self.paused = True
        self._clients["step"].call_async(Trigger.Request())
        return "one step"

    def change_rate(self, factor: float) -> str:
        """Play faster or slower."""
        self.rate = min(max(self.rate * factor, SLOWEST), FASTEST)
        value = ParameterValue(type=ParameterType.PARAMETER_DOUBLE, double_value=self.rate)
        self._parameters.call_async(SetParameters.Request(parameters=[Parameter(name="rate", value=value)]))
        return f"rate {self.rate:g}"

    def _spin(self) -> None:
        with suppress(ExternalShutdownException):
            self._executor.spin()
