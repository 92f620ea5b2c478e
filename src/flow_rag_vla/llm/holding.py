# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Who keeps the weights of models that run in this process: a port, and the simplest way to fill it.

A model is asked for by what it is (:class:`LocalModel`) each time that it is used, and used only inside the ``with``.
Between two uses whoever keeps it may free it. By default nobody does: :class:`KeepAll`.
"""

from __future__ import annotations

import json
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A model that runs here.

    Attributes:
        name: unique among all that share a holder.
        make: loads it. Raises LlmError.
        size: estimated bytes of its weights where it runs; from 1.
        cuda: whether it runs on the GPU, else on the CPU.
    """

    name: str
    make: Callable[[], Any]
    size: int
    cuda: bool = False


class ModelHolder(Protocol):
    """Keeps models between their uses. Safe between threads."""

    def hold(self, model: LocalModel, timeout_s: float) -> AbstractContextManager[Any]:
        """The loaded model for the time of the block.

        Raises:
            LlmError: from ``make``, or DeadlineError when it is not there in time.
        """

    def forget(self, name: str) -> None:
        """Free a model if nobody uses it; one that is not known is fine."""


class KeepAll:
    """Loads each model once and keeps it until it is forgotten."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._models: dict[str, Any] = {}

    @contextmanager
    def hold(self, model: LocalModel, timeout_s: float) -> Iterator[Any]:
        """See :class:`ModelHolder`; the time is not looked at."""
        with self._lock:
            if model.name not in self._models:
                self._models[model.name] = model.make()
            value = self._models[model.name]
        yield value

    def forget(self, name: str) -> None:
        """See :class:`ModelHolder`."""
        with self._lock:
            self._models.pop(name, None)


def weight_bytes(folder: Path, bytes_a_value: float) -> int:
    """Bytes of the weights in a folder's safetensors files when each number takes ``bytes_a_value``; 1 if unknown.

    Read from the files' headers: nothing is loaded. Files that are none count as nothing.
    """
    values = 0
    for path in folder.glob("*.safetensors") if folder.is_dir() else ():
        try:
            values += sum(_length(one) for name, one in _header(path).items() if name != "__metadata__")
        except (OSError, ValueError, struct.error, KeyError, TypeError):
            continue
    return max(1, int(values * bytes_a_value))


def _header(path: Path) -> Mapping[str, Any]:
    with path.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        if length > path.stat().st_size:
            raise ValueError(f"{path} is no safetensors file")
        header: Mapping[str, Any] = json.loads(stream.read(length))
    return header


def _length(tensor: Mapping[str, Any]) -> int:
    count = 1
    for side in tensor["shape"]:
        count *= int(side)
    return count
