# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The episode manager against a scripted simulator and controller on a real graph."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from action_msgs.msg import GoalStatus
from rclpy.action import ActionClient
from rclpy.node import Node
from rclpy.parameter import Parameter
from std_msgs.msg import Bool
from std_srvs.srv import SetBool

from flow_rag_vla.bringup import topics
from flow_rag_vla.core.action import TICK_S
from flow_rag_vla.data.running_episode import FILE, read_running
from flow_rag_vla.nodes import episode_keeper, qos
from flow_rag_vla.nodes.episode_manager import EpisodeManager
from flow_rag_vla.nodes.stamps import to_stamp
from flow_rag_vla_interfaces.action import ExecuteTask
from flow_rag_vla_interfaces.msg import (
    ControlCommand,
    EpisodeStatus,
    Evidence,
    FailureEvent,
    LoopStatistics,
    RobotState,
    SceneState,
)
from flow_rag_vla_interfaces.srv import ResetSimulation

INSTRUCTION = "put the red cube in the bin"


class World:
    """The rest of the graph: answers resets and says what the test wants it to say."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.statuses: list[EpisodeStatus] = []
        self.resets: list[ResetSimulation.Request] = []
        self.response = ResetSimulation.Response(ok=True, instruction=INSTRUCTION, time_limit=20.0)
        self.reset_count = 1
        self.counts_resets = True
        self.mode = ControlCommand.MODE_FOLLOW
        self.reason, self.reason_text = ControlCommand.REASON_NONE, ""
        self.gripper = 1.0
        self.width = 0.08
        self.talking = True
        self.success = False
        self._tick = 0
        self._command = node.create_publisher(ControlCommand, topics.COMMAND, qos.command_profile(TICK_S))
        self._state = node.create_publisher(RobotState, topics.ROBOT_STATE, qos.SENSOR)
        self._truth = node.create_publisher(SceneState, topics.GROUND_TRUTH, qos.SENSOR)
        self.failures = node.create_publisher(FailureEvent, topics.FAILURE_EVENT, qos.EVENT)
        self.loop = node.create_publisher(LoopStatistics, topics.LOOP_STATISTICS, qos.STATE)
        self.stop = node.create_publisher(Bool, topics.EMERGENCY_STOP, qos.STATE)
        node.create_subscription(EpisodeStatus, topics.EPISODE_STATUS, self.statuses.append, qos.STATE)
        node.create_timer(TICK_S, self._talk)
        self.client = ActionClient(node, ExecuteTask, topics.EXECUTE_TASK)
        self.score = node.create_client(SetBool, "episode_manager/score")

    def serve_resets(self) -> None:
        self.node.create_service(ResetSimulation, topics.RESET_SIMULATION, self._on_reset)

    def _on_reset(
        self, request: ResetSimulation.Request, response: ResetSimulation.Response
    ) -> ResetSimulation.Response:
        self.resets.append(request)
        self.reset_count += self.counts_resets
        return self.response

    def _talk(self) -> None:
        if not self.talking:
            return
        self._tick += 1
        now = self.node.get_clock().now().to_msg()
        command = ControlCommand(tick=self._tick, mode=self.mode, chunk_id=1 + self._tick // 8)
        command.reason, command.reason_text = self.reason, self.reason_text
        command.header.stamp = now
        command.action[6] = self.gripper
        if self.mode == ControlCommand.MODE_FOLLOW:
            command.provenance.correction = 1
            command.provenance.correction_strength = 0.5
            command.provenance.case_ids = [4, 2]
        self._command.publish(command)
        state = RobotState(joint_positions=[0.0] * 7, joint_velocities=[0.0] * 7, gripper_width=self.width)
        state.header.stamp = now
        state.end_effector.orientation.w = 1.0
        self._state.publish(state)
        scene = SceneState(reset_count=self.reset_count, success=self.success)
        scene.header.stamp = now
        self._truth.publish(scene)

    @property
    def state(self) -> int:
        return self.statuses[-1].state if self.statuses else -1


Make = Callable[..., EpisodeManager]


@pytest.fixture
def make_manager(ros_executor: Any, tmp_path: Path) -> Iterator[Make]:
    def make(**parameters: Any) -> EpisodeManager:
        values = {"results_dir": str(tmp_path / "episodes"), "success_hold": 0.0, "scoring_time": 0.0, **parameters}
        arguments = ["--ros-args"]
        for name, value in values.items():
            arguments += ["-p", f"{name}:={value}"]
        manager = _with_arguments(arguments)
        ros_executor.add_node(manager)
        return manager

    yield make


def _with_arguments(arguments: list[str]) -> EpisodeManager:
    """The node reads its overrides from the context's arguments; here they are given to the node itself."""
    original = Node.__init__

    def init(self: Node, name: str, **options: Any) -> None:
        original(self, name, cli_args=arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Node, "__init__", init)
        return EpisodeManager()


