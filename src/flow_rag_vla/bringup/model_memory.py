# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The models of one process within a budget of memory: the holder of :mod:`flow_rag_vla.llm.holding` over leases."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import psutil

from flow_rag_vla.llm.errors import DeadlineError, LlmError, ProviderDownError
from flow_rag_vla.llm.holding import LocalModel
from flow_rag_vla.residency import errors
from flow_rag_vla.residency.model import ModelSpec, Place

if TYPE_CHECKING:
    from flow_rag_vla.residency.manager import ResidencyManager

LOAD_DEADLINE_S = 600.0
"""A large model from a slow disk; what takes longer is given up."""


class ModelMemory:
    """Loads models as leases: what is idle leaves when another needs its room.

    Args:
        host_bytes: of models that run on the CPU together; 0: the machine's memory.
        gpu_bytes: of models that run on the GPU together; 0: the GPU's memory.
    """

    def __init__(self, host_bytes: int = 0, gpu_bytes: int = 0) -> None:
        self._budgets = host_bytes, gpu_bytes
        self._lock = threading.Lock()
        self._manager: ResidencyManager | None = None
        self._known: set[str] = set()

    @contextmanager
    def hold(self, model: LocalModel, timeout_s: float) -> Iterator[Any]:
        """The loaded model for the time of the block; see :class:`flow_rag_vla.llm.holding.ModelHolder`.

        Raises:
            LlmError: from the model's loader.
            DeadlineError: when there is no room for it in time.
            ProviderDownError: when it can never fit, with the parameter to raise.
        """
        try:
            lease = self._opened(model).lease(model.name, timeout_s=timeout_s)
        except errors.LoadError as error:
            if isinstance(error.__cause__, LlmError):
                raise error.__cause__ from error
            raise ProviderDownError(str(error)) from error
        except errors.DeadlineError as error:
            raise DeadlineError(str(error)) from error
        except errors.ModelTooLargeError as error:
            raise ProviderDownError(f"{error} (parameters host_memory and gpu_memory)") from error
        except errors.ResidencyError as error:
            raise ProviderDownError(str(error)) from error
        with lease:
            yield lease.value

    def forget(self, name: str) -> None:
        """Free a model if nobody uses it."""
        manager = self._manager
        if manager is None:
            return
        with suppress(errors.ResidencyError):
            manager.evict(name, timeout_s=LOAD_DEADLINE_S)

    def figures(self) -> Mapping[str, str]:
        """Megabytes by memory, and each model's state, for diagnostics; empty before the first model."""
        manager = self._manager
        if manager is None:
            return {}
        snapshot = manager.snapshot()
        told = {
            f"memory/{place.value}": f"{status.charged / 1e6:.0f} of {status.budget / 1e6:.0f} MB"
            for place, status in snapshot.places.items()
        }
        told |= {f"model/{name}": status.state.value for name, status in snapshot.models.items()}
        return told

    def _opened(self, model: LocalModel) -> ResidencyManager:
        # Here and not at the top: this imports torch, which a node without a local model does not need.
        from flow_rag_vla.residency.torch_adapter import ObjectLoader

        with self._lock:
            if self._manager is None:
                self._manager = make_manager(*self._budgets)
            if model.name not in self._known:
                place = Place.GPU if model.cuda else Place.HOST
                loader = ObjectLoader(lambda _device: model.make())
                self._manager.register(
                    ModelSpec(model.name, loader, {place: model.size}, load_deadline_s=LOAD_DEADLINE_S)
                )
                self._known.add(model.name)
            return self._manager


def make_manager(host_bytes: int, gpu_bytes: int) -> ResidencyManager:
    """A manager of this machine's memories. Bytes that models may take in each; 0: all there are."""
    import torch

    from flow_rag_vla.residency.manager import BESIDE_A_LOOP_S, ResidencyManager
    from flow_rag_vla.residency.torch_adapter import TorchDevice

    devices = [TorchDevice(Place.HOST, host_bytes or int(psutil.virtual_memory().total))]
    if torch.cuda.is_available():
        total = int(torch.cuda.get_device_properties(0).total_memory)
        devices.append(TorchDevice(Place.GPU, gpu_bytes or total))
    return ResidencyManager(devices, min_resident_s=BESIDE_A_LOOP_S)
