"""The failure detector as a process of its own, over its topics."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from flow_rag_vla.bringup import topics
from flow_rag_vla.core.action import TICK_NS
from flow_rag_vla.core.state import GRIPPER_MAX_WIDTH, RobotState
from flow_rag_vla.failure.classifier import ClassifierConfig, feature_size

DIMENSION = 8
REVISION = "0123456789ab"
START_NS = 1_000_000_000_000
GOOD = np.eye(DIMENSION, dtype=np.float32)[1]
BAD = np.eye(DIMENSION, dtype=np.float32)[0]


def write_classifier(folder: Path) -> Path:
    """Says failure exactly when the first number of the later embedding is large."""
    weight = np.zeros((1, feature_size(DIMENSION)), dtype=np.float32)
    weight[0, DIMENSION] = 10.0
    save_file({"weight0": weight, "bias0": np.array([-5.0], dtype=np.float32)}, folder / "weights.safetensors")
    config = ClassifierConfig("compact", REVISION, DIMENSION, 1.0, 0.8, 0.02)
    (folder / "config.json").write_text(json.dumps(config.to_json()))
    return folder


class Bench:
    """The detector's surroundings: robot, controller, episode manager, encoder, and who listens."""

    def __init__(self, node: Any, spin_until: Callable[..., None]) -> None:
        from flow_rag_vla.nodes import qos
        from flow_rag_vla_interfaces import msg

        self.msg, self.spin_until = msg, spin_until
        self.events: list[Any] = []
        self.scores: list[Any] = []
        self.health: list[Any] = []
        node.create_subscription(msg.FailureEvent, topics.FAILURE_EVENT, self.events.append, qos.EVENT)
        node.create_subscription(msg.FailureScore, topics.FAILURE_SCORE, self.scores.append, qos.SENSOR)
        from diagnostic_msgs.msg import DiagnosticArray

        node.create_subscription(DiagnosticArray, topics.DIAGNOSTICS, self._on_health, 10)
        # Reliable, so that a test's few messages all arrive.
        self.state = node.create_publisher(msg.RobotState, topics.ROBOT_STATE, qos.EVENT)
        self.embedding = node.create_publisher(msg.Embedding, topics.EMBEDDING, qos.EVENT)
        self.command = node.create_publisher(msg.ControlCommand, topics.COMMAND, qos.EVENT)
        self.status = node.create_publisher(msg.EpisodeStatus, topics.EPISODE_STATUS, qos.STATE)
        self.stamp_ns = START_NS
        self.sent = 0
        self.width, self.opening, self.force = GRIPPER_MAX_WIDTH, 1.0, 0.0
        self.effort = 0.0
        self.x = 0.4

    def _on_health(self, message: Any) -> None:
        self.health += [status for status in message.status if status.name == "failure_detector"]

    def figure(self, key: str) -> str:
        if not self.health:
            return ""
        return next((item.value for item in self.health[-1].values if item.key == key), "")

    def wait_for_node(self) -> None:
        publishers = (self.state, self.embedding, self.command, self.status)
        self.spin_until(
            lambda: self.health and all(item.get_subscription_count() == 1 for item in publishers), what="the node"
        )

    def episode(
        self, episode_id: int = 7, running: bool = True, instruction: str = "put the red cube in the bin"
    ) -> None:
        from flow_rag_vla.nodes.stamps import to_stamp

        status = self.msg.EpisodeStatus(episode_id=episode_id, task="pick_and_place", instruction=instruction)
        status.header.stamp = to_stamp(self.stamp_ns)
        kind = self.msg.EpisodeStatus
        status.state = kind.STATE_RUNNING if running else kind.STATE_SUCCEEDED
        self.status.publish(status)
        # Topics keep no order among each other: wait until this one has been seen.
        words = f"watching episode {episode_id}" if running else "no episode"
        self.health.clear()
        self.spin_until(lambda: self.health and words in self.health[-1].message, what=words)

    def tick(self, count: int = 1, broken: bool = False) -> None:
        """Send states and commands; the fingers follow at their own speed. Waits until the last was taken."""
        from flow_rag_vla.nodes.conversions import pose_message, robot_state_message
        from flow_rag_vla.nodes.stamps import to_stamp

        for _ in range(count):
            self.stamp_ns += TICK_NS
            goal = self.opening * GRIPPER_MAX_WIDTH
            self.width += float(np.clip(goal - self.width, -0.01, 0.01))
            self.x += 0.001
            position = np.array([self.x, 0.0, 0.2])
            down = np.array([1.0, 0.0, 0.0, 0.0])
            command = self.msg.ControlCommand(mode=self.msg.ControlCommand.MODE_FOLLOW, tick=self.sent)
            command.header.stamp = to_stamp(self.stamp_ns)
            command.target = pose_message(position, down)
            command.gripper_width = goal
            self.command.publish(command)
            wrench = np.array([self.force, 0, 0, 0, 0, 0], dtype=float)
            state = RobotState(
                self.stamp_ns,
                position,
                down,
                gripper_width=float("nan") if broken else self.width,
                gripper_effort=self.effort,
                wrench=wrench,
            )
            self.state.publish(robot_state_message(state, [f"joint{i}" for i in range(7)], topics.BASE_FRAME))
            self.sent += 1

    def see(self, values: np.ndarray, revision: str = REVISION) -> None:
        from flow_rag_vla.nodes.conversions import floats
        from flow_rag_vla.nodes.stamps import to_stamp

        message = self.msg.Embedding(encoder="compact", revision=revision, values=floats(values))
        message.header.stamp = to_stamp(self.stamp_ns)
        self.embedding.publish(message)


