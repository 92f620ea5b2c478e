# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The flow policy, as a process, fed with embeddings, states and corrections."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters

from flow_rag_vla.bringup import topics
from flow_rag_vla.core.action import ACTION_DIM, CorrectionMode
from flow_rag_vla.core.state import RobotState
from flow_rag_vla.data.message_values import action_chunk
from flow_rag_vla.nodes import conversions, qos
from flow_rag_vla.nodes.conversions import floats
from flow_rag_vla.nodes.flow_policy import FlowPolicyNode
from flow_rag_vla.nodes.remote_policy import RemotePolicyNode
from flow_rag_vla.nodes.stamps import to_ns, to_stamp
from flow_rag_vla.policy.checkpoint import EncoderIdentity
from flow_rag_vla.policy.policy import FlowPolicy
from flow_rag_vla_interfaces import msg


class Bench:
    """The policy process between a fake camera side and a listening controller side, all over real topics."""

    def __init__(self, node, ros_node, spin_until):
        self.node, self._node, self._spin_until = node, ros_node, spin_until
        self.encoder: EncoderIdentity = FlowPolicy.load().config.encoder
        self.chunks: list[msg.ActionChunk] = []
        ros_node.create_subscription(msg.ActionChunk, topics.ACTION_CHUNK, self.chunks.append, qos.PLAN)
        self._embedding = ros_node.create_publisher(msg.Embedding, topics.EMBEDDING, qos.SENSOR)
        self._state = ros_node.create_publisher(msg.RobotState, topics.ROBOT_STATE, qos.SENSOR)
        self._correction = ros_node.create_publisher(msg.Correction, topics.CORRECTION, qos.PLAN)
        self._episode = ros_node.create_publisher(msg.EpisodeStatus, topics.EPISODE_STATUS, qos.STATE)
        everyone = (self._embedding, self._state, self._correction, self._episode)
        spin_until(lambda: all(item.get_subscription_count() for item in everyone), 60, "the policy")

    def now(self) -> int:
        return to_ns(self._node.get_clock().now().to_msg())

    def start_episode(self, instruction="put the red cube in the bin", number=1):
        running = msg.EpisodeStatus.STATE_RUNNING
        self._episode.publish(msg.EpisodeStatus(episode_id=number, state=running, instruction=instruction))

    def send_state(self, stamp_ns, **changes):
        state = RobotState(stamp_ns, np.array([0.45, 0.0, 0.2]), np.array([1.0, 0.0, 0.0, 0.0]))
        message = conversions.robot_state_message(state, [f"joint{i}" for i in range(7)], "base_link")
        for name, value in changes.items():
            setattr(message, name, value)
        self._state.publish(message)

    def send_embedding(self, stamp_ns, **changes):
        values = np.random.default_rng(5).normal(size=self.encoder.dimension)
        message = msg.Embedding(encoder=self.encoder.name, revision=self.encoder.revision)
        message.values = floats(values / np.linalg.norm(values))
        message.header.stamp = to_stamp(stamp_ns)
        for name, value in changes.items():
            setattr(message, name, value)
        self._embedding.publish(message)

    def send_correction(self, stamp_ns, mode, case=7):
        message = msg.Correction(correction=int(mode), strength=1.0, horizon=16)
        message.header.stamp = to_stamp(stamp_ns)
        message.cases = [msg.RetrievedCase(case_id=case)]
        message.actions = floats(np.zeros((16, ACTION_DIM)))
        self._correction.publish(message)

    def observe(self, correction=None, **state):
        """Send one observation with its state, and the memory's answer if there is one."""
        stamp = self.now()
        self.send_state(stamp, **state)
        if correction is not None:
            self.send_correction(stamp, correction)
        self.send_embedding(stamp)

    def first_chunk(self):
        """Observe until a chunk comes: topics need a moment until everybody has found everybody."""

        def tried():
            self.observe()
            return self.chunks

        self._spin_until(tried, what="a chunk")
        return self.chunks[-1]


@pytest.fixture
def bench(start_node, ros_node, spin_until, request):
    return Bench(start_node("flow_policy", **getattr(request, "param", {})), ros_node, spin_until)


def test_a_chunk_carries_the_stamp_of_its_observation_and_its_provenance(bench):
    bench.start_episode()
    message = bench.first_chunk()
    chunk = action_chunk(message)
    assert chunk.horizon == 16 and chunk.task == "pick_and_place"
    assert chunk.provenance.observation_stamp_ns == chunk.stamp_ns == to_ns(message.header.stamp)
    assert chunk.provenance.policy_revision == FlowPolicy.load().revision
    assert chunk.uncertainty is not None and chunk.uncertainty.shape == (16,)
    assert np.array_equal(chunk.actions[:, 3:5], np.zeros((16, 2))), "roll and pitch are locked"
    assert bench.node.stop() == 0 and "Traceback" not in bench.node.text


