# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The remote policy, as a process, between a policy server and a controller: good answers act, bad ones are named."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import Image

from flow_rag_vla.bringup import topics
from flow_rag_vla.core.action import CorrectionMode
from flow_rag_vla.core.state import RobotState
from flow_rag_vla.data.message_values import action_chunk
from flow_rag_vla.nodes import conversions, qos
from flow_rag_vla.nodes.remote_policy import RemotePolicyNode
from flow_rag_vla.nodes.stamps import to_ns, to_stamp
from flow_rag_vla_interfaces import msg

sys.path.insert(0, str(Path(__file__).parent.parent / "policy" / "remote"))

from own_policy import OwnPolicy
from serving import serving

Command = msg.ControlCommand


def forward(_request):
    """Ten steps of LIBERO's kind: a fifth of 0.05 m along x each, the gripper open."""
    return {"actions": np.tile(np.float32([0.2, 0, 0, 0, 0, 0, -1]), (10, 1))}


def test_a_controller_that_names_no_pose_yet_does_not_lead_the_plan_from_the_base():
    def commands(*lengths):
        given = []
        for length in lengths:
            command = Command()
            command.target.position.x, command.target.orientation.w = (0.5, 1.0) if length else (0.0, 0.0)
            given.append((command, 0))
        return SimpleNamespace(_commands=SimpleNamespace(take=lambda: given))

    assert RemotePolicyNode._target(commands()) is None and RemotePolicyNode._target(commands(0)) is None
    position, orientation = RemotePolicyNode._target(commands(1, 0))
    assert position.tolist() == [0.5, 0.0, 0.0] and orientation.tolist() == [0.0, 0.0, 0.0, 1.0]


class Bench:
    """Cameras, a robot that stands still and an episode, for the remote policy and a controller."""

    def __init__(self, ros_node, spin_until):
        self._node, self._spin_until = ros_node, spin_until
        self.chunks: list[msg.ActionChunk] = []
        self.commands: list[Command] = []
        self.health: dict[str, tuple[bytes, str]] = {}
        ros_node.create_subscription(msg.ActionChunk, topics.ACTION_CHUNK, self.chunks.append, qos.PLAN)
        ros_node.create_subscription(Command, topics.COMMAND, self.commands.append, qos.NEWEST)
        ros_node.create_subscription(DiagnosticArray, topics.DIAGNOSTICS, self._on_health, 10)
        self._images = [
            ros_node.create_publisher(Image, topic, qos.SENSOR) for topic in (topics.FRONT_IMAGE, topics.WRIST_IMAGE)
        ]
        self._state = ros_node.create_publisher(msg.RobotState, topics.ROBOT_STATE, qos.SENSOR)
        self._episode = ros_node.create_publisher(msg.EpisodeStatus, topics.EPISODE_STATUS, qos.STATE)
        self._correction = ros_node.create_publisher(msg.Correction, topics.CORRECTION, qos.PLAN)
        self.answer_of_memory = CorrectionMode.NONE

    def find(self):
        wanted = {self._images[0]: 1, self._images[1]: 1, self._correction: 1, self._state: 2, self._episode: 2}
        self._spin_until(
            lambda: all(publisher.get_subscription_count() >= count for publisher, count in wanted.items()),
            what="the nodes",
        )

    def start_episode(self, number=1):
        self._episode.publish(
            msg.EpisodeStatus(
                episode_id=number,
                state=msg.EpisodeStatus.STATE_RUNNING,
                task="pick_and_place",
                instruction="put the red cube in the bin",
                timeout=600.0,
            )
        )

    def observe(self):
        stamp = to_ns(self._node.get_clock().now().to_msg())
        state = RobotState(stamp, np.array([0.45, 0.0, 0.2]), np.array([1.0, 0.0, 0.0, 0.0]))
        correction = msg.Correction(correction=int(self.answer_of_memory), strength=1.0)
        correction.header.stamp = to_stamp(stamp)
        self._correction.publish(correction)
        names = [f"joint{i}" for i in range(7)]
        self._state.publish(conversions.robot_state_message(state, names, "base_link"))
        for publisher in self._images:
            publisher.publish(conversions.image_message(np.zeros((24, 32, 3), dtype=np.uint8), stamp, "camera"))

    def observing(self, predicate, what):
        """Observe until the predicate holds."""

        def tried():
            self.observe()
            return predicate()

        self._spin_until(tried, what=what)

    def says(self, words):
        return lambda: words in self.health.get("remote_policy", (b"", ""))[1]

    def _on_health(self, message):
        for status in message.status:
            self.health[status.name] = status.level, status.message


