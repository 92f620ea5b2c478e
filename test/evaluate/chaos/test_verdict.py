# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Whose a gap is."""

from __future__ import annotations

import dataclasses
import json

from flow_rag_vla.evaluate.chaos.journal import Tail, holds, of, stalls
from flow_rag_vla.evaluate.chaos.stretch import Stretch
from flow_rag_vla.evaluate.chaos.verdict import (
    DOWN,
    LOOP,
    MACHINE,
    ProcessorWaits,
    arm_violations,
    judge_gap,
    stream_violations,
    why_not_taken_up,
)
from flow_rag_vla.evaluate.chaos.watch import EMERGENCY_STOP, FOLLOW, PERIOD_NS, CommandWatch, Gap

MS = 1_000_000
TIMEOUT = 50 * MS


def judge(gap, stalls=(), waits=None, down=(), holds=(), still=(), stolen=0):
    one = Gap(gap[0] * MS, gap[1] * MS)
    return judge_gap(one, stalls, waits or ProcessorWaits(), down, holds, TIMEOUT, still, stolen * MS)


def stretch(start, end):
    return Stretch(start * MS, end * MS)


def waited(*readings):
    waits = ProcessorWaits()
    for at, pid, value in readings:
        waits.add(at * MS, pid, value * MS)
    return waits


def test_a_gap_without_an_excuse_is_the_loops_and_wrong_unless_it_was_held():
    verdict = judge((1000, 1080))
    assert (verdict.owner, verdict.held, verdict.wrong) == (LOOP, False, True)
    verdict = judge((1000, 1080), holds=[stretch(1070, 1082)])
    assert (verdict.owner, verdict.held, verdict.wrong) == (LOOP, True, False)


def violations_of(watch, samples, asked=None, holds=()):
    """What a run counts of commands, as its monitor writes it down. asked: when the emergency stop was, steady time."""
    lines, gaps = [], []
    for sample in samples:
        if asked is not None and sample.sent_ns >= asked:
            watch.stop_asked(asked)
        found, gap = watch.take(sample)
        lines += [{"ns": one.at_ns, "what": "violation", "kind": one.kind, "text": one.text} for one in found]
        if gap is not None:
            gaps.append(judge_gap(gap, (), ProcessorWaits(), (), holds, TIMEOUT))
    return [(one["kind"], one["round"]) for one in stream_violations(lines, gaps, lambda at_ns: 7)]


def later(samples, place, by_ns):
    """The commands from a place on leave later."""
    return [*samples[:place], *(dataclasses.replace(one, sent_ns=one.sent_ns + by_ns) for one in samples[place:])]


def test_a_run_counts_a_gap_of_more_than_two_periods_that_nobody_held_and_none_just_within(watch, stream):
    assert violations_of(watch, later(stream(8), 4, PERIOD_NS)) == []
    wrong = later(stream(8, start_ns=3_000_000_000, first=9), 4, PERIOD_NS + 1)
    assert violations_of(CommandWatch(watch.limits), wrong) == [("gap", 7)]
    held = Stretch(wrong[3].sent_ns + PERIOD_NS, wrong[4].sent_ns)
    assert violations_of(CommandWatch(watch.limits), wrong, holds=[held]) == []


def test_a_run_counts_commands_that_pass_an_emergency_stop_by_more_than_a_period(watch, stream):
    samples = stream(6)
    asked = samples[2].sent_ns - 3 * MS
    obeys = {"mode": EMERGENCY_STOP, "reason": 8, "reason_text": "asked for"}
    obeyed = [*samples[:3], *(dataclasses.replace(one, **obeys) for one in samples[3:])]
    assert violations_of(watch, obeyed, asked) == [] and watch.stop_delays_ms == [28.0]
    late = [*samples[:4], *obeyed[4:]]
    assert violations_of(CommandWatch(watch.limits), late, asked) == [("emergency stop", 7)]
    assert violations_of(CommandWatch(watch.limits), samples, asked) == [("emergency stop", 7)] * 3


def test_what_an_empty_timer_lost_as_well_is_the_machines():
    assert judge((1000, 1080), stalls=[stretch(1020, 1085)]).owner == MACHINE
    assert judge((1000, 1200), stalls=[stretch(1020, 1060)]).owner == LOOP, "it explains a part only"
    assert judge((1000, 1080), stalls=[stretch(3000, 3200)]).owner == LOOP, "it was at another time"


def test_what_the_loop_spent_ready_to_run_is_the_machines():
    waits = waited((990, 7, 5), (1010, 7, 10), (1090, 7, 45))
    verdict = judge((1000, 1080), waits=waits)
    assert (verdict.owner, verdict.waited_ms) == (MACHINE, 40.0)
    assert judge((1000, 1100), waits=waits).owner == LOOP, "40 ms do not explain 100"
    other = waited((990, 7, 5), (1090, 8, 45))
    assert judge((1000, 1080), waits=other).owner == LOOP, "the readings are of two processes"


def test_a_gap_in_which_the_whole_machine_stood_still_is_the_machines_and_only_if_it_explains_the_gap():
    verdict = judge((1000, 1400), still=[stretch(1010, 1200), stretch(1210, 1390)])
    assert (verdict.owner, verdict.wrong, verdict.still_ms) == (MACHINE, False, 370.0)
    assert judge((1000, 1400), still=[stretch(1010, 1200)]).owner == LOOP
    assert judge((1000, 1400), still=[stretch(2010, 2390)]).owner == LOOP, "it was at another time"
    assert "370 ms nearly nothing ran" in verdict.text