def test_without_an_answer_of_the_memory_the_chunk_says_that_it_timed_out(bench):
    bench.start_episode()
    assert bench.first_chunk().provenance.correction == CorrectionMode.TIMEOUT


@pytest.mark.parametrize("bench", [{"correction_budget": 0.1}], indirect=True)
def test_a_correction_in_time_shapes_the_chunk_and_is_named_in_it(bench, spin_until):
    bench.start_episode()
    bench.first_chunk()

    def guided():
        bench.observe(correction=CorrectionMode.GUIDANCE)
        return [item for item in bench.chunks if item.provenance.correction == CorrectionMode.GUIDANCE]

    spin_until(guided, what="a guided chunk")
    assert list(guided()[0].provenance.case_ids) == [7]


@pytest.mark.parametrize("bench", [{"correction_budget": 0.1}], indirect=True)
def test_how_much_of_a_correction_acts_is_changed_while_it_runs(bench, spin_until, call):
    bench.start_episode()
    bench.first_chunk()

    def change(value):
        parameter = Parameter(
            name="guidance_strength", value=ParameterValue(type=ParameterType.PARAMETER_DOUBLE, double_value=value)
        )
        return call(SetParameters, "flow_policy/set_parameters", parameters=[parameter]).results[0]

    def guided(strength):
        def come():
            bench.observe(correction=CorrectionMode.GUIDANCE)
            return abs(bench.chunks[-1].provenance.correction_strength - strength) < 1e-6

        return come

    spin_until(guided(1.0), what="a guided chunk")
    assert change(0.25).successful
    spin_until(guided(0.25), what="a chunk that is guided less")
    refused = change(1.5)
    assert not refused.successful and "range" in refused.reason


@pytest.mark.parametrize("kind", [FlowPolicyNode, RemotePolicyNode])
def test_an_episode_that_is_slowed_down_while_it_runs_is_planned_at_the_slower_pace(kind):
    running = msg.EpisodeStatus.STATE_RUNNING

    def told(number, slowdown):
        status = msg.EpisodeStatus(episode_id=number, state=running, instruction="open the drawer", slowdown=slowdown)
        kind._on_episode(node, status)
        return node._pace

    node = SimpleNamespace(_episode=(0, 0), _pace=1.0)
    assert [told(1, 0.0), told(1, 0.5), told(1, 0.25)] == [1.0, 0.5, 0.5], "nobody makes it faster again"
    assert told(1, math.nan) == 0.5
    assert told(2, 0.25) == 0.75, "another episode"


def test_no_chunk_is_made_while_no_episode_runs(bench, spin_until):
    for _ in range(5):
        bench.observe()
    bench.start_episode()
    first = bench.first_chunk()
    assert first.chunk_id == 1


def test_bad_input_is_named_and_the_next_good_observation_makes_a_chunk(bench, spin_until):
    bench.start_episode()
    bench.first_chunk()
    wrong = floats(np.ones(3))
    nan = floats(np.full(bench.encoder.dimension, np.nan))
    attempts = (
        (lambda stamp: bench.send_embedding(stamp, values=wrong), "dimension 3"),
        (lambda stamp: bench.send_embedding(stamp, values=nan), "expected 1"),
        (lambda stamp: bench.send_embedding(stamp, revision="000000000000"), "trained on embeddings of"),
        (lambda stamp: bench.send_embedding(stamp - 10_000_000_000), "s old, limit"),
        (lambda stamp: bench.send_embedding(stamp + 10_000_000_000), "in the future"),
        (lambda _stamp: bench.observe(gripper_width=math.nan), "not finite"),
        (lambda _stamp: bench.start_episode("make coffee", number=2), "'make coffee' is not understood"),
    )
    for send, said in attempts:

        def complained(send=send, said=said):
            send(bench.now())
            return bench.node.said(said)

        spin_until(complained, what=f"the complaint {said!r}")
    bench.start_episode(number=3)
    bench.chunks.clear()
    bench.first_chunk()
    assert "Traceback" not in bench.node.text


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"steps": 0}, "steps: 0 is outside"),
        ({"solver": "rk4"}, "not one of euler, heun"),
    ],
)
def test_a_parameter_that_makes_no_sense_ends_the_node_with_one_line(start_node, parameters, said):
    node = start_node("flow_policy", **parameters)
    assert node.wait(90) == 2
    assert said in node.text and "Traceback" not in node.text
