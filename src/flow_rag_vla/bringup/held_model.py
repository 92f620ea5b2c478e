# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The one model of a process: loaded as a lease, measured against a budget, and freed when it is given back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import psutil
import torch

from flow_rag_vla.residency.errors import LoadError, ResidencyError
from flow_rag_vla.residency.lease import Lease
from flow_rag_vla.residency.manager import ResidencyManager
from flow_rag_vla.residency.model import ModelSpec, Place
from flow_rag_vla.residency.torch_adapter import ObjectLoader, TorchDevice

T = TypeVar("T")

LOAD_DEADLINE_S = 600.0
"""A large model from a slow disk; what takes longer is given up."""


class HeldModel(Generic[T]):
    """Nothing, or one model under a lease. One thread calls it."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._manager: ResidencyManager | None = None
        self._lease: Lease | None = None

    @property
    def value(self) -> T:
        """The model.

        Raises:
            RuntimeError: when none is loaded.
        """
        if self._lease is None:
            raise RuntimeError(f"{self._name} is not loaded; configure the node first")
        model: T = self._lease.value
        return model

    @property
    def megabytes(self) -> float:
        """What its weights take; 0 without one."""
        manager = self._manager
        return sum(place.charged for place in manager.snapshot().places.values()) * 1e-6 if manager else 0.0

    def load(self, make: Callable[[str], T], device: str, budget: int = 0) -> T:
        """Load and hold it, in place of the one before.

        Args:
            make: makes it on a device, by torch's name.
            device: ``cpu`` or ``cuda``.
            budget: bytes that its weights may take there; 0: all there are.

        Raises:
            ResidencyError: when it takes more, or does not come in time.
            Exception: what ``make`` raised.
        """
        self.release()
        place = Place.GPU if device == "cuda" else Place.HOST
        self._manager = ResidencyManager([TorchDevice(place, budget or _total(place), device)])
        # What it takes is known once it is loaded, and its declaration is corrected then.
        self._manager.register(
            ModelSpec(self._name, ObjectLoader(make), {place: 1}, load_deadline_s=LOAD_DEADLINE_S),
        )
        try:
            self._lease = self._manager.lease(self._name, timeout_s=LOAD_DEADLINE_S)
        except ResidencyError as error:
            self.release()
            cause = error.__cause__
            if isinstance(error, LoadError) and isinstance(cause, Exception):
                raise cause from None
            raise
        return self.value

    def release(self) -> None:
        """Give the model back and free it; without one, nothing."""
        lease, self._lease = self._lease, None
        manager, self._manager = self._manager, None
        if lease is not None:
            lease.release()
        if manager is not None:
            manager.close()


def _total(place: Place) -> int:
    if place is Place.GPU:
        return int(torch.cuda.get_device_properties(0).total_memory)
    return int(psutil.virtual_memory().total)
