# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""An episode manager is killed in the middle of an episode and started again: what becomes of the episode."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from action_msgs.msg import GoalStatus
from action_msgs.srv import CancelGoal
from rclpy.node import Node

from flow_rag_vla.bringup import topics
from flow_rag_vla.core.action import TICK_S
from flow_rag_vla.data.running_episode import FILE
from flow_rag_vla.nodes import qos
from flow_rag_vla.nodes.goals import GoalLostError, Handle, send_goal
from flow_rag_vla.nodes.stamps import to_ns
from flow_rag_vla_interfaces.action import ExecuteTask
from flow_rag_vla_interfaces.msg import ControlCommand, EpisodeStatus

sys.path.insert(0, str(Path(__file__).parent))
from test_episode_manager import INSTRUCTION, World

RUNNING = EpisodeStatus.STATE_RUNNING
PATIENT = {"take_up_limit": 300.0, "silence_limit": 60.0, "success_hold": 0.0, "scoring_time": 0.0}
"""Nothing here is about how long a process takes to start on this machine."""


@pytest.fixture
def world(ros_node: Node) -> World:
    return World(ros_node)


@pytest.fixture
def begin(start_node: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    def start(**parameters: Any) -> Any:
        return start_node("episode_manager", results_dir=str(tmp_path / "episodes"), **{**PATIENT, **parameters})

    return start


def ask(world: World, spin_until: Callable[..., None], **fields: Any) -> tuple[Handle, Any]:
    """A goal that was accepted, and the future of its result."""
    spin_until(world.client.server_is_ready, what="the action server")
    goal = ExecuteTask.Goal(**{"instruction": INSTRUCTION, "timeout": 600.0, **fields})
    sent = send_goal(world.node, world.client, goal)
    spin_until(sent.done, what="the answer to the goal")
    handle = sent.result()
    assert handle is not None and handle.accepted
    return handle, handle.get_result_async()


def running(world: World, spin_until: Callable[..., None], folder: Path) -> None:
    """Wait until the episode runs, has seen its scene, and has been kept since."""
    spin_until(lambda: world.state == RUNNING, what="an episode that runs")

    def kept() -> bool:
        return bool(json.loads((folder / FILE).read_text())["marks"]["scene"] >= 0)

    spin_until(kept, what="the scene in what is kept")


def killed(process: Any, world: World) -> Callable[[], list[EpisodeStatus]]:
    """Kill it; what was said about episodes since, which a process that is started after it says."""
    process.stop(signal.SIGKILL)
    ended = world.node.get_clock().now().nanoseconds
    return lambda: [status for status in world.statuses if to_ns(status.header.stamp) > ended]


def record(folder: Path, number: int = 1) -> Any:
    return json.loads((folder / f"{number:06d}.json").read_text(encoding="utf-8"))


def test_an_episode_goes_on_and_its_outcome_is_told(
    world: World, begin: Callable[..., Any], spin_until: Callable[..., None], tmp_path: Path
) -> None:
    first = begin()
    world.serve_resets()
    _, result = ask(world, spin_until, seed=7)
    running(world, spin_until, tmp_path / "episodes")
    elapsed = world.statuses[-1].elapsed
    since = killed(first, world)
    second = begin()
    spin_until(since, what="a status of the new process")
    assert second.said("taken up again")
    status = since()[0]
    # Whoever follows the episode never hears that there is none.
    assert (status.state, status.episode_id, status.seed) == (RUNNING, 1, 7) and status.elapsed > elapsed
    assert not result.done()
    world.success = True
    spin_until(result.done, what="the result, by the new process")
    answer = result.result()
    assert answer.status == GoalStatus.STATUS_SUCCEEDED
    assert (answer.result.outcome, answer.result.episode_id) == (ExecuteTask.Result.OUTCOME_SUCCESS, 1)
    assert len(world.resets) == 1 and {status.state for status in since()} <= {
        RUNNING,
        EpisodeStatus.STATE_SUCCEEDED,
    }
    written = record(tmp_path / "episodes")
    assert written["away"] > 0.0 and written["duration"] > elapsed
    # The number of the one that went on is not given to another.
    _, again = ask(world, spin_until)
    spin_until(again.done, what="the next result")
    assert again.result().result.episode_id == 2


def test_one_that_was_killed_while_it_waited_for_the_reset_asks_for_it_again(
    world: World, begin: Callable[..., Any], spin_until: Callable[..., None], tmp_path: Path
) -> None:
    first = begin()
    _, result = ask(world, spin_until, timeout=0.5)
    spin_until(lambda: world.state == EpisodeStatus.STATE_RESETTING)
    path = tmp_path / "episodes" / FILE

    def kept() -> bool:
        content = json.loads(path.read_text())
        return content["course"] is not None and bool(content["marks"]["tick"] >= 0)

    spin_until(kept, what="the episode and its controller in what is kept")
    first.stop(signal.SIGKILL)
    begin()
    world.serve_resets()
    spin_until(result.done, what="the result")
    assert (result.result().result.outcome, len(world.resets)) == (ExecuteTask.Result.OUTCOME_FAILURE, 1)


@pytest.mark.parametrize("what", ["scene", "controller", "limit", "stop", "released", "time"])
def test_an_episode_that_cannot_go_on_is_aborted_with_the_reason(
    world: World, begin: Callable[..., Any], spin_until: Callable[..., None], tmp_path: Path, what: str
) -> None:
    first = begin()
    world.serve_resets()
    _, result = ask(world, spin_until)
    running(world, spin_until, tmp_path / "episodes")
    since = killed(first, world)
    if what == "scene":
        world.reset_count += 1
    elif what == "controller":
        world.node.destroy_publisher(world._command)
        world._command = world.node.create_publisher(ControlCommand, topics.COMMAND, qos.command_profile(TICK_S))
    elif what == "stop":
        world.mode = ControlCommand.MODE_EMERGENCY_STOP
    elif what == "released":
        # Pressed and released while nobody ran the episodes: the controller says what came of it.
        world.mode, world.reason = ControlCommand.MODE_IDLE, ControlCommand.REASON_EPISODE_INACTIVE
        world.reason_text = "episode 1 was ended by an emergency stop; begin another"
    elif what == "time":
        path = tmp_path / "episodes" / FILE
        content = json.loads(path.read_text())
        content["course"]["timeout"] = 0.001
        path.write_text(json.dumps(content))
    begin(**({"take_up_limit": 0.0} if what == "limit" else {}))
    spin_until(result.done, what="the result")
    answer = result.result()
    said = {
        "scene": "does not go on with its episode: the simulator's scene was reset meanwhile",
        "controller": "does not go on with its episode: the controller was started anew meanwhile",
        "limit": "does not go on with its episode: take_up_limit is 0",
        "stop": "emergency stop",
        "released": "the controller does not follow it any more: episode 1 was ended by an emergency stop",
        "time": "does not go on with its episode: its time limit of 0.001 s passed meanwhile",
    }[what]
    assert answer.status == GoalStatus.STATUS_ABORTED and said in answer.result.reason
    assert (answer.result.outcome, answer.result.episode_id) == (ExecuteTask.Result.OUTCOME_ABORTED, 1)
    # The controller rests: it is never told again that the episode runs.
    spin_until(since, what="a status of the new process")
    assert {status.state for status in since()} == {EpisodeStatus.STATE_FAILED}
    assert record(tmp_path / "episodes")["reason"] == answer.result.reason


def test_one_that_went_on_can_be_canceled_by_anybody(
    world: World, begin: Callable[..., Any], spin_until: Callable[..., None], tmp_path: Path, ros_node: Node
) -> None:
    first = begin()
    world.serve_resets()
    _, result = ask(world, spin_until)
    running(world, spin_until, tmp_path / "episodes")
    first.stop(signal.SIGKILL)
    second = begin()
    spin_until(lambda: second.said("taken up again"))
    client: Any = ros_node.create_client(CancelGoal, f"{topics.EXECUTE_TASK}/_action/cancel_goal")
    asked: list[Any] = []

    def canceled() -> bool:
        # Both processes are known for a while, and the living one may not know this client yet.
        if client.service_is_ready() and (not asked or asked[-1].done()):
            asked.append(client.call_async(CancelGoal.Request()))
        return bool(world.state == EpisodeStatus.STATE_CANCELED)

    spin_until(canceled, what="an episode that was canceled")
    spin_until(result.done, what="the result")
    assert result.result().status == GoalStatus.STATUS_CANCELED


def test_a_request_to_cancel_that_was_made_while_nobody_was_there_is_obeyed(
    world: World, begin: Callable[..., Any], spin_until: Callable[..., None], tmp_path: Path
) -> None:
    first = begin()
    world.serve_resets()
    handle, result = ask(world, spin_until)
    running(world, spin_until, tmp_path / "episodes")
    first.stop(signal.SIGKILL)
    asked = handle.cancel_goal_async()
    later: list[bool] = []
    world.node.create_timer(0.2, lambda: later.append(True))
    spin_until(lambda: later, what="the request, which nobody hears")
    begin()
    spin_until(asked.done, what="the new process's answer to it")
    spin_until(result.done, what="the result")
    answer = result.result()
    assert (answer.status, answer.result.reason) == (GoalStatus.STATUS_CANCELED, "canceled on request")


def test_of_a_file_that_makes_no_sense_nothing_is_made_and_it_is_taken_away(
    world: World, begin: Callable[..., Any], spin_until: Callable[..., None], tmp_path: Path
) -> None:
    first = begin()
    world.serve_resets()
    ask(world, spin_until)
    running(world, spin_until, tmp_path / "episodes")
    first.stop(signal.SIGKILL)
    path = tmp_path / "episodes" / FILE
    content = json.loads(path.read_text())
    content["course"]["state"], content["course"]["outcome"] = EpisodeStatus.STATE_FAILED, 99
    path.write_text(json.dumps(content))
    second = begin()
    spin_until(lambda: second.said("what was kept of it makes no sense"), what="the complaint")
    spin_until(lambda: world.state == EpisodeStatus.STATE_IDLE, what="a controller that rests")
    assert not path.exists()


def test_whoever_asked_is_told_of_an_episode_that_was_over(
    world: World, begin: Callable[..., Any], spin_until: Callable[..., None], tmp_path: Path
) -> None:
    first = begin()
    world.serve_resets()
    _, result = ask(world, spin_until)
    running(world, spin_until, tmp_path / "episodes")
    # The one that is interrupted ends its episode, and has no time to tell whoever asked.
    first.stop(signal.SIGINT)
    begin()
    spin_until(result.done, what="the result")
    answer = result.result()
    assert (answer.result.outcome, answer.result.reason) == (
        ExecuteTask.Result.OUTCOME_CANCELED,
        "the episode manager was stopped",
    )
    assert record(tmp_path / "episodes")["outcome"] == "canceled"


def test_of_a_torn_file_nothing_is_made_and_whoever_asked_hears_that_the_goal_is_lost(
    world: World, begin: Callable[..., Any], spin_until: Callable[..., None], tmp_path: Path
) -> None:
    first = begin()
    world.serve_resets()
    _, result = ask(world, spin_until)
    running(world, spin_until, tmp_path / "episodes")
    first.stop(signal.SIGKILL)
    path = tmp_path / "episodes" / FILE
    path.write_bytes(path.read_bytes()[:100])
    second = begin()
    spin_until(result.done, what="the answer of the new process")
    assert isinstance(result.exception(), GoalLostError)
    assert second.said("an episode that ran before this start is not gone on with")
    spin_until(lambda: world.state == EpisodeStatus.STATE_IDLE, what="a controller that rests")
    world.success = True
    _, again = ask(world, spin_until)
    spin_until(again.done, what="the next result")
    assert again.result().result.outcome == ExecuteTask.Result.OUTCOME_SUCCESS