def test_what_the_host_took_of_the_loops_processor_explains_as_much_and_stalls_are_not_added_up():
    assert judge((1000, 1400), stolen=360).owner == MACHINE
    waits = waited((990, 7, 0), (1410, 7, 200))
    verdict = judge((1000, 1400), waits=waits, still=[stretch(1000, 1200)], stolen=200)
    assert verdict.owner == LOOP, "three counts of the same 200 ms are not 600"


def test_the_loops_processor_is_known_only_while_it_stays_and_its_states_are_counted():
    waits = ProcessorWaits()
    for at, processor, state in ((990, 1, "S"), (1010, 1, "R"), (1020, 1, "D"), (1030, 1, "D"), (1090, 1, "S")):
        waits.add(at * MS, 7, 0, processor, state)
    assert waits.processor(stretch(1000, 1080)) == 1
    verdict = judge((1000, 1080), waits=waits)
    assert verdict.owner == LOOP and dict(verdict.states) == {"D": 2, "R": 1} and "D 2, R 1" in verdict.text
    waits.add(1100 * MS, 7, 0, 0, "S")
    assert waits.processor(stretch(1000, 1095)) is None


def test_a_controller_that_is_down_must_be_held_for_by_name_once_the_timeout_is_over():
    down = [stretch(1010, 1500)]
    assert judge((1000, 1500), down=down).wrong
    verdict = judge((1000, 1500), down=down, holds=[stretch(1060, 1510)])
    assert (verdict.owner, verdict.held, verdict.wrong) == (DOWN, True, False)
    assert not judge((1000, 1090), down=down).wrong, "no hold is due yet"
    assert judge((1000, 1500), down=[stretch(1700, 1800)]).owner == LOOP


def test_the_watchers_files_are_read_while_they_are_written(tmp_path):
    path = tmp_path / "monitor.jsonl"
    tail = Tail(path)
    assert tail.read() == []
    lines = [
        {"ns": 10, "what": "hold", "text": "NO_COMMAND: silence"},
        {"ns": 15, "what": "count", "commands": 3},
        {"ns": 20, "what": "hold", "text": ""},
        {"ns": 30, "what": "hold", "text": "JUMP: too far"},
        {"ns": 40, "what": "hold", "text": "NO_COMMAND: silence"},
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    path.write_text(text[:60], encoding="utf-8")
    first = tail.read()
    path.write_text(text, encoding="utf-8")
    assert first + tail.read() == lines == tail.lines
    assert of(lines, "count") == [lines[1]]
    assert holds(lines, "NO_COMMAND", 100) == [Stretch(10, 20), Stretch(40, 100)]
    assert stalls([{"start_ns": 1, "end_ns": 4}]) == [Stretch(1, 4)]


def test_a_held_arm_that_was_put_elsewhere_is_no_violation_and_one_that_follows_there_is():
    scene = {"ns": 5000 * MS, "what": "scene", "number": 2}

    def named(kind, at, mode):
        line = {"ns": at * MS, "what": "violation", "kind": kind, "text": "", "mode": mode}
        return [one["kind"] for one in stream_violations([scene, line], (), lambda at_ns: 1)]

    hold = 3
    assert named("velocity", 5020, hold) == named("acceleration", 4900, hold) == []
    assert named("velocity", 5020, FOLLOW) == ["velocity"], "no command jumps because of it"
    assert named("velocity", 7000, hold) == ["velocity"], "long after"
    assert named("workspace", 5020, hold) == ["workspace"], "every other limit holds as ever"
    line = {"ns": 5020 * MS, "what": "violation", "kind": "velocity", "text": "", "mode": hold}
    assert len(stream_violations([line], (), lambda at_ns: 1)) == 1, "on an arm that nobody puts anywhere"


def test_what_breaks_the_arms_limits_is_named_unless_the_arm_itself_was_stopped():
    counts = [(10, 0), (20, 0), (30, 3), (40, 3), (50, 5)]
    lines = [{"ns": at * MS, "what": "arm violations", "count": count} for at, count in counts]
    found = arm_violations(lines, (), lambda at_ns: at_ns // (10 * MS))
    assert [(one["kind"], one["round"]) for one in found] == [("arm", 3), ("arm", 5)] and "refused 2" in found[1][
        "text"
    ]
    stopped = [Stretch(25 * MS, 29 * MS)]
    assert arm_violations(lines, stopped, lambda at_ns: 0) == [], "its queue is read as the next round begins"
    late = [*lines, {"ns": 530 * MS, "what": "arm violations", "count": 6}]
    assert [one["round"] for one in arm_violations(late, stopped, lambda at_ns: at_ns // (10 * MS))] == [53]


def test_an_episode_went_on_only_if_the_new_manager_or_whoever_asked_says_so():
    assert why_not_taken_up(4, 4, None) == ""
    assert why_not_taken_up(4, 0, ("success", "done")) == "" and why_not_taken_up(4, None, ("failure", "late")) == ""
    # What the one that was killed said last is no word of the new one's.
    assert why_not_taken_up(4, None, None) == "episode 4 did not go on: the new episode manager said nothing"
    assert "nothing was said of it" in why_not_taken_up(4, 0, None)
    assert "nothing was said of it" in why_not_taken_up(4, 5, None)
    assert why_not_taken_up(4, 0, ("aborted", "gone")) == "episode 4 did not go on: aborted, gone"
