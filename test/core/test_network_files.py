# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A network's folder: what was saved is read back, and what is missing or damaged is named with the remedy."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import pytest

from flow_rag_vla.core.network_files import NetworkFiles, NetworkFilesError

FILES = NetworkFiles("tiny net", "tiny/1", "tiny.json", "tiny.safetensors", "flow_rag_vla train-tiny")
WEIGHTS = {
    "a": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    "count": np.asarray(7, np.int64),
}


@dataclass(frozen=True)
class Shape:
    names: tuple[str, ...]
    width: int = 3


def test_what_was_saved_is_read_back_with_its_types(tmp_path):
    revision = FILES.save(tmp_path / "new", asdict(Shape(("x", "y"))), WEIGHTS)
    assert FILES.read_config(tmp_path / "new", Shape) == Shape(("x", "y"))
    found = FILES.read_weights(tmp_path / "new", dict)
    assert {name: (value.shape, value.dtype) for name, value in found.items()} == {
        name: (value.shape, value.dtype) for name, value in WEIGHTS.items()
    }
    assert all(np.array_equal(found[name], value) for name, value in WEIGHTS.items())
    assert FILES.revision(tmp_path / "new") == revision


def test_the_revision_follows_shape_and_weights(tmp_path):
    first = FILES.save(tmp_path, asdict(Shape(("x",))), WEIGHTS)
    assert FILES.save(tmp_path, asdict(Shape(("x",))), WEIGHTS) == first
    assert FILES.save(tmp_path, asdict(Shape(("y",))), WEIGHTS) != first
    assert FILES.save(tmp_path, asdict(Shape(("x",))), {**WEIGHTS, "count": np.asarray(8)}) != first


@pytest.mark.parametrize("name", ["tiny.json", "tiny.safetensors"])
def test_a_missing_file_is_named_with_the_command_that_makes_it(tmp_path, name):
    FILES.save(tmp_path, asdict(Shape(("x",))), WEIGHTS)
    (tmp_path / name).unlink()
    with pytest.raises(NetworkFilesError, match=rf"no {name} .*tiny net.*train-tiny") as caught:
        FILES.read_config(tmp_path, Shape)
    assert not caught.value.damaged


@pytest.mark.parametrize(
    ("text", "damaged"),
    [
        ("{", True),
        ("[]", True),
        ("\x00", True),
        ('{"format": "tiny/2", "names": []}', False),
        ('{"format": "tiny/1", "names": [], "more": 1}', True),
    ],
)
def test_a_shape_that_cannot_be_read_names_its_file_and_the_remedy(tmp_path, text, damaged):
    FILES.save(tmp_path, asdict(Shape(("x",))), WEIGHTS)
    (tmp_path / "tiny.json").write_text(text)
    with pytest.raises(NetworkFilesError, match=r"tiny\.json.*retrain.*train-tiny") as caught:
        FILES.read_config(tmp_path, Shape)
    assert caught.value.damaged is damaged


def test_weights_that_are_cut_or_refused_name_their_file_and_the_remedy(tmp_path):
    FILES.save(tmp_path, asdict(Shape(("x",))), WEIGHTS)

    def refuse(weights: dict[str, np.ndarray]) -> None:
        raise RuntimeError("size mismatch\nand much more")

    with pytest.raises(NetworkFilesError, match=r"tiny\.safetensors do not load \(size mismatch\); .*train-tiny"):
        FILES.read_weights(tmp_path, refuse)
    path = tmp_path / "tiny.safetensors"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(NetworkFilesError, match=r"tiny\.safetensors do not load") as caught:
        FILES.read_weights(tmp_path, dict)
    assert caught.value.damaged
