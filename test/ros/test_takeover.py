# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A person takes over: keyboard, controller and failure memory as processes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from flow_rag_vla.bringup import topics
from flow_rag_vla.core.action import TICK_S, ActionChunk, Provenance
from flow_rag_vla.core.goal import parse_instruction
from flow_rag_vla.core.state import RobotState
from flow_rag_vla.nodes import conversions, qos
from flow_rag_vla.nodes.stamps import to_stamp
from flow_rag_vla.policy.observation import proprioception
from flow_rag_vla.policy.situation import SituationKey
from flow_rag_vla_interfaces import msg, srv

Command = msg.ControlCommand
WORDS = "put the red cube in the bin"
JOINTS = [f"joint_{index}" for index in range(7)]


class Stand:
    """A robot without inertia, a policy that moves along y, and a camera that sees what the test says."""

    def __init__(self, node) -> None:
        self.node = node
        self.commands: list[Command] = []
        self.statistics: list[msg.MemoryStatistics] = []
        self.position = np.array([0.5, 0.0, 0.3])
        self.sees: np.ndarray | None = None
        self.revision = "abc"
        self.plans = True
        self.chunk_id = 0
        create = node.create_publisher
        self.states = create(msg.RobotState, topics.ROBOT_STATE, qos.SENSOR)
        self.chunks = create(msg.ActionChunk, topics.ACTION_CHUNK, qos.PLAN)
        self.embeddings = create(msg.Embedding, topics.EMBEDDING, qos.SENSOR)
        self.episodes = create(msg.EpisodeStatus, topics.EPISODE_STATUS, qos.STATE)
        self.failures = create(msg.FailureEvent, topics.FAILURE_EVENT, qos.EVENT)
        self.takeovers = create(msg.Takeover, topics.TAKEOVER, qos.SENSOR)
        node.create_subscription(Command, topics.COMMAND, self._on_command, qos.PLAN)
        node.create_subscription(msg.MemoryStatistics, topics.MEMORY_STATISTICS, self.statistics.append, qos.STATE)
        node.create_timer(TICK_S, self._tick)

    @property
    def last(self) -> Command:
        return self.commands[-1]

    def said(self, mode: int, reason: int | None = None) -> bool:
        return bool(self.commands) and self.last.mode == mode and reason in (None, self.last.reason)

    def episode(
        self,
        state: int = msg.EpisodeStatus.STATE_RUNNING,
        number: int = 1,
        phase: str = "reach",
        task: str = "push",
        words: str = "",
    ) -> None:
        status = msg.EpisodeStatus(episode_id=number, state=state, task=task, phase=phase, instruction=words)
        status.header.stamp = to_stamp(time.time_ns() - 200_000_000)
        self.episodes.publish(status)

    def ask(self, *velocity: float, person: str = "ada", active: bool = True, gripper: float = -1.0) -> None:
        message = msg.Takeover(person=person, active=active, gripper=gripper)
        message.header.stamp = to_stamp(time.time_ns())
        values = velocity or (0.0,) * 6
        linear, angular = message.velocity.linear, message.velocity.angular
        linear.x, linear.y, linear.z, angular.x, angular.y, angular.z = (float(value) for value in values)
        self.takeovers.publish(message)

    def fail(self, onset_ns: int) -> None:
        event = msg.FailureEvent(event_id=1, failure_type=1, task="push", phase="reach", onset=to_stamp(onset_ns))
        event.header.stamp = to_stamp(time.time_ns())
        self.failures.publish(event)

    def _tick(self) -> None:
        now = time.time_ns()
        state = RobotState(now, self.position, np.array([1.0, 0.0, 0.0, 0.0]))
        self.states.publish(conversions.robot_state_message(state, JOINTS, topics.BASE_FRAME))
        if self.plans:
            self.chunk_id += 1
            actions = np.zeros((16, 7), dtype=np.float32)
            actions[:, 1], actions[:, 6] = 0.001 * np.sin(now * 1e-9), 0.5
            chunk = ActionChunk(self.chunk_id, now, actions, "push", provenance=Provenance(now, "flow", "abc"))
            self.chunks.publish(conversions.chunk_message(chunk, topics.BASE_FRAME))
        if self.sees is not None:
            seen = msg.Embedding(encoder="compact", revision=self.revision, values=conversions.floats(self.sees))
            seen.header.stamp = to_stamp(now)
            self.embeddings.publish(seen)

    def _on_command(self, command: Command) -> None:
        self.commands.append(command)
        if command.mode in (Command.MODE_FOLLOW, Command.MODE_TAKEOVER):
            target = command.target.position
            self.position = np.array([target.x, target.y, target.z])


