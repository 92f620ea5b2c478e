# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The report of a run, whole or in pieces."""

from __future__ import annotations

import dataclasses
import html.parser
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from flow_rag_vla.data.bag import Bag
from flow_rag_vla.data.bag_writer import BagWriter
from flow_rag_vla.data.episode_record import CorrectionUse, read_records
from flow_rag_vla.evaluate.report import charts, make_report, open_run
from flow_rag_vla.evaluate.report.animation import choose_episode, write_animation
from flow_rag_vla.evaluate.report.digest import (
    Answer,
    Digest,
    RetrievedCase,
    correction_name,
    digest_bag,
    failure_name,
)
from flow_rag_vla.evaluate.report.page import page
from flow_rag_vla.evaluate.report.run import command_line, versions
from flow_rag_vla.evaluate.report.stories import failure_stories
from flow_rag_vla.evaluate.report.timing import loop_timing, mode_spans, stages

VOID = {"meta", "img", "line", "rect", "circle", "path", "br", "link", "input"}


class Balance(html.parser.HTMLParser):
    """Checks that tags are closed in order, and gathers text and attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text.append(data)


def parsed(path: Path) -> tuple[Balance, str]:
    text = path.read_text(encoding="utf-8")
    balance = Balance()
    balance.feed(text)
    assert balance.open == []
    return balance, " ".join(" ".join(balance.text).split())


@pytest.fixture
def folder(run_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run_folder, tmp_path / "run"))


@pytest.fixture(scope="module")
def digest(run_folder: Path) -> Digest:
    return digest_bag(Bag(run_folder / "bag"))


def test_a_whole_run_gives_one_self_contained_page_and_a_picture(folder: Path) -> None:
    page, picture = make_report(folder)
    assert (page.name, picture.name) == ("report.html", "episode.gif")
    balance, text = parsed(page)
    assert all(link.startswith("data:image/") for link in balance.links)
    assert "http" not in page.read_text(encoding="utf-8").replace("http-equiv", "")
    assert "What is missing here" not in text
    for words in (
        "1 of 2", "40.00 Hz", "Outcomes", "95 % interval", "Tick error", "From camera to command", "capture to command",
        "drop", "the object left the gripper during transport", "gripper width", "What the memory did about it",
        "flow_rag_vla sim --episodes 2", "weights 9be1c04417aa", "put the blue box in the bin", "canceled",
    ):  # fmt: skip
        assert words in text, words
    assert text.count("camera") > 1


def test_the_animation_is_small_and_moves(folder: Path) -> None:
    _, picture = make_report(folder)
    assert picture.stat().st_size < 5_000_000
    with Image.open(picture) as image:
        assert image.size == (480 + 176, 360 + 40)
        assert image.n_frames > 20  # type: ignore[attr-defined]
        first = np.asarray(image.convert("RGB")).astype(int)
        image.seek(image.n_frames - 1)  # type: ignore[attr-defined]
        assert np.abs(np.asarray(image.convert("RGB")).astype(int) - first).max() > 100


def test_without_ground_truth_the_cameras_are_shown(folder: Path, tmp_path: Path) -> None:
    bag = _without(folder / "bag", tmp_path / "bag", {"/simulator/ground_truth"})
    digest = digest_bag(bag)
    record = choose_episode(read_records(folder / "episodes")[0], digest)
    assert record is not None
    picture = write_animation(tmp_path / "a.gif", bag, digest, record, scale=4)
    assert picture is not None
    with Image.open(picture) as image:
        assert image.size == (480 + 176, 360 + 40)
    blind = _without(folder / "bag", tmp_path / "blind", {
        "/simulator/ground_truth", "/camera/front/image_raw", "/camera/wrist/image_raw"
    })  # fmt: skip
    assert write_animation(tmp_path / "b.gif", blind, digest, record) is None


def _without(source: Path, target: Path, topics: set[str]) -> Bag:
    bag = Bag(source)
    with BagWriter(target) as writer:
        for name, topic in bag.topics.items():
            if name not in topics:
                writer.add_topic(name, topic.msgtype)
        for entry in bag.messages([name for name in bag.topics if name not in topics]):
            writer.write_message(entry.topic, entry.log_ns, entry.message)
    return Bag(target)


def test_the_episode_that_the_memory_helped_is_shown(run_folder: Path, digest: Digest) -> None:
    records, _ = read_records(run_folder / "episodes")
    chosen = choose_episode(records, digest)
    assert chosen is not None and chosen.episode_id == 2
    assert choose_episode((), digest) is None
    assert choose_episode(records, Digest()) is None


def test_an_episode_that_the_bag_does_not_show_is_not_animated(run_folder: Path, tmp_path: Path) -> None:
    records, _ = read_records(run_folder / "episodes")
    assert write_animation(tmp_path / "a.gif", Bag(run_folder / "bag"), Digest(), records[0]) is None


@pytest.mark.parametrize(
    ("remove", "words"),
    [
        ("bag", "There is no bag"),
        ("run.json", "run.json is missing"),
        ("episodes", "No finished episode is on record"),
        ("bag/bag.mcap", "The bag is not readable"),
    ],
)
def test_a_missing_piece_is_named_and_the_rest_is_reported(folder: Path, remove: str, words: str) -> None:
    path = folder / remove
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    made = make_report(folder, animate=False)
    _, text = parsed(made[0])
    assert words in text
    assert "What is missing here" in text


def test_an_empty_folder_gives_a_page_that_says_so(tmp_path: Path) -> None:
    _, text = parsed(make_report(tmp_path)[0])
    assert "There is no bag" in text and "No finished episode" in text
    with pytest.raises(FileNotFoundError, match="no run folder"):
        make_report(tmp_path / "nowhere")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.7, 0.999])
def test_a_bag_that_breaks_off_gives_a_report_of_what_is_there(folder: Path, share: float) -> None:
    path = folder / "bag" / "bag.mcap"
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    _, text = parsed(make_report(folder, animate=False)[0])
    assert "The bag is not" in text
    assert "Outcomes" in text


def test_broken_records_and_notes_are_named(folder: Path) -> None:
    (folder / "episodes" / "000001.json").write_text("{", encoding="utf-8")
    (folder / "run.json").write_text("[1]", encoding="utf-8")
    _, text = parsed(make_report(folder, animate=False)[0])
    assert "Episode left out" in text
    assert "The bag shows episodes without a record (interrupted?): 1" in text
    (folder / "run.json").write_text("{", encoding="utf-8")
    assert "run.json is not readable" in parsed(make_report(folder, animate=False)[0])[1]


def test_a_recorder_that_was_killed_still_gives_timing_and_pictures(build_run: Any) -> None:
    run = open_run(build_run("killed", close=False))
    assert any("did not close it" in problem for problem in run.problems)
    assert run.digest is not None and len(run.digest.commands) > 100
    story = failure_stories(run.records, run.digest, run.bag)[0]
    assert sum(frame.source is not None for frame in story.frames) >= 4


def test_words_from_outside_cannot_become_markup(folder: Path) -> None:
    path = folder / "episodes" / "000001.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    record["instruction"] = record["failures"][0]["description"] = "<script>alert(1)</script>"
    path.write_text(json.dumps(record), encoding="utf-8")
    (folder / "run.json").write_text(json.dumps({"command": ["<b>"], "extra": {"a": "<i>", "b": [1, {"c": 2}]}}))
    page = make_report(folder, animate=False)[0].read_text(encoding="utf-8")
    assert "<script>" not in page and "&lt;script&gt;" in page
    assert "<b>" not in page and "c: 2" in page


def test_a_story_tells_before_after_and_later(run_folder: Path, digest: Digest) -> None:
    records, _ = read_records(run_folder / "episodes")
    story = failure_stories(records, digest, Bag(run_folder / "bag"))[0]
    text = " ".join(story.memory)
    assert "knew nothing like this" in text
    assert "the memory shaped nothing" in text
    assert "Later: 1 of 1 further episode of this task succeeded; drop did not come back." in text
    assert [frame.offset_s for frame in story.frames] == [-1.2, -0.6, 0.0, 0.6, 1.2]
    assert failure_stories(records, None, None)[0].frames == ()
    assert failure_stories(records, digest, None, limit=0) == ()


def test_stages_add_up_to_the_whole_way(digest: Digest) -> None:
    found = {stage.name: stage for stage in stages(digest)}
    parts = ("capture to embedding", "embedding to chunk", "chunk to command")
    assert set(found) == {*parts, "embedding to correction", "capture to command"}
    total = sum(found[name].p50_ms for name in parts)
    assert found["capture to command"].p50_ms == pytest.approx(total, rel=0.15)
    assert found["capture to embedding"].p50_ms == pytest.approx(45.0, abs=3.0)
    assert all(stage.p50_ms <= stage.p99_ms for stage in found.values())


def test_loop_timing_is_taken_from_the_commands_own_stamps(digest: Digest) -> None:
    timing = loop_timing(digest)
    assert timing is not None
    assert timing.rate_hz == pytest.approx(40.0, abs=0.1)
    assert timing.p50_ms < 0.5 < timing.p99_ms <= timing.max_ms
    assert "stamps" in timing.source
    assert loop_timing(Digest()) is None
    assert stages(Digest()) == ()


def test_simulated_time_is_brought_back_to_the_clock_on_the_wall(build_run: Any) -> None:
    folder = build_run("simulated", simulated_clock=True)
    simulated = digest_bag(Bag(folder / "bag"))
    assert simulated.simulated_clock
    timing = loop_timing(simulated)
    assert timing is not None and "reception" in timing.source
    found = {stage.name: stage.p50_ms for stage in stages(simulated)}
    assert found["capture to embedding"] == pytest.approx(45.0, abs=3.0)
    without_clock = Digest(embeddings=simulated.embeddings, chunks=simulated.chunks, commands=simulated.commands)
    assert "capture to embedding" not in {stage.name for stage in stages(without_clock)}


def received_later(digest: Digest, by_ns: int) -> Digest:
    """What a recorder has of a bag that is played by so much after it was recorded."""
    return Digest(
        embeddings=[dataclasses.replace(item, log_ns=item.log_ns + by_ns) for item in digest.embeddings],
        commands=[dataclasses.replace(item, log_ns=item.log_ns + by_ns) for item in digest.commands],
        chunks=[dataclasses.replace(item, log_ns=item.log_ns + by_ns) for item in digest.chunks],
        _clock=[(stamp, log + by_ns) for stamp, log in digest._clock],
    )


@pytest.mark.parametrize("minutes", [1, 59, 600])
def test_a_bag_that_was_played_and_recorded_again_shows_the_latencies_of_the_playing(
    digest: Digest, minutes: int
) -> None:
    again = received_later(digest, minutes * 60_000_000_000)
    assert again.simulated_clock and not digest.simulated_clock
    found = {stage.name: stage.p50_ms for stage in stages(again)}
    assert found["capture to embedding"] == pytest.approx(45.0, abs=3.0)


def test_a_first_embedding_that_waited_for_its_model_is_of_the_same_clock(digest: Digest) -> None:
    waited = dataclasses.replace(digest.embeddings[0], log_ns=digest.embeddings[0].log_ns + 9_000_000_000)
    assert not Digest(embeddings=[waited, *digest.embeddings[1:]], commands=digest.commands).simulated_clock


def test_modes_are_joined_into_spans(digest: Digest) -> None:
    spans = mode_spans(digest)
    assert [span.mode for span in spans] == ["follow"]
    assert (spans[0].start_ns, spans[0].end_ns) == (digest.commands[0].log_ns, digest.commands[-1].log_ns)
    assert mode_spans(digest, 0, 1) == ()


def test_values_of_a_newer_interface_get_a_name_instead_of_an_error() -> None:
    assert (correction_name(99), failure_name(99)) == ("mode 99", "type 99")
    assert (correction_name(1), failure_name(3)) == ("guidance", "drop")


def test_versions_and_command_are_known() -> None:
    assert {"flow_rag_vla", "Python", "numpy"} <= set(versions())
    assert command_line({"command": "a b"}) == "a b"
    assert command_line({"command": ["a", 1]}) == "a 1"
    assert command_line({}) == ""


finite = st.floats(0, 1e4, allow_nan=False)


@given(values=st.lists(finite, min_size=1, max_size=50))
def test_a_histogram_of_any_errors_is_well_formed(values: list[float]) -> None:
    errors = np.array(values)
    picture = charts.histogram(errors, float(np.percentile(errors, 50)), float(np.percentile(errors, 99)))
    assert "nan" not in picture
    heights = [float(value) for value in re.findall(r'<rect [^>]*height="([0-9.]+)"', picture)]
    assert heights and all(0 < height <= 230 for height in heights)


@given(value=st.floats(-1e6, 1e6), threshold=st.floats(-1e6, 1e6))
def test_evidence_stays_inside_its_picture(value: float, threshold: float) -> None:
    picture = charts.evidence_bar(value, threshold)
    places = [float(number) for number in re.findall(r' x1?2?="([-0-9.]+)"', picture)]
    assert all(0 <= place <= 190.1 for place in places)
    assert charts.evidence_bar(float("nan"), 1.0) == ""


@given(duration=st.floats(0, 1e3), marks=st.lists(st.floats(0, 1e3), max_size=3))
def test_a_timeline_keeps_its_marks_in_view(duration: float, marks: list[float]) -> None:
    bars = [charts.Bar(0.0, duration / 2, "reach", "red"), charts.Bar(duration / 2, duration, "grasp", "blue")]
    picture = charts.timeline(duration, [bars], [charts.Mark(at, "failure", "red") for at in marks])
    assert picture.count("<path") == len(marks)
    assert all(0 <= float(x) <= 360 for x in re.findall(r'd="M([-0-9.]+)', picture))


def _answer(mode: str, similarity: float, log_ns: int) -> Answer:
    case = RetrievedCase(7, similarity, "drop", "transport", True, 4, 3, 0.7)
    return Answer(log_ns, log_ns, mode, 0.6, 0.85, 0.2, (case,))


@pytest.mark.parametrize(
    ("mode", "similarity", "words"),
    [
        ("guidance", 0.95, "guidance at strength 0.60 from case #7. It was not enough."),
        ("none", 0.7, "the closest case was 0.70 similar, below the threshold 0.85: the policy acted alone."),
        ("none", 0.9, "no correction was credible"),
        ("timeout", 0.9, "its answer came too late"),
    ],
)
def test_a_story_says_how_the_memory_had_answered(
    run_folder: Path, digest: Digest, mode: str, similarity: float, words: str
) -> None:
    records, _ = read_records(run_folder / "episodes")
    moment = digest.failures[0].log_ns
    answers = [_answer(mode, similarity, moment - 10**8), _answer("guidance", 0.99, moment - 2 * 10**9)]
    known = Digest(failures=digest.failures, answers=answers, commands=digest.commands)
    story = failure_stories(records, known, None)[0]
    assert words in story.memory[0]
    assert story.retrieved[0].case_id == 7


def test_a_story_names_the_corrections_that_followed_and_what_came_back(run_folder: Path) -> None:
    first = read_records(run_folder / "episodes")[0][0]
    at = first.failures[0].stamp_ns
    uses = (
        CorrectionUse("guidance", (1, 2, 3, 4, 5), 0.5, 3, at, at + 10),
        CorrectionUse("residual", (), 0.5, 1, at, at + 20),
    )
    corrected = dataclasses.replace(first, corrections=uses)
    again = dataclasses.replace(first, episode_id=9)
    story = failure_stories((corrected, again), None, None)[0]
    assert "guidance in 3 chunks (case #1, #2, #3, #4 and others); residual in 1 chunk." in story.memory[1]
    assert "drop came back in 1" in story.memory[3]
    alone = failure_stories((first,), None, None)[0]
    assert "no further episode" in alone.memory[3] and "no answer of the memory" in alone.memory[0]


def test_ticks_and_modes_out_of_the_ordinary_are_told(tmp_path: Path, run_folder: Path, digest: Digest) -> None:
    commands = [
        dataclasses.replace(item, mode=2 if 40 <= index < 60 else item.mode)
        for index, item in enumerate(digest.commands)
        if index != 70
    ]
    odd = Digest(commands=commands, windows=digest.windows)
    timing = loop_timing(odd)
    whole = loop_timing(digest)
    assert timing is not None and whole is not None
    assert timing.missing == whole.missing + 1
    assert [span.mode for span in mode_spans(odd)] == ["follow", "hold", "follow"]
    run = dataclasses.replace(open_run(run_folder), digest=odd)
    text = page(run, (), None, None)
    assert "var(--warn)" in text and ">hold<" in text