@pytest.fixture
def world(ros_node: Node) -> World:
    return World(ros_node)


def send(world: World, spin_until: Callable[..., None], **fields: Any) -> Any:
    spin_until(world.client.server_is_ready, what="the action server")
    feedback: list[Any] = []
    future = world.client.send_goal_async(ExecuteTask.Goal(**fields), feedback_callback=feedback.append)
    spin_until(future.done, what="the answer to the goal")
    handle = future.result()
    handle.feedback = feedback
    return handle


def outcome(handle: Any, spin_until: Callable[..., None]) -> Any:
    future = handle.get_result_async()
    spin_until(future.done, what="the result")
    return future.result()


def test_an_episode_is_reset_run_scored_and_written_down(
    world: World, make_manager: Make, spin_until: Callable[..., None]
) -> None:
    make_manager()
    world.serve_resets()
    handle = send(world, spin_until, instruction=INSTRUCTION, seed=7, variant="friction")
    spin_until(lambda: world.state == EpisodeStatus.STATE_RUNNING)
    spin_until(lambda: world.statuses[-1].phase == "reach")
    failure = FailureEvent(event_id=3, failure_type=FailureEvent.TYPE_DROP, confidence=0.9, description="fell")
    failure.evidence = [Evidence(name="gripper_width", value=0.01, threshold=0.02, unit="m")]
    world.failures.publish(failure)
    world.loop.publish(LoopStatistics(rate_hz=40.0, ticks=100, late_ticks=1))
    spin_until(lambda: world.statuses[-1].failures == 1)
    spin_until(lambda: len(handle.feedback) > 0, what="feedback")
    world.success = True
    answer = outcome(handle, spin_until)

    assert answer.status == GoalStatus.STATUS_SUCCEEDED
    assert answer.result.outcome == ExecuteTask.Result.OUTCOME_SUCCESS
    assert (answer.result.failures, answer.result.episode_id) == (1, 1)
    assert answer.result.corrections > 0
    assert (world.resets[0].seed, world.resets[0].variant) == (7, "friction")
    record = json.loads(Path(answer.result.result_file).read_text(encoding="utf-8"))
    assert record["outcome"] == "success"
    assert record["failures"][0]["evidence"] == [
        {"name": "gripper_width", "value": 0.01, "threshold": 0.02, "unit": "m"}
    ]
    assert record["corrections"][0]["case_ids"] == [4, 2]
    assert record["phases"][0]["name"] == "reach"
    assert record["end_ns"] > record["start_ns"]
    seen = [status.state for status in world.statuses]
    assert seen.index(EpisodeStatus.STATE_RESETTING) < seen.index(EpisodeStatus.STATE_RUNNING)
    spin_until(lambda: world.state == EpisodeStatus.STATE_SUCCEEDED)
    assert world.statuses[-1].episodes_succeeded == 1


