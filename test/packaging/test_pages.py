# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What the pages name is there: links and their anchors, files, codes of what is refused, names in examples."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest

from flow_rag_vla.bringup.resources import share_folder
from flow_rag_vla.bringup.security.grants import enclave_nodes
from flow_rag_vla.bringup.security.permission import CHANGING
from flow_rag_vla.labeling.registry.migrating import HEAD

ROOT = share_folder()
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docker").glob("*.md"),
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / "src/flow_rag_vla").rglob("*.md"),
    ]
)
FENCE = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)
PYTHON = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)|(?:src|srcset|href)=\"([^\"]+)\"")
QUOTED = re.compile(r"`([^`]+)`")
FILE = re.compile(r"[\w.-]+(?:/[\w.-]+)*\.(?:py|md|yaml|xml|sh|toml|msg|srv|action|rviz)")
FOLDER_OF_ROOT = re.compile(r"(?:config|docker|docs|launch|requirements|resource|scripts|src|test|urdf)(?:/[\w.-]+)+/?")
ELSEWHERE = {"robot_ik_solver.py"}
"""Files of other projects."""


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def text_of(page: Path) -> str:
    """The page without its blocks of code."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").strip().lower()
        plain = "".join(mark for mark in words if mark.isalnum() or mark in " -_").replace(" ", "-")
        number = sum(1 for name in found if re.fullmatch(rf"{re.escape(plain)}(-\d+)?", name))
        found.add(f"{plain}-{number}" if plain in found else plain)
    return found


def broken_links(page: Path, text: str) -> list[str]:
    """Links of a page that lead nowhere."""
    wrong = []
    for match in LINK.finditer(text):
        link = match[1] or match[2]
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (anchor and anchor not in anchors(text_of(target))):
            wrong.append(link)
    return wrong


def missing_files(text: str, known: set[str]) -> list[str]:
    """Files and folders between backticks that are not there, whole or by the last parts of their path.

    A name without a folder may be of a file of the reader's own, unless it is a module's.
    """
    wrong = []
    for quoted in QUOTED.findall(text):
        if FILE.fullmatch(quoted):
            ours = ("/" in quoted or quoted.endswith(".py")) and quoted not in ELSEWHERE
            if ours and not any(path == quoted or path.endswith(f"/{quoted}") for path in known):
                wrong.append(quoted)
        elif FOLDER_OF_ROOT.fullmatch(quoted) and not (ROOT / quoted).exists():
            wrong.append(quoted)
    return wrong


@pytest.fixture(scope="module")
def known() -> set[str]:
    """Every file that may be named, below the root."""
    folders = ("config", "docker", "docs", "launch", "requirements", "scripts", "src", "test", "urdf")
    files = [*ROOT.glob("*.*"), *(path for folder in folders for path in (ROOT / folder).rglob("*.*"))]
    return {str(path.relative_to(ROOT)) for path in files}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_somewhere(page):
    assert broken_links(page, text_of(page)) == []


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=name_of)
def test_every_file_that_is_named_is_there(page, known):
    assert missing_files(text_of(page), known) == []


def test_what_leads_nowhere_is_found(known):
    page = ROOT / "docs" / "concepts.md"
    text = "# A `b`: c\n[x](gone.md) [y](memory.md#gone) [z](#a-b-c) [w](#a-b)"
    assert broken_links(page, text) == ["gone.md", "memory.md#gone", "#a-b-c", "#a-b"]
    assert "a-b-c" in anchors(text) and {"twice", "twice-1"} <= anchors("# Twice\n## Twice")
    gone = "`core/gone.py` `src/flow_rag_vla/gone/` `core/goal.py` `docs/results` `test/ros/`"
    assert missing_files(gone, known) == ["core/gone.py", "src/flow_rag_vla/gone/"]


@pytest.mark.parametrize("page", [page for page in PAGES if PYTHON.search(page.read_text("utf-8"))], ids=name_of)
def test_what_examples_import_is_there(page):
    for block in PYTHON.findall(page.read_text(encoding="utf-8")):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module:
                module = importlib.import_module(node.module)
                assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []


def test_the_example_of_the_registry_does_what_it_says(tmp_path, monkeypatch, capsys):
    import numpy as np

    from flow_rag_vla.labeling.detections import Detections, Origin, ScoreKind

    monkeypatch.setenv("HOME", str(tmp_path))
    vectors = np.random.default_rng(0).normal(size=(2, 768)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    boxes, scores = np.array([[1, 2, 30, 40], [50, 60, 90, 99]], np.float32), np.array([0.9, 0.6], np.float32)
    origin = Origin("grounding_dino", "1")
    found = Detections(640, 480, boxes, scores, ("cup", "cup"), ScoreKind.SIGMOID, origin, None, vectors)
    (block,) = PYTHON.findall((ROOT / "docs/registry.md").read_text(encoding="utf-8"))
    exec(compile(block, "docs/registry.md", "exec"), {"detections": found})
    similarity = float(vectors[0] @ vectors[1])
    said = capsys.readouterr().out
    assert "EXACT" in said and float(said.split("[")[1].rstrip("]\n")) == pytest.approx(similarity, abs=1e-5)
    assert (tmp_path / "labels" / "registry.db").is_file()


def test_the_copy_before_an_upgrade_is_named_as_it_is_made():
    assert re.findall(r"registry\.db\.before-(\w+)", (ROOT / "docs/registry.md").read_text("utf-8")) == [HEAD]


def test_every_test_that_the_safety_page_names_is_there():
    named = set(re.findall(r"`(test_\w+|Test\w+)`", (ROOT / "docs/safety.md").read_text("utf-8")))
    tests = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "test").rglob("test_*.py"))
    known = set(re.findall(r"^(?:def )?(test_\w+|Test\w+)(?:\(| =)", tests, re.MULTILINE))
    assert named and not named - known


def test_there_are_as_many_enclaves_as_the_page_says():
    assert re.findall(r"there are (\d+) now", (ROOT / "docs/security.md").read_text("utf-8")) == [
        str(len(enclave_nodes()))
    ]


def test_every_service_that_needs_the_permission_is_on_the_page():
    text = (ROOT / "docs/security.md").read_text(encoding="utf-8")
    table = text.split("| needs the permission | does not |")[1].split("\n\n")[0]
    rows = [line.split("|")[1:3] for line in table.splitlines()[2:]]
    needs = {name for row in rows for name in QUOTED.findall(row[0])}
    does_not = {name for row in rows for name in QUOTED.findall(row[1])}
    # What is said in words: the actions of labeling, and what every managed node has.
    said = {name for name in CHANGING if name.startswith("labeling/")}
    assert needs - {"labeling", "change_state"} <= CHANGING and CHANGING - said <= needs
    assert not does_not & CHANGING
