# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A trained network in a folder: its shape as JSON, its weights as safetensors, both named by one hash.

Arrays are numpy's, so that this needs no torch; the networks' own modules turn them into tensors.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from flow_rag_vla.core.files import file_revision, replaced_file, write_text

Config = TypeVar("Config")
Network = TypeVar("Network")


class NetworkFilesError(ValueError):
    """Files of a network are missing, damaged or of another version; the text says which, and what to do.

    damaged: they are there, but cannot be read
    """

    def __init__(self, message: str, *, damaged: bool = False) -> None:
        super().__init__(message)
        self.damaged = damaged


@dataclass(frozen=True, slots=True)
class NetworkFiles:
    """How the files of one kind of network are called.

    kind: the network's name in messages; format: version of the files, in the JSON; command: makes a new one
    config_file, weights_file: names within the folder
    """

    kind: str
    format: str
    config_file: str
    weights_file: str
    command: str

    def save(self, folder: str | Path, config: Mapping[str, Any], weights: Mapping[str, NDArray[Any]]) -> str:
        """Write both files, each whole or not at all; give their revision.

        Args:
            folder: made where it is missing.
            config: plain values, the keyword arguments of what ``read_config`` makes.
            weights: arrays by name.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with replaced_file(folder / self.weights_file) as temporary:
            save_file({name: np.asarray(value, order="C") for name, value in weights.items()}, temporary)
        write_text(folder / self.config_file, json.dumps({"format": self.format, **config}, indent=2) + "\n")
        return self.revision(folder)

    def read_config(self, folder: str | Path, make: Callable[..., Config]) -> Config:
        """The shape: ``make`` called with the values of the JSON, lists as tuples.

        Raises:
            NetworkFilesError: a file is missing, the JSON is damaged or of another format, or ``make`` refuses it.
        """
        folder = Path(folder)
        for name in (self.config_file, self.weights_file):
            if not (folder / name).is_file():
                raise NetworkFilesError(
                    f"no {name} in {folder}; give a folder with a {self.kind}, or make one: {self.command}"
                )
        path = folder / self.config_file
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            found = values.pop("format", None)
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise self._damaged(path, error) from error
        if found != self.format:
            raise NetworkFilesError(
                f"{path} is not of format {self.format!r}; it belongs to another version: retrain with {self.command}"
            )
        try:
            return make(**{key: tuple(item) if isinstance(item, list) else item for key, item in values.items()})
        except (TypeError, ValueError) as error:
            raise self._damaged(path, error) from error

    def read_weights(self, folder: str | Path, make: Callable[[dict[str, NDArray[Any]]], Network]) -> Network:
        """The network: ``make`` called with the arrays by name.

        Raises:
            NetworkFilesError: the file is damaged, or ``make`` refuses it.
        """
        path = Path(folder) / self.weights_file
        try:
            return make(load_file(path))
        except (SafetensorError, RuntimeError, ValueError, TypeError, OSError) as error:
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise NetworkFilesError(
                f"the weights in {path} do not load ({first}); copy them again or retrain: {self.command}", damaged=True
            ) from error

    def revision(self, folder: str | Path) -> str:
        """First 12 hex digits of the SHA-256 over both files."""
        return file_revision(Path(folder) / self.config_file, Path(folder) / self.weights_file)

    def _damaged(self, path: Path, error: Exception) -> NetworkFilesError:
        return NetworkFilesError(f"{path} is damaged ({error}); copy it again or retrain: {self.command}", damaged=True)