@pytest.fixture
def stand(ros_node) -> Stand:
    return Stand(ros_node)


@pytest.fixture
def following(start_node, stand, spin_until):
    process = start_node("controller", niceness=0)
    spin_until(lambda: stand.commands, what="commands")
    stand.episode()
    spin_until(lambda: stand.said(Command.MODE_FOLLOW), what="a command that follows")
    return process


class Console:
    """The console command with its keyboard on a pipe."""

    def __init__(self, log) -> None:
        self.log, self._pressed = log, 0.0
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "flow_rag_vla.cli.main", "teleop", "--person", "ada"],
            stdin=subprocess.PIPE,
            stdout=log.open("wb"),
            stderr=subprocess.STDOUT,
        )

    def hold(self, key: str) -> None:
        """Press it again if 50 ms have passed, as a keyboard repeats a key that is held down."""
        if time.monotonic() - self._pressed > 0.05:
            self._pressed = time.monotonic()
            self.press(key)

    def press(self, keys: str) -> None:
        assert self.popen.stdin is not None
        self.popen.stdin.write(keys.encode())
        self.popen.stdin.flush()


@pytest.fixture
def console(tmp_path) -> Iterator[Callable[[], Console]]:
    started: list[Console] = []

    def start() -> Console:
        started.append(Console(tmp_path / "teleop.log"))
        return started[-1]

    yield start
    for item in started:
        if item.popen.poll() is None:
            item.popen.kill()
        item.popen.wait(20)


def test_the_keyboard_moves_the_robot_and_gives_it_back(following, stand, console, spin_until):
    person = console()
    spin_until(lambda: "Enter  release" in person.log.read_text(), what="the keys")
    spin_until(lambda: stand.node.count_publishers(topics.TAKEOVER) == 2, what="the keyboard")
    assert stand.said(Command.MODE_FOLLOW)
    start = stand.position.copy()
    person.press("w")
    spin_until(lambda: stand.said(Command.MODE_TAKEOVER), what="the takeover")
    assert (stand.last.provenance.policy, stand.last.provenance.policy_revision) == ("human", "ada")
    assert stand.last.reason == Command.REASON_TAKEOVER and stand.last.chunk_id == 0
    spin_until(lambda: person.hold("w") or stand.position[0] > start[0] + 0.01, what="motion along x")
    person.press("c")
    spin_until(lambda: stand.last.gripper_width == 0.0, what="a closed gripper")
    person.press("\n")
    spin_until(lambda: stand.said(Command.MODE_FOLLOW), what="the policy")
    assert stand.last.provenance.policy == "flow"
    person.press("r")
    spin_until(lambda: stand.said(Command.MODE_TAKEOVER), what="the takeover")
    person.press("\x1b")
    assert person.popen.wait(20) == 0 and "released" in person.log.read_text()
    spin_until(lambda: stand.said(Command.MODE_FOLLOW), what="the policy")


def test_a_keyboard_that_dies_leaves_a_hold_with_a_name_until_someone_releases(following, stand, console, spin_until):
    person = console()
    spin_until(lambda: stand.node.count_publishers(topics.TAKEOVER) == 2, what="the keyboard")
    person.press(" ")
    spin_until(lambda: stand.said(Command.MODE_TAKEOVER), what="the takeover")
    person.popen.kill()
    spin_until(lambda: stand.said(Command.MODE_STOP, Command.REASON_TAKEOVER_LOST), what="the stop")
    modes = [command.mode for command in stand.commands]
    since = len(modes) - modes[::-1].index(Command.MODE_TAKEOVER)
    assert Command.MODE_FOLLOW not in modes[since:]
    assert "ada has the robot and has not been heard" in stand.last.reason_text
    stand.ask(person="bob")
    spin_until(lambda: following.said("'ada' has the robot and must release it first"), what="the refusal")
    stand.ask(active=False)
    spin_until(lambda: stand.said(Command.MODE_FOLLOW), what="the policy")


