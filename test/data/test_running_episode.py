# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The file of the running episode: what comes back of it, what is refused, and when an episode may be gone on with."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from flow_rag_vla.core.failure import Evidence
from flow_rag_vla.data.episode_record import CorrectionUse, FailureRecord, read_records
from flow_rag_vla.data.running_episode import (
    FILE,
    Asked,
    Course,
    Marks,
    Moment,
    RunningEpisode,
    RunningEpisodeError,
    absence,
    read_running,
    remove_leftovers,
    still_there,
    too_late,
    write_running,
)

S = 1_000_000_000
THEN = Moment("this boot", 1000 * S, 1_700_000_000 * S)
MARKS = Marks("aa", 400, "bb", 7, 6)
COURSE = Course(
    3, "push", "plain", 2**31, "push it", 2, 30.0, 17 * S, phases=(("reach", 17 * S), ("transport", 19 * S)),
    failures=(FailureRecord(1, "drop", 0.5, "reach", "rule", "fell", 1, 2, 0.1, (Evidence("w", 1.0, math.inf, "m"),)),),
    corrections=(CorrectionUse("guidance", (4, 2), 0.5, 3, 1, 2),), loop_before={"rate_hz": 40.0, "ticks": 3},
)  # fmt: skip
KEPT = RunningEpisode(THEN, Asked("0f" * 16, "push it", seed=5), MARKS, COURSE)


def later(seconds: float) -> Moment:
    return Moment(THEN.boot, THEN.steady_ns + int(seconds * S), THEN.stamp_ns + int(seconds * S))


def test_what_is_kept_comes_back(tmp_path: Path) -> None:
    path = tmp_path / FILE
    assert read_running(path) is None
    write_running(path, KEPT)
    read = read_running(path)
    assert read is not None and read.course is not None and COURSE.failures
    # JSON has no infinity: a threshold without bound comes back as not a number.
    assert math.isnan(read.course.failures[0].evidence[0].threshold)
    same = replace(COURSE, failures=read.course.failures)
    assert read == replace(KEPT, course=same)
    plain = replace(COURSE, failures=())
    for other in (replace(KEPT, course=None), replace(KEPT, course=plain, result_file="000003.json")):
        write_running(path, other, synced=False)
        assert read_running(path) == other
    assert not list(tmp_path.glob(".*")), "no temporary file is left"


def test_it_is_no_record_of_an_episode(tmp_path: Path) -> None:
    write_running(tmp_path / FILE, KEPT)
    assert read_records(tmp_path) == ((), ())


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.98])
def test_a_torn_file_is_refused_by_name(tmp_path: Path, share: float) -> None:
    path = tmp_path / FILE
    write_running(path, KEPT)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(RunningEpisodeError, match=FILE):
        read_running(path)


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_another_version_is_refused(tmp_path: Path, version: object) -> None:
    path = tmp_path / FILE
    write_running(path, KEPT)
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": version}))
    with pytest.raises(RunningEpisodeError, match=f"of format 1 but of {version!r}"):
        read_running(path)


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        ("asked", "goal_id", 7),
        ("asked", "seed", "5"),
        ("asked", "seed", True),
        ("asked", "seed", -1),
        ("course", "seed", 2**64),
        ("asked", "goal_id", "7f"),
        ("asked", "goal_id", "no hex at all, of thirty-two signs"),
        ("course", "episode_id", 0),
        ("course", "state", 3),
        ("course", "outcome", 0),
        ("moment", "steady_ns", None),
        ("marks", "wheels", 4),
        ("course", "timeout", "long"),
        ("course", "phases", [["reach"]]),
        ("course", "failures", [{"event_id": 1}]),
        ("course", "corrections", 5),
    ],
)
def test_a_value_that_makes_no_sense_is_refused(tmp_path: Path, part: str, name: str, value: object) -> None:
    path = tmp_path / FILE
    write_running(path, KEPT)
    content = json.loads(path.read_text())
    content[part][name] = value
    path.write_text(json.dumps(content))
    with pytest.raises(RunningEpisodeError, match="is damaged"):
        read_running(path)