def test_time_runs_out(world: World, make_manager: Make, spin_until: Callable[..., None]) -> None:
    make_manager()
    world.serve_resets()
    handle = send(world, spin_until, instruction=INSTRUCTION, timeout=0.3)
    answer = outcome(handle, spin_until)
    assert answer.result.outcome == ExecuteTask.Result.OUTCOME_FAILURE
    assert "not done within 0.3 s" in answer.result.reason
    # An episode that was run to its end has done what was asked of the action, whichever way it went.
    assert answer.status == GoalStatus.STATUS_SUCCEEDED


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_system_clock_that_is_set_neither_ends_an_episode_nor_lets_it_run_on(
    hours: int, world: World, make_manager: Make, spin_until: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = make_manager()
    world.serve_resets()
    handle = send(world, spin_until, instruction=INSTRUCTION, timeout=4.0)
    spin_until(lambda: world.state == EpisodeStatus.STATE_RUNNING)
    right = manager._clock_ns
    monkeypatch.setattr(manager, "_clock_ns", lambda: right() + hours * 3_600_000_000_000)
    seen = len(world.statuses)
    spin_until(lambda: len(world.statuses) > seen + 2 or world.state != EpisodeStatus.STATE_RUNNING)
    assert world.state == EpisodeStatus.STATE_RUNNING, "an hour has not passed"
    answer = outcome(handle, spin_until)
    assert "not done within 4 s" in answer.result.reason and answer.result.duration < 600.0


def test_a_failure_seen_at_the_moment_of_the_timeout_is_on_record(
    world: World, make_manager: Make, spin_until: Callable[..., None]
) -> None:
    make_manager(scoring_time=5.0)
    world.serve_resets()
    handle = send(world, spin_until, instruction=INSTRUCTION, timeout=0.2)
    spin_until(lambda: world.state == EpisodeStatus.STATE_FAILED)
    world.failures.publish(FailureEvent(event_id=8, episode_id=1, failure_type=FailureEvent.TYPE_TIMEOUT))
    spin_until(lambda: world.statuses[-1].failures == 1)
    assert not send(world, spin_until, instruction=INSTRUCTION).accepted
    # A cancel while scoring ends the wait, not the verdict.
    cancel = handle.cancel_goal_async()
    spin_until(cancel.done)
    answer = outcome(handle, spin_until)
    assert (answer.result.outcome, answer.result.failures) == (ExecuteTask.Result.OUTCOME_FAILURE, 1)
    record = json.loads(Path(answer.result.result_file).read_text(encoding="utf-8"))
    assert record["failures"][0]["failure_type"] == "timeout"


def test_scoring_ends_by_itself(world: World, make_manager: Make, spin_until: Callable[..., None]) -> None:
    make_manager(scoring_time=0.2)
    world.serve_resets()
    world.success = True
    answer = outcome(send(world, spin_until, instruction=INSTRUCTION), spin_until)
    assert answer.result.outcome == ExecuteTask.Result.OUTCOME_SUCCESS
    assert Path(answer.result.result_file).exists()


def test_a_success_of_the_scene_before_the_reset_does_not_count(
    world: World, make_manager: Make, spin_until: Callable[..., None]
) -> None:
    manager = make_manager()
    world.success = True
    world.serve_resets()
    spin_until(lambda: manager._witness.scene == world.reset_count, what="ground truth at the manager")
    world.counts_resets = False
    handle = send(world, spin_until, instruction=INSTRUCTION, timeout=0.4)
    spin_until(lambda: world.state == EpisodeStatus.STATE_RUNNING)
    # Whose the scene will be is known before it is shown: a new simulator's would be taken for it.
    assert manager._witness.marks.scene == -1 and manager._witness.marks.simulator
    answer = outcome(handle, spin_until)
    assert len(world.resets) == 1
    assert answer.result.outcome == ExecuteTask.Result.OUTCOME_FAILURE


def test_cancel_while_waiting_for_the_reset(world: World, make_manager: Make, spin_until: Callable[..., None]) -> None:
    make_manager()
    handle = send(world, spin_until, instruction=INSTRUCTION)
    spin_until(lambda: world.state == EpisodeStatus.STATE_RESETTING)
    cancel = handle.cancel_goal_async()
    spin_until(cancel.done)
    answer = outcome(handle, spin_until)
    assert answer.status == GoalStatus.STATUS_CANCELED
    assert answer.result.outcome == ExecuteTask.Result.OUTCOME_CANCELED
    spin_until(lambda: world.state == EpisodeStatus.STATE_CANCELED)


def test_cancel_while_running_leaves_the_controller_idle_and_the_next_goal_welcome(
    world: World, make_manager: Make, spin_until: Callable[..., None]
) -> None:
    make_manager()
    world.serve_resets()
    handle = send(world, spin_until, instruction=INSTRUCTION)
    spin_until(lambda: world.state == EpisodeStatus.STATE_RUNNING)
    cancel = handle.cancel_goal_async()
    spin_until(cancel.done)
    assert outcome(handle, spin_until).status == GoalStatus.STATUS_CANCELED
    # Anything but RUNNING makes the controller idle.
    spin_until(lambda: world.state == EpisodeStatus.STATE_CANCELED)
    world.success = True
    second = outcome(send(world, spin_until, instruction=INSTRUCTION), spin_until)
    assert (second.result.outcome, second.result.episode_id) == (ExecuteTask.Result.OUTCOME_SUCCESS, 2)


def test_that_an_episode_is_over_is_kept_before_it_is_told(
    world: World, make_manager: Make, spin_until: Callable[..., None], tmp_path: Path
) -> None:
    # One that is started after a process that died in between would go on with what the arm was told is over.
    manager = make_manager()
    world.serve_resets()
    kept: dict[int, int] = {}
    publish = manager._status_publisher.publish

    def watched(status: EpisodeStatus) -> None:
        running = read_running(tmp_path / "episodes" / FILE)
        if running is not None and running.course is not None:
            kept.setdefault(status.state, running.course.outcome)
        publish(status)

    manager._status_publisher.publish = watched  # type: ignore[method-assign, assignment]
    handle = send(world, spin_until, instruction=INSTRUCTION)
    spin_until(lambda: world.state == EpisodeStatus.STATE_RUNNING)
    spin_until(handle.cancel_goal_async().done)
    assert outcome(handle, spin_until).status == GoalStatus.STATUS_CANCELED
    assert kept[EpisodeStatus.STATE_RUNNING] == -1
    assert kept[EpisodeStatus.STATE_CANCELED] == ExecuteTask.Result.OUTCOME_CANCELED


def test_what_can_be_kept_no_more_leaves_nothing_from_before(
    world: World, make_manager: Make, spin_until: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = make_manager()
    world.serve_resets()
    handle = send(world, spin_until, instruction=INSTRUCTION)
    spin_until(lambda: world.state == EpisodeStatus.STATE_RUNNING)
    assert (tmp_path / "episodes" / FILE).exists()

    def full(*_arguments: object, **_more: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(episode_keeper, "write_running", full)
    spin_until(handle.cancel_goal_async().done)
    assert outcome(handle, spin_until).status == GoalStatus.STATUS_CANCELED
    # Else it would say that the episode runs, to whoever is started next.
    assert not (tmp_path / "episodes" / FILE).exists()
    assert manager._health()[2]["running_episode_not_kept"]


def test_a_second_goal_is_rejected_while_one_runs(
    world: World, make_manager: Make, spin_until: Callable[..., None]
) -> None:
    manager = make_manager()
    world.serve_resets()
    first = send(world, spin_until, instruction=INSTRUCTION)
    second = send(world, spin_until, instruction=INSTRUCTION)
    assert first.accepted
    assert not second.accepted
    assert "cancel it or wait" in str(manager._health()[2]["last_rejection"])
    world.success = True
    assert outcome(first, spin_until).result.outcome == ExecuteTask.Result.OUTCOME_SUCCESS


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"instruction": "make coffee"}, "stack the red cube on the blue box"),
        ({"task": "juggle"}, "known tasks: pick_and_place"),
        ({}, "no instruction and no task"),
        ({"instruction": INSTRUCTION, "task": "push"}, "leave one of them empty"),
        ({"instruction": INSTRUCTION, "timeout": math.nan}, "timeout is nan"),
        ({"instruction": INSTRUCTION, "seed": 2**40}, "expected 0 to"),
    ],
)
def test_a_goal_that_makes_no_sense_is_aborted_with_the_remedy(
    world: World, make_manager: Make, spin_until: Callable[..., None], fields: dict[str, Any], words: str
) -> None:
    make_manager()
    answer = outcome(send(world, spin_until, **fields), spin_until)
    assert answer.status == GoalStatus.STATUS_ABORTED
    assert answer.result.outcome == ExecuteTask.Result.OUTCOME_ABORTED
    assert words in answer.result.reason
    assert answer.result.episode_id == 0


