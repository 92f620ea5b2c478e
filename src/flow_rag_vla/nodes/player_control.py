# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The person's hand on a playing bag: pause, resume, step and speed, as service calls that wait for no answer."""

from __future__ import annotations

from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from std_srvs.srv import Trigger

from flow_rag_vla.nodes.graph_client import GraphClient

SLOWEST, FASTEST = 0.01, 100.0


class PlayerControl(GraphClient):
    """Use as a context manager. The methods may be called from any one thread."""

    def __init__(self, namespace: str = "", rate: float = 1.0) -> None:
        super().__init__("player_control", namespace)
        create = self._node.create_client
        self._clients = {name: create(Trigger, f"bag_player/{name}") for name in ("pause", "resume", "step")}
        self._parameters = create(SetParameters, "bag_player/set_parameters")
        self.paused = False
        self.rate = rate

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
