# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest

from flow_rag_vla.evaluate.trials.protocol import TrialError
from flow_rag_vla.proof.steps import DONE, MADE, Step, run_steps


@pytest.fixture(autouse=True)
def orchard(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The steps' work, where other processes find it, too."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    return importlib.import_module("orchard")


def _all(orchard: ModuleType, work: Path) -> list[Step]:
    """Given in an order in which nothing could be made."""
    return [
        Step("Juice", orchard.press, (work / "juice-1", work / "tree-1", 2)),
        Step("Juice", orchard.press, (work / "juice-2", work / "tree-2", 3)),
        Step("Trees", orchard.grow, (work / "tree-1", 1)),
        Step("Trees", orchard.grow, (work / "tree-2", 2)),
    ]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_step_is_made_once_what_it_is_made_from_is_whole(orchard: ModuleType, workers: int, tmp_path: Path) -> None:
    told: list[tuple[str, int, int, str]] = []
    run_steps(_all(orchard, tmp_path), workers, lambda *what: told.append(what))
    assert (tmp_path / "juice-1" / "pressed").read_text() == "11"
    assert (tmp_path / "juice-2" / "pressed").read_text() == "222"
    assert told[:2] == [("Juice", 0, 2, ""), ("Trees", 0, 2, "")]
    assert {what[:3] for what in told[2:]} == {("Juice", 1, 2), ("Juice", 2, 2), ("Trees", 1, 2), ("Trees", 2, 2)}
    assert {what[3] for what in told[2:]} == {"grew 1", "grew 2", "pressed"}


def test_one_that_breaks_is_told_and_begins_anew_the_next_time(orchard: ModuleType, tmp_path: Path) -> None:
    tree = Step("Trees", orchard.grow, (tmp_path / "tree", 1))
    with pytest.raises(TrialError, match="tree was empty"):
        run_steps([tree, Step("Juice", orchard.spill, (tmp_path / "juice", tmp_path / "tree"))], 1, lambda *_: None)
    assert tree.whole and not (tmp_path / "juice" / DONE).exists()
    run_steps([tree, Step("Juice", orchard.press, (tmp_path / "juice", tmp_path / "tree", 1))], 1, lambda *_: None)
    assert not (tmp_path / "juice" / "half").exists()


def test_what_was_made_otherwise_is_refused_before_anything_is_made(orchard: ModuleType, tmp_path: Path) -> None:
    run_steps([Step("Trees", orchard.grow, (tmp_path / "tree", 1))], 1, lambda *_: None)
    others = [Step("Trees", orchard.grow, (tmp_path / "new", 1)), Step("Trees", orchard.grow, (tmp_path / "tree", 2))]
    with pytest.raises(TrialError, match=r"tree was made with \{'number': 1\}, not with \{'number': 2\}"):
        run_steps(others, 1, lambda *_: None)
    assert not (tmp_path / "new").exists()
    (tmp_path / "tree" / MADE).write_text("{")
    with pytest.raises(TrialError, match="cannot be read"):
        run_steps(others[1:], 1, lambda *_: None)


def test_folders_of_earlier_versions_are_what_they_were_before_there_was_a_choice(
    orchard: ModuleType, tmp_path: Path
) -> None:
    run_steps([Step("Trees", orchard.grow, (tmp_path / "tree", 1))], 1, lambda *_: None)
    (tmp_path / "tree" / MADE).write_text("{}")
    run_steps([Step("Trees", orchard.grow, (tmp_path / "tree", 1), (("number", 1),))], 1, lambda *_: None)
    with pytest.raises(TrialError, match="was made with"):
        run_steps([Step("Trees", orchard.grow, (tmp_path / "tree", 2), (("number", 1),))], 1, lambda *_: None)