@pytest.fixture
def bench(ros_node: Any, spin_until: Callable[..., None]) -> Bench:
    return Bench(ros_node, spin_until)


def test_a_failure_is_published_once_with_its_evidence_and_only_while_an_episode_runs(bench, start_node):
    node = start_node("failure_detector", classifier="off")
    bench.wait_for_node()
    bench.opening = 0.0
    bench.tick(20)
    bench.opening, bench.width = 1.0, GRIPPER_MAX_WIDTH
    bench.episode(7)
    bench.tick(4)
    bench.opening = 0.0
    bench.tick(40)
    bench.spin_until(lambda: bench.events, what="the event")
    (event,) = bench.events
    assert (event.failure_type, event.episode_id, event.task) == (event.TYPE_GRASP_FAILURE, 7, "pick_and_place")
    assert event.detector == "grasp_failure"
    assert event.description
    assert {item.name for item in event.evidence} == {"gripper_width", "gripper_effort"}
    first = event.event_id
    bench.episode(7, running=False)
    bench.opening, bench.width = 1.0, GRIPPER_MAX_WIDTH
    bench.tick(40)
    bench.episode(8)
    bench.tick(4)
    bench.force = 300.0
    bench.tick(10)
    bench.spin_until(lambda: len(bench.events) == 2, what="the second event")
    assert bench.events[1].failure_type == event.TYPE_COLLISION
    assert bench.events[1].episode_id == 8
    assert bench.events[1].event_id > first
    assert node.stop() == 0
    assert "Traceback" not in node.text


def test_event_ids_never_come_back_after_a_restart(bench, start_node, spin_until):
    ids = []
    for episode_id in (1, 2):
        node = start_node("failure_detector", classifier="off")
        bench.health.clear()
        bench.wait_for_node()
        bench.events.clear()
        bench.episode(episode_id)
        bench.force = 300.0
        bench.tick(10)
        bench.spin_until(lambda: bench.events, what="the event")
        ids.append(bench.events[0].event_id)
        assert node.stop() == 0
        spin_until(lambda: bench.state.get_subscription_count() == 0, what="the node's end")
    assert ids[0] < ids[1]


def test_every_embedding_is_scored_and_a_lasting_high_score_is_an_event(bench, start_node, tmp_path):
    node = start_node("failure_detector", classifier=str(write_classifier(tmp_path)))
    bench.wait_for_node()
    bench.episode()
    for values in [GOOD] * 14 + [BAD] * 4:
        bench.tick(4)
        before = len(bench.scores)
        wanted = bench.sent > 44
        bench.spin_until(lambda: int(bench.figure("states") or 0) >= bench.sent, what="the states")
        bench.see(values)
        if wanted:
            bench.spin_until(lambda before=before: len(bench.scores) > before, what="a score")
    assert bench.scores[-1].probability > bench.scores[-1].threshold > bench.scores[0].probability
    assert bench.scores[-1].span == pytest.approx(1.0, abs=0.01)
    bench.spin_until(lambda: bench.events, what="the event")
    assert [(event.failure_type, event.detector) for event in bench.events] == [(0, "before_after")]
    assert node.stop() == 0


def test_bad_input_is_named_and_the_rules_go_on(bench, start_node, tmp_path):
    node = start_node("failure_detector", classifier=str(write_classifier(tmp_path)))
    bench.wait_for_node()
    bench.episode(instruction="dance")
    assert "instruction 'dance' is not understood" in node.text
    bench.tick(4)
    bench.tick(1, broken=True)
    bench.spin_until(lambda: "not finite" in bench.figure("last_problem"), what="the broken state")
    bench.see(np.ones(DIMENSION + 1, dtype=np.float32) / 3.0)
    bench.spin_until(lambda: f"with {DIMENSION + 1}" in bench.figure("last_problem"), what="the wrong dimension")
    bench.see(GOOD, revision="ba9876543210")
    bench.spin_until(lambda: "revision ba9876543210" in bench.figure("last_problem"), what="the wrong revision")
    assert "rules go on" in bench.health[-1].message
    bench.see(np.full(DIMENSION, np.nan, dtype=np.float32))
    bench.spin_until(lambda: "has length nan" in bench.figure("last_problem"), what="the broken embedding")
    bench.force = 300.0
    bench.tick(10)
    bench.spin_until(lambda: bench.events, what="the event")
    assert node.stop() == 0
    assert "Traceback" not in node.text


def test_a_missing_classifier_leaves_the_rules_alone(bench, start_node, tmp_path):
    node = start_node("failure_detector", classifier=str(tmp_path / "nowhere"))
    bench.wait_for_node()
    assert "nowhere/config.json is missing" in node.text
    assert "train one with" in bench.health[-1].message
    bench.episode()
    bench.force = 300.0
    bench.tick(10)
    bench.spin_until(lambda: bench.events, what="the event")
    assert node.stop() == 0


def test_a_parameter_out_of_range_is_refused_by_name(start_node):
    node = start_node("failure_detector", collision_time=-1.0)
    assert node.wait() == 2
    assert "collision_time" in node.text
    assert "-1.0" in node.text


def test_the_detector_process_never_loads_torch():
    import subprocess
    import sys

    code = "import sys, flow_rag_vla.nodes.failure_detector; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["False"]
