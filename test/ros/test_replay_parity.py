# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Real nodes, stepped by the clock, recorded by the real recorder: a replay of the bag decides what they decided."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import numpy as np
import pytest
from rosgraph_msgs.msg import Clock

from flow_rag_vla.bringup import topics
from flow_rag_vla.bringup.replay_settings import replay_settings
from flow_rag_vla.core.action import TICK_NS, CorrectionMode
from flow_rag_vla.core.correction import EARLY
from flow_rag_vla.core.failure import FailureType
from flow_rag_vla.core.goal import Goal
from flow_rag_vla.core.state import RobotState
from flow_rag_vla.data.bag import Bag
from flow_rag_vla.evaluate.decisions.comparison import compare
from flow_rag_vla.evaluate.decisions.memory import LivingMemory, NoMemory, RecordedMemory
from flow_rag_vla.evaluate.decisions.reading import read_recording
from flow_rag_vla.evaluate.decisions.replay import Replay, recorded_decisions
from flow_rag_vla.memory.case import EncoderStamp, FailureCase
from flow_rag_vla.memory.store import FailureStore
from flow_rag_vla.nodes import qos
from flow_rag_vla.nodes.conversions import floats, robot_state_message
from flow_rag_vla.nodes.stamps import to_ns, to_stamp
from flow_rag_vla.policy.observation import proprioception
from flow_rag_vla.policy.policy import FlowPolicy
from flow_rag_vla.policy.situation import DIMENSION, NAME, SituationKey
from flow_rag_vla_interfaces.msg import ActionChunk, ControlCommand, Correction, Embedding, EpisodeStatus, TickInputs
from flow_rag_vla_interfaces.msg import RobotState as RobotStateMessage

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

GOAL = Goal("pick_and_place", "red_cube")
FIRST_TICK = 400
"""Ten seconds: a sim clock of zero means "not there yet"."""


