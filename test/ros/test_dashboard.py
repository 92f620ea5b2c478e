# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The live page's node beside real nodes: what a browser is shown, and what its buttons reach."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import PolygonStamped, PoseArray
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.task import Future
from sensor_msgs.msg import CameraInfo, Image
from std_srvs.srv import SetBool

from flow_rag_vla.bringup import live, topics
from flow_rag_vla.bringup.deliberation import PLAN_REVIEW
from flow_rag_vla.bringup.graph import EVERY_NODE
from flow_rag_vla.bringup.replay_graph import PLAYER
from flow_rag_vla.bringup.robot_graph import ROBOT_NODES
from flow_rag_vla.bringup.security.permission import SCORE_EPISODE
from flow_rag_vla.core.action import TICK_S, ActionChunk, CorrectionMode, Provenance
from flow_rag_vla.core.state import RobotState
from flow_rag_vla.data import message_values
from flow_rag_vla.gateway.live.drawing import COMMITTED, PLAN
from flow_rag_vla.nodes import conversions, diagnostics, qos
from flow_rag_vla.nodes.stamps import to_ns, to_stamp
from flow_rag_vla_interfaces import msg
from flow_rag_vla_interfaces.srv import ApprovePlan

pytest.importorskip("fastapi", reason="the live page needs the extra [web]")

from websockets.sync.client import connect

from flow_rag_vla.gateway.access import Role, new_token, save_access
from flow_rag_vla.gateway.errors import GatewayError
from flow_rag_vla.nodes import dashboard_calls

PATIENCE = 60.0


def test_every_node_counts_its_work_under_a_figure_that_it_reports():
    folder = Path(diagnostics.__file__).parent
    for node, figure in diagnostics.COUNTED.items():
        texts = [path.read_text() for path in folder.glob(f"{node}*.py")]
        assert any(f'"{figure}"' in text for text in texts), f"{node} reports no {figure}"
    nodes = {spec.name for spec in (*EVERY_NODE, PLAYER, *ROBOT_NODES)}
    assert set(diagnostics.COUNTED) == nodes, "say what a new node's work is"