def test_requests_that_make_no_sense_change_nothing(following, stand, spin_until):
    stand.ask(float("nan"), 0, 0, 0, 0, 0)
    spin_until(lambda: following.said("expected finite numbers"), what="the first refusal")
    # The same kind of complaint is logged once a second.
    stand.node.create_timer(0.3, lambda: stand.ask(person=""))
    spin_until(lambda: following.said("takeover by nobody"), what="the second refusal")
    assert Command.MODE_TAKEOVER not in {command.mode for command in stand.commands}


def unit(seed: int, size: int = 32) -> np.ndarray:
    values = np.random.default_rng(seed).normal(size=size)
    return (values / np.linalg.norm(values)).astype(np.float32)


def cases(call) -> list[msg.FailureCase]:
    listed = call(srv.ListFailureCases, topics.LIST_CASES, include_retired=True).cases
    return [call(srv.GetFailureCase, topics.GET_CASE, case_id=item.case_id).failure_case for item in listed]


def teach(stand, spin_until, ticks: int = 24) -> None:
    """Move along x for a while, then release."""
    begun = sum(command.mode == Command.MODE_TAKEOVER for command in stand.commands)
    timer = stand.node.create_timer(0.05, lambda: stand.ask(0.08, 0, 0, 0, 0, 0, gripper=1.0))
    spin_until(
        lambda: sum(command.mode == Command.MODE_TAKEOVER for command in stand.commands) > begun + ticks,
        what="the takeover",
    )
    stand.node.destroy_timer(timer)
    stand.ask(active=False)
    spin_until(lambda: stand.said(Command.MODE_FOLLOW), what="the policy")


@pytest.fixture
def remembering(following, start_node, stand, spin_until, tmp_path):
    process = start_node(
        "failure_memory",
        database=str(tmp_path / "memory.db"),
        origin="this robot",
        key="embedding",
        corrector="dispatch",
    )
    stand.sees = unit(1)
    spin_until(lambda: stand.statistics, what="the memory")
    stand.episode()
    spin_until(lambda: stand.embeddings.get_subscription_count() and stand.failures.get_subscription_count(), what="it")
    return process


def test_a_takeover_after_a_failure_becomes_its_correction(remembering, stand, call, spin_until):
    seen_from = len(stand.commands)
    spin_until(lambda: len(stand.commands) > seen_from + 20, what="a while in the situation")
    onset = time.time_ns() - 200_000_000
    stand.fail(onset)
    spin_until(lambda: remembering.said("case 1"), what="the case")
    assert list(cases(call)[0].correction) == []
    teach(stand, spin_until)
    spin_until(lambda: remembering.said("case 1 learned its correction by human (ada"), what="the lesson")
    case = cases(call)[0]
    assert (case.correction_source, case.horizon, case.origin) == ("human", 16, "this robot")
    rows = np.array(case.correction).reshape(16, 7)
    np.testing.assert_allclose(rows[-4:, 0], 0.08 * TICK_S, atol=1e-6)
    assert np.abs(rows[:, 1]).max() < 0.002 and set(rows[-4:, 6].tolist()) == {1.0}
    assert [item.change for item in case.history] == ["edited"] and case.uid
    stand.episode(msg.EpisodeStatus.STATE_SUCCEEDED)
    spin_until(lambda: uses_of(remembering, 1), what="the use on record")
    assert uses_of(remembering, 1) == [(1, 0, "intervened")]


