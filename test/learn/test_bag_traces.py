# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Calibrating from recorded bags: what is read, what is left out, what is refused; and the command itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from flow_rag_vla.cli.main import app
from flow_rag_vla.failure.calibration_file import load_calibration
from flow_rag_vla.learn.bag_traces import BagTraces, BagTracesError, bag_folders, read_bag_traces

from ..failure.synthetic import make_trace, successes
from .bag_builder import CANCELED, BagBuilder


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["calibrate", *(str(item) for item in arguments)], env={"COLUMNS": "200"})


def record(folder: Path, traces, **options) -> Path:
    builder = BagBuilder(folder / "bag", **options)
    for number, trace in enumerate(traces, start=1):
        builder.episode(number, trace)
    builder.close()
    return folder


def test_episodes_come_out_of_a_bag_with_their_frames_chunks_and_outcome(tmp_path):
    wanted = [make_trace(1), make_trace(2, "stuck")]
    record(tmp_path, wanted)
    read = BagTraces()
    read_bag_traces(tmp_path / "bag", read)
    assert read.origin is not None
    assert (read.origin.encoder_revision, read.origin.policy_revision) == ("0123456789ab", "abcdef012345")
    assert [trace.info.success for trace in read.traces] == [True, False]
    for trace, original in zip(read.traces, wanted, strict=True):
        assert len(trace.frames) == len(original.frames)
        assert all(frame.chunk is not None for frame in trace.frames)
        assert trace.info.duration == pytest.approx(original.info.duration)
        assert [frame.elapsed for frame in trace.frames] == pytest.approx(
            [frame.elapsed for frame in original.frames], abs=1e-6
        )
    assert read.traces[1].info.timeout_at < read.traces[1].info.duration  # a rule saw that it stood still


def test_canceled_and_taken_over_episodes_are_left_out_and_broken_messages_passed_over(tmp_path):
    builder = BagBuilder(tmp_path / "bag")
    builder.episode(1, make_trace(1))
    builder.episode(2, make_trace(2), end=CANCELED)
    builder.episode(3, make_trace(3), mode=6)
    builder.episode(4, make_trace(4), broken=True)
    builder.close()
    read = BagTraces()
    read_bag_traces(tmp_path / "bag", read)
    assert [trace.info.seed for trace in read.traces] == [1, 4]
    assert read.skipped == {"it was canceled or cut short": 1, "a person took over": 1}
    assert sum(read.refused.values()) == 1


def test_bags_of_two_encoders_are_refused(tmp_path):
    record(tmp_path / "one", [make_trace(1)])
    record(tmp_path / "two", [make_trace(2)], encoder="ffffffffffff")
    read = BagTraces()
    read_bag_traces(tmp_path / "one" / "bag", read)
    with pytest.raises(BagTracesError, match=r"ffffffffffff.*0123456789ab"):
        read_bag_traces(tmp_path / "two" / "bag", read)


def test_a_bag_without_embeddings_is_refused_by_topic(tmp_path):
    record(tmp_path, [make_trace(1)], without=("/embedding",))
    with pytest.raises(BagTracesError, match="lacks the topics embedding"):
        read_bag_traces(tmp_path / "bag", BagTraces())


def test_runs_and_folders_of_runs_lead_to_their_bags(tmp_path):
    record(tmp_path / "runs" / "a", [make_trace(1)])
    record(tmp_path / "runs" / "b", [make_trace(2)])
    assert bag_folders([tmp_path / "runs"]) == [tmp_path / "runs" / "a" / "bag", tmp_path / "runs" / "b" / "bag"]
    with pytest.raises(BagTracesError, match=r"no \.mcap"):
        bag_folders([tmp_path / "nowhere"])


