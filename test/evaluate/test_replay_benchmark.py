# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The figures of a recorded run: what they are made of, and what they are held to."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from flow_rag_vla.core.action import TICK_NS
from flow_rag_vla.evaluate.benchmarks.replay import (
    Latency,
    Launch,
    RecorderCost,
    ReplayFigures,
    Speed,
    latency_of,
    launch_of,
)
from flow_rag_vla.evaluate.report.digest import Command, Digest

SPEED = Speed(40.0, 1.0, 3.0, 4.0, 1600, 400, 390, True, 1.0)
COST = RecorderCost(0.03, 0.9, 0.02, 0.5, 0.51)
TRIGGERED = Latency("triggered", np.full(100, 12.0), np.full(100, 24.0), np.full(100, 24.0), 0)
FREE = Latency("free", np.full(100, 12.0), np.linspace(12.0, 37.0, 100), np.linspace(0.0, 25.0, 100), 0)
LAUNCH = Launch(4.0, 8.0, 2.0)
FIGURES = ReplayFigures(SPEED, COST, (TRIGGERED, FREE), (36.0, 40.0), LAUNCH)


def command(tick: int, stamp_ns: int, mode: int) -> Command:
    return Command(stamp_ns + 1_000_000, stamp_ns, tick, mode, 0, 0.0, 0, ())


def test_each_figure_stands_beside_its_baseline():
    assert SPEED.times == pytest.approx(10.0)
    assert SPEED.times_with_pictures == pytest.approx(5.0)
    assert SPEED.ratio_to_reading == pytest.approx(4.0)
    assert COST.of_graph == pytest.approx(1 / 30)
    assert COST.added_to_others == pytest.approx(0.01)
    assert TRIGGERED.ratio == pytest.approx(1.0)
    assert not FIGURES.missed


@pytest.mark.parametrize(
    ("change", "missed"),
    [
        ({"speed": dataclasses.replace(SPEED, decide_s=10.0)}, "replay"),
        ({"recorder": dataclasses.replace(COST, recorder=0.06)}, "recorder"),
        ({"latencies": (dataclasses.replace(TRIGGERED, to_command=np.full(100, 26.0)), FREE)}, "picture to command"),
        ({"latencies": (dataclasses.replace(TRIGGERED, lost=1), FREE)}, "picture to command"),
        ({"launch": dataclasses.replace(LAUNCH, followed=11.0)}, "first command"),
    ],
)
def test_each_target_can_be_missed_and_is_named(change, missed):
    figures = dataclasses.replace(FIGURES, **change)
    assert figures.missed == (missed,)
    assert f"missed: {missed}" in figures.table()
    assert json.loads(figures.as_json())["missed"] == [missed]


def test_a_camera_that_the_loop_knows_nothing_of_is_told_but_not_judged():
    assert float(np.percentile(FREE.to_command, 99)) > 25.0 and not FIGURES.missed
    assert "p99 36.8" in FIGURES.table()


def test_a_replay_that_is_not_repeated_is_told_loudly():
    table = dataclasses.replace(FIGURES, speed=dataclasses.replace(SPEED, repeated=False)).table()
    assert "twice the same bytes: NO" in table


def test_the_first_command_is_reckoned_from_ticks_that_the_recorder_missed():
    started = 1_790_000_000_000_000_000
    seen = started + 6_000_000_000
    commands = [command(41, seen, 0), command(42, seen + TICK_NS, 2), command(80, seen + 2_000_000_000, 1)]
    launch = launch_of(Digest(commands=commands), started, 2.0)
    assert launch.first == pytest.approx(5.0) and launch.followed == pytest.approx(8.0)


def test_a_run_that_followed_nothing_has_no_first_command():
    with pytest.raises(ValueError, match="follows a chunk"):
        launch_of(Digest(commands=[command(1, 10, 2)]), 0, 1.0)


def test_pictures_that_nothing_followed_are_no_measurement():
    with pytest.raises(ValueError, match="nothing was measured of to_command"):
        latency_of("free", {"to_chunk": [1.0], "to_command": [], "to_tick": [1.0], "lost": 3})
    found = latency_of("free", {"to_chunk": [1.0], "to_command": [2.0, 4.0], "to_tick": [1.0], "lost": 3})
    assert found.to_command.tolist() == [2.0, 4.0] and found.lost == 3
