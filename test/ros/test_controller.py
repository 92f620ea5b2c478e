# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The controller as a process: what it sends, whatever it is sent."""

from __future__ import annotations

import math
import signal
import time
from types import SimpleNamespace

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import Parameter, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.event_handler import PublisherEventCallbacks
from std_msgs.msg import Bool
from std_srvs.srv import Trigger

from flow_rag_vla.bringup import topics
from flow_rag_vla.control.loop import ControlLoop
from flow_rag_vla.core.action import TICK_S, ActionChunk, CorrectionMode, Provenance
from flow_rag_vla.core.state import RobotState
from flow_rag_vla.data import message_values
from flow_rag_vla.data.message_values import MessageError
from flow_rag_vla.nodes import conversions, qos
from flow_rag_vla.nodes.controller import LISTENING_NS, Controller
from flow_rag_vla.nodes.emergency_stop import EmergencyStop
from flow_rag_vla.nodes.stamps import to_ns, to_stamp
from flow_rag_vla.nodes.tick_inputs import TickInputsRecord
from flow_rag_vla.nodes.wire import robot_state_from_wire, stamp_from_wire
from flow_rag_vla_interfaces import msg, srv

Command = msg.ControlCommand
JOINTS = [f"joint_{index}" for index in range(7)]


class Robot:
    """A robot without inertia on the test's node: it is where it was told to be, and says so 40 times a second."""

    def __init__(self, node) -> None:
        self.node = node
        self.commands: list[Command] = []
        self.figures: list[msg.LoopStatistics] = []
        self.health: list[DiagnosticArray] = []
        self.position = np.array([0.5, 0.0, 0.3])
        self.speaks = True
        self.plans = False
        self.chunk_id = 0
        self.states = node.create_publisher(msg.RobotState, topics.ROBOT_STATE, qos.SENSOR)
        self.chunks = node.create_publisher(msg.ActionChunk, topics.ACTION_CHUNK, qos.PLAN)
        self.corrections = node.create_publisher(msg.Correction, topics.CORRECTION, qos.PLAN)
        self.episodes = node.create_publisher(msg.EpisodeStatus, topics.EPISODE_STATUS, qos.STATE)
        node.create_subscription(Command, topics.COMMAND, self._on_command, qos.command_profile(TICK_S))
        node.create_subscription(msg.LoopStatistics, topics.LOOP_STATISTICS, self.figures.append, qos.STATE)
        node.create_subscription(DiagnosticArray, topics.DIAGNOSTICS, self.health.append, 10)
        node.create_timer(TICK_S, self._tick)

    @property
    def now(self) -> int:
        return time.time_ns()

    @property
    def last(self) -> Command:
        return self.commands[-1]

    def said(self, mode: int, reason: int | None = None) -> bool:
        return bool(self.commands) and self.last.mode == mode and reason in (None, self.last.reason)

    def state_message(self) -> msg.RobotState:
        state = RobotState(self.now, self.position, np.array([1.0, 0.0, 0.0, 0.0]))
        return conversions.robot_state_message(state, JOINTS, topics.BASE_FRAME)

    def chunk_message(self, value: float = 0.002, *, age_ms: float = 20.0, rows: int = 16) -> msg.ActionChunk:
        self.chunk_id += 1
        stamp = self.now - int(age_ms * 1e6)
        actions = np.zeros((rows, 7), dtype=np.float32)
        actions[:, 0], actions[:, 6] = value, 0.5
        provenance = Provenance(stamp, "flow", "abc", 42, CorrectionMode.NONE)
        chunk = ActionChunk(self.chunk_id, stamp, actions, "push", provenance=provenance)
        return conversions.chunk_message(chunk, topics.BASE_FRAME)

    def episode(self, state: int = msg.EpisodeStatus.STATE_RUNNING, episode_id: int = 1) -> None:
        status = msg.EpisodeStatus(episode_id=episode_id, state=state, task="push")
        status.header.stamp = to_stamp(self.now - 200_000_000)
        self.episodes.publish(status)

    def _tick(self) -> None:
        if self.speaks:
            self.states.publish(self.state_message())
        if self.plans:
            self.chunks.publish(self.chunk_message(0.002 * math.sin(self.now * 1e-9)))

    def _on_command(self, command: Command) -> None:
        self.commands.append(command)
        if command.mode == Command.MODE_FOLLOW:
            target = command.target.position
            self.position = np.array([target.x, target.y, target.z])


