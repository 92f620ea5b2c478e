# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A speed scale from the request to the arm: the controller halves its steps, and forgets it with the episode."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from action_msgs.msg import GoalStatus
from rclpy.action import ActionClient

from flow_rag_vla.bringup import topics
from flow_rag_vla.core.action import TICK_S, ActionChunk
from flow_rag_vla.core.state import RobotState
from flow_rag_vla.nodes import conversions, qos
from flow_rag_vla.nodes.episode_manager import EpisodeManager
from flow_rag_vla_interfaces import msg
from flow_rag_vla_interfaces.action import ExecuteTask
from flow_rag_vla_interfaces.srv import ResetSimulation

WAIT_S = 60.0
STEP = 0.004
COMMAND = "put the red cube in the bin"
JOINTS = [f"joint_{index}" for index in range(7)]


class Cell:
    """A robot without inertia, a policy that always plans the same motion, and a simulator that resets at once."""

    def __init__(self, node) -> None:
        self.commands: list[msg.ControlCommand] = []
        self.statuses: list[msg.EpisodeStatus] = []
        self.position = np.array([0.5, 0.0, 0.3])
        self.resets = self.chunks = 0
        self.state = node.create_publisher(msg.RobotState, topics.ROBOT_STATE, qos.SENSOR)
        self.chunk = node.create_publisher(msg.ActionChunk, topics.ACTION_CHUNK, qos.PLAN)
        self.episode = node.create_publisher(msg.EpisodeStatus, topics.EPISODE_STATUS, qos.STATE)
        node.create_subscription(msg.ControlCommand, topics.COMMAND, self._on_command, qos.command_profile(TICK_S))
        node.create_subscription(msg.EpisodeStatus, topics.EPISODE_STATUS, self.statuses.append, qos.STATE)
        node.create_service(ResetSimulation, topics.RESET_SIMULATION, self._on_reset)
        node.create_timer(TICK_S, self._tick)

    def _on_reset(self, request, response):
        self.resets += 1
        return ResetSimulation.Response(ok=True, instruction=request.instruction, time_limit=20.0)

    def _tick(self) -> None:
        now = time.time_ns()
        state = RobotState(now, self.position, np.array([1.0, 0.0, 0.0, 0.0]))
        self.state.publish(conversions.robot_state_message(state, JOINTS, topics.BASE_FRAME))
        self.chunks += 1
        if self.chunks % 4 == 0:
            actions = np.zeros((16, 7), dtype=np.float32)
            # To and fro, so that it stays inside the workspace.
            actions[:, 1] = STEP if math.sin(now * 2e-9) > 0 else -STEP
            chunk = ActionChunk(self.chunks, now - 20_000_000, actions, "pick_and_place")
            self.chunk.publish(conversions.chunk_message(chunk, topics.BASE_FRAME))

    def _on_command(self, command: msg.ControlCommand) -> None:
        self.commands.append(command)
        if command.mode == msg.ControlCommand.MODE_FOLLOW:
            target = command.target.position
            self.position = np.array([target.x, target.y, target.z])

    def follows(self, slowdown: float) -> bool:
        last = self.commands[-1] if self.commands else None
        return last is not None and last.mode == last.MODE_FOLLOW and last.slowdown == pytest.approx(slowdown, abs=1e-6)

    def longest_step(self, count: int = 40) -> float:
        """Of the last commands that followed."""
        steps = [np.linalg.norm(one.action[:3]) for one in self.commands[-count:] if one.mode == one.MODE_FOLLOW]
        return float(max(steps, default=0.0))


def test_a_speed_scale_reaches_the_arm_and_ends_with_the_episode(
    start_node, ros_node, ros_executor, spin_until, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    cell = Cell(ros_node)
    start_node("controller", niceness=0)
    manager = EpisodeManager()
    ros_executor.add_node(manager)
    client = ActionClient(ros_node, ExecuteTask, topics.EXECUTE_TASK)
    spin_until(client.server_is_ready, WAIT_S, "the action")
    spin_until(lambda: cell.commands, WAIT_S, "the controller")

    def send(**goal):
        future = client.send_goal_async(ExecuteTask.Goal(**goal))
        spin_until(future.done, WAIT_S, "the goal's acceptance")
        assert future.result().accepted
        return future.result(), future.result().get_result_async()

    # What makes no sense is refused with a reason, before anything moves.
    for scale in (math.nan, 0.0, 1.5, -1.0):
        _, done = send(instruction=COMMAND, speed_scale=scale)
        spin_until(done.done, WAIT_S, "the refusal")
        assert done.result().status == GoalStatus.STATUS_ABORTED
        assert "above 0 and at most 1" in done.result().result.reason
    assert not cell.resets

    def run(slowdown: float, **goal) -> ExecuteTask.Result:
        handle, done = send(**goal)
        spin_until(lambda: cell.follows(slowdown), WAIT_S, f"commands slowed by {slowdown}")
        cell.commands.clear()
        spin_until(lambda: len(cell.commands) > 60, WAIT_S, "60 commands")
        assert all(one.slowdown == pytest.approx(slowdown, abs=1e-6) for one in cell.commands)
        spin_until(handle.cancel_goal_async().done, WAIT_S, "the cancellation")
        spin_until(done.done, WAIT_S, "the result")
        spin_until(lambda: cell.commands[-1].mode == msg.ControlCommand.MODE_IDLE, WAIT_S, "rest")
        return done.result().result

    halved = run(0.5, instruction=COMMAND, speed_scale=0.5)
    slow = cell.longest_step(100)
    assert slow <= 0.5 * STEP + 1e-6, "no step is longer than half of what was planned"
    assert halved.speed_scale == 0.5 and "asked for 0.5" in halved.speed_reason
    status = next(one for one in reversed(cell.statuses) if one.state == one.STATE_RUNNING)
    assert status.slowdown == 0.5 and status.timeout == pytest.approx(40.0), "what is done slower may take longer"

    # How it is said can only lower it, and the next episode begins at full speed.
    urged = run(0.15, instruction=f"quickly {COMMAND}", speed_scale=0.95)
    assert urged.speed_scale == pytest.approx(0.85) and "quickly" in urged.speed_reason
    whole = run(0.0, instruction=COMMAND)
    assert whole.speed_scale == 1.0 and not whole.speed_reason and cell.longest_step(100) > slow
    assert cell.commands[-1].slowdown == 0.0

    # An episode that says nonsense itself is not followed, and the controller says why.
    nonsense = msg.EpisodeStatus(episode_id=99, state=msg.EpisodeStatus.STATE_RUNNING, slowdown=math.nan)

    def refused() -> list[msg.ControlCommand]:
        # The manager tells its own state too: one that comes before the next tick takes this one's place.
        manager._status_publisher.publish(nonsense)
        return [one for one in cell.commands if "episode 99 is not followed: speed scale is nan" in one.reason_text]

    spin_until(refused, WAIT_S, "the reason")
    assert all(one.mode == msg.ControlCommand.MODE_IDLE for one in refused())
    client.destroy()
