# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Replays give what was decided live, bit for bit, and say so where they cannot."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from flow_rag_vla.control.ladder import Mode
from flow_rag_vla.core.action import CorrectionMode
from flow_rag_vla.data.bag import Bag, BagError
from flow_rag_vla.evaluate.decisions.comparison import compare
from flow_rag_vla.evaluate.decisions.difference_page import as_json, difference_page, summary_lines
from flow_rag_vla.evaluate.decisions.fingerprint import chunk_bytes, command_bytes, correction_bytes
from flow_rag_vla.evaluate.decisions.inputs import STATE_REACH_NS
from flow_rag_vla.evaluate.decisions.memory import LivingMemory, MemoryReplaySettings, NoMemory, RecordedMemory
from flow_rag_vla.evaluate.decisions.reading import read_recording
from flow_rag_vla.evaluate.decisions.replay import PolicySettings, Replay, recorded_decisions
from flow_rag_vla.evaluate.decisions.variants import VariantError, keep_snapshot, open_variant
from flow_rag_vla.memory.store import FailureStore, StoreError

MODES = [
    CorrectionMode.GUIDANCE,
    CorrectionMode.NEGATIVE,
    CorrectionMode.RESIDUAL,
    CorrectionMode.HOLD,
    CorrectionMode.SHIFT,
]


@pytest.mark.parametrize(("seed", "mode"), [(index, mode) for index, mode in enumerate(MODES)])
def test_a_replay_decides_as_the_live_run_did_tick_by_tick(perform, policy, seed, mode):
    made = perform(120, seed=seed, mode=mode)
    recording = read_recording(made.bag)
    assert recording.exact and not recording.problems
    decisions = Replay(recording, RecordedMemory(recording), policy).run()
    assert [command_bytes(tick.command) for tick in decisions.ticks] == [command_bytes(c) for c in made.commands]
    found = [decisions.chunks[chunk.stamp_ns].chunk for chunk in made.chunks]
    assert [chunk_bytes(chunk) for chunk in found] == [chunk_bytes(chunk) for chunk in made.chunks]
    answers = [decisions.answers[item.stamp_ns].correction for item in made.corrections]
    assert [correction_bytes(item) for item in answers] == [correction_bytes(item) for item in made.corrections]
    assert sum(command.mode is Mode.FOLLOW for command in made.commands) > 40
    assert not decisions.notes


def test_a_slowed_episode_comes_again_too(perform, policy):
    made = perform(120, seed=3, slowdown=0.3)
    recording = read_recording(made.bag)
    decisions = Replay(recording, RecordedMemory(recording), policy).run()
    assert [command_bytes(tick.command) for tick in decisions.ticks] == [command_bytes(c) for c in made.commands]
    found = [decisions.chunks[chunk.stamp_ns].chunk for chunk in made.chunks]
    assert [chunk_bytes(chunk) for chunk in found] == [chunk_bytes(chunk) for chunk in made.chunks]
    followed = [c for c in made.commands if c.mode is Mode.FOLLOW]
    assert len(followed) > 40 and all(c.pace == pytest.approx(0.7) for c in followed) and not decisions.notes


def test_two_replays_are_equal_and_another_seed_is_not(perform, policy):
    recording = read_recording(perform(80).bag)
    digests = [Replay(recording, RecordedMemory(recording), policy).run().digest() for _ in range(2)]
    assert digests[0] == digests[1] == recorded_decisions(recording).digest()
    other = Replay(recording, RecordedMemory(recording), policy, policy_settings=PolicySettings(seed=7)).run()
    assert other.digest()["chunks"] != digests[0]["chunks"]
    assert other.digest()["corrections"] == digests[0]["corrections"]


def test_an_emergency_stop_and_its_release_by_service_come_again(perform, policy):
    made = perform(110, stop_at=60)
    assert Mode.EMERGENCY_STOP in {command.mode for command in made.commands}
    # The stop ended the episode, whatever is said of it after the release.
    assert made.commands[-1].mode is Mode.IDLE and "ended by an emergency stop" in made.commands[-1].reason_text
    recording = read_recording(made.bag)
    decisions = Replay(recording, RecordedMemory(recording), policy).run()
    assert [command_bytes(tick.command) for tick in decisions.ticks] == [command_bytes(c) for c in made.commands]