def test_what_goes_wrong_with_one_topic_leaves_the_others_to_be_read():
    read, told = [], []

    def broken(_now_ns: int, _steady_ns: int) -> None:
        raise RuntimeError("a defect")

    node = SimpleNamespace(_complain=lambda *said: told.append(said))
    Controller._take(node, (broken, lambda *moment: read.append(moment)), 1, 2)
    assert read == [(1, 2)] and "RuntimeError: a defect" in told[0][1]


@pytest.mark.parametrize("profile", [qos.STATE, qos.EVENT])
def test_one_who_says_stop_at_every_tick_has_the_latch_written_once(ros_node, tmp_path, spin_until, profile):
    ros_node.declare_parameter("open_to_network", False)
    loop, told = ControlLoop(), []
    record = TickInputsRecord(ros_node, PublisherEventCallbacks(use_default_callbacks=False))
    file = tmp_path / "latch"
    stop = EmergencyStop(
        ros_node, loop, record, str(file), complain=lambda *said: told.append(said), steady_now_ns=lambda: 0
    )
    button = ros_node.create_publisher(Bool, topics.EMERGENCY_STOP, profile)

    def pressed() -> bool:
        button.publish(Bool(data=True))
        stop.take(0, 0)
        stop.keep()
        return file.exists()

    spin_until(pressed, what="the latch")
    file.write_text("as it was written")
    heard = len(record._noted)
    spin_until(lambda: pressed() and len(record._noted) > heard + 4, what="the stop, said again and again")
    assert file.read_text() == "as it was written" and loop.ladder.emergency and not told
    file.unlink()
    loop.reset_emergency_stop(0)
    spin_until(pressed, what="the latch of the next stop")


@pytest.fixture
def robot(ros_node):
    return Robot(ros_node)


@pytest.fixture
def controller(start_node, robot, spin_until):
    process = start_node("controller", niceness=0)
    spin_until(lambda: robot.said(Command.MODE_IDLE, Command.REASON_EPISODE_INACTIVE), what="the first idle command")
    return process


@pytest.fixture
def following(controller, robot, spin_until):
    robot.episode()
    robot.plans = True
    spin_until(lambda: robot.said(Command.MODE_FOLLOW), what="a command that follows")
    return controller


def finite(command: Command) -> bool:
    pose = command.target
    numbers = [pose.position.x, pose.position.y, pose.position.z, pose.orientation.x, pose.orientation.y]
    numbers += [pose.orientation.z, pose.orientation.w, command.gripper_width, command.observation_age_ms]
    return bool(np.isfinite([*numbers, *command.action]).all())


def test_without_an_episode_it_sends_the_present_pose_and_numbers_every_command(controller, robot, spin_until):
    spin_until(lambda: len(robot.commands) > 20, what="20 commands")
    ticks = [command.tick for command in robot.commands]
    assert ticks == sorted(set(ticks))
    position = robot.last.target.position
    assert np.allclose([position.x, position.y, position.z], [0.5, 0.0, 0.3])
    assert robot.last.header.frame_id == topics.BASE_FRAME


def test_a_controller_that_was_just_started_rests_until_it_has_listened_for_a_stop(start_node, robot, spin_until):
    robot.episode()
    robot.plans = True
    start_node("controller", niceness=0)
    spin_until(lambda: robot.said(Command.MODE_FOLLOW), what="a command that follows")
    first = next(command for command in robot.commands if command.mode == Command.MODE_FOLLOW)
    assert first.tick >= LISTENING_NS / (TICK_S * 1e9) - 1
    before = [command for command in robot.commands if command.tick < first.tick]
    assert before and {command.mode for command in before} == {Command.MODE_IDLE}


