# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Arrays and what is known of them as one safetensors file: whole or absent, and refused where it was changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from flow_rag_vla.core.files import replaced_file

Tensors = Mapping[str, NDArray[Any]]


class SealError(RuntimeError):
    """A file that is missing, damaged or of another kind; the text names it and the remedy."""


def save_sealed(path: str | Path, about: Mapping[str, Any], tensors: Tensors, version: str) -> str:
    """Write a file with the digest of all that it holds; its revision, the digest's first 12 hex digits."""
    arrays = {name: np.ascontiguousarray(values) for name, values in tensors.items()}
    text = json.dumps(about, sort_keys=True)
    digest = _digest(text, arrays)
    with replaced_file(path) as temporary:
        save_file(arrays, temporary, metadata={"format": version, "about": text, "sha256": digest})
    return digest[:12]


def read_sealed(path: Path, subject: str, version: str, remake: str) -> tuple[dict[str, Any], Tensors, str]:
    """Read what ``save_sealed`` wrote.

    Args:
        path: of the file.
        subject: what it should be, for errors.
        version: of its format.
        remake: the command that makes one.

    Returns:
        What is known of it, its arrays, and its revision.

    Raises:
        SealError: for a file that is missing, damaged or of another format, with the remedy.
    """
    if not path.is_file():
        raise SealError(f"{path} is missing; name a {subject}, or make one with `{remake}`")
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise SealError(f"{path} cannot be read ({error}); make it anew with `{remake}`") from None
    if metadata.get("format") != version:
        raise SealError(
            f"{path} is no {subject} of format {version} (it says {metadata.get('format')}); make one with `{remake}`"
        )
    text = metadata.get("about", "")
    digest = _digest(text, tensors)
    if digest != metadata.get("sha256"):
        raise SealError(f"{path} is damaged: its content is not what was written; make it anew with `{remake}`")
    try:
        about = json.loads(text)
    except ValueError as error:
        raise SealError(f"{path} is not usable ({error!r}); make it anew with `{remake}`") from None
    return about, tensors, digest[:12]


def _digest(text: str, tensors: Tensors) -> str:
    found = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        found.update(name.encode())
        found.update(np.ascontiguousarray(tensors[name]).tobytes())
    return found.hexdigest()