def uses_of(process, case_id: int) -> list[tuple[int, int, str]]:
    """Episode, mode and result of each use on record, as another program reads them."""
    database = next(item for item in process.popen.args if item.startswith("database:="))
    path = json.loads(database.partition(":=")[2])
    code = (
        "import json, sys\nfrom flow_rag_vla.memory.ledger import Ledger\n"
        "from flow_rag_vla.memory.store import FailureStore\n"
        "found = Ledger(FailureStore(sys.argv[1], create=False)).uses(int(sys.argv[2]))\n"
        "print(json.dumps([[use.episode_id, int(use.mode), use.result.name.lower()] for use in found]))"
    )
    said = subprocess.run([sys.executable, "-c", code, path, str(case_id)], capture_output=True, text=True, check=True)
    return [tuple(item) for item in json.loads(said.stdout)]


def test_a_takeover_before_anything_was_detected_is_a_case_of_its_own(remembering, stand, call, spin_until):
    seen_from = len(stand.commands)
    spin_until(lambda: len(stand.commands) > seen_from + 20, what="a while in the situation")
    teach(stand, spin_until)
    spin_until(lambda: remembering.said("unknown in push/reach: case 1"), what="the case")
    case = cases(call)[0]
    assert (case.correction_source, case.failure_type) == ("human", 0)
    assert "ada took over before a failure was detected" in case.note
    # A failure that shows while a person has the robot is theirs.
    timer = stand.node.create_timer(0.05, stand.ask)
    spin_until(lambda: stand.said(Command.MODE_TAKEOVER), what="the takeover")
    begun = len(stand.commands)
    spin_until(lambda: len(stand.commands) > begun + 20, what="a while")
    stand.fail(time.time_ns() - 100_000_000)
    stand.node.destroy_timer(timer)
    stand.ask(active=False)
    spin_until(lambda: stand.said(Command.MODE_FOLLOW), what="the policy")
    assert len(cases(call)) == 1


def test_where_a_persons_hand_closed_says_how_far_the_target_was_misread(
    following, start_node, stand, call, spin_until, tmp_path
):
    key, goal = SituationKey.load(), parse_instruction(WORDS)

    def read(felt: np.ndarray) -> np.ndarray:
        return key.target_place(stand.sees, felt, goal)

    def felt() -> np.ndarray:
        return proprioception(RobotState(0, stand.position, np.array([1.0, 0.0, 0.0, 0.0])))

    def near(seed: int) -> bool:
        stand.sees = unit(seed, key.embedding_dimension)
        return float(np.linalg.norm(read(felt()) - stand.position)) < 0.10

    assert next((seed for seed in range(2000) if near(seed)), None) is not None
    stand.revision = key.encoder_revision
    process = start_node("failure_memory", database=str(tmp_path / "memory.db"), key="situation")
    spin_until(lambda: stand.statistics, what="the memory")

    def tell(phase: str) -> None:
        stand.episode(number=2, phase=phase, task="pick_and_place", words=WORDS)

    tell("reach")
    spin_until(lambda: stand.embeddings.get_subscription_count(), what="it")

    def go_on(gripper: float, ticks: int = 20) -> None:
        begun = len(stand.commands)
        timer = stand.node.create_timer(0.05, lambda: stand.ask(0, 0, 0.02, 0, 0, 0, gripper=gripper))
        spin_until(
            lambda: sum(item.mode == Command.MODE_TAKEOVER for item in stand.commands[begun:]) > ticks,
            what="the takeover",
        )
        stand.node.destroy_timer(timer)

    go_on(1.0)
    closed_at = stand.position.copy()
    go_on(0.0)
    tell("grasp")
    go_on(0.0)
    tell("transport")
    go_on(0.0)
    stand.ask(active=False)
    spin_until(lambda: process.said("unknown in pick_and_place/reach: case"), what="the lesson")
    known = [case for case in cases(call) if len(case.misreading)]
    assert known
    for case in known:
        place = read(np.array(case.proprioception, dtype=np.float32)) + np.array(case.misreading)
        # By then the hand had gone on for a part of a second, at 2 cm a second, and some commands were under way.
        assert np.linalg.norm(place - closed_at) < 0.02
