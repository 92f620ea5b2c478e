# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The failure detector as a process of its own, over its topics."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from flow_rag_vla.bringup import topics
from flow_rag_vla.core.action import TICK_NS
from flow_rag_vla.core.goal import GOALS
from flow_rag_vla.core.state import GRIPPER_MAX_WIDTH, RobotState
from flow_rag_vla.failure.before_after import BeforeAfterNetwork, calibrate_before_after
from flow_rag_vla.failure.before_after_file import load_before_after, save_before_after
from flow_rag_vla.failure.calibration import calibrate, fit_knowledge, split_successes
from flow_rag_vla.failure.calibration_file import load_calibration, save_calibration
from flow_rag_vla.failure.perceptron import Layer
from flow_rag_vla.nodes.failure_detector import FailureDetectorNode

from ..failure.synthetic import DIMENSION, ORIGIN, make_chunk, make_frame, successes

START_NS = 1_000_000_000_000
RNG = np.random.default_rng


@pytest.fixture(scope="module")
def calibration(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of synthetic episodes of the goal that ``Bench`` asks for."""
    split = split_successes(successes(120, goals=(GOALS[0],)), with_probe=False)
    path = tmp_path_factory.mktemp("calibration") / "calibration.safetensors"
    save_calibration(path, calibrate(split, fit_knowledge(split.bank), ORIGIN, rate=0.05))
    return path


@pytest.fixture(scope="module")
def before_after(calibration: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier of that calibration: it looks at the one direction in which ``Bench.frame`` goes astray."""
    weight = np.zeros((2 * DIMENSION, 1), dtype=np.float32)
    weight[DIMENSION + 5] = 4.0
    network = BeforeAfterNetwork([Layer(weight, np.zeros(1, dtype=np.float32))])
    split = split_successes(successes(120, goals=(GOALS[0],)), with_probe=False)
    path = tmp_path_factory.mktemp("classifier") / "before_after.safetensors"
    save_before_after(path, calibrate_before_after(network, load_calibration(calibration), split))
    return path


class Bench:
    """The detector's surroundings: robot, controller, episode manager, encoder, and who listens."""

    def __init__(self, node: Any, spin_until: Callable[..., None]) -> None:
        from flow_rag_vla.nodes import qos
        from flow_rag_vla_interfaces import msg

        self.msg, self.spin_until = msg, spin_until
        self.events: list[Any] = []
        self.scores: list[Any] = []
        self.health: list[Any] = []
        self.heard = node.create_subscription(msg.FailureEvent, topics.FAILURE_EVENT, self.events.append, qos.EVENT)
        node.create_subscription(msg.FailureScore, topics.FAILURE_SCORE, self.scores.append, qos.SENSOR)
        from diagnostic_msgs.msg import DiagnosticArray
        from rcl_interfaces.srv import GetParameters

        self._echo, self._ask = node.create_client(GetParameters, "failure_detector/get_parameters"), GetParameters
        node.create_subscription(DiagnosticArray, topics.DIAGNOSTICS, self._on_health, 10)
        # Reliable, so that a test's few messages all arrive.
        self.state = node.create_publisher(msg.RobotState, topics.ROBOT_STATE, qos.EVENT)
        self.embedding = node.create_publisher(msg.Embedding, topics.EMBEDDING, qos.EVENT)
        self.command = node.create_publisher(msg.ControlCommand, topics.COMMAND, qos.EVENT)
        self.chunk = node.create_publisher(msg.ActionChunk, topics.ACTION_CHUNK, qos.PLAN)
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
        publishers = (self.state, self.embedding, self.command, self.status, self.chunk)
        self.spin_until(
            lambda: (
                self.health
                and all(item.get_subscription_count() == 1 for item in publishers)
                and self.heard.get_publisher_count() == 1
                and self._echo.service_is_ready()
            ),
            what="the node",
        )

    def _acknowledged(self) -> None:
        """Return once the node has gone round its inputs: it keeps five states, and takes one a round."""
        asked, again = [], 0.0

        def answered() -> bool:
            nonlocal again
            # An answer is lost where the node has not found who asks yet.
            if time.monotonic() >= again:
                asked.append(self._echo.call_async(self._ask.Request(names=["calibration"])))
                again = time.monotonic() + 3.0
            return any(one.done() for one in asked)

        self.spin_until(answered, what="the node's next round")

    def _settled(self) -> None:
        """Return once the node has taken what was published before: a service is answered after its topics."""
        for _ in range(3):
            self._acknowledged()

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
        self._settled()

    def told(self, words: str) -> None:
        """Wait for a report of health, of which there is one a second, that says so."""
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
            self._acknowledged()

    def see(self, values: np.ndarray, revision: str = ORIGIN.encoder_revision) -> None:
        from flow_rag_vla.nodes.conversions import floats
        from flow_rag_vla.nodes.stamps import to_stamp

        message = self.msg.Embedding(encoder="compact", revision=revision, values=floats(values))
        message.header.stamp = to_stamp(self.stamp_ns)
        self.embedding.publish(message)

    def plan(self, revision: str = ORIGIN.policy_revision) -> None:
        """The chunk made of the last picture."""
        from dataclasses import replace

        from flow_rag_vla.nodes.conversions import chunk_message

        chunk = make_chunk(self.stamp_ns, 1.0, RNG(self.sent))
        chunk = replace(chunk, provenance=replace(chunk.provenance, policy_revision=revision))
        self.chunk.publish(chunk_message(chunk, topics.BASE_FRAME))

    def frame(self, step: int, astray: float = 0.0) -> Any:
        """States, a picture and its plan; the score that follows."""
        self.tick(4)
        before = len(self.scores)
        self.see(make_frame(step, step / 20, RNG(step), goal=GOALS[0], astray=astray).embedding)
        self._settled()
        self.plan()
        self.spin_until(lambda: len(self.scores) > before, what="a score")
        return self.scores[-1]


@pytest.fixture
def bench(ros_node: Any, spin_until: Callable[..., None]) -> Bench:
    return Bench(ros_node, spin_until)


def test_a_failure_is_published_once_with_its_evidence_and_only_while_an_episode_runs(bench, start_node):
    node = start_node("failure_detector", calibration="off")
    bench.wait_for_node()
    bench.opening = 0.0
    bench.tick(20)
    bench.opening, bench.width = 1.0, GRIPPER_MAX_WIDTH
    bench.episode(7)
    bench.told("watching episode 7")
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
    bench.told("no episode")
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
        node = start_node("failure_detector", calibration="off")
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


def test_every_embedding_with_its_chunk_is_scored_and_leaving_the_band_is_one_event(bench, start_node, calibration):
    node = start_node("failure_detector", calibration=str(calibration))
    bench.wait_for_node()
    bench.episode()
    first = bench.frame(0)
    assert (first.episode_id, first.alarm, first.reason) == (7, False, "")
    assert first.revision in node.text
    assert len(first.names) == len(first.values) == len(first.bands) == 6
    assert 0.0 < first.p_value <= 1.0
    scores = [bench.frame(step, astray=3.0) for step in range(1, 8)]
    bench.spin_until(lambda: bench.figure("embeddings") == "8", what="the count of embeddings")
    assert bench.figure("states") == str(bench.sent)
    assert scores[-1].score > scores[-1].band
    assert scores[-1].alarm
    assert scores[-1].p_value <= 0.05
    assert "deviations above success" in scores[-1].reason
    bench.spin_until(lambda: bench.events, what="the event")
    (event,) = bench.events
    assert (event.failure_type, event.detector, event.episode_id) == (event.TYPE_UNKNOWN, "monitor", 7)
    assert {"fused_score", "p_value"} <= {item.name for item in event.evidence}
    assert node.stop() == 0
    assert "Traceback" not in node.text


def test_the_before_after_classifier_is_one_more_score_from_the_first_second_on(
    bench, start_node, calibration, before_after
):
    node = start_node("failure_detector", calibration=str(calibration), before_after=str(before_after))
    bench.wait_for_node()
    bench.episode()
    scores = [bench.frame(step, astray=3.0 if step > 10 else 0.0) for step in range(13)]
    assert all(score.names[-1] == "before_after" and len(score.names) == len(score.bands) == 7 for score in scores)
    assert np.isnan(scores[0].values[-1]) and np.isfinite([score.bands[-1] for score in scores]).all()
    assert scores[-1].values[-1] > scores[-1].bands[-1] > scores[10].values[-1]
    bench.spin_until(lambda: bench.events, what="the event")
    (event,) = bench.events
    assert "before_after" in {item.name for item in event.evidence}
    revision = load_before_after(before_after).revision
    bench.spin_until(lambda: bench.figure("before_after") == revision, what="its revision on the diagnostics")
    assert node.stop() == 0
    assert "Traceback" not in node.text


def test_alarms_on_episodes_that_succeed_end_in_a_warning_with_the_remedy(bench, start_node, calibration):
    node = start_node("failure_detector", calibration=str(calibration), false_alarm_rate=0.02)
    bench.wait_for_node()
    for episode_id in (1, 2):
        bench.episode(episode_id)
        while not bench.frame(0, astray=3.0).alarm:
            pass
        bench.episode(episode_id, running=False)
    bench.spin_until(lambda: bench.figure("successes_with_alarm") == "2", what="both alarms")
    bench.spin_until(lambda: "flow_rag_vla calibrate" in bench.health[-1].message, what="the warning")
    assert "2 of 2 episodes that succeeded raised an alarm" in node.text
    assert node.stop() == 0


def test_a_detector_that_was_killed_counts_its_false_alarms_on(bench, start_node, calibration, tmp_path):
    kept = tmp_path / "false_alarms.json"
    kept.write_text("not counts")
    for number in (1, 2):
        node = start_node("failure_detector", calibration=str(calibration), false_alarm_rate=0.02)
        bench.wait_for_node()
        assert bench.figure("successes_with_alarm") == str(number - 1)
        bench.episode(number)
        while not bench.frame(0, astray=3.0).alarm:
            pass
        bench.episode(number, running=False)
        bench.spin_until(lambda number=number: bench.figure("successes_with_alarm") == str(number), what="the alarm")
        assert ("holds no counts of false alarms" in node.text) == (number == 1)
        node.stop(signal.SIGKILL)
        bench.health.clear()
    assert "1 of 1 episodes that succeeded before had raised an alarm" in node.text
    assert "2 of 2 episodes that succeeded raised an alarm" in node.text
    assert (tmp_path / "false_alarms.json.unusable").read_text() == "not counts"


def test_a_command_that_names_no_pose_yet_is_no_problem_and_one_with_a_broken_pose_is():
    from flow_rag_vla_interfaces.msg import ControlCommand

    told, given = [], []
    watching = SimpleNamespace(episode=object(), offer_command=given.append)
    node = SimpleNamespace(_detector=watching, _complain=told.append)
    command = ControlCommand()
    command.target.orientation.w = 0.0
    FailureDetectorNode._on_command(node, command)
    assert not told and not given
    command.target.orientation.w = 0.5
    FailureDetectorNode._on_command(node, command)
    assert "length 0.5" in told[0] and not given
    command.target.orientation.w = 1.0
    FailureDetectorNode._on_command(node, command)
    assert len(told) == len(given) == 1


def test_bad_input_is_named_and_the_rules_go_on(bench, start_node, calibration, tmp_path):
    absent = tmp_path / "before_after.safetensors"
    node = start_node("failure_detector", calibration=str(calibration), before_after=str(absent))
    bench.wait_for_node()
    assert node.text.count(f"parameter before_after: {absent} is missing") == 1
    assert bench.figure("before_after") == "none"
    bench.told("the detector goes on without it")
    bench.episode(instruction="dance")
    assert "instruction 'dance' is not understood" in node.text
    bench.tick(4)
    bench.tick(1, broken=True)
    bench.spin_until(lambda: "not finite" in bench.figure("last_problem"), what="the broken state")
    good = np.eye(DIMENSION, dtype=np.float32)[1]
    bench.see(np.ones(DIMENSION + 1, dtype=np.float32) / 3.0)
    bench.spin_until(lambda: f"with {DIMENSION + 1}" in bench.figure("last_problem"), what="the wrong dimension")
    bench.spin_until(lambda: node.said(f"with {DIMENSION + 1}"), what="it in the log, close behind the broken state")
    bench.see(good, revision="ba9876543210")
    bench.spin_until(lambda: "revision ba9876543210" in bench.figure("last_problem"), what="the wrong revision")
    assert "rules go on" in bench.health[-1].message
    bench.see(np.full(DIMENSION, np.nan, dtype=np.float32))
    bench.spin_until(lambda: "has length nan" in bench.figure("last_problem"), what="the broken embedding")
    bench.see(good)
    bench.plan(revision="eeeeeeeeeeee")
    bench.spin_until(lambda: "revision eeeeeeeeeeee" in bench.figure("last_problem"), what="the wrong policy")
    assert bench.scores == []
    bench.force = 300.0
    bench.tick(10)
    bench.spin_until(lambda: bench.events, what="the event")
    assert node.stop() == 0
    assert "Traceback" not in node.text


@pytest.mark.parametrize("damage", ["missing", "damaged"])
def test_a_calibration_that_cannot_be_used_leaves_the_rules_alone(bench, start_node, calibration, tmp_path, damage):
    path = tmp_path / "calibration.safetensors"
    if damage == "damaged":
        data = bytearray(calibration.read_bytes())
        data[-100] ^= 0x10
        path.write_bytes(bytes(data))
    node = start_node("failure_detector", calibration=str(path))
    bench.wait_for_node()
    assert f"{path} is {damage}" in node.text
    assert "flow_rag_vla calibrate" in bench.health[-1].message
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