def test_the_command_turns_recorded_runs_into_a_calibration(tmp_path):
    record(tmp_path / "runs" / "a", successes(36))
    output = tmp_path / "made.safetensors"
    result = run(tmp_path / "runs", "--output", output, "--rate", "0.1")
    assert result.exit_code == 0, result.output
    made = load_calibration(output)
    assert made.revision in result.output
    assert made.episodes == {"push": 36}
    assert (made.rate, made.probe) == (0.1, None)
    assert made.origin.policy_revision == "abcdef012345"
    assert str(output.resolve()) in result.output
    # The same command then counts its alarms on other runs, by nominal rate and by task.
    record(tmp_path / "later" / "a", [*successes(12, first=4000), make_trace(800, "astray"), make_trace(801, "astray")])
    checked = run(tmp_path / "later", "--check", output)
    assert checked.exit_code == 0, checked.output
    assert "10.0% (its own)" in checked.output
    (task,) = [line for line in checked.output.splitlines() if line.startswith("│ push")]
    cells = [cell.strip() for cell in task.strip("│").split("│")]
    assert (cells[1], cells[3], cells[4]) == ("12", "2", "2")
    assert int(cells[2]) <= 5
    alone = run("--simulate", "--check", output)
    assert alone.exit_code == 2 and "--check" in alone.output


def test_one_unusable_bag_among_many_is_named_and_left_out(tmp_path):
    record(tmp_path / "runs" / "a", successes(36))
    record(tmp_path / "runs" / "b", [make_trace(1)], without=("/embedding",))
    (tmp_path / "runs" / "c").mkdir()
    (tmp_path / "runs" / "c" / "cut.mcap").write_bytes(b"no bag")
    result = run(tmp_path / "runs", "--output", tmp_path / "made.safetensors", "--rate", "0.1")
    assert result.exit_code == 0, result.output
    assert "lacks the topics embedding" in result.output
    assert "cut.mcap" in result.output or "runs/c" in result.output
    assert load_calibration(tmp_path / "made.safetensors").episodes == {"push": 36}


def test_a_slow_episode_counts_its_time_as_one_at_full_speed(tmp_path):
    trace = make_trace(1)
    found = []
    for slowdown in (0.0, 0.5):
        record(tmp_path / str(slowdown), [trace], slowdown=slowdown)
        into = BagTraces()
        read_bag_traces(bag_folders([tmp_path / str(slowdown)])[0], into)
        found.append(into.traces[0])
    usual, slow = found
    assert slow.info.duration == pytest.approx(0.5 * usual.info.duration)
    assert len(slow.frames) == len(usual.frames)
    assert slow.frames[-1].elapsed == pytest.approx(0.5 * usual.frames[-1].elapsed)


def test_the_command_keeps_what_a_calibration_has_learned_and_refuses_that_of_another_policy(tmp_path):
    record(tmp_path / "runs" / "a", successes(36))
    record(tmp_path / "runs" / "b", successes(36, first=2000))
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    assert run(tmp_path / "runs" / "a", "--output", first, "--rate", "0.1").exit_code == 0
    result = run(tmp_path / "runs" / "b", "--keep", first, "--output", second, "--rate", "0.1")
    assert result.exit_code == 0, result.output
    old, new = load_calibration(first), load_calibration(second)
    np.testing.assert_array_equal(old.space.directions, new.space.directions)
    assert (new.origin, len(new.peaks), new.episodes) == (old.origin, 36, {"push": 36})
    assert new.source == "1 bags; scores and probe: 1 bags"
    for option in ("--keep", "--check"):
        other = run(tmp_path / "runs", option, "shipped", "--output", tmp_path / "third.safetensors")
        assert other.exit_code == 2
        assert "0123456789ab" in other.output
    assert not (tmp_path / "third.safetensors").exists()


def test_the_command_refuses_too_few_episodes_and_a_request_that_names_nothing(tmp_path):
    record(tmp_path / "runs" / "a", successes(5))
    few = run(tmp_path / "runs", "--output", tmp_path / "made.safetensors")
    assert few.exit_code == 2
    assert "at least 30" in few.output
    assert not (tmp_path / "made.safetensors").exists()
    nothing = run()
    assert nothing.exit_code == 2
    assert "--simulate" in nothing.output


def test_a_rate_too_low_for_the_episodes_is_said(tmp_path):
    record(tmp_path / "runs" / "a", successes(36))
    result = run(tmp_path / "runs", "--output", tmp_path / "made.safetensors", "--rate", "0.01")
    assert result.exit_code == 0, result.output
    assert "no alarm at 1.0%" in result.output