def test_a_recording_that_begins_in_the_middle_goes_on_from_its_first_command(perform, policy):
    made = perform(120)
    recording = read_recording(made.bag)
    start = recording.ticks[60].log_ns
    part = Replay(recording, RecordedMemory(recording), None).run(start_ns=start)
    assert [tick.command.tick for tick in part.ticks] == list(range(61, 121))
    # Messages round the last step to single precision, so the target is as it was to a nanometre, not to the bit.
    for replayed, live in zip(part.ticks, made.commands[60:], strict=True):
        command = replayed.command
        assert (command.mode, command.chunk_id, command.chunk_index) == (live.mode, live.chunk_id, live.chunk_index)
        assert command.target is not None and live.target is not None
        assert np.allclose(command.target.position, live.target.position, rtol=0.0, atol=1e-7)


def test_where_two_variants_part_and_which_case_did_it(perform, policy):
    recording = read_recording(perform(120).bag)
    off = Replay(recording, NoMemory(), policy, name="off").run()
    on = Replay(recording, RecordedMemory(recording), policy, name="on").run()
    comparison = compare(off, on)
    assert comparison.differences and not comparison.equal
    assert set(comparison.cases) == {41}
    first = comparison.stretches[0]
    assert any(cause.variant == "on" and cause.mode is CorrectionMode.GUIDANCE for cause in first.causes)
    # Nothing differs before the memory first acted.
    acted = min(item.stamp_ns for stretch in comparison.stretches for item in stretch.causes)
    assert first.first.stamp_ns >= acted
    text = "\n".join(summary_lines(comparison))
    assert "off and on part at" in text and "case 41" in text
    page = difference_page(comparison, {"bag": "x"}, ["a <note>"])
    assert "a &lt;note&gt;" in page and "guidance" in page
    content = as_json(comparison, {})
    assert content["cases"] == {"41": comparison.cases[41]} and len(content["differences"]) == len(
        comparison.differences
    )
    assert compare(on, on).equal


def test_a_residual_of_the_controller_is_named_as_the_cause(perform, policy):
    recording = read_recording(perform(120, mode=CorrectionMode.RESIDUAL).bag)
    off = Replay(recording, NoMemory(), policy, name="off").run()
    on = Replay(recording, RecordedMemory(recording), policy, name="on").run()
    comparison = compare(off, on)
    causes = {cause.mode for stretch in comparison.stretches for cause in stretch.causes}
    assert CorrectionMode.RESIDUAL in causes


def test_variants_of_different_recordings_are_not_compared(perform, policy):
    one, other = (read_recording(perform(count).bag) for count in (20, 30))
    with pytest.raises(ValueError, match="not of the same recording"):
        compare(recorded_decisions(one), recorded_decisions(other))


def test_a_bag_without_tick_records_is_played_and_says_that_it_guesses(perform, policy):
    made = perform(100, inputs=False)
    recording = read_recording(made.bag)
    assert not recording.exact
    decisions = Replay(recording, RecordedMemory(recording), policy).run()
    assert [tick.command.tick for tick in decisions.ticks] == [command.tick for command in made.commands]
    chunks = [chunk_bytes(decisions.chunks[chunk.stamp_ns].chunk) for chunk in made.chunks]
    assert chunks == [chunk_bytes(chunk) for chunk in made.chunks]
    modes = [a.command.mode is b.mode for a, b in zip(decisions.ticks, made.commands, strict=True)]
    assert np.mean(modes) > 0.8


def test_a_chunk_made_with_a_later_state_than_the_nearest_is_found_out(perform, policy):
    made = perform(80, other_state=0.3)
    recording = read_recording(made.bag)
    decisions = Replay(recording, RecordedMemory(recording), policy).run()
    chunks = [chunk_bytes(decisions.chunks[chunk.stamp_ns].chunk) for chunk in made.chunks]
    assert chunks == [chunk_bytes(chunk) for chunk in made.chunks]
    nearest = {state.stamp_ns for state in recording.states_used.values() if state is not None}
    assert nearest != set(recording.states_used), "each chunk used the state of its own stamp: nothing was tested"


def test_a_chunk_that_says_by_which_state_it_was_made_is_made_by_that(perform, policy):
    made = perform(80, other_state=0.5, says_states=True)
    recording = read_recording(made.bag)
    said = [item.value.provenance.state_stamp_ns for item in recording.chunks]
    assert said == [chunk.provenance.state_stamp_ns for chunk in made.chunks]
    assert min(stamp - chunk.stamp_ns for stamp, chunk in zip(said, made.chunks, strict=True)) < -STATE_REACH_NS
    decisions = Replay(recording, RecordedMemory(recording), policy).run()
    chunks = [chunk_bytes(decisions.chunks[chunk.stamp_ns].chunk) for chunk in made.chunks]
    assert chunks == [chunk_bytes(chunk) for chunk in made.chunks]
    assert not recording.states_used, "nothing was searched"


