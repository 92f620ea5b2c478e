# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Says when something went wrong, what kind of failure it is, and by which evidence.

Every robot state (40 Hz) goes through the rules, and every embedding with the chunk that was made of it through the
calibrated monitor, while an episode runs. Malformed input is named and left out; a calibration that cannot be used, or
belongs to another encoder or policy, leaves the rules alone; a before/after classifier that cannot be used leaves the
monitor as it is without one.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence

import numpy as np

from flow_rag_vla.bringup import topics
from flow_rag_vla.bringup.parameters.failure_detector import FailureDetectorParameters
from flow_rag_vla.control.pace import pace_of
from flow_rag_vla.core.failure import FailureType
from flow_rag_vla.core.files import state_file
from flow_rag_vla.core.goal import Goal, UnknownTaskError, parse_instruction
from flow_rag_vla.core.state import GRIPPER_MAX_WIDTH, CartesianTarget
from flow_rag_vla.data import message_values
from flow_rag_vla.data.message_values import MessageError
from flow_rag_vla.failure.before_after import BeforeAfter
from flow_rag_vla.failure.before_after_file import load_before_after
from flow_rag_vla.failure.calibration import Calibration, CalibrationError
from flow_rag_vla.failure.calibration_file import load_calibration
from flow_rag_vla.failure.detector import FailureDetector
from flow_rag_vla.failure.drift import DriftWatch
from flow_rag_vla.failure.drift_file import DriftFile
from flow_rag_vla.failure.frame import Frame
from flow_rag_vla.failure.monitor import SPAN_S, Monitor, Reading
from flow_rag_vla.failure.sample import Command, Episode, FailureReport
from flow_rag_vla.nodes import conversions, qos
from flow_rag_vla.nodes.complaints import Complaints
from flow_rag_vla.nodes.diagnostics import OK, WARN, Health
from flow_rag_vla.nodes.lifecycle import ManagedNode, run_managed
from flow_rag_vla.nodes.parameters import NodeParameters
from flow_rag_vla.nodes.stamps import to_ns, to_stamp
from flow_rag_vla.nodes.wire import robot_state_from_wire
from flow_rag_vla_interfaces import msg

OFF = "off"
SHIPPED, NONE = "shipped", "none"