def test_before_the_first_state_it_names_no_pose(start_node, robot, spin_until):
    robot.speaks = False
    start_node("controller", niceness=0)
    spin_until(lambda: robot.said(Command.MODE_IDLE, Command.REASON_STATE_MISSING), what="a command")
    orientation = robot.last.target.orientation
    assert (orientation.x, orientation.y, orientation.z, orientation.w) == (0.0, 0.0, 0.0, 0.0)
    assert "robot driver" in robot.last.reason_text


def test_a_command_carries_the_provenance_of_its_chunk(following, robot):
    command = robot.last
    assert (command.provenance.policy, command.provenance.noise_seed) == ("flow", 42)
    assert command.chunk_id > 0 and command.observation_age_ms > 0.0
    assert to_ns(command.provenance.observation_stamp) < to_ns(command.header.stamp)


def test_when_chunks_stop_it_holds_decelerates_and_stops_and_goes_on_with_the_next(following, robot, spin_until):
    robot.plans = False
    spin_until(lambda: robot.said(Command.MODE_STOP, Command.REASON_CHUNK_EXHAUSTED), what="the stop")
    modes = [command.mode for command in robot.commands]
    modes = modes[modes.index(Command.MODE_FOLLOW) :]
    first = [mode for index, mode in enumerate(modes) if mode not in modes[:index]]
    assert first[-3:] == [Command.MODE_HOLD, Command.MODE_DECELERATE, Command.MODE_STOP]
    robot.plans = True
    spin_until(lambda: robot.said(Command.MODE_FOLLOW), what="following again")


def test_when_the_robot_falls_silent_it_stops_and_says_so(following, robot, spin_until):
    robot.speaks = False
    spin_until(lambda: robot.said(Command.MODE_STOP, Command.REASON_STATE_TOO_OLD), what="the stop")
    robot.speaks = True
    spin_until(lambda: robot.said(Command.MODE_FOLLOW), what="following again")


def test_an_emergency_stop_by_service_is_latched_until_its_reset(following, robot, spin_until, call):
    assert call(Trigger, topics.EMERGENCY_STOP_SERVICE).success
    spin_until(lambda: robot.said(Command.MODE_EMERGENCY_STOP), what="the emergency stop")
    seen = len(robot.commands)
    spin_until(lambda: len(robot.commands) > seen + 10, what="ten commands more")
    assert {command.mode for command in robot.commands[seen:]} == {Command.MODE_EMERGENCY_STOP}
    answer = call(Trigger, topics.EMERGENCY_STOP_RESET_SERVICE)
    assert answer.success and "released" in answer.message
    spin_until(lambda: robot.said(Command.MODE_IDLE, Command.REASON_EPISODE_INACTIVE), what="an arm that rests")
    # Whoever runs the episodes may be away: the one that the stop met goes on for nobody.
    robot.episode()
    seen = len(robot.commands)
    spin_until(lambda: len(robot.commands) > seen + 20, what="twenty commands more")
    assert {command.mode for command in robot.commands[seen:]} == {Command.MODE_IDLE}
    assert "episode 1 was ended by an emergency stop" in robot.last.reason_text
    robot.episode(episode_id=2)
    spin_until(lambda: robot.said(Command.MODE_FOLLOW), what="following the next episode")


def test_a_controller_that_was_killed_begins_with_its_emergency_stop_and_is_released_for_good(
    following, start_node, robot, spin_until, call
):
    assert call(Trigger, topics.EMERGENCY_STOP_SERVICE).success
    assert following.stop(signal.SIGKILL) == -signal.SIGKILL
    robot.commands.clear()
    again = start_node("controller", niceness=0)
    spin_until(lambda: len(robot.commands) > 20, what="the commands of the new controller")
    assert {command.mode for command in robot.commands} == {Command.MODE_EMERGENCY_STOP}
    assert again.said("latched before this controller started (asked for by a service call)")
    assert call(Trigger, topics.EMERGENCY_STOP_RESET_SERVICE).success
    robot.episode(episode_id=2)
    spin_until(lambda: robot.said(Command.MODE_FOLLOW), what="following again")
    assert again.stop(signal.SIGKILL) == -signal.SIGKILL
    robot.commands.clear()
    start_node("controller", niceness=0)
    spin_until(lambda: robot.said(Command.MODE_FOLLOW), what="a controller without an emergency stop")
    assert Command.MODE_EMERGENCY_STOP not in {command.mode for command in robot.commands}