def test_a_refused_reset_aborts_with_the_simulators_reason(
    world: World, make_manager: Make, spin_until: Callable[..., None]
) -> None:
    make_manager()
    world.response = ResetSimulation.Response(ok=False, message="unknown variant 'upside_down'")
    world.serve_resets()
    answer = outcome(send(world, spin_until, instruction=INSTRUCTION, variant="upside_down"), spin_until)
    assert answer.status == GoalStatus.STATUS_ABORTED
    assert "upside_down" in answer.result.reason


def test_a_missing_simulator_is_named(world: World, make_manager: Make, spin_until: Callable[..., None]) -> None:
    make_manager(reset_timeout=0.3)
    answer = outcome(send(world, spin_until, instruction=INSTRUCTION), spin_until)
    assert "simulator/reset did not appear within 0.3 s" in answer.result.reason


def test_the_emergency_stop_aborts_and_no_goal_runs_until_it_is_released(
    world: World, make_manager: Make, spin_until: Callable[..., None]
) -> None:
    manager = make_manager()
    world.serve_resets()
    handle = send(world, spin_until, instruction=INSTRUCTION)
    spin_until(lambda: world.state == EpisodeStatus.STATE_RUNNING)
    world.mode = ControlCommand.MODE_EMERGENCY_STOP
    answer = outcome(handle, spin_until)
    assert answer.status == GoalStatus.STATUS_ABORTED
    assert "emergency stop" in answer.result.reason
    refused = outcome(send(world, spin_until, instruction=INSTRUCTION), spin_until)
    assert "latched" in refused.result.reason
    world.mode = ControlCommand.MODE_FOLLOW
    spin_until(lambda: not manager.stopped())
    world.success = True
    assert outcome(send(world, spin_until, instruction=INSTRUCTION), spin_until).result.outcome == 0


