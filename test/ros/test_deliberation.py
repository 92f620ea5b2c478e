# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The deliberation node with the real language model node: plans, people, holds, cancels and explained failures."""

from __future__ import annotations

import base64
import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from action_msgs.msg import GoalStatus
from diagnostic_msgs.msg import DiagnosticArray
from PIL import Image as Pillow
from rclpy.action import ActionClient
from rclpy.duration import Duration
from sensor_msgs.msg import Image

from flow_rag_vla.bringup import topics
from flow_rag_vla.bringup.deliberation import FAILURE_DIAGNOSIS, PLAN_REVIEW
from flow_rag_vla.bringup.labeling import DETECTIONS
from flow_rag_vla.core.failure import FailureType
from flow_rag_vla.llm.embedding.choice import make_embedder
from flow_rag_vla.llm.knowledge import MANUALS
from flow_rag_vla.llm.text_store import TextStore
from flow_rag_vla.memory.case import FailureCase
from flow_rag_vla.memory.memory import FailureMemory
from flow_rag_vla.nodes import qos
from flow_rag_vla.nodes.stamps import to_ns
from flow_rag_vla_interfaces.action import DeliberateTask
from flow_rag_vla_interfaces.msg import (
    Detection,
    DetectionArray,
    Embedding,
    Evidence,
    FailureDiagnosis,
    FailureEvent,
    PlanReview,
    SceneObject,
)
from flow_rag_vla_interfaces.srv import ApprovePlan, ResetSimulation, SetProvider

sys.path.insert(0, str(Path(__file__).parent.parent / "llm"))
from wire import Reply, WireServer

WAIT_S = 60.0
PLACES = {"red cube": (0.45, -0.1, 0.02), "bin": (0.5, 0.24, 0.0)}


def thing(name: str, place: tuple[float, float, float], **fields: object) -> SceneObject:
    made = SceneObject(name=name, position_known=True, certainty=0.9, source="labels", **fields)
    made.position.x, made.position.y, made.position.z = place
    return made


TABLE = [thing(name, place) for name, place in PLACES.items()]


@pytest.fixture
def deliberate(ros_node, spin_until):
    """``deliberate("put the red cube in the bin", scene)``: the goal's handle, its result's future, and feedback."""
    client = ActionClient(ros_node, DeliberateTask, topics.DELIBERATE_TASK)

    def send(instruction, scene=None, deadline=WAIT_S):
        spin_until(client.server_is_ready, WAIT_S, "the action")
        feedback = []
        goal = DeliberateTask.Goal(instruction=instruction, deadline=deadline, scene_known=scene is not None)
        goal.scene = scene or []
        future = client.send_goal_async(goal, lambda message: feedback.append(message.feedback))
        spin_until(future.done, WAIT_S, "the goal's acceptance")
        handle = future.result()
        assert handle.accepted
        return handle, handle.get_result_async(), feedback

    yield send
    client.destroy()


@pytest.fixture
def reviews(ros_node):
    """Plans for review as they come."""
    heard: list[PlanReview] = []
    ros_node.create_subscription(PlanReview, PLAN_REVIEW, heard.append, qos.STATE)
    return heard


@pytest.fixture
def server():
    """A model behind the network, as far as anybody can tell."""
    made = WireServer("openai")
    yield made
    made.close()