def test_a_failed_write_leaves_the_file_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / FILE
    write_running(path, replace(KEPT, course=None))

    def fail(*_arguments: object, **_more: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", fail)
    with pytest.raises(OSError, match="No space"):
        write_running(path, KEPT)
    monkeypatch.undo()
    assert read_running(path) == replace(KEPT, course=None)


def test_what_a_killed_writer_left_is_taken_away_and_nothing_else(tmp_path: Path) -> None:
    write_running(tmp_path / FILE, KEPT)
    left, other = tmp_path / f".{FILE}.0123456789ab", tmp_path / ".other"
    left.touch()
    other.touch()
    remove_leftovers(tmp_path / FILE)
    assert not left.exists() and other.exists() and read_running(tmp_path / FILE) is not None


def test_an_episode_is_gone_on_with_only_soon() -> None:
    assert too_late(THEN, later(9.9), 10.0) == ""
    assert "gone for 10.5 s, longer than take_up_limit, 10 s" in too_late(THEN, later(10.5), 10.0)
    assert "take_up_limit is 0" in too_late(THEN, later(0.1), 0.0)


def test_a_system_clock_that_is_set_changes_nothing() -> None:
    for stamp_ns in (0, THEN.stamp_ns - 3600 * S, THEN.stamp_ns + 3600 * S):
        now = replace(later(2.0), stamp_ns=stamp_ns)
        assert too_late(THEN, now, 10.0) == "" and absence(THEN, now) == pytest.approx(2.0)


def test_a_steady_clock_that_ran_backwards_and_another_boot_are_refused() -> None:
    assert "steady clock ran backwards" in too_late(THEN, later(-0.001), 10.0)
    assert "started anew" in too_late(THEN, replace(later(1.0), boot="another"), 10.0)
    assert absence(THEN, later(-0.001)) is None


def test_the_present_moment_counts_on() -> None:
    first = Moment.now(5)
    second = Moment.now(5)
    assert first.boot == second.boot and second.steady_ns >= first.steady_ns and first.stamp_ns == 5


@pytest.mark.parametrize(
    ("seen", "simulated", "said"),
    [
        (Marks(), True, None),
        (replace(MARKS, scene=-1), True, None),
        (replace(MARKS, tick=-1), True, None),
        (replace(MARKS, tick=460), True, ""),
        (replace(MARKS, controller="cc"), True, "the controller was started anew"),
        (replace(MARKS, tick=399), True, "the controller was started anew"),
        (replace(MARKS, simulator="cc"), True, "the simulator was started anew"),
        (replace(MARKS, scene=8), True, "scene was reset"),
        (replace(MARKS, scene=1), True, "scene was reset"),
        # Over a real arm nobody shows a scene.
        (replace(MARKS, simulator="", scene=-1), False, ""),
        (replace(MARKS, controller="cc", scene=-1), False, "the controller was started anew"),
    ],
)
def test_the_world_must_be_the_one_of_before(seen: Marks, simulated: bool, said: str | None) -> None:
    found = still_there(MARKS, seen, simulated=simulated)
    assert found is None if said is None else (found == "" if not said else found is not None and said in found)


def test_an_episode_that_had_not_seen_its_scene_yet_waits_for_one_after_the_reset() -> None:
    kept = Marks("aa", 400, "", -1, 6)
    assert still_there(kept, Marks("aa", 401, "bb", 7), simulated=True) == ""
    assert "was reset" in str(still_there(kept, Marks("aa", 401, "bb", 6), simulated=True))
    of_one = replace(kept, simulator="bb")
    assert still_there(of_one, Marks("aa", 401, "bb", 7), simulated=True) == ""
    assert "simulator was started anew" in str(still_there(of_one, Marks("aa", 401, "cc", 1), simulated=True))


def test_without_a_controller_nothing_is_known_again() -> None:
    assert "no controller" in str(still_there(Marks(), MARKS, simulated=True))
