# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Whatever comes in, in whatever order: one command a tick, finite, inside every limit."""

from __future__ import annotations

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from flow_rag_vla.control.integrator import Clamp, MotionLimits
from flow_rag_vla.control.ladder import Mode
from flow_rag_vla.control.loop import ControlLoop, Episode
from flow_rag_vla.core.action import TICK_NS, ActionChunk, CorrectionMode, Provenance
from flow_rag_vla.core.correction import Correction
from flow_rag_vla.core.state import RobotState

MS = 1_000_000
LIMITS = MotionLimits()
wild = st.one_of(st.floats(allow_nan=True, allow_infinity=True, width=32), st.floats(-1, 1, width=32))
shifts = st.one_of(st.integers(-300, 100), st.sampled_from([-(10**7), -700, 0, 51, 10**6])).map(lambda ms: ms * MS)


def array(values: list[float], shape: tuple[int, ...]) -> np.ndarray:
    return np.resize(np.array(values, dtype=np.float32), shape)


class LoopMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = ControlLoop()
        self.now, self.steady = 1_700_000_000_000_000_000, 10**12
        self.position = np.array([0.5, 0.0, 0.3])
        self.before = None
        self.step = np.zeros(3)
        self.anchors = 0
        self.ticks = 0
        self.fresh = 9
        self.stopped = None

    @rule(
        shift=shifts,
        values=st.lists(wild, min_size=1, max_size=21),
        shape=st.sampled_from([(16, 7), (2, 7), (0, 7), (3, 6)]),
    )
    def any_chunk(self, shift, values, shape):
        chunk = ActionChunk(len(values), self.now + shift, array(values, shape), "push", committed=len(values) % 5)
        self.loop.offer_chunk(chunk, self.now, self.steady)

    @rule(values=st.lists(st.floats(-0.0625, 0.0625, width=32), min_size=1, max_size=21), age=st.integers(0, 150))
    def good_chunk(self, values, age):
        provenance = Provenance(self.now, "flow")
        chunk = ActionChunk(1, self.now - age * MS, array(values, (16, 7)), "push", provenance=provenance)
        self.loop.offer_chunk(chunk, self.now, self.steady)

    @rule(shift=shifts, values=st.lists(wild, min_size=13, max_size=13))
    def any_state(self, shift, values):
        state = RobotState(
            self.now + shift,
            np.array(values[:3]),
            np.array(values[3:7]),
            gripper_width=values[7],
            gripper_effort=values[8],
            wrench=np.array(values[:6]),
        )
        self.loop.offer_state(state, self.now, self.steady)

    @rule(place=st.tuples(st.floats(-2, 2), st.floats(-2, 2), st.floats(-1, 2)), moved=st.booleans())
    def good_state(self, place, moved):
        if moved:
            self.position = np.array(place)
        for _ in range(2):
            state = RobotState(self.now, self.position.copy(), np.array([1.0, 0.0, 0.0, 0.0]))
            self.loop.offer_state(state, self.now, self.steady)

    @rule(
        mode=st.sampled_from(list(CorrectionMode)),
        strength=wild,
        values=st.lists(wild, min_size=1, max_size=7),
        rows=st.integers(0, 20),
        newest=st.booleans(),
        failed=st.booleans(),
    )
    def any_correction(self, mode, strength, values, rows, newest, failed):
        held = self.loop.queue.held
        stamp = held.chunk.stamp_ns if held is not None and newest else self.now
        actions = array(values, (rows, 7))
        correction = Correction(stamp, mode, strength, actions, actions[None] if failed else None, (1,))
        self.loop.offer_correction(correction, self.now, self.steady)

    @rule(
        identity=st.integers(0, 3),
        running=st.booleans(),
        resetting=st.booleans(),
        shift=shifts,
        remaining=st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True), st.floats(-1, 10)),
    )
    def any_episode(self, identity, running, resetting, shift, remaining):
        self.told(Episode(identity, running, resetting and not running, "push", self.now + shift, remaining))

    @rule(
        count=st.integers(1, 30),
        values=st.lists(st.floats(-0.0625, 0.0625, width=32), min_size=1, max_size=21),
        age=st.integers(0, 150),
    )
    def all_is_well(self, count, values, age):
        self.loop.reset_emergency_stop(self.steady)
        self.fresh += 1
        self.told(Episode(self.fresh, True, False, "push", self.now - 1000 * MS))
        self.ticked(1)
        for index in range(count):
            self.good_state(self.position, False)
            if index % 8 == 0:
                self.good_chunk(values, age)
            self.ticked(1)

    @rule(reset=st.booleans())
    def emergency(self, reset):
        if reset:
            self.loop.reset_emergency_stop(self.steady)
        else:
            self.loop.emergency_stop("test", self.steady)
            if self.loop.episode.running:
                self.stopped = self.loop.episode.episode_id

    def told(self, episode: Episode) -> None:
        if episode.running and self.loop.ladder.emergency:
            self.stopped = episode.episode_id
        elif not episode.running or episode.episode_id != self.stopped:
            self.stopped = None
        self.loop.set_episode(episode, self.now, self.steady)

    @rule(jump=st.integers(-(10**13), 10**13))
    def clock_jump(self, jump):
        self.now += jump

    @rule(count=st.integers(1, 30), late=st.integers(0, 80), follow=st.booleans())
    def tick(self, count, late, follow):
        self.now, self.steady = self.now + late * MS, self.steady + late * MS
        self.ticked(count, follow)

    def ticked(self, count: int, follow: bool = True) -> None:
        for _ in range(count):
            self.now, self.steady = self.now + TICK_NS, self.steady + TICK_NS
            command = self.loop.tick(self.now, self.steady)
            self.ticks += 1
            assert command.tick == self.ticks
            self.check(command)
            if follow and command.target is not None:
                self.position = command.target.position

    def check(self, command) -> None:
        assert command.action.shape == (7,) and np.isfinite(command.action).all()
        assert np.isfinite(command.observation_age_ms) and command.mode in Mode
        assert (command.mode is Mode.FOLLOW) == (command.reason_text == "")
        assert command.mode is not Mode.FOLLOW or self.stopped is None, "an emergency stop ended this episode"
        target = command.target
        if target is None:
            assert self.before is None and command.mode is not Mode.FOLLOW
            return
        assert np.isfinite(target.position).all() and abs(np.linalg.norm(target.orientation) - 1.0) < 1e-9
        assert 0.0 <= target.gripper_width <= LIMITS.gripper_width
        anchored = self.loop.anchors != self.anchors
        self.anchors = self.loop.anchors
        start = self.loop.measurement.state.position if anchored else self.before
        last = np.zeros(3) if anchored else self.step
        step = target.position - start
        assert np.linalg.norm(step) <= LIMITS.translation + 1e-9
        if not command.clamps & (Clamp.WORKSPACE | Clamp.TRACKING):
            assert np.linalg.norm(step - last) <= LIMITS.translation_change + 1e-9
        low, high = np.array(LIMITS.workspace_low), np.array(LIMITS.workspace_high)
        assert (target.position >= np.minimum(low, start) - 1e-12).all()
        assert (target.position <= np.maximum(high, start) + 1e-12).all()
        self.before, self.step = target.position, step

    @invariant()
    def nothing_went_wrong_inside(self):
        assert self.loop.internal_errors == 0, self.loop.last_error


LoopMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
TestLoopInvariants = LoopMachine.TestCase
