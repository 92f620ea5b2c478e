# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Models that several tests use, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from flow_rag_vla.labeling.compact.model import CompactModel
from flow_rag_vla.labeling.compact.scenes import TEST_SEEDS, labelled_frames
from flow_rag_vla.labeling.compact.truth import TruthFrame


@pytest.fixture(scope="session")
def compact_model() -> CompactModel:
    """The shipped network."""
    return CompactModel.load()


@pytest.fixture(scope="session")
def held_out() -> list[TruthFrame]:
    """A few pictures of scenes that no training has seen."""
    return list(labelled_frames(TEST_SEEDS + 500_000, 6, frames_a_scene=2, size=(320, 240)))


@pytest.fixture(scope="session")
def picture_folder(tmp_path_factory: pytest.TempPathFactory, held_out: list[TruthFrame]) -> Path:
    """Three whole pictures and a broken one."""
    from PIL import Image as Pillow

    folder = tmp_path_factory.mktemp("pictures")
    (folder / "below").mkdir()
    for number, frame in enumerate(held_out[:3]):
        Pillow.fromarray(frame.image).save(folder / ("below" if number == 2 else ".") / f"{number}.png")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    (folder / "notes.txt").write_text("no picture")
    return folder