@pytest.mark.parametrize("profile", [qos.STATE, 1], ids=["latched", "volatile"])
def test_an_emergency_stop_by_topic_is_heard_from_any_publisher(
    following, robot, ros_node, spin_until, call, tmp_path, profile
):
    publisher = ros_node.create_publisher(Bool, topics.EMERGENCY_STOP, profile)
    spin_until(lambda: publisher.get_subscription_count() >= 1, what="the controller")
    publisher.publish(Bool(data=True))
    spin_until(lambda: robot.said(Command.MODE_EMERGENCY_STOP), what="the emergency stop")
    spin_until((tmp_path / "emergency_stop").exists, what="the latch")
    refused = call(Trigger, topics.EMERGENCY_STOP_RESET_SERVICE)
    assert not refused.success and "publish false" in refused.message
    publisher.publish(Bool(data=False))
    spin_until(lambda: call(Trigger, topics.EMERGENCY_STOP_RESET_SERVICE).success, what="the reset")
    robot.episode(episode_id=2)
    spin_until(lambda: robot.said(Command.MODE_FOLLOW), what="following again")


def test_one_publisher_does_not_take_back_the_emergency_stop_of_another(
    following, robot, ros_node, ros_executor, spin_until, call
):
    import rclpy

    button = rclpy.create_node("button", context=ros_node.context)
    ros_executor.add_node(button)
    held = button.create_publisher(Bool, topics.EMERGENCY_STOP, qos.STATE)
    other = ros_node.create_publisher(Bool, topics.EMERGENCY_STOP, qos.STATE)
    spin_until(lambda: min(end.get_subscription_count() for end in (held, other)) >= 2, what="the controller")
    held.publish(Bool(data=True))
    spin_until(lambda: robot.said(Command.MODE_EMERGENCY_STOP), what="the emergency stop")

    def refusal():
        answer = call(Trigger, topics.EMERGENCY_STOP_RESET_SERVICE)
        assert not answer.success
        return answer.message

    other.publish(Bool(data=False))
    spin_until(lambda: "/button still says true" in refusal(), what="the refusal that names who still says it")
    button.destroy_publisher(held)
    spin_until(lambda: call(Trigger, topics.EMERGENCY_STOP_RESET_SERVICE).success, what="the reset without the button")
    robot.episode(episode_id=2)
    spin_until(lambda: robot.said(Command.MODE_FOLLOW), what="following again")


def malformed_chunks(robot):
    def changed(**fields):
        chunk = robot.chunk_message()
        for name, value in fields.items():
            setattr(chunk, name, value)
        return chunk

    nan = changed()
    nan.actions[9] = math.nan
    return [
        (changed(horizon=3), "expected 3 x 7"),
        (changed(action_dim=6), "x 6"),
        (changed(horizon=0, actions=[]), "no rows"),
        (changed(tick_period=0.1), "0.1000 s apart"),
        (nan, "actions[1, 2] is nan"),
        (robot.chunk_message(age_ms=2000.0, rows=200), "from another episode"),
        (robot.chunk_message(age_ms=-5000.0), "in the future"),
        (changed(task="stack"), "serves 'stack'"),
        (changed(provenance=msg.Provenance(correction=99)), "correction 99"),
    ]