def test_the_emergency_stop_topic_aborts_at_once(
    world: World, make_manager: Make, spin_until: Callable[..., None]
) -> None:
    make_manager()
    world.serve_resets()
    handle = send(world, spin_until, instruction=INSTRUCTION)
    spin_until(lambda: world.state == EpisodeStatus.STATE_RUNNING)
    world.stop.publish(Bool(data=True))
    assert outcome(handle, spin_until).status == GoalStatus.STATUS_ABORTED


def test_silence_of_the_graph_aborts_and_names_who_is_silent(
    world: World, make_manager: Make, spin_until: Callable[..., None]
) -> None:
    make_manager(silence_limit=0.4)
    world.serve_resets()
    handle = send(world, spin_until, instruction=INSTRUCTION)
    spin_until(lambda: world.state == EpisodeStatus.STATE_RUNNING)
    world.talking = False
    answer = outcome(handle, spin_until)
    assert "silent for 0.4 s" in answer.result.reason


def test_on_a_robot_a_person_scores_and_nothing_is_reset(
    world: World, make_manager: Make, spin_until: Callable[..., None]
) -> None:
    make_manager(reset="none", scoring="person")
    handle = send(world, spin_until, instruction=INSTRUCTION)
    spin_until(lambda: world.state == EpisodeStatus.STATE_RUNNING)
    world.success = True
    spin_until(world.score.service_is_ready)
    reply = world.score.call_async(SetBool.Request(data=False))
    spin_until(reply.done)
    assert reply.result().success
    answer = outcome(handle, spin_until)
    assert (answer.result.outcome, answer.result.reason) == (ExecuteTask.Result.OUTCOME_FAILURE, "scored by a person")
    assert world.resets == []


def test_a_task_without_a_target_needs_a_simulator_that_draws_one(
    world: World, make_manager: Make, spin_until: Callable[..., None]
) -> None:
    make_manager(reset="none")
    answer = outcome(send(world, spin_until, task="pick_and_place"), spin_until)
    assert "give an instruction" in answer.result.reason


def test_stopping_the_node_ends_the_episode_and_keeps_its_record(
    world: World, make_manager: Make, spin_until: Callable[..., None], ros_executor: Any, tmp_path: Path
) -> None:
    manager = make_manager()
    world.serve_resets()
    send(world, spin_until, instruction=INSTRUCTION)
    spin_until(lambda: world.state == EpisodeStatus.STATE_RUNNING)
    ros_executor.remove_node(manager)
    manager.destroy_node()
    record = json.loads((tmp_path / "episodes" / "000001.json").read_text(encoding="utf-8"))
    assert (record["outcome"], record["reason"]) == ("canceled", "the episode manager was stopped")
    spin_until(lambda: world.state == EpisodeStatus.STATE_CANCELED)