def test_an_episode_that_came_late_to_the_recorder_is_known_where_it_was_known(perform, policy):
    made = perform(80, late_statuses=True)
    recording = read_recording(made.bag)
    first = next(item for item in recording.statuses if item.running)
    assert first.log_ns <= recording.chunks[0].log_ns
    decisions = Replay(recording, RecordedMemory(recording), policy).run()
    chunks = [chunk_bytes(decisions.chunks[chunk.stamp_ns].chunk) for chunk in made.chunks]
    assert chunks == [chunk_bytes(chunk) for chunk in made.chunks] and not decisions.notes


def test_a_chunk_whose_state_was_written_after_it_is_made_again(perform, policy):
    made = perform(80, late_states=0.5)
    recording = read_recording(made.bag)
    decisions = Replay(recording, RecordedMemory(recording), policy).run()
    chunks = [chunk_bytes(decisions.chunks[chunk.stamp_ns].chunk) for chunk in made.chunks]
    assert chunks == [chunk_bytes(chunk) for chunk in made.chunks]
    logs = {state.stamp_ns: log_ns for log_ns, state in recording.states}
    late = [item for item in recording.chunks if logs[item.stamp_ns] > item.log_ns]
    assert 0 < len(late) < len(made.chunks)


def test_states_that_the_recorder_lost_are_counted(perform, policy):
    made = perform(80, lose_states=0.2)
    recording = read_recording(made.bag)
    assert any("robot states that the controller took are not in the bag" in item for item in recording.problems)
    decisions = Replay(recording, RecordedMemory(recording), policy).run()
    assert len(decisions.ticks) == 80


def test_a_namespace_is_found_and_a_wrong_one_named(perform, policy):
    made = perform(40, namespace="left")
    assert len(read_recording(made.bag).ticks) == 40
    assert len(read_recording(made.bag, "left").ticks) == 40
    with pytest.raises(BagError, match="in namespace right"):
        read_recording(made.bag, "right")


def test_a_bag_cut_off_in_the_middle_is_replayed_to_its_last_whole_message(perform, policy, tmp_path):
    made = perform(100)
    source = next(made.bag.glob("*.mcap"))
    target = tmp_path / "cut.mcap"
    data = source.read_bytes()
    target.write_bytes(data[: int(len(data) * 0.7)])
    bag = Bag(target)
    if not bag.topics.get("/command"):
        pytest.skip("all of this bag is one chunk")
    recording = read_recording(target)
    assert "breaks off" in recording.problems[0]
    decisions = Replay(recording, RecordedMemory(recording), policy).run()
    whole = [command_bytes(c) for c in made.commands]
    assert [command_bytes(tick.command) for tick in decisions.ticks] == whole[: len(decisions.ticks)]


def test_a_living_memory_leaves_the_database_as_it_was(perform, policy, tmp_path):
    recording = read_recording(perform(60).bag)
    with pytest.raises(StoreError, match="no failure memory at"):
        LivingMemory(MemoryReplaySettings(), tmp_path / "none.db")
    with LivingMemory(MemoryReplaySettings()) as memory:
        made = Replay(recording, memory, policy, name="empty").run()
    assert all(answer.correction.mode is CorrectionMode.NONE for answer in made.answers.values())


def test_variants_are_known_by_name_and_a_wrong_one_is_refused(perform, policy, tmp_path):
    made = perform(30)
    run = tmp_path / "run"
    run.mkdir()
    shutil.copytree(made.bag, run / "bag")
    recording = read_recording(run)
    for name, words in (("off", "no memory"), ("recorded", "gave live"), ("empty", "starts empty")):
        with open_variant(name, recording, MemoryReplaySettings()) as (_, meaning):
            assert words in meaning
    with open_variant("on", recording, MemoryReplaySettings(), str(run / "failure_memory.db")) as (_, meaning):
        assert "from empty on" in meaning
    with open_variant("on", recording, MemoryReplaySettings(), str(Path("/elsewhere/lab.db"))) as (_, meaning):
        assert "not on record" in meaning
    FailureStore(tmp_path / "lab.db").close()
    keep_snapshot(tmp_path / "lab.db", run)
    with open_variant("on", recording, MemoryReplaySettings(), "/elsewhere/lab.db") as (_, meaning):
        assert "memory_before.db on" in meaning
    with pytest.raises(VariantError, match="off"), open_variant("magic", recording, MemoryReplaySettings()):
        pass