class Browser:
    """What a page does: requests with a token, and a stream from which it asks for frames, on threads of its own."""

    def __init__(self, address: str, secrets: dict[Role, str], spin_until) -> None:
        self.address, self.secrets, self._spin_until = address, secrets, spin_until
        self.seen: dict = {}
        self.pictures: set[str] = set()
        self.ticks: list[float] = []
        self._pool = ThreadPoolExecutor(2)
        self._open = False

    def open(self) -> None:
        self._open = True
        self._watching = self._pool.submit(self._watch)

    def close(self) -> None:
        """Leave the page; raises what went wrong on it."""
        if self._open:
            self._open = False
            self._watching.result(PATIENCE)

    def _watch(self) -> None:
        with connect(self.address.replace("http", "ws") + "api/live/stream", open_timeout=PATIENCE) as stream:
            stream.send(json.dumps({"token": self.secrets[Role.VIEWER]}))
            while self._open:
                stream.send('{"next": true, "images": true}')
                frame = json.loads(stream.recv(PATIENCE))
                self.pictures |= set(frame.get("pictures", {}))
                self.ticks += frame.get("commands", {}).get("t", [])
                self.seen = self.seen | frame

    def ask(self, path: str, body: object = None, role: Role = Role.OPERATOR) -> tuple[int, dict]:
        """Status and body of an answer; the test's node goes on meanwhile."""
        asked = self._pool.submit(self._ask, path, body, role)
        self._spin_until(asked.done, PATIENCE, f"the answer of {path}")
        return asked.result()

    def _ask(self, path: str, body: object, role: Role) -> tuple[int, dict]:
        request = urllib.request.Request(
            f"{self.address}api/live{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.secrets[role]}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)


class Robot:
    """A robot on the test's node that says where it is, and what it sees, and makes plans while it is to."""

    def __init__(self, node, size: int = 8) -> None:
        self.node, self.chunk_id, self.plans = node, 0, False
        self.pixels = np.full((size, size, 3), 90, np.uint8)
        self.shown: set[int] = set()
        self.actions = np.zeros((16, 7), dtype=np.float32)
        self.actions[:, 0], self.actions[:, 6] = 0.0002, 0.5
        self.committed = 4
        self.commands: list[msg.ControlCommand] = []
        self.states = node.create_publisher(msg.RobotState, topics.ROBOT_STATE, qos.SENSOR)
        self.images = node.create_publisher(Image, topics.FRONT_IMAGE, qos.SENSOR)
        self.chunks = node.create_publisher(msg.ActionChunk, topics.ACTION_CHUNK, qos.PLAN)
        self.episodes = node.create_publisher(msg.EpisodeStatus, topics.EPISODE_STATUS, qos.STATE)
        self.failures = node.create_publisher(msg.FailureEvent, topics.FAILURE_EVENT, qos.EVENT)
        node.create_subscription(msg.ControlCommand, topics.COMMAND, self.commands.append, qos.command_profile(TICK_S))
        node.create_timer(TICK_S, self._tick)

    def said(self, mode: int) -> bool:
        return bool(self.commands) and self.commands[-1].mode == mode

    def begin(self, episode_id: int = 3) -> None:
        status = msg.EpisodeStatus(
            episode_id=episode_id,
            state=msg.EpisodeStatus.STATE_RUNNING,
            task="push",
            instruction="push it",
            phase="reach",
        )
        status.header.stamp = to_stamp(time.time_ns() - 200_000_000)
        self.episodes.publish(status)
        self.plans = True

    def fail(self) -> None:
        event = msg.FailureEvent(
            event_id=1, episode_id=3, failure_type=msg.FailureEvent.TYPE_DROP, task="push", phase="reach",
            description="it fell", evidence=[msg.Evidence(name="width", value=0.01, threshold=0.02, unit="m")],
        )  # fmt: skip
        event.header.stamp = to_stamp(time.time_ns())
        self.failures.publish(event)

    def _tick(self) -> None:
        now_ns = time.time_ns()
        state = RobotState(now_ns, np.array([0.5, 0.0, 0.3]), np.array([1.0, 0.0, 0.0, 0.0]))
        names = [f"joint_{index}" for index in range(7)]
        self.states.publish(conversions.robot_state_message(state, names, topics.BASE_FRAME))
        self.images.publish(conversions.image_message(self.pixels, now_ns, "front"))
        self.shown.add(now_ns)
        if not self.plans:
            return
        self.chunk_id += 1
        stamp_ns = now_ns - 20_000_000
        made = Provenance(stamp_ns, "flow", "abc", 42, CorrectionMode.GUIDANCE, 0.5, (12,))
        chunk = ActionChunk(self.chunk_id, stamp_ns, self.actions, "push", committed=self.committed, provenance=made)
        self.chunks.publish(conversions.chunk_message(chunk, topics.BASE_FRAME))


@pytest.fixture
def browser(start_node, spin_until, tmp_path):
    """A browser at the page of a dashboard that expects the controller only."""
    made = {role: new_token(role.word, role) for role in Role}
    tokens = tmp_path / "tokens.json"
    save_access(tokens, [token for token, _ in made.values()])
    node = start_node(
        "dashboard",
        port=0,
        tokens=str(tokens),
        expected=["controller"],
        export_folder=str(tmp_path / "exports"),
        front_camera=[1.5, 0.0, 0.8, 0.5, 0.0, 0.2],
    )
    spin_until(lambda: node.said("the live page is at"), PATIENCE, "the page")
    address = re.search(r"the live page is at (http://\S+)", node.text)
    assert address is not None
    browser = Browser(address[1], {role: secret for role, (_, secret) in made.items()}, spin_until)
    yield browser
    browser.close()
    assert node.stop() == 0, node.text
    assert "Traceback" not in node.text


def test_a_browser_sees_the_loop_run_and_its_stop_reaches_the_robot(browser, start_node, ros_node, spin_until):
    robot = Robot(ros_node)
    # Nobody looks yet, and nothing that is quick or large is subscribed to.
    assert not ros_node.get_subscriptions_info_by_topic(f"/{topics.FRONT_IMAGE}")
    controller = start_node("controller", niceness=0)
    spin_until(lambda: controller.said("40 Hz loop") and robot.commands, PATIENCE, "the loop")
    spin_until(
        lambda: (
            robot.episodes.get_subscription_count() == 2
            and robot.failures.get_subscription_count() == 1
            and robot.chunks.get_subscription_count() == 2
        ),
        PATIENCE,
        "the subscriptions of controller and page",
    )
    browser.open()
    robot.begin()
    spin_until(lambda: robot.said(msg.ControlCommand.MODE_FOLLOW), PATIENCE, "motion")
    robot.fail()

    def missing() -> list[str]:
        seen = browser.seen
        failures = [entry for entry in seen.get("timeline", []) if entry["kind"] == "failure"]
        found = {
            "the mode": seen.get("state", {}).get("mode") == "follow",
            "a picture": "front" in browser.pictures,
            "the episode": seen.get("episode", {}).get("instruction") == "push it",
            "the histogram": "histogram" in seen,
            "commands": len(browser.ticks) > 40,
            "a failure": bool(failures),
            "its answer": bool(failures) and failures[0]["answer"] is not None,
            "the controller's health": any(
                node["name"] == "controller" and {"memory_mb", "cpu_percent", "rate_hz"} <= set(node["figures"])
                for node in seen.get("nodes", [])
            ),
        }
        return [name for name, there in found.items() if not there]

    try:
        spin_until(lambda: not missing(), PATIENCE)
    except pytest.fail.Exception:
        pytest.fail(f"the page does not show {', '.join(missing())}; it has {browser.seen.keys()}")
    assert browser.ticks == sorted(set(browser.ticks)), "each command is shown once, in order"
    failure = next(entry for entry in browser.seen["timeline"] if entry["kind"] == "failure")
    assert failure["type"] == "drop" and failure["answer"]["cases"] == [12]
    assert browser.seen["chunk"]["committed"] == 4

    # What RViz draws, from the moment that it listens.
    overlays: dict[str, list] = {name: [] for name in (live.PLANNED_TOPIC, live.WORKSPACE_TOPIC)}
    states: list[DiagnosticStatus] = []
    ros_node.create_subscription(PoseArray, live.PLANNED_TOPIC, overlays[live.PLANNED_TOPIC].append, 5)
    ros_node.create_subscription(PolygonStamped, live.WORKSPACE_TOPIC, overlays[live.WORKSPACE_TOPIC].append, 5)
    ros_node.create_subscription(DiagnosticStatus, live.OVERALL_TOPIC, states.append, qos.STATE)
    spin_until(
        lambda: all(overlays.values()) and states and states[-1].level == DiagnosticStatus.OK,
        PATIENCE,
        "overlays and the overall state",
    )
    planned = overlays[live.PLANNED_TOPIC][-1]
    assert planned.header.frame_id == topics.BASE_FRAME
    assert len(overlays[live.WORKSPACE_TOPIC][-1].polygon.points) == 16

    # The stop: refused without the role, then at the robot, latched, and released.
    assert browser.ask("/emergency_stop", {}, Role.REVIEWER)[0] == 403
    assert robot.said(msg.ControlCommand.MODE_FOLLOW)
    status, answer = browser.ask("/emergency_stop", {})
    assert (status, answer["latched"], answer["confirmed"]) == (200, True, True), answer
    spin_until(lambda: robot.said(msg.ControlCommand.MODE_EMERGENCY_STOP), PATIENCE, "the stop")
    spin_until(lambda: browser.seen["state"]["mode"] == "emergency_stop", PATIENCE, "the stop on the page")
    status, answer = browser.ask("/release", {})
    assert status == 200 and "begin another" in answer["message"], answer
    robot.begin(4)
    spin_until(lambda: robot.said(msg.ControlCommand.MODE_FOLLOW), PATIENCE, "motion of the next episode")

    # Nobody serves tasks here, and the page says so instead of failing.
    status, answer = browser.ask("/start", {"task": "push"})
    assert (status, answer["code"]) == (503, "node_down")
    browser.close()
    spin_until(
        lambda: not ros_node.get_subscriptions_info_by_topic(f"/{topics.FRONT_IMAGE}"), PATIENCE, "no more pictures"
    )
    assert controller.stop() == 0


def test_a_plan_is_drawn_into_the_front_cameras_picture_while_somebody_listens(start_node, ros_node, spin_until):
    robot = Robot(ros_node, size=96)
    # It stays for 8 ticks, then goes 32 mm to the left, which is to the right in the picture; half of that is settled.
    robot.actions[:, :3], robot.actions[8:, 1], robot.committed = 0.0, 0.004, 12
    infos = ros_node.create_publisher(CameraInfo, topics.FRONT_INFO, qos.SENSOR)
    info = CameraInfo(width=96, height=96)
    info.k = [1000.0, 0.0, 48.0, 0.0, 1000.0, 48.0, 0.0, 0.0, 1.0]
    ros_node.create_timer(0.1, lambda: infos.publish(info))
    # The camera looks at where the robot says that it is.
    page = start_node("dashboard", page=False, front_camera=[1.5, 0.0, 0.8, 0.5, 0.0, 0.3])
    controller = start_node("controller", niceness=0)
    spin_until(lambda: controller.said("40 Hz loop") and robot.commands, PATIENCE, "the loop")
    spin_until(lambda: robot.chunks.get_subscription_count() == 2, PATIENCE, "controller and page")
    robot.begin()
    spin_until(lambda: robot.said(msg.ControlCommand.MODE_FOLLOW), PATIENCE, "motion")
    assert not ros_node.get_subscriptions_info_by_topic(f"/{topics.FRONT_IMAGE}"), "nobody listens yet"

    seen: list[Image] = []
    listening = ros_node.create_subscription(Image, live.PLAN_IMAGE_TOPIC, seen.append, qos.SENSOR)

    def drawn() -> bool:
        if not seen:
            return False
        pixels = message_values.image_pixels(seen[-1])
        return bool((pixels == PLAN).all(axis=2).any() and (pixels == COMMITTED).all(axis=2).any())

    spin_until(drawn, PATIENCE, "a plan in the picture")
    image = seen[-1]
    assert (image.header.frame_id, image.width, image.height) == ("front", 96, 96)
    assert to_ns(image.header.stamp) in robot.shown, "the stamp is not that of the picture"
    pixels = message_values.image_pixels(image)
    for colour, reach in ((COMMITTED, 8), (PLAN, 20)):
        rows, columns = np.nonzero((pixels == colour).all(axis=2))
        assert abs(rows.mean() - 48) < 4 and columns.max() - 48 > reach, f"{colour} is elsewhere"
    assert (pixels[0, 0] == 90).all()
    wrist = ros_node.get_subscriptions_info_by_topic(f"/{topics.WRIST_IMAGE}")
    assert not wrist, "pictures are heard that nobody draws into"

    ros_node.destroy_subscription(listening)
    spin_until(
        lambda: not ros_node.get_subscriptions_info_by_topic(f"/{topics.FRONT_IMAGE}"), PATIENCE, "no more pictures"
    )
    assert controller.stop() == 0 and page.stop() == 0 and "Traceback" not in page.text


def test_a_plan_that_waits_is_approved_and_an_episode_judged_over_http(browser, ros_node, spin_until):
    words: list[object] = []

    def approve(request, response):
        words.append((request.deliberation_id, request.approved, request.person, request.reason))
        response.ok, response.message = request.deliberation_id == "p1", "approved by operator"
        return response

    def score(request, response):
        words.append(request.data)
        response.success, response.message = True, "episode 3: success"
        return response

    reviews = ros_node.create_publisher(msg.PlanReview, PLAN_REVIEW, qos.STATE)
    robot = Robot(ros_node)
    review = msg.PlanReview(
        deliberation_id="p1", open=True, instruction="open it slowly", questions=["somebody is near"], time_left=600.0,
        speed_scale=1.0, plan=msg.TaskPlan(steps=[msg.TaskStep(instruction="open the drawer", speed_scale=0.5)]),
    )  # fmt: skip
    review.header.stamp = ros_node.get_clock().now().to_msg()
    reviews.publish(review)
    browser.open()

    def person() -> dict:
        return browser.seen.get("person", {"plans": [], "episode": 0})

    spin_until(lambda: person()["plans"], PATIENCE, "the plan on the page")
    (plan,) = person()["plans"]
    assert (plan["id"], plan["instruction"], plan["steps"]) == ("p1", "open it slowly", ["open the drawer"])
    assert plan["speed"] == 0.5 and plan["questions"] == ["somebody is near"]
    assert 590.0 < plan["ends"] / 1e3 - time.time() <= 600.0
    # Nobody serves either word yet, and no episode is to be judged.
    assert browser.ask("/plans/p1/answer", {"approved": True})[1]["code"] == "node_down"
    robot.begin()
    spin_until(lambda: browser.seen.get("episode", {}).get("state") == "running", PATIENCE, "the episode")
    assert browser.ask("/score", {"success": True, "episode": 3})[1]["code"] == "node_down" and person()["episode"] == 0

    ros_node.create_service(ApprovePlan, topics.APPROVE_PLAN, approve)
    ros_node.create_service(SetBool, SCORE_EPISODE, score)
    spin_until(lambda: person()["episode"] == 3, PATIENCE, "the episode that a person judges")
    spin_until(lambda: browser.ask("/plans/p1/answer", {"approved": True, "reason": "clear"})[0] == 200, PATIENCE)
    assert words == [("p1", True, "operator", "clear")]
    status, answer = browser.ask("/plans/p9/answer", {"approved": True})
    assert (status, answer["code"]) == (409, "not_waiting")
    assert browser.ask("/score", {"success": True, "episode": 3}) == (200, {"message": "episode 3: success"})
    assert words[-1] is True
    review.open = False
    reviews.publish(review)
    spin_until(lambda: not person()["plans"], PATIENCE, "no plan on the page")


def test_cases_are_looked_at_edited_retired_and_exported_over_http(browser, start_node, call, tmp_path, spin_until):
    from flow_rag_vla_interfaces import srv

    start_node("failure_memory", database=str(tmp_path / "memory.db"), key="embedding")
    embedding = np.zeros(8, dtype=np.float32)
    embedding[0] = 1.0
    case = msg.FailureCase(
        failure_type=msg.FailureEvent.TYPE_DROP, task="push", phase="reach", encoder="compact", encoder_revision="abc",
        embedding=embedding, horizon=2, failed_actions=np.full(14, 0.001, dtype=np.float32),
        evidence=[msg.Evidence(name="width", value=0.01, threshold=0.02, unit="m")],
    )  # fmt: skip
    added = call(srv.AddFailureCase, topics.ADD_CASE, failure_case=case)
    assert added.accepted, added.message

    def listed() -> bool:
        return browser.ask("/memory/cases?failure_type=drop")[0] == 200

    spin_until(listed, PATIENCE, "the memory behind the page")
    page = browser.ask("/memory/cases?failure_type=drop", role=Role.VIEWER)[1]
    assert [item["id"] for item in page["cases"]] == [added.case_id]
    path = f"/memory/cases/{added.case_id}"
    whole = browser.ask(path, role=Role.VIEWER)[1]
    assert whole["evidence"][0]["threshold"] == pytest.approx(0.02) and len(whole["failed_actions"]) == 2
    edited = browser.ask(f"{path}/edit", {"note": "the lid was wet", "failure_type": "collision"}, Role.REVIEWER)[1]
    assert (edited["note"], edited["type"]) == ("the lid was wet", "collision")
    assert browser.ask(f"{path}/retire", {"retired": True, "reason": "a test"}, Role.VIEWER)[0] == 403
    retired = browser.ask(f"{path}/retire", {"retired": True, "reason": "a test"}, Role.REVIEWER)[1]
    assert (retired["retired"], retired["retired_reason"]) == (True, "a test")
    status, answer = browser.ask("/memory/cases/999", role=Role.VIEWER)
    assert (status, answer["code"]) == (404, "no_case")
    status, answer = browser.ask("/memory/cases/999/retire", {"retired": True}, Role.REVIEWER)
    assert (status, answer["code"]) == (404, "no_case")
    exported = browser.ask("/memory/export", {"include_retired": True}, Role.REVIEWER)[1]
    assert exported["exported"] == 1
    assert (tmp_path / "exports" / exported["file"]).is_file()
    # The controller is not running: nobody can confirm a stop, but it is on its way.
    assert browser.ask("/emergency_stop", {})[1]["confirmed"] is False


def test_the_page_is_fed_at_another_rate_from_the_next_moment_on(start_node, ros_node, spin_until, call):
    start_node("dashboard", page=False)
    figures: list[dict[str, str]] = []

    def keep(array):
        figures.extend(
            {item.key: item.value for item in status.values} for status in array.status if status.name == "dashboard"
        )

    ros_node.create_subscription(DiagnosticArray, topics.DIAGNOSTICS, keep, 10)

    def change(name, value):
        asked = Parameter(name=name, value=value)
        return call(SetParameters, "dashboard/set_parameters", parameters=[asked]).results[0]

    rate = ParameterValue(type=ParameterType.PARAMETER_DOUBLE, double_value=2.0)
    assert change("image_rate", rate).successful
    spin_until(lambda: figures and figures[-1]["image_rate"] == "2.0", PATIENCE, "the new rate")
    port = change("port", ParameterValue(type=ParameterType.PARAMETER_INTEGER, integer_value=8601))
    assert not port.successful and "restart the node" in port.reason


class Deaf:
    """A service of which the first requests reach nobody."""

    srv_name = "cancel"

    def __init__(self, lost: int) -> None:
        self.lost, self.made, self.dropped = lost, 0, 0

    def service_is_ready(self) -> bool:
        return True

    def call_async(self, request: object) -> Future:
        self.made += 1
        future: Future = Future()
        if self.made > self.lost:
            future.set_result(request)
        return future

    def remove_pending_request(self, future: Future) -> None:
        self.dropped += 1


def test_a_stop_is_asked_for_again_while_nobody_answers(monkeypatch):
    monkeypatch.setattr(dashboard_calls, "INSIST_S", 0.02)
    monkeypatch.setattr(dashboard_calls, "PATIENCE_S", 0.2)
    client = Deaf(lost=3)
    assert asyncio.run(dashboard_calls._insisted(client, "all of them", "episode_manager")) == ("all of them", 4)
    assert client.dropped == 3
    gone = Deaf(lost=1000)
    with pytest.raises(GatewayError, match="episode_manager did not answer"):
        asyncio.run(dashboard_calls._insisted(gone, "all of them", "episode_manager"))
    assert gone.made == gone.dropped == 10


def test_the_page_of_a_second_graph_takes_a_free_port_unless_its_address_was_told_already(
    start_node, spin_until, tmp_path
):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        page = start_node("dashboard", port=port)
        spin_until(lambda: page.said("the live page is at"), PATIENCE, "the page")
        (found,) = set(re.findall(r"http://127\.0\.0\.1:(\d+)/", page.text))
        assert int(found) != port and "takes a free port" in page.text
        save_access(tmp_path / "tokens.json", [new_token("ada", Role.OPERATOR)[0]])
        told = start_node("dashboard", port=port, tokens=str(tmp_path / "tokens.json"))
        assert told.wait() == 2 and str(port) in told.text and "Traceback" not in told.text