def test_an_answer_becomes_a_chunk_and_one_that_cannot_be_followed_is_named_and_runs_dry(
    start_node, ros_node, spin_until
):
    with serving(forward, {"name": "pi0"}) as server:
        bench = Bench(ros_node, spin_until)
        node = start_node(
            "remote_policy", server=server.url, contract="libero", answer_timeout=1.0, first_answer_timeout=1.0
        )
        start_node("controller")
        bench.find()
        bench.observing(lambda: node.said("the server answers: 10 steps"), "the request that warms up")
        assert server.requests[0]["prompt"] == "hold still" and not bench.chunks
        bench.start_episode()
        bench.observing(lambda: any(one.mode == Command.MODE_FOLLOW for one in bench.commands), "a robot that follows")
        message = bench.chunks[0]
        chunk = action_chunk(message)
        assert chunk.horizon == 20 and chunk.task == "pick_and_place" and message.inference_ms > 0
        assert chunk.provenance.policy == "openpi:libero" and len(chunk.provenance.policy_revision) == 12
        assert chunk.provenance.observation_stamp_ns == chunk.stamp_ns
        assert (chunk.provenance.correction, chunk.provenance.noise_seed) == (CorrectionMode.NONE, 0)
        assert np.allclose(chunk.actions, np.tile(np.float32([0.005, 0, 0, 0, 0, 0, 1]), (20, 1)), atol=1e-6)
        assert server.requests[-1]["prompt"] == "put the red cube in the bin"
        assert server.requests[-1]["observation/image"].shape == (224, 224, 3)

        never = threading.Event()
        nan = np.full((10, 7), np.nan)
        for infer, said in (
            (lambda _request: {"actions": nan}, "actions[0, 0] of the answer is nan"),
            (lambda _request: {"actions": np.zeros((10, 8))}, "shape (10, 8)"),
            (lambda _request: b"\xc1", "no message"),
            (lambda _request: never.wait(60), "no answer within 1 s"),
            (lambda request: request["observation/joint_position"], "KeyError: 'observation/joint_position'"),
        ):
            server.infer = infer
            bench.observing(bench.says(said), said)
            level = bench.health["remote_policy"][0]
            assert level == b"\x02", said
        count = len(bench.chunks)
        bench.observing(lambda: bench.commands[-1].mode == Command.MODE_STOP, "a robot that stands")
        why = bench.commands[-1].reason
        assert why in (Command.REASON_CHUNK_EXHAUSTED, Command.REASON_CHUNK_TOO_OLD), bench.commands[-1].reason_text
        assert len(bench.chunks) == count, "nothing that was refused was published"
        never.set()
        server.infer = forward
        bench.observing(lambda: bench.commands[-1].mode == Command.MODE_FOLLOW, "a robot that follows again")
        # Of the memory's answers those act that are the controller's; the others need a policy that can be guided.
        bench.answer_of_memory = CorrectionMode.HOLD
        bench.observing(
            lambda: bench.commands[-1].reason == Command.REASON_MEMORY_HOLD, "a robot that the memory holds"
        )
        bench.answer_of_memory = CorrectionMode.GUIDANCE
        bench.observing(lambda: bench.commands[-1].mode == Command.MODE_FOLLOW, "a robot that follows unguided")
        assert bench.chunks[-1].provenance.correction == CorrectionMode.NONE
    bench.observing(bench.says("no policy server at"), "the loss of the server")
    assert node.stop() == 0 and "Traceback" not in node.text


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"contract": "octo"}, "name one of droid, libero, plain"),
        ({"server": "10.0.0.5"}, "expected ws://host:port"),
        ({"contract": "droid"}, "parameter robot_profile: it is empty"),
    ],
)
def test_what_cannot_be_used_leaves_the_node_unconfigured_and_saying_why(start_node, spin_until, parameters, said):
    node = start_node("remote_policy", **parameters)
    spin_until(lambda: node.said(said), what=said)
    assert node.alive and "Traceback" not in node.text


def test_joint_velocities_are_taken_where_the_arms_kinematics_are_known(start_node, spin_until):
    node = start_node("remote_policy", contract="droid", robot_profile="franka")
    spin_until(lambda: node.said("configured in"), what="a node with kinematics")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_whole_graph_does_an_episode_by_a_policy_behind_the_protocol(tmp_path):
    own = OwnPolicy()
    with serving(own, {"name": "own"}) as server:
        runs = tmp_path / "runs"
        command = [sys.executable, "-m", "flow_rag_vla.cli.main", "sim", "--policy-server", server.url, "-n", "1"]
        command += ["--policy-preset", "plain", "--no-record", "--no-report", "--runs", str(runs)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=os.environ, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1/1  pick_and_place" in done.stdout and "put the " in " ".join(own.prompts)
    (folder,) = runs.iterdir()
    (record,) = (folder / "episodes").glob("*.json")
    loop = json.loads(record.read_text())["loop"]
    assert loop["chunks_accepted"] > 0, loop