def test_malformed_chunks_are_named_and_nothing_else_happens(following, robot, spin_until):
    for chunk, words in malformed_chunks(robot):
        seen = len(robot.commands)

        def offered(chunk=chunk, words=words):
            robot.chunks.publish(chunk)
            return following.said(words)

        spin_until(offered, what=f"the complaint {words!r}")
        assert all(finite(command) for command in robot.commands[seen:])
    spin_until(lambda: robot.said(Command.MODE_FOLLOW), what="following")
    assert following.alive and all(finite(command) for command in robot.commands)

    def told():
        values = (item for array in robot.health for status in array.status for item in status.values)
        return any(item.key == "last_problem" and words in item.value for item in values)

    spin_until(told, what="the last of them on /diagnostics")


def test_malformed_states_are_named_and_the_arm_stops(following, robot, spin_until):
    robot.speaks = False
    nan, turned, future = robot.state_message(), robot.state_message(), robot.state_message()
    nan.end_effector.position.y = math.nan
    turned.end_effector.orientation.w = 3.0
    future.header.stamp = to_stamp(robot.now + 3600 * 10**9)
    for state, words in ((nan, "not finite"), (turned, "quaternion has length"), (future, "in the future")):

        def offered(state=state, words=words):
            robot.states.publish(state)
            return following.said(words)

        spin_until(offered, what=f"the complaint {words!r}")
    spin_until(lambda: robot.said(Command.MODE_STOP), what="the stop")
    assert following.alive and all(finite(command) for command in robot.commands)


def test_malformed_corrections_are_named_and_ignored(following, robot, spin_until):
    wrong_size = msg.Correction(correction=4, strength=1.0, horizon=4, actions=[0.0] * 27)
    nan = msg.Correction(correction=4, strength=1.0, horizon=1, actions=[math.nan] * 7)
    strong = msg.Correction(correction=4, strength=7.0)
    empty = msg.Correction(correction=4, strength=1.0)
    for correction, words in (
        (wrong_size, "27 numbers"),
        (nan, "not finite"),
        (strong, "strength is 7"),
        (empty, "without actions"),
    ):

        def offered(correction=correction, words=words):
            robot.corrections.publish(correction)
            return following.said(words)

        spin_until(offered, what=f"the complaint {words!r}")
    spin_until(lambda: robot.said(Command.MODE_FOLLOW), what="following")
    assert all(finite(command) for command in robot.commands)


def test_a_blend_reaches_the_command_with_its_cases(controller, robot, spin_until):
    robot.episode()
    cases = [msg.RetrievedCase(case_id=5), msg.RetrievedCase(case_id=8)]

    def corrected():
        chunk = robot.chunk_message()
        correction = msg.Correction(correction=4, strength=1.0, horizon=16, actions=[0.0] * 112, cases=cases)
        correction.header.stamp = chunk.header.stamp
        robot.corrections.publish(correction)
        robot.chunks.publish(chunk)
        return any(command.provenance.correction == 4 for command in robot.commands)

    spin_until(corrected, what="a command made of a blend")
    command = next(command for command in robot.commands if command.provenance.correction == 4)
    assert list(command.provenance.case_ids) == [5, 8]


def test_figures_come_by_topic_service_and_diagnostics(following, robot, spin_until, call):
    spin_until(lambda: robot.figures and robot.figures[-1].ticks > 40, what="figures")
    spin_until(lambda: any(s.name == "controller" for array in robot.health for s in array.status), what="diagnostics")
    figures = call(srv.GetLoopStatistics, topics.LOOP_STATISTICS_SERVICE).statistics
    assert figures.ticks > 40 and figures.chunks_accepted > 0 and figures.mode == Command.MODE_FOLLOW
    assert figures.cpu_mean_ms > 0.0 and figures.rate_hz > 0.0
    stages = {stage.stage: stage for stage in figures.stages}
    assert set(stages) == {"capture_to_chunk", "chunk_to_command", "capture_to_command"}
    assert stages["capture_to_command"].p50_ms >= 20.0