class Stepper:
    """The test as robot, camera, encoder and clock: nothing moves on until what was asked for has been answered."""

    def __init__(self, node, spin_until, policy: FlowPolicy, follows: float) -> None:
        # Share of the way to its target that the robot goes in a tick.
        self._follows = follows
        self._spin, self._encoder = spin_until, policy.config.encoder
        self._rng = np.random.default_rng(5)
        self._clock = node.create_publisher(Clock, topics.CLOCK, 10)
        self._states = node.create_publisher(RobotStateMessage, topics.ROBOT_STATE, qos.SENSOR)
        self._embeddings = node.create_publisher(Embedding, topics.EMBEDDING, qos.SENSOR)
        self._status = node.create_publisher(EpisodeStatus, topics.EPISODE_STATUS, qos.STATE)
        self.commands: list[ControlCommand] = []
        self.chunks: set[int] = set()
        self.answers: set[int] = set()
        self.ticked: set[int] = set()
        node.create_subscription(TickInputs, topics.TICK_INPUTS, lambda m: self.ticked.add(to_ns(m.header.stamp)), 100)
        node.create_subscription(ControlCommand, topics.COMMAND, self.commands.append, qos.command_profile(0.025))
        node.create_subscription(ActionChunk, topics.ACTION_CHUNK, lambda m: self.chunks.add(to_ns(m.header.stamp)), 50)
        node.create_subscription(Correction, topics.CORRECTION, lambda m: self.answers.add(to_ns(m.header.stamp)), 50)
        values = self._rng.normal(size=(3, policy.embedding_dimension)).astype(np.float32)
        self.situations = values / np.linalg.norm(values, axis=1, keepdims=True)
        self.position = np.array([0.45, 0.0, 0.25])
        self.publishers = (self._clock, self._states, self._embeddings, self._status)

    def tick(self, number: int) -> None:
        now = number * TICK_NS
        state = RobotState(now, self.position, np.array([1.0, 0.0, 0.0, 0.0]))
        self._states.publish(robot_state_message(state, [f"joint_{index}" for index in range(7)], topics.BASE_FRAME))
        if number % 4 == 0:
            self._tell(number, now)
        before = len(self.commands)
        self._clock.publish(Clock(clock=to_stamp(now)))
        self._spin(lambda: now in self.ticked or len(self.commands) > before, 60, f"tick {number}")
        # A command expires 50 ms after it was sent, here too: a robot that slept meanwhile stays where it is.
        deadline = time.monotonic() + 1.0
        self._spin(lambda: len(self.commands) > before or time.monotonic() > deadline)
        target = self.commands[-1].target.position
        self.position = self.position + self._follows * (np.array([target.x, target.y, target.z]) - self.position)
        if number >= FIRST_TICK + 20 and number % 4 == 0:
            self._observe(number, now)

    def _tell(self, number: int, now: int) -> None:
        running, reset = number >= FIRST_TICK + 16, number >= FIRST_TICK + 8
        message = EpisodeStatus(
            episode_id=int(reset), task=GOAL.task, instruction=GOAL.instruction, phase="reach" if running else "",
            elapsed=max(0, number - FIRST_TICK - 16) * 0.025, timeout=12.0,
            state=2 if running else 1 if reset else 0,
        )  # fmt: skip
        message.header.stamp = to_stamp(now)
        self._status.publish(message)

    def _observe(self, number: int, now: int) -> None:
        message = Embedding(encoder=self._encoder.name, revision=self._encoder.revision)
        message.header.stamp = to_stamp(now)
        message.values = floats(self.situations[number // 12 % 3])
        self._embeddings.publish(message)
        self._spin(lambda: now in self.chunks and now in self.answers, 60, f"the chunk of tick {number}")


def seeded_memory(path: Path, policy: FlowPolicy, situation: np.ndarray, kind: str) -> None:
    """A memory that knows what to do in one of the three situations."""
    encoder = policy.config.encoder
    stamp = EncoderStamp(encoder.name, encoder.revision, len(situation))
    if kind == "situation":
        key = SituationKey.load()
        state = RobotState(0, np.array([0.45, 0.0, 0.25]), np.array([1.0, 0.0, 0.0, 0.0]))
        situation = key(situation, proprioception(state), GOAL)
        stamp = EncoderStamp(NAME, key.revision, DIMENSION)
    actions = np.zeros((policy.horizon, 7), dtype=np.float32)
    actions[:, 1], actions[:, 6] = 0.008, 1.0
    store = FailureStore(path)
    store.add(
        [
            FailureCase(
                failure_type=FailureType.GRASP_FAILURE, task=GOAL.task, phase="reach", encoder=stamp.encoder,
                encoder_revision=stamp.revision, embedding=situation, failed_actions=-actions, correction=actions,
                correction_source="human", proprioception=np.zeros(0, dtype=np.float32), created_ns=1,
            )
        ]
    )  # fmt: skip
    store.close()


@pytest.mark.parametrize(("kind", "corrector"), [("situation", "consensus"), ("embedding", "dispatch")])
def test_live_and_replayed_decisions_are_the_same_bytes(
    start_node, ros_node, spin_until, known_by, tmp_path, kind, corrector
):
    policy = FlowPolicy.load()
    # A situation is also where the hand is: a robot that rests comes back to the remembered one.
    stepper = Stepper(ros_node, spin_until, policy, 0.0 if kind == "situation" else 0.5)
    database = tmp_path / "cases.db"
    seeded_memory(database, policy, stepper.situations[0], kind)
    before = tmp_path / "before.db"
    before.write_bytes(database.read_bytes())
    recorder = start_node("recorder", bag=str(tmp_path / "bag"), discovery_period=0.1, minimum_free=0.0)
    start_node("controller", use_sim_time=True)
    start_node("flow_policy", use_sim_time=True, device="cpu", correction_budget=0.1)
    start_node(
        "failure_memory", use_sim_time=True, database=str(database), device="cpu", calibrate=False, key=kind,
        corrector=corrector, consensus_mass=0.001, consensus_sharpness=1.0,
    )  # fmt: skip
    counts = (2, 4, 3, 4)
    spin_until(
        lambda: all(
            publisher.get_subscription_count() >= count
            for publisher, count in zip(stepper.publishers, counts, strict=True)
        ),
        90,
        "every node's subscriptions",
    )
    spin_until(
        lambda: all(
            any(info.node_name == "recorder" for info in ros_node.get_subscriptions_info_by_topic(f"/{name}"))
            for name in (topics.COMMAND, topics.TICK_INPUTS, topics.ACTION_CHUNK, topics.CORRECTION)
        ),
        60,
        "the recorder's subscriptions",
    )
    for node in ("recorder", "controller", "flow_policy", "failure_memory"):
        known_by(node)
    for number in range(FIRST_TICK, FIRST_TICK + 120):
        stepper.tick(number)
    recorder.stop(signal.SIGINT)

    assert "/parameter_events" in Bag(tmp_path / "bag").topics
    recording = read_recording(tmp_path / "bag")
    assert recording.exact and not recording.problems
    settings = replay_settings(recording)
    assert not settings.notes and settings.database == str(database)
    live = recorded_decisions(recording)
    assert len(live.chunks) >= 24 and len(live.ticks) >= 100

    def replay(source, name):
        return Replay(
            recording, source, policy, name=name, policy_settings=settings.policy, loop_settings=settings.loop
        ).run()

    again = [replay(RecordedMemory(recording), "recorded") for _ in range(2)]
    assert not again[0].notes
    assert again[0].digest() == again[1].digest() == live.digest()
    with LivingMemory(settings.memory, before) as memory:
        assert replay(memory, "on").digest() == live.digest()
    comparison = compare(replay(NoMemory(), "off"), again[0])
    assert comparison.differences and set(comparison.cases) == {1}
    modes = {made.chunk.provenance.correction for made in live.chunks.values()}
    assert CorrectionMode.GUIDANCE in modes
    told = {answer.value.until for answer in recording.corrections if answer.value is not None and answer.value.mode}
    assert told == {1.0 if corrector == "consensus" else EARLY}