class FailureDetectorNode(ManagedNode):
    """Publishes a failure event once for each failure, and a score beside its band for each embedding."""

    def __init__(self) -> None:
        super().__init__("failure_detector")
        self._complain = Complaints(self.get_logger())
        self._settings = NodeParameters(self, FailureDetectorParameters, self._configure, may_reload=self.may_reload)
        self._events = {kind: 0 for kind in FailureType}
        self._states = 0
        self._busy_ns = 0
        self._embeddings = self._frames = self._frames_busy_ns = 0
        self._calibration_problem = self._before_after_problem = self._mismatch = ""
        self._alarmed: bool | None = None
        self._drift: DriftWatch | None = None
        file = state_file(
            "false_alarms",
            self._settings.value.false_alarms_file,
            os.environ.get("ROS_DOMAIN_ID", ""),
            self.get_namespace(),
        )
        self._drift_file = DriftFile(file)
        # Unique across restarts without a file: two processes never start within the same nanosecond.
        self._event_id = time.time_ns()
        self._calibration: Calibration | None = None
        self._before_after: BeforeAfter | None = None
        self._detector = FailureDetector(self._settings.value.thresholds(), None)
        self._score = msg.FailureScore()
        self._event_publisher = self.create_lifecycle_publisher(msg.FailureEvent, topics.FAILURE_EVENT, qos.EVENT)
        self._score_publisher = self.create_lifecycle_publisher(msg.FailureScore, topics.FAILURE_SCORE, qos.SENSOR)

    def load(self) -> None:
        """Read the calibration, and the before/after classifier if there is to be one."""
        settings = self._settings.value
        self._calibration = self._calibrated(settings.calibration)
        self._before_after = self._classifier(settings.before_after)
        self._configure(settings)

    def free(self) -> None:
        """Forget the calibration and the classifier."""
        self._calibration = self._before_after = self._drift = self._detector.monitor = None
        self._calibration_problem = self._before_after_problem = self._mismatch = ""

    def begin(self) -> None:
        """Watch episodes."""
        self.create_subscription(msg.EpisodeStatus, topics.EPISODE_STATUS, self._on_episode, qos.STATE)
        self.create_subscription(msg.ControlCommand, topics.COMMAND, self._on_command, qos.PLAN)
        # Raw: making the message's Python objects would cost more than all rules together.
        self.create_subscription(msg.RobotState, topics.ROBOT_STATE, self._on_state, qos.SENSOR, raw=True)
        self.create_subscription(msg.Embedding, topics.EMBEDDING, self._on_embedding, qos.NEWEST)
        self.create_subscription(msg.ActionChunk, topics.ACTION_CHUNK, self._on_chunk, qos.PLAN)

    def rest(self) -> None:
        """Watch no episode."""
        self._detector.stop()
        self._alarmed = None

    def _calibrated(self, path: str) -> Calibration | None:
        self._calibration_problem = ""
        if path == OFF:
            return None
        try:
            calibration = load_calibration(path or None)
        except CalibrationError as error:
            self._calibration_problem = f"parameter calibration: {error}; the rules go on without it"
            self.get_logger().error(self._calibration_problem)
            return None
        known = ", ".join(f"{task} {count}" for task, count in calibration.episodes.items())
        self.get_logger().info(
            f"calibration {calibration.revision} of encoder {calibration.origin.encoder_revision} and policy "
            f"{calibration.origin.policy_revision}; success episodes: {known}"
        )
        return calibration

    def _classifier(self, name: str) -> BeforeAfter | None:
        self._before_after_problem = ""
        if name == NONE:
            return None
        try:
            if self._calibration is None:
                raise CalibrationError("it is a score of the monitor, and there is no calibration for that")
            classifier = load_before_after(None if name == SHIPPED else name)
            classifier.check(self._calibration)
        except CalibrationError as error:
            self._before_after_problem = f"parameter before_after: {error}; the detector goes on without it"
            self.get_logger().error(self._before_after_problem)
            return None
        about = f"before/after classifier {classifier.revision}"
        if classifier.belongs_to(self._calibration):
            self.get_logger().info(f"{about}: fused with the other scores")
        else:
            self.get_logger().warning(
                f"{about} is shown and decides nothing: its band belongs to calibration {classifier.calibration}, not "
                f"to {self._calibration.revision}; make both with one call of `flow_rag_vla calibrate --before-after`"
            )
        return classifier

    def _monitor(self, rate: float) -> Monitor | None:
        """The monitor at a nominal share of false alarms; 0: the calibration's own."""
        if self._calibration is None:
            return None
        calibration = self._calibration.at_rate(rate) if rate > 0.0 else self._calibration
        if self._drift is None or self._drift.rate != calibration.rate:
            self._drift = self._counted(calibration)
        if not math.isfinite(calibration.threshold):
            self.get_logger().warning(
                f"{len(calibration.peaks)} success episodes are too few for a false-alarm rate of {calibration.rate}: "
                "there will be scores, but no alarm; calibrate with more, or allow a higher rate"
            )
        return Monitor(calibration, self._before_after)

    def _counted(self, calibration: Calibration) -> DriftWatch:
        """The watch over false alarms, as the process before left it."""
        watch = self._drift_file.watch(self._decides(calibration), calibration.rate)
        if self._drift_file.problem:
            self.get_logger().warning(self._drift_file.problem)
        elif watch.episodes:
            self.get_logger().info(
                f"{watch.alarms} of {watch.episodes} episodes that succeeded before had raised an alarm "
                f"({self._drift_file.path})"
            )
        return watch

    def _decides(self, calibration: Calibration) -> str:
        """Revisions of what decides about alarms."""
        classifier = self._before_after
        fused = classifier is not None and classifier.belongs_to(calibration)
        return f"{calibration.revision} {classifier.revision}" if classifier and fused else calibration.revision

    def _configure(self, settings: FailureDetectorParameters) -> None:
        self._detector.monitor = self._monitor(settings.false_alarm_rate)
        self._detector.configure(settings.thresholds())

    def _on_episode(self, status: msg.EpisodeStatus) -> None:
        running = status.state == msg.EpisodeStatus.STATE_RUNNING
        watched = self._detector.episode
        if not running:
            self._end(status)
            return
        if watched is not None and watched.episode_id == status.episode_id:
            return
        timeout = float(status.timeout)
        if not math.isfinite(timeout) or timeout < 0.0:
            self._complain(f"episode {status.episode_id}: timeout is {timeout} s, expected 0 or more; none is used")
            timeout = 0.0
        goal: Goal | None = None
        try:
            goal = parse_instruction(status.instruction)
        except UnknownTaskError as error:
            self._complain(f"episode {status.episode_id}: {error}; the monitor judges without a goal")
        stamp_ns = to_ns(status.header.stamp)
        elapsed = float(status.elapsed)
        start_ns = stamp_ns - int(elapsed * 1e9) if math.isfinite(elapsed) else stamp_ns
        self._alarmed = None
        pace = pace_of(float(status.slowdown))
        self._detector.start(Episode(int(status.episode_id), status.task, start_ns, timeout, goal, pace))

    def _end(self, status: msg.EpisodeStatus) -> None:
        watched = self._detector.episode
        if watched is None:
            return
        succeeded = status.state == msg.EpisodeStatus.STATE_SUCCEEDED and status.episode_id == watched.episode_id
        if succeeded and self._alarmed is not None and self._drift is not None:
            before = self._drift.problem()
            self._drift.add(self._alarmed)
            self._keep_counts(self._drift)
            if self._drift.problem() and not before:
                self.get_logger().warning(self._drift.problem())
        self._detector.stop()

    def _keep_counts(self, drift: DriftWatch) -> None:
        if self._calibration is None:
            return
        before = self._drift_file.problem
        self._drift_file.keep(self._decides(self._calibration), drift)
        if self._drift_file.problem not in ("", before):
            self.get_logger().error(self._drift_file.problem)

    def _on_command(self, message: msg.ControlCommand) -> None:
        if self._detector.episode is None:
            return
        pose = message.target
        position = np.array([pose.position.x, pose.position.y, pose.position.z])
        quaternion = pose.orientation
        orientation = np.array([quaternion.x, quaternion.y, quaternion.z, quaternion.w])
        width = float(message.gripper_width)
        if not (np.isfinite(position).all() and 0.0 <= width <= 2.0 * GRIPPER_MAX_WIDTH):
            self._complain(
                f"command {message.tick}: target {position.tolist()}, gripper {width} m; check the controller"
            )
            return
        norm = float(np.linalg.norm(orientation))
        if norm == 0.0:
            # The controller names no pose before the first robot state.
            return
        if not abs(norm - 1.0) < 1e-2:
            self._complain(
                f"command {message.tick}: the quaternion has length {norm}, expected 1; check the controller"
            )
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
            self._complain(str(error))
            return
        for report in reports:
            self._publish_event(report)
        self._states += 1
        self._busy_ns += time.thread_time_ns() - started_ns

    def _on_embedding(self, message: msg.Embedding) -> None:
        calibration = self._calibration
        if calibration is None or self._detector.episode is None:
            return
        try:
            calibration.check_encoder(message.encoder, message.revision, len(message.values))
            values = message_values.embedding_values(message, len(calibration.space.mean))
        except CalibrationError as error:
            self._mismatched(f"{error}; the rules go on without it")
            return
        except MessageError as error:
            self._complain(str(error))
            return
        frame = self._detector.offer_embedding(to_ns(message.header.stamp), values)
        self._embeddings += 1
        if frame is not None:
            # Its chunk has not come: what can be told without it is told now.
            self._judge(frame)

    def _on_chunk(self, message: msg.ActionChunk) -> None:
        calibration = self._calibration
        if calibration is None or self._detector.episode is None:
            return
        try:
            calibration.check_policy(message.provenance.policy, message.provenance.policy_revision)
            chunk = message_values.action_chunk(message)
        except CalibrationError as error:
            self._mismatched(f"{error}; the rules go on without it")
            return
        except MessageError as error:
            self._complain(str(error))
            return
        frame = self._detector.offer_chunk(chunk)
        if frame is not None:
            self._mismatch = ""
            self._judge(frame)

    def _mismatched(self, problem: str) -> None:
        """Embeddings or chunks are not of what was calibrated: no score until they are again."""
        self._mismatch = problem
        self._complain(problem)

    def _judge(self, frame: Frame) -> None:
        if self._mismatch:
            return
        started_ns = time.thread_time_ns()
        reading, report = self._detector.judge(frame)
        self._frames += 1
        self._frames_busy_ns += time.thread_time_ns() - started_ns
        if reading is not None:
            self._alarmed = reading.alarm
            self._publish_score(reading)
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

    def _publish_score(self, reading: Reading) -> None:
        episode, calibration = self._detector.episode, self._calibration
        if episode is None or calibration is None:
            return
        message = self._score
        message.header.stamp = to_stamp(reading.stamp_ns)
        message.probability, message.threshold = reading.probability, reading.probability_band
        message.span, message.revision = SPAN_S, calibration.revision
        message.episode_id = episode.episode_id
        message.score, message.band, message.p_value = reading.score, reading.band, reading.p_value
        message.alarm, message.reason = reading.alarm, reading.reason
        message.names = list(reading.names)
        message.values, message.bands = conversions.floats(reading.values), conversions.floats(reading.bands)
        self._score_publisher.publish(message)

    def health(self) -> Health:
        """What was watched, and what cannot be."""
        episode, calibration, drift = self._detector.episode, self._calibration, self._drift
        figures: dict[str, object] = {f"events_{kind.name.lower()}": count for kind, count in self._events.items()}
        figures |= {
            "states": self._states,
            "embeddings": self._embeddings,
            "frames": self._frames,
            "refused": self._complain.count,
            "cpu_ms_per_state": round(self._busy_ns * 1e-6 / self._states, 4) if self._states else 0.0,
            "cpu_ms_per_frame": round(self._frames_busy_ns * 1e-6 / self._frames, 4) if self._frames else 0.0,
            "calibration": calibration.revision if calibration is not None else OFF,
            "before_after": self._before_after.revision if self._before_after is not None else NONE,
            "false_alarm_rate": drift.rate if drift is not None else 0.0,
            "successes": drift.episodes if drift is not None else 0,
            "successes_with_alarm": drift.alarms if drift is not None else 0,
            "phase": self._detector.phase.value,
            "last_problem": self._complain.last,
        }
        doing = "ready, no episode is running" if episode is None else f"watching episode {episode.episode_id}"
        drifted = "" if drift is None else drift.problem()
        kept = self._drift_file.problem
        problems = (self._calibration_problem, self._mismatch, self._before_after_problem, drifted, kept)
        problem = next((text for text in problems if text), "")
        if problem:
            return WARN, f"{doing}; {problem}", figures
        return OK, doing, figures


def main(args: Sequence[str] | None = None) -> int:
    """Run the failure detector node."""
    return run_managed(FailureDetectorNode, args)


if __name__ == "__main__":
    raise SystemExit(main())