def test_words_become_a_checked_plan_a_refusal_or_a_question_to_a_person(
    start_node, deliberate, reviews, call, ros_node, spin_until, known_by, tmp_path, monkeypatch, server
):
    monkeypatch.delenv("LLM_PROVIDER", raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789abcdef")
    language_model = start_node("llm", provider="rules")
    alike = remember(tmp_path / "memory.db")
    manuals = str(tmp_path / "manuals.db")
    write_manual(manuals)
    node = start_node("deliberation", memory_database=str(tmp_path / "memory.db"), manuals=manuals)
    embeddings = ros_node.create_publisher(Embedding, topics.EMBEDDING, qos.SENSOR)
    shown = Embedding(encoder="compact", revision="e1", values=[0.0, 1.0, 0.0, 0.0])

    def show():
        shown.header.stamp = ros_node.get_clock().now().to_msg()
        embeddings.publish(shown)

    ros_node.create_timer(0.2, show)
    waiting: list[str] = []
    health = {}

    def hear(array):
        for status in array.status:
            figures = {item.key: item.value for item in status.values}
            health[status.name] = to_ns(array.header.stamp), figures
            waiting.extend([figures["waiting_for_a_person"]] if status.name == "deliberation" else [])

    def figure(node, key):
        since = ros_node.get_clock().now().nanoseconds
        spin_until(lambda: node in health and health[node][0] > since, WAIT_S, f"the health of {node}")
        return int(health[node][1][key])

    ros_node.create_subscription(DiagnosticArray, topics.DIAGNOSTICS, hear, 10)
    spin_until(lambda: embeddings.get_subscription_count() == 1, WAIT_S, "the node's subscription")
    known_by("deliberation")

    # Accepted.
    _, done, feedback = deliberate("slowly put the red cube in the bin", TABLE)
    spin_until(done.done, WAIT_S, "the decision")
    result = done.result().result
    assert done.result().status == GoalStatus.STATUS_SUCCEEDED
    assert result.outcome == DeliberateTask.Result.OUTCOME_ACCEPTED, result.reason
    assert [step.instruction for step in result.plan.steps] == ["put the red cube in the bin"]
    assert [step.speed_scale for step in result.plan.steps] == [0.5]
    assert result.provider == "rules" and result.speed_scale == 1.0 and len(result.score.terms) == 7
    # A decision may be made before the two sides' feedback has found each other: what comes is in order.
    numbers = [item.number for item in feedback]
    assert numbers == sorted(set(numbers)) and set(numbers) <= set(range(1, 8))
    assert all(item.stages == 7 and item.message for item in feedback)
    # Of ten remembered failures the one that looked like what is seen now, though it is the oldest, and how alike.
    # The timer's first sample may still be on its way.
    for _ in range(30):
        _, done, _ = deliberate("put the red cube in the bin", TABLE)
        spin_until(done.done, WAIT_S, "the decision")
        result = done.result().result
        if "by embedding" in result.summary:
            break
    assert f"the most alike: case {alike} at 1.00 by embedding" in result.summary, result.summary
    assert result.similar_cases[0] == alike and len(result.similar_cases) == 5
    # What another encoder sees is not compared with it: in words, or not at all where that takes too long.
    shown.revision = "e2"
    for _ in range(30):
        _, done, _ = deliberate("put the red cube in the bin", TABLE)
        spin_until(done.done, WAIT_S, "the decision")
        result = done.result().result
        if "by embedding" not in result.summary:
            break
    assert "compact@e2" in result.summary and result.outcome == "accepted", result.summary
    assert "by words" in result.summary or "the newest, which may not be alike" in result.summary
    shown.revision = "e1"

    # Refused: what is named is not there, and no step comes back.
    _, done, _ = deliberate("put the blue box in the bin", TABLE)
    spin_until(done.done, WAIT_S, "the decision")
    result = done.result().result
    assert result.outcome == DeliberateTask.Result.OUTCOME_REFUSED and "no blue box; nearest names" in result.reason
    assert len(result.plan.steps) == 0 and result.speed_scale == 0.0

    # Risky: somebody is near. A person approves one plan and rejects the other.
    near = [*TABLE, thing("somebody", (0.45, 0.9, 0.3), person=True)]
    for approved, outcome in ((True, "accepted"), (False, "rejected")):
        seen = len(reviews)
        _, done, _ = deliberate("put the red cube in the bin", near)
        spin_until(lambda: any(review.open for review in reviews[seen:]), WAIT_S, "the review")  # noqa: B023
        review = next(review for review in reversed(reviews) if review.open)
        assert "somebody is" in review.questions[0] and review.time_left > 0.0
        name = review.deliberation_id
        spin_until(lambda: waiting[-1:] == [name], WAIT_S, "who waits, in the node's health")  # noqa: B023
        nameless = call(ApprovePlan, topics.APPROVE_PLAN, deliberation_id=review.deliberation_id, approved=True)
        assert not nameless.ok and "say who" in nameless.message
        said = {"deliberation_id": review.deliberation_id, "approved": approved, "person": "Kim"}
        assert call(ApprovePlan, topics.APPROVE_PLAN, **said).ok
        spin_until(done.done, WAIT_S, "the decision")
        result = done.result().result
        assert result.outcome == outcome and result.approved_by == ("Kim" if approved else "")
        assert len(result.plan.steps) == approved
        spin_until(lambda: not reviews[-1].open, WAIT_S, "the end of the review")
        late = call(ApprovePlan, topics.APPROVE_PLAN, **said)
        assert not late.ok and "waiting: none" in late.message

    # A goal without a scene takes what the labels show, as long as they are fresh: here no bin, then nothing known.
    labels = ros_node.create_publisher(DetectionArray, DETECTIONS, qos.SENSOR)
    found = [Detection(class_id=name, score=0.9, center_x=64.0, center_y=64.0) for name in ("red cube", "cup")]
    # Where a simulator runs the scene will be another: what is not there now refuses nothing.
    for age, outcome in ((0.0, "refused"), (60.0, "accepted"), (0.0, "refused"), (0.0, "accepted in a simulation")):
        if outcome == "accepted in a simulation":
            ros_node.create_service(ResetSimulation, topics.RESET_SIMULATION, lambda _request, response: response)
            outcome = "accepted"
        # Again and again: whether the node has found this publisher cannot be seen from here.
        for _ in range(30):
            _, done, _ = deliberate("put the red cube in the bin")
            # After the goal: it waits a moment for labels that somebody publishes.
            seen = DetectionArray(width=128, height=128, model="test", detections=found)
            seen.header.stamp = (ros_node.get_clock().now() - Duration(seconds=age)).to_msg()
            labels.publish(seen)
            spin_until(done.done, WAIT_S, "the decision")
            result = done.result().result
            if result.outcome == outcome:
                break
        assert result.outcome == outcome, result.reason
        assert ("there is no bin; nearest names" in result.reason) is (outcome == "refused")

    # Withdrawn while a person is asked.
    seen = len(reviews)
    handle, done, _ = deliberate("put the red cube in the bin", near)
    spin_until(lambda: any(review.open for review in reviews[seen:]), WAIT_S, "the review")
    spin_until(handle.cancel_goal_async().done, WAIT_S, "the cancellation")
    spin_until(done.done, WAIT_S, "the result")
    assert done.result().status == GoalStatus.STATUS_CANCELED
    assert done.result().result.outcome == DeliberateTask.Result.OUTCOME_CANCELED

    # A provider that fills no diagnoses is asked for one once, and again only where another is in use.
    explained = explain_failures(ros_node, spin_until)
    told = "failures are explained by a template until another provider is set: provider 'rules'"
    explained(lambda heard: heard.source == "template" and told in node.text)
    # Several failures may be on their way when the first is refused.
    while figure("deliberation", "diagnosing"):
        pass
    asked = figure("llm", "failed")
    for _ in range(3):
        explained(lambda heard: heard.source == "template")
    assert figure("llm", "failed") == asked >= 1
    assert "cannot fill FailureDiagnosis" in language_model.text and node.text.count(told) == 1

    # A model that sees is shown what the cameras showed at a failure, and asked in words alone if it takes no pictures.
    assert call(SetProvider, topics.SET_PROVIDER, provider="openai", model="m", base_url=f"{server.url}/v1").ok
    server.replies = [Reply((json.dumps(DIAGNOSIS),))]
    explained(lambda heard: heard.source == "openai m" and any(map(pictures_in, server.requests)))
    (front,) = next(filter(None, map(pictures_in, server.requests)))
    assert "(picture 1: front camera when the failure showed)" in str(server.requests)
    assert Pillow.open(io.BytesIO(front)).convert("RGB").getcolors() == [(32 * 24, (250, 10, 20))]
    # And told what manuals say that may be about it.
    explained(lambda heard: heard.source == "openai m" and MANUAL in str(server.requests))
    assert "R1 gripper.md#0" in str(server.requests)
    server.requests.clear()
    server.replies = [Reply(status=400, body='{"error": {"message": "no images"}}'), Reply((json.dumps(DIAGNOSIS),))]
    explained(lambda heard: heard.source == "openai m" and not all(map(pictures_in, server.requests)))
    assert "explained without its pictures" in node.text and "no images" in node.text


MANUAL = "The fingers of the gripper slip on what is wet."


def write_manual(store):
    """A text store with one manual, embedded as the language model's node embeds by default."""
    known = TextStore(store, make_embedder("minilm"))
    known.add(MANUALS, "gripper.md", [MANUAL])
    known.close()


def remember(database):
    """Ten failures of the task in a memory, of which the oldest looked like nothing else; its id."""
    memory, _ = FailureMemory.open(database)
    rng = np.random.default_rng(5)
    ids = []
    for number in range(10):
        looked = np.array([0, 1, 0, 0] if number == 0 else [1, 0, 0, 0], dtype=np.float32)
        actions = rng.uniform(-0.01, 0.01, (4, 7)).astype(np.float32)
        kind = FailureType.GRASP_FAILURE
        ids.append(memory.add(FailureCase(kind, "pick_and_place", f"p{number}", "compact", "e1", looked, actions)))
    memory.close()
    assert all(added.accepted for added in ids)
    return ids[0].case_id


DIAGNOSIS = {
    "failure": "grasp_failure",
    "cause": "the hand closed beside the cube",
    "evidence": ["the front camera shows it"],
    "similar_cases": [],
    "proposal": "regrasp",
    "offset": {"dx_mm": 0, "dy_mm": 0, "dz_mm": 0},
    "certainty": 0.7,
}


def pictures_in(request):
    """The files of the pictures that a server was sent."""
    blocks = [block for turn in request["messages"] for block in turn["content"] if isinstance(block, dict)]
    urls = [block["image_url"]["url"] for block in blocks if block["type"] == "image_url"]
    return [base64.b64decode(url.removeprefix("data:image/png;base64,")) for url in urls]


def explain_failures(ros_node, spin_until):
    """``explained(enough)`` shows a picture and reports a failure until a diagnosis is enough."""
    heard: list[FailureDiagnosis] = []
    ros_node.create_subscription(FailureDiagnosis, FAILURE_DIAGNOSIS, heard.append, qos.EVENT)
    events = ros_node.create_publisher(FailureEvent, topics.FAILURE_EVENT, qos.EVENT)
    camera = ros_node.create_publisher(Image, topics.FRONT_IMAGE, qos.SENSOR)
    matched = (events, camera)
    spin_until(lambda: all(item.get_subscription_count() == 1 for item in matched), WAIT_S, "the subscriptions")

    def report():
        stamp = ros_node.get_clock().now().to_msg()
        image = Image(width=32, height=24, step=96, encoding="rgb8", data=bytes((250, 10, 20)) * 32 * 24)
        event = FailureEvent(failure_type=FailureEvent.TYPE_GRASP_FAILURE, task="push")
        # Each is another one: to the same question there is an answer in the cache.
        event.description = f"seen at {stamp.sec}.{stamp.nanosec:09}"
        image.header.stamp = event.header.stamp = stamp
        camera.publish(image)
        events.publish(event)

    def explained(enough):
        heard.clear()
        timer = ros_node.create_timer(0.5, report)
        spin_until(lambda: any(map(enough, heard)), WAIT_S, "the diagnosis")
        timer.cancel()

    return explained


def test_without_a_language_model_the_robot_holds_and_failures_are_explained_by_a_template(
    start_node, deliberate, ros_node, spin_until
):
    node = start_node("deliberation")
    _, done, _ = deliberate("put the red cube in the bin", TABLE)
    spin_until(done.done, WAIT_S, "the decision")
    assert done.result().status == GoalStatus.STATUS_ABORTED
    result = done.result().result
    assert result.outcome == DeliberateTask.Result.OUTCOME_HELD and result.stage == "interpret"
    assert "start the node llm" in result.reason and len(result.plan.steps) == 0

    _, done, _ = deliberate("put the red cube in the bin", [thing("cup", (450.0, 0.0, 0.0))])
    spin_until(done.done, WAIT_S, "the decision")
    assert "metres in the base frame" in done.result().result.reason

    heard: list[FailureDiagnosis] = []
    ros_node.create_subscription(FailureDiagnosis, FAILURE_DIAGNOSIS, heard.append, qos.EVENT)
    publisher = ros_node.create_publisher(FailureEvent, topics.FAILURE_EVENT, qos.EVENT)
    spin_until(lambda: publisher.get_subscription_count() == 1, WAIT_S, "the node's subscription")
    evidence = [Evidence(name="gripper_width", value=0.001, threshold=0.012, unit="m")]
    event = FailureEvent(event_id=7, failure_type=FailureEvent.TYPE_GRASP_FAILURE, task="push", evidence=evidence)
    event.confidence = 0.9
    # Again and again: whether the node has found this subscription cannot be seen from here.
    timer = ros_node.create_timer(0.5, lambda: publisher.publish(event))
    spin_until(lambda: heard, WAIT_S, "the diagnosis")
    timer.cancel()
    assert heard[0].event_id == 7 and heard[0].source == "template" and heard[0].proposal == "regrasp"
    assert "gripper width 0.001 m is below its threshold 0.012 m" in heard[0].evidence[0]
    assert node.stop() == 0
    assert "Traceback" not in node.text
