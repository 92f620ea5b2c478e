# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Declares a parameter dataclass on a node and keeps the two in step."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rcl_interfaces.srv import SetParameters, SetParametersAtomically
from rclpy.node import Node
from rclpy.parameter import Parameter

from flow_rag_vla.bringup.parameters.every_node import EveryNodeParameters
from flow_rag_vla.core.parameters import ParameterError, ParameterInfo, load_parameters, parameter_table
from flow_rag_vla.nodes.permission import guard_transitions, refusal_of

T = TypeVar("T")

_AT_START = "{} is read when the node starts; set it in the parameter file and restart the node"
_READ = "read when the node starts"
_RELOADED = "read when the node is configured: it may be set while that is unconfigured"
"""Said of a parameter that may not change while its node runs. ROS' ``read_only`` would be refused without a remedy."""


class NodeParameters(Generic[T]):
    """The parameters of a node as one frozen value, replaced as a whole when a live one changes."""

    def __init__(
        self,
        node: Node,
        cls: type[T],
        on_change: Callable[[T], None] | None = None,
        may_reload: Callable[[], bool] | None = None,
        check: Callable[[T], None] | None = None,
    ) -> None:
        """Declare every field of ``cls`` on ``node``.

        ``may_reload``: whether what is read at the start may change now, because it will be read again; None: never.
        ``check``: raises ParameterError for values that are right each by itself and wrong together.

        Raises:
            ParameterError: if an override from YAML or the command line is refused, naming it and the remedy.
        """
        self._cls = cls
        common = parameter_table(EveryNodeParameters)
        self._fixed = {info.name for info in common}
        self._table = {info.name: info for info in parameter_table(cls)}
        self._on_change = on_change
        self._may_reload = may_reload
        self._check = check
        values = {}
        for info in (*self._table.values(), *common):
            default = list(info.default) if info.is_list else info.default
            # Declared without type and range, which the table checks, naming the remedy (rclpy's exception does not)
            # and taking 40 for 40.0. The full description follows, for whoever asks or sets it later.
            value = node.declare_parameter(info.name, default, ParameterDescriptor(dynamic_typing=True)).value
            # An empty list in YAML has no type, and rcl hands it over as no value at all.
            values[info.name] = [] if value is None and info.is_list else value
        load_parameters(EveryNodeParameters, {info.name: _plain(values.pop(info.name)) for info in common})
        self.value: T = load_parameters(cls, {name: _plain(value) for name, value in values.items()})
        if check is not None:
            check(self.value)
        for info in self._table.values():
            node.set_descriptor(info.name, _descriptor(info, _READ if may_reload is None else _RELOADED))
        for info in common:
            node.set_descriptor(info.name, _descriptor(info, _READ))
        guard_transitions(node)
        _refuse_unknown_types(node)
        self._refusal = refusal_of(node)
        if self._refusal:
            node.get_logger().warning(f"changes of memory, motion and parameters are {self._refusal}")
        node.add_on_set_parameters_callback(self._validate)
        node.add_post_set_parameters_callback(self._apply)

    def _validate(self, changes: list[Parameter[Any]]) -> SetParametersResult:
        if self._refusal:
            return SetParametersResult(successful=False, reason=self._refusal)
        for change in changes:
            if change.name in self._fixed:
                return SetParametersResult(successful=False, reason=_AT_START.format(change.name))
            info = self._table.get(change.name)
            if info is None:
                continue
            try:
                info.check(_plain(change.value))
            except ParameterError as error:
                return SetParametersResult(successful=False, reason=str(error))
            if not info.live and not (self._may_reload is not None and self._may_reload()):
                reason = _AT_START.format(info.name)
                if self._may_reload is not None:
                    reason += ", or deactivate it, clean it up, set it and configure it again (ros2 lifecycle set)"
                return SetParametersResult(successful=False, reason=reason)
        if self._check is not None:
            try:
                self._check(dataclasses.replace(self.value, **self._known(changes)))  # type: ignore[type-var]
            except ParameterError as error:
                return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _known(self, changes: list[Parameter[Any]]) -> dict[str, Any]:
        return {
            change.name: self._table[change.name].check(_plain(change.value))
            for change in changes
            if change.name in self._table
        }

    def _apply(self, changes: list[Parameter[Any]]) -> None:
        known = self._known(changes)
        if not known:
            return
        self.value = dataclasses.replace(self.value, **known)  # type: ignore[type-var]
        if self._on_change is not None:
            self._on_change(self.value)


def _refuse_unknown_types(node: Node) -> None:
    """Put a look at the values' types before the services that set parameters.

    rclpy raises a ValueError at a number that is no type, which nobody catches: a request would end the node. Nothing
    of such a request is set.
    """
    known = {kind.value for kind in Parameter.Type}

    def problem(request: Any) -> str:
        for item in request.parameters:
            if item.value.type not in known:
                return f"parameter {item.name!r}: type {item.value.type} is not one of {sorted(known)}; nothing was set"
        return ""

    for service in node.services:
        if service.srv_type is SetParameters:
            set_each = service.callback

            def each(request: Any, response: Any, handler: Callable[..., Any] = set_each) -> Any:
                reason = problem(request)
                if not reason:
                    return handler(request, response)
                response.results = [SetParametersResult(reason=reason) for _ in request.parameters]
                return response

            service.callback = each
        elif service.srv_type is SetParametersAtomically:
            set_all = service.callback

            def together(request: Any, response: Any, handler: Callable[..., Any] = set_all) -> Any:
                reason = problem(request)
                if not reason:
                    return handler(request, response)
                response.result = SetParametersResult(reason=reason)
                return response

            service.callback = together


def _descriptor(info: ParameterInfo, when_read: str) -> ParameterDescriptor:
    unit = f" [{info.unit}]" if info.unit else ""
    descriptor = ParameterDescriptor(
        name=info.name,
        description=f"{info.description}{unit}",
        additional_constraints="; ".join(_constraints(info, when_read)),
        dynamic_typing=True,
    )
    if info.minimum is not None and info.maximum is not None and not info.is_list:
        if info.type is float:
            descriptor.floating_point_range = [
                FloatingPointRange(from_value=float(info.minimum), to_value=float(info.maximum), step=0.0)
            ]
        elif info.type is int:
            descriptor.integer_range = [IntegerRange(from_value=int(info.minimum), to_value=int(info.maximum), step=1)]
    return descriptor


def _constraints(info: ParameterInfo, when_read: str) -> list[str]:
    """What ROS has no field for: choices, ranges with one end or of a list's elements, and that it stays as it is."""
    said = [f"one of: {', '.join(map(str, info.choices))}"] if info.choices else []
    low, high = (None if bound is None else f"{bound:g}" for bound in (info.minimum, info.maximum))
    each = "each " if info.is_list else ""
    if low is not None and high is not None:
        said += [f"{each}{low} to {high}"] if info.is_list else []
    elif low is not None or high is not None:
        said.append(f"{each}at least {low}" if high is None else f"{each}at most {high}")
    return said if info.live else [*said, when_read]


def _plain(value: Any) -> Any:
    if isinstance(value, (str, bytes, bool, int, float)) or value is None:
        return value
    return list(value)
