"""Says when something went wrong, what kind of failure it is, and by which evidence.

Every robot state (40 Hz) goes through the rules and every embedding through the before/after classifier, while
an episode runs. Malformed input is named and left out; a classifier that cannot be used leaves the rules alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import numpy as np
from rclpy.node import Node

from flow_rag_vla.bringup import topics
from flow_rag_vla.bringup.parameters.failure_detector import FailureDetectorParameters
from flow_rag_vla.core.failure import FailureType
from flow_rag_vla.core.goal import Goal, UnknownTaskError, parse_instruction
from flow_rag_vla.core.state import GRIPPER_MAX_WIDTH, CartesianTarget
from flow_rag_vla.failure.classifier import ClassifierError, FailureClassifier, Score
from flow_rag_vla.failure.detector import FailureDetector
from flow_rag_vla.failure.sample import Command, Episode, FailureReport
from flow_rag_vla.nodes import conversions, qos
from flow_rag_vla.nodes.conversions import MessageError
from flow_rag_vla.nodes.diagnostics import OK, WARN, Diagnostics, Health
from flow_rag_vla.nodes.parameters import NodeParameters
from flow_rag_vla.nodes.runtime import run
from flow_rag_vla.nodes.stamps import to_ns, to_stamp
from flow_rag_vla.nodes.wire import robot_state_from_wire
from flow_rag_vla_interfaces import msg

OFF = "off"


class FailureDetectorNode(Node):
    """Publishes a failure event once for each failure, and the classifier's score for each embedding."""

    def __init__(self) -> None:
        super().__init__("failure_detector")
        self._node_parameters = NodeParameters(self, FailureDetectorParameters, self._configure)
        self._events = {kind: 0 for kind in FailureType}
        self._states = self._refused = 0
        self._busy_ns = 0
        self._last_problem = self._classifier_problem = ""
        self._goal: Goal | None = None
        # Unique across restarts without a file: two processes never start within the same nanosecond.
        self._event_id = time.time_ns()
        settings = self._node_parameters.value
        self._detector = FailureDetector(
            settings.thresholds(),
            self._load(settings.classifier),
            classifier_threshold=settings.classifier_threshold or None,
        )
        self._score = msg.FailureScore()

        self._event_publisher = self.create_publisher(msg.FailureEvent, topics.FAILURE_EVENT, qos.EVENT)
        self._score_publisher = self.create_publisher(msg.FailureScore, topics.FAILURE_SCORE, qos.SENSOR)
        self.create_subscription(msg.EpisodeStatus, topics.EPISODE_STATUS, self._on_episode, qos.STATE)
        self.create_subscription(msg.ControlCommand, topics.COMMAND, self._on_command, qos.PLAN)
        # Raw: making the message's Python objects would cost more than all rules together.
        self.create_subscription(msg.RobotState, topics.ROBOT_STATE, self._on_state, qos.SENSOR, raw=True)
        self.create_subscription(msg.Embedding, topics.EMBEDDING, self._on_embedding, qos.NEWEST)
        self._diagnostics = Diagnostics(self, "failure_detector", self._health)

    def _load(self, folder: str) -> FailureClassifier | None:
        if folder == OFF:
            return None
        try:
            classifier = FailureClassifier.load(folder or None)
        except ClassifierError as error:
            self._classifier_problem = f"parameter classifier: {error}; the rules go on without it"
            self.get_logger().error(self._classifier_problem)
            return None
        self.get_logger().info(
            f"before/after classifier {classifier.revision} for encoder {classifier.config.encoder} "
            f"{classifier.config.encoder_revision}"
        )
        return classifier

    def _configure(self, settings: FailureDetectorParameters) -> None:
        self._detector.configure(settings.thresholds())
        self._detector.classifier_threshold = settings.classifier_threshold or None

    def _on_episode(self, status: msg.EpisodeStatus) -> None:
        running = status.state == msg.EpisodeStatus.STATE_RUNNING
        watched = self._detector.episode
        if not running:
            self._detector.stop()
            return
        if watched is not None and watched.episode_id == status.episode_id:
            return
        timeout = float(status.timeout)
        if not math.isfinite(timeout) or timeout < 0.0:
            self._refuse(f"episode {status.episode_id}: timeout is {timeout} s, expected 0 or more; none is used")
            timeout = 0.0
        self._goal = None
        try:
            self._goal = parse_instruction(status.instruction)
        except UnknownTaskError as error:
            self._refuse(f"episode {status.episode_id}: {error}; the classifier judges without a goal")
        stamp_ns = to_ns(status.header.stamp)
        elapsed = float(status.elapsed)
        start_ns = stamp_ns - int(elapsed * 1e9) if math.isfinite(elapsed) else stamp_ns
        self._detector.start(Episode(int(status.episode_id), status.task, start_ns, timeout))

    def _on_command(self, message: msg.ControlCommand) -> None:
        if self._detector.episode is None:
            return
        pose = message.target
        position = np.array([pose.position.x, pose.position.y, pose.position.z])
        quaternion = pose.orientation
        orientation = np.array([quaternion.x, quaternion.y, quaternion.z, quaternion.w])
        width = float(message.gripper_width)
        if not (np.isfinite(position).all() and 0.0 <= width <= 2.0 * GRIPPER_MAX_WIDTH):
            self._refuse(f"command {message.tick}: target {position.tolist()}, gripper {width} m; check the controller")
            return
        norm = float(np.linalg.norm(orientation))
        if not abs(norm - 1.0) < 1e-2:
            self._refuse(f"command {message.tick}: the quaternion has length {norm}, expected 1; check the controller")
            return
        self._detector.offer_command(
            Command(
                to_ns(message.header.stamp),
                CartesianTarget(position, orientation, width),
                to_ns(message.provenance.observation_stamp),
                message.mode == msg.ControlCommand.MODE_FOLLOW,
            )
        )

    def _on_state(self, data: bytes) -> None:
        if self._detector.episode is None:
            return
        started_ns = time.thread_time_ns()
        try:
            reports = self._detector.update(robot_state_from_wire(data))
        except ValueError as error:
            self._refuse(str(error))
            return
        for report in reports:
            self._publish_event(report)
        self._states += 1
        self._busy_ns += time.thread_time_ns() - started_ns

    def _on_embedding(self, message: msg.Embedding) -> None:
        classifier = self._detector.classifier
        if classifier is None or self._detector.episode is None:
            return
        try:
            classifier.check(message.encoder, message.revision, len(message.values))
            values = conversions.embedding_values(message, classifier.config.dimension)
        except ClassifierError as error:
            self._classifier_problem = f"{error}; the rules go on without it"
            self._refuse(self._classifier_problem)
            return
        except MessageError as error:
            self._refuse(str(error))
            return
        self._classifier_problem = ""
        score, report = self._detector.update_embedding(to_ns(message.header.stamp), values, self._goal)
        if score is not None:
            self._publish_score(score)
        if report is not None:
            self._publish_event(report)

    def _publish_event(self, report: FailureReport) -> None:
        episode = self._detector.episode
        if episode is None:
            return
        self._event_id += 1
        event = msg.FailureEvent()
        event.header.stamp = to_stamp(report.stamp_ns)
        event.header.frame_id = topics.BASE_FRAME
        event.event_id, event.episode_id = self._event_id, episode.episode_id
        event.failure_type, event.confidence = int(report.failure_type), float(report.confidence)
        event.task, event.phase, event.detector = episode.task, report.phase.value, report.detector
        event.description = report.description
        event.evidence = conversions.evidence_messages(report.evidence)
        event.onset = to_stamp(report.onset_ns)
        self._event_publisher.publish(event)
        self._events[report.failure_type] += 1
        self.get_logger().warning(f"{report.failure_type.name.lower()} in {report.phase.value}: {report.description}")

    def _publish_score(self, score: Score) -> None:
        message = self._score
        message.header.stamp = to_stamp(score.stamp_ns)
        message.probability, message.threshold = score.probability, score.threshold
        message.span, message.revision = score.span, score.revision
        self._score_publisher.publish(message)

    def _refuse(self, problem: str) -> None:
        self._refused += 1
        self._last_problem = problem
        self.get_logger().error(problem, throttle_duration_sec=1.0)

    def _health(self) -> Health:
        episode, classifier = self._detector.episode, self._detector.classifier
        figures: dict[str, object] = {f"events_{kind.name.lower()}": count for kind, count in self._events.items()}
        figures |= {
            "states": self._states,
            "refused": self._refused,
            "cpu_ms_per_state": round(self._busy_ns * 1e-6 / self._states, 4) if self._states else 0.0,
            "classifier": classifier.revision if classifier is not None else OFF,
            "phase": self._detector.phase.value,
            "last_problem": self._last_problem,
        }
        doing = "ready, no episode is running" if episode is None else f"watching episode {episode.episode_id}"
        if self._classifier_problem:
            return WARN, f"{doing}; {self._classifier_problem}", figures
        return OK, doing, figures


def main(args: Sequence[str] | None = None) -> int:
    """Run the failure detector node."""
    return run(FailureDetectorNode, None if args is None else list(args))


if __name__ == "__main__":
    raise SystemExit(main())
