# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_rag_vla.evaluate.trials import figures
from flow_rag_vla.evaluate.trials.analysis import plain, summarise
from flow_rag_vla.evaluate.trials.protocol import EXACT, FRESH, ONLINE, TrialError
from flow_rag_vla.evaluate.trials.report import method_in_question, page
from flow_rag_vla.evaluate.trials.tables import markdown, p_value

VOID = {"meta", "path", "line", "rect", "circle", "br", "img"}


class Nesting(HTMLParser):
    """Asserts that what is opened is closed, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


@pytest.fixture(scope="module")
def content(make_result):
    results = []
    for block, names in ((FRESH, ("off", "guide", "guide:50", "retry")), (EXACT, ("off", "guide")),
                         (ONLINE, ("off", "online+guide"))):  # fmt: skip
        for name in names:
            for seed in range(12):
                for policy in ("a@1", "b@2"):
                    success = seed % 4 > 0 or (name != "off" and seed % 3 > 0)
                    results.append(
                        make_result(
                            name,
                            seed,
                            success,
                            policy=policy,
                            block=block,
                            place=seed,
                            shaped=3 * (name != "off"),
                            failures=[] if success else ["grasp_failure"],
                            cases=seed,
                        )
                    )
    about = {"command": "flow_rag_vla evaluate <&>", "labels": {"off": "flow only"}}
    return json.loads(json.dumps(plain(summarise(results, about, ["x|y: broke & <died>"], draws=50))))


def test_the_page_is_whole_and_loads_nothing(content) -> None:
    text = page(content, "a <run>")
    parser = Nesting()
    parser.feed(text)
    assert parser.open == []
    assert not re.search(r"""(src|href)\s*=|@import|url\(""", text)
    assert "a &lt;run&gt;" in text
    assert "&lt;&amp;&gt;" in text
    assert "broke &amp; &lt;died&gt;" in text


def test_the_page_shows_what_was_found(content) -> None:
    text = page(content, "run")
    for words in ("Fresh starts: push, plain", "Failed starts again", "Learning curve", "Size of the memory",
                  "Where episodes went", "Done within", "Failure events an episode", "flow only (off)",
                  "checkpoints drawn too"):  # fmt: skip
        assert words in text, words
    assert "nan" not in re.sub(r"<style>.*?</style>", "", text, flags=re.S).lower()


def test_a_page_without_trials_says_so() -> None:
    assert "no trial has ended yet" in page(plain(summarise([], {})), "empty")
    with pytest.raises(TrialError):
        page({"format": 99}, "newer")


def test_the_tables_name_every_variant_with_its_counts(content) -> None:
    text = markdown(content)
    assert "## Fresh starts: push, plain" in text
    assert "| flow only (off) | 75.0 %" in text
    assert "broke & <died>" in text
    for line in text.splitlines():
        if line.startswith("|"):
            assert line.endswith("|")


def test_the_method_that_a_run_is_about_is_no_control() -> None:
    assert method_in_question(["off", "guide:50", "guide", "retry", "shuffled+guide", "dagger"]) == "guide"
    assert method_in_question(["off", "online+guide"]) == "online+guide"
    assert method_in_question(["off", "retry", "of a later version"]) is None


@given(
    st.lists(st.lists(st.tuples(st.floats(0, 1e4), st.floats(0, 1)), max_size=12).map(sorted), max_size=3),
    st.booleans(),
)
def test_a_curve_stays_inside_its_chart(curves, stepped: bool) -> None:
    drawn = figures.share_chart([("name", "red", points) for points in curves], "s", stepped=stepped)
    for number in re.findall(r"[MLHV]([0-9.]+)", drawn):
        assert 0.0 <= float(number) <= 480.0


def test_every_outcome_has_its_place_in_the_flow() -> None:
    drawn = figures.outcome_flow([("guide", {"both": 50, "fixed": 30, "broken": 20, "neither": 0})])
    widths = [float(item) for item in re.findall(r'<rect [^>]*width="([0-9.]+)"', drawn)]
    assert len(widths) == 3
    assert widths[0] > widths[1] > widths[2]


def test_small_p_values_keep_their_size() -> None:
    assert (p_value(0.0421), p_value(0.00004)) == ("0.042", "4.0e-05")
