# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Torch modules as models: moved between disk, host memory and GPU, bytes measured. Needs torch; the core does not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from flow_rag_vla.residency.model import Held, Place, Ticket

DEVICES = {Place.GPU: "cuda", Place.HOST: "cpu"}
"""Torch's names of the places."""


def module_bytes(modules: Iterable[torch.nn.Module]) -> int:
    """Bytes of all parameters and buffers; storage that several share counts once, and whole."""
    storages = {}
    for module in modules:
        for tensor in (*module.parameters(), *module.buffers()):
            storage = tensor.untyped_storage()
            storages[tensor.device, storage.data_ptr() or id(storage)] = storage.nbytes()
    return sum(storages.values())


def modules_in(value: object, depth: int = 3) -> list[torch.nn.Module]:
    """The module that a value is, or those among its attributes, and theirs, ``depth`` deep. Each once."""
    if isinstance(value, torch.nn.Module):
        return [value]
    if depth == 0 or isinstance(value, (torch.Tensor, type)) or not hasattr(value, "__dict__"):
        return []
    found = {id(one): one for held in vars(value).values() for one in modules_in(held, depth - 1)}
    return list(found.values())


@dataclass(frozen=True, slots=True)
class TorchDevice:
    """A memory as torch sees it.

    Attributes:
        place: which.
        budget: bytes for models. Leave room for activations.
        device: torch's name of it.
    """

    place: Place
    budget: int
    device: str = ""

    def used(self) -> int | None:
        """Bytes that tensors of this process take on the GPU; None for host memory."""
        if self.place is not Place.GPU or not torch.cuda.is_available():
            return None
        return int(torch.cuda.memory_allocated(self.device or DEVICES[self.place]))

    def synchronize(self) -> None:
        """Wait for the GPU's queue."""
        if self.place is Place.GPU and torch.cuda.is_available():
            torch.cuda.synchronize(self.device or DEVICES[self.place])


@dataclass(frozen=True, slots=True)
class ModuleLoader:
    """A module that is made in host memory and moved from there: declare it ``staged`` when it runs on the GPU.

    Attributes:
        make: reads it from disk, on the CPU.
        devices: torch's names of the places.
    """

    make: Callable[[], torch.nn.Module]
    devices: Mapping[Place, str] = field(default_factory=lambda: DEVICES)

    def load(self, place: Place, ticket: Ticket) -> Held:
        """See :class:`~flow_rag_vla.residency.model.Loader`."""
        module = self.make()
        ticket.check()
        return self._moved(module, place, ticket)

    def move(self, value: torch.nn.Module, source: Place, target: Place, ticket: Ticket) -> Held:
        """See :class:`~flow_rag_vla.residency.model.Loader`."""
        held = self._moved(value, target, ticket)
        _empty(source)
        return held

    def drop(self, value: torch.nn.Module, place: Place) -> None:
        """Free the weights, also when somebody still has the module: a use after its lease fails then."""
        value.to("meta")
        _empty(place)

    def _moved(self, module: torch.nn.Module, place: Place, ticket: Ticket) -> Held:
        # What it takes is known before it takes it.
        ticket.claim(module_bytes([module]))
        module.to(self.devices[place])
        return Held(module, module_bytes([module]))


@dataclass(frozen=True, slots=True)
class ObjectLoader:
    """Anything that is made for a device and cannot be moved: policy, encoder, embedder. Declare one place only.

    Attributes:
        make: given torch's name of the device.
        modules: where its weights are.
        devices: torch's names of the places.
    """

    make: Callable[[str], Any]
    modules: Callable[[Any], list[torch.nn.Module]] = modules_in
    devices: Mapping[Place, str] = field(default_factory=lambda: DEVICES)

    def load(self, place: Place, ticket: Ticket) -> Held:
        """See :class:`~flow_rag_vla.residency.model.Loader`.

        Raises:
            ValueError: when no weights are found in what was made: it could not be measured.
        """
        value = self.make(self.devices[place])
        modules = self.modules(value)
        if not modules:
            raise ValueError(f"no torch module in {type(value).__name__}; say with modules= where its weights are")
        return Held(value, module_bytes(modules))

    def move(self, value: Any, source: Place, target: Place, ticket: Ticket) -> Held:
        """Made anew in ``target``; see :class:`~flow_rag_vla.residency.model.Loader`."""
        held = self.load(target, ticket)
        self.drop(value, source)
        return held

    def drop(self, value: Any, place: Place) -> None:
        """Free the weights; a use after the lease fails then."""
        for module in self.modules(value):
            module.to("meta")
        _empty(place)


def _empty(place: Place) -> None:
    if place is Place.GPU and torch.cuda.is_available():
        torch.cuda.empty_cache()
