# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The models that label, each a lease for the time of one call: what is idle leaves when another needs its room.

A detector, a segmenter and an embedder that do not fit into memory together take turns in it, at the price of loading
again. What fits stays loaded.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Generic, TypeVar

from flow_rag_vla.bringup.model_memory import LOAD_DEADLINE_S, make_manager
from flow_rag_vla.labeling.detections import Detections, Masks, ScoreKind, Vectors
from flow_rag_vla.labeling.pipeline.errors import LabelingError, ModelError
from flow_rag_vla.labeling.pipeline.images import Image
from flow_rag_vla.labeling.pipeline.stages import Detector, Embedder, Segmenter
from flow_rag_vla.residency.errors import DeadlineError, LoadError, ModelTooLargeError, ResidencyError
from flow_rag_vla.residency.manager import ResidencyManager
from flow_rag_vla.residency.model import ModelSpec, Place
from flow_rag_vla.residency.torch_adapter import ObjectLoader

Backend = TypeVar("Backend", Detector, Segmenter, Embedder)


class LabelingModels:
    """Keeps the backends of a pipeline within a budget; see ``labeling.backends.Keeper``.

    Args:
        device: where they run, ``cpu`` or ``cuda``.
        host_bytes, gpu_bytes: what all of them together may take there; 0: all there is.
    """

    def __init__(self, device: str = "cpu", host_bytes: int = 0, gpu_bytes: int = 0) -> None:
        self._place = Place.GPU if device.startswith("cuda") else Place.HOST
        self._budgets = host_bytes, gpu_bytes
        self._manager: ResidencyManager | None = None
        self._lock = threading.Lock()

    def detector(self, make: Callable[[], Detector]) -> Detector:
        """A detector that is there while it detects.

        Raises:
            LabelingError: what ``make`` raises, or that it takes more than the budget.
        """
        return _Detecting(self._held("detector", make))

    def segmenter(self, make: Callable[[], Segmenter]) -> Segmenter:
        """A segmenter that is there while it segments; errors as ``detector``."""
        return _Segmenting(self._held("segmenter", make))

    def embedder(self, make: Callable[[], Embedder]) -> Embedder:
        """An embedder that is there while it embeds; errors as ``detector``."""
        return _Embedding(self._held("embedder", make))

    def figures(self) -> Mapping[str, str]:
        """Megabytes by memory, and each model's state, for diagnostics."""
        if self._manager is None:
            return {}
        snapshot = self._manager.snapshot()
        told = {
            f"memory/{place.value}": f"{status.charged / 1e6:.0f} of {status.budget / 1e6:.0f} MB"
            for place, status in snapshot.places.items()
        }
        return told | {f"model/{name}": status.state.value for name, status in snapshot.models.items()}

    def _held(self, name: str, make: Callable[[], Backend]) -> _Held[Backend]:
        with self._lock:
            if self._manager is None:
                self._manager = make_manager(*self._budgets)
        # What it takes is known once it is loaded, and its declaration is corrected then.
        loader = ObjectLoader(lambda _device: make())
        self._manager.register(ModelSpec(name, loader, {self._place: 1}, load_deadline_s=LOAD_DEADLINE_S))
        return _Held(self._manager, name)


class _Held(Generic[Backend]):
    """One backend of a manager."""

    def __init__(self, manager: ResidencyManager, name: str) -> None:
        self._manager, self._name = manager, name

    @contextmanager
    def lease(self) -> Iterator[Backend]:
        """The loaded backend for the time of the block."""
        try:
            lease = self._manager.lease(self._name, timeout_s=LOAD_DEADLINE_S)
        except LoadError as error:
            if isinstance(error.__cause__, (LabelingError, ImportError)):
                raise error.__cause__ from None
            raise ModelError(str(error), "model_broken") from error
        except ModelTooLargeError as error:
            raise ModelError(f"{error} (parameters host_memory and gpu_memory)", "model_too_large") from error
        except DeadlineError as error:
            raise ModelError(f"{error}; ask again later, or give the models more memory", "model_busy") from error
        except ResidencyError as error:
            raise ModelError(str(error), "model_broken") from error
        with lease:
            yield lease.value


class _Detecting:
    """What is asked of a detector that is not loaded is kept."""

    def __init__(self, held: _Held[Detector]) -> None:
        self._held = held
        with held.lease() as made:
            self.name, self.revision = made.name, made.revision
            self.score_kind: ScoreKind = made.score_kind
            self.vocabulary = made.vocabulary

    def detect(self, images: Sequence[Image], prompts: Sequence[str], threshold: float) -> list[Detections]:
        with self._held.lease() as detector:
            return detector.detect(images, prompts, threshold)


class _Segmenting:
    def __init__(self, held: _Held[Segmenter]) -> None:
        self._held = held
        with held.lease() as made:
            self.name, self.revision = made.name, made.revision

    def segment(self, images: Sequence[Image], found: Sequence[Detections]) -> list[Masks]:
        with self._held.lease() as segmenter:
            return segmenter.segment(images, found)


class _Embedding:
    def __init__(self, held: _Held[Embedder]) -> None:
        self._held = held
        with held.lease() as made:
            self.name, self.revision, self.dimension = made.name, made.revision, made.dimension

    def embed(self, images: Sequence[Image], found: Sequence[Detections]) -> list[Vectors]:
        with self._held.lease() as embedder:
            return embedder.embed(images, found)