def test_thresholds_change_while_it_runs_and_bad_ones_are_refused(following, robot, spin_until, call):
    def change(name, value):
        parameter = Parameter(name=name, value=value)
        return call(SetParameters, "controller/set_parameters", parameters=[parameter]).results[0]

    double = ParameterValue(type=3, double_value=0.001)
    assert change("max_translation", double).successful
    spin_until(lambda: robot.said(Command.MODE_FOLLOW) and robot.last.clamps & Command.CLAMP_VELOCITY, what="the clamp")
    for name, value, words in (
        ("max_translation", 5.0, "0.05"),
        ("gripper_width", 0.05, "restart"),
        ("hold_time", math.nan, "finite"),
    ):
        result = change(name, ParameterValue(type=3, double_value=value))
        assert not result.successful and (words in result.reason or "range" in result.reason)


def test_a_workspace_that_is_none_ends_the_start_with_one_line(start_node):
    process = start_node("controller", workspace_low=[0.9, 0.0, 0.0])
    assert process.wait() == 2
    assert "workspace_low" in process.text and "Traceback" not in process.text


def test_it_ends_cleanly_on_a_signal(following):
    assert following.stop() == 0
    assert "Traceback" not in following.text


def test_the_process_holds_no_torch(following):
    with open(f"/proc/{following.popen.pid}/maps", encoding="utf-8") as maps:
        assert "torch" not in maps.read()


def test_a_state_read_from_the_wire_equals_the_message():
    from rclpy.serialization import serialize_message

    generator = np.random.default_rng(3)
    for joints in (0, 1, 7, 9):
        for names in ([], ["a"], [f"panda_joint{'x' * index}" for index in range(joints)]):
            quaternion = generator.normal(size=4)
            state = RobotState(
                1_700_000_000_123_456_789,
                generator.normal(size=3),
                quaternion / np.linalg.norm(quaternion),
                generator.normal(size=joints),
                generator.normal(size=joints),
                0.0625,
                0.5,
                generator.normal(size=6),
            )
            message = conversions.robot_state_message(state, names, "base" * joints)
            wire = serialize_message(message)
            read, expected = robot_state_from_wire(wire), message_values.robot_state(message)
            assert stamp_from_wire(wire) == expected.stamp_ns
            for name in ("stamp_ns", "gripper_width", "gripper_effort"):
                assert getattr(read, name) == getattr(expected, name)
            for name in ("position", "orientation", "joint_positions", "joint_velocities", "wrench"):
                assert np.array_equal(getattr(read, name), getattr(expected, name))
    for length in (4, 20, 60, len(wire) - 8):
        with pytest.raises(MessageError, match="truncated"):
            robot_state_from_wire(wire[:length])
    with pytest.raises(MessageError, match="truncated"):
        stamp_from_wire(wire[:11])


def test_on_simulated_time_it_ticks_with_the_clock_and_survives_its_restart(start_node, ros_node, robot, spin_until):
    from rosgraph_msgs.msg import Clock

    clock = ros_node.create_publisher(Clock, topics.CLOCK, qos.SENSOR)
    robot.speaks = False
    start_node("controller", niceness=0, use_sim_time=True)
    spin_until(lambda: clock.get_subscription_count() == 1, what="the controller")

    def passed(start_tick: int, wanted: int):
        """Let simulated time pass, a tick at each call, until that many commands came."""
        seen, now = len(robot.commands), [start_tick]

        def step() -> bool:
            now[0] += 1
            stamp = to_stamp(now[0] * 25_000_000)
            clock.publish(Clock(clock=stamp))
            state = robot.state_message()
            state.header.stamp = stamp
            robot.states.publish(state)
            return len(robot.commands) >= seen + wanted

        spin_until(step, what=f"{wanted} commands")
        return robot.commands[seen:], now[0]

    first, end = passed(4000, 30)
    assert len(first) <= end - 4000, "no more than one command each 25 ms of simulated time"
    stamps = [to_ns(command.header.stamp) for command in first]
    assert stamps == sorted(stamps) and stamps[0] >= 4000 * 25_000_000
    again, _ = passed(10, 30)
    assert to_ns(again[-1].header.stamp) < 4000 * 25_000_000
    assert all(finite(command) for command in again)
