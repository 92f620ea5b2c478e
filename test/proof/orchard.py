# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Steps in small. A module of its own: processes that are started anew look for them by its name."""

from __future__ import annotations

from pathlib import Path

from flow_rag_vla.evaluate.trials.protocol import TrialError
from flow_rag_vla.proof.steps import DONE


def grow(folder: Path, number: int) -> str:
    (folder / "grown").write_text(str(number))
    return f"grew {number}"


def press(folder: Path, source: Path, times: int) -> str:
    assert (source / DONE).is_file()
    (folder / "pressed").write_text((source / "grown").read_text() * times)
    return "pressed"


def spill(folder: Path, source: Path) -> str:
    (folder / "half").write_text("")
    raise TrialError(f"{source.name} was empty")