def test_ids_go_on_after_a_restart(
    world: World, make_manager: Make, spin_until: Callable[..., None], tmp_path: Path
) -> None:
    (tmp_path / "episodes").mkdir()
    (tmp_path / "episodes" / "000041.json").write_text("{}", encoding="utf-8")
    make_manager()
    world.serve_resets()
    world.success = True
    assert outcome(send(world, spin_until, instruction=INSTRUCTION), spin_until).result.episode_id == 42


def test_a_result_that_cannot_be_written_ends_nothing(
    world: World, make_manager: Make, spin_until: Callable[..., None], tmp_path: Path
) -> None:
    manager = make_manager()
    folder = tmp_path / "episodes"
    folder.rmdir()
    folder.write_text("a file where the folder was", encoding="utf-8")
    world.serve_resets()
    world.success = True
    answer = outcome(send(world, spin_until, instruction=INSTRUCTION), spin_until)
    assert (answer.result.outcome, answer.result.result_file) == (ExecuteTask.Result.OUTCOME_SUCCESS, "")
    assert manager._health()[2]["results_not_written"] == 1


def test_a_malformed_robot_state_does_not_end_the_episode(
    world: World, make_manager: Make, spin_until: Callable[..., None]
) -> None:
    manager = make_manager()
    world.serve_resets()
    handle = send(world, spin_until, instruction=INSTRUCTION)
    spin_until(lambda: world.state == EpisodeStatus.STATE_RUNNING)
    broken = RobotState(gripper_width=math.nan)
    broken.header.stamp = to_stamp(1)
    world._state.publish(broken)
    manager.set_parameters([Parameter("silence_limit", value=20.0)])
    spin_until(lambda: world.statuses[-1].phase == "reach")
    world.success = True
    assert outcome(handle, spin_until).result.outcome == ExecuteTask.Result.OUTCOME_SUCCESS


def test_an_interrupt_in_an_episode_ends_the_process_cleanly_with_its_record(
    world: World, spin_until: Callable[..., None], tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "flow_rag_vla.nodes.episode_manager", "--ros-args"]
    with (tmp_path / "log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen([*command, "-p", f"results_dir:={tmp_path}/episodes"], stderr=log)
    try:
        world.serve_resets()
        send(world, spin_until, instruction=INSTRUCTION)
        spin_until(lambda: world.state == EpisodeStatus.STATE_RUNNING)
        process.send_signal(signal.SIGINT)
        spin_until(lambda: process.poll() is not None, what="the end of the episode manager")
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0
    assert "Traceback" not in (tmp_path / "log").read_text(encoding="utf-8")
    record = json.loads((tmp_path / "episodes" / "000001.json").read_text(encoding="utf-8"))
    assert record["outcome"] == "canceled"
    spin_until(lambda: world.state == EpisodeStatus.STATE_CANCELED)


@pytest.mark.parametrize("what", ["reset", "anew"])
def test_a_scene_that_is_not_the_episodes_any_more_aborts_with_the_reason(
    world: World, make_manager: Make, spin_until: Callable[..., None], what: str
) -> None:
    manager = make_manager()
    world.serve_resets()
    spin_until(lambda: manager._witness.scene == world.reset_count, what="ground truth at the manager")
    handle = send(world, spin_until, instruction=INSTRUCTION)
    spin_until(lambda: world.state == EpisodeStatus.STATE_RUNNING and manager._witness.marks.scene >= 0)
    if what == "reset":
        world.reset_count += 1
    else:
        # A simulator that is started anew may come to the same number.
        world.node.destroy_publisher(world._truth)
        world._truth = world.node.create_publisher(SceneState, topics.GROUND_TRUTH, qos.SENSOR)
    world.success = True
    answer = outcome(handle, spin_until)
    assert answer.status == GoalStatus.STATUS_ABORTED
    assert ("was reset while" if what == "reset" else "was started anew while") in answer.result.reason
