# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The control loop's values as the messages that the controller publishes, and an episode status as its value."""

from __future__ import annotations

from builtin_interfaces.msg import Time

from flow_rag_vla.bringup import topics
from flow_rag_vla.control.command import Command, Episode
from flow_rag_vla.control.loop import ControlLoop
from flow_rag_vla.control.statistics import Summary
from flow_rag_vla.core.action import Provenance
from flow_rag_vla.nodes.conversions import provenance_message
from flow_rag_vla.nodes.stamps import to_ns
from flow_rag_vla_interfaces import msg


class CommandMessage:
    """One message that is filled again at each tick: a new one would cost more than the decision."""

    def __init__(self) -> None:
        self.message = msg.ControlCommand()
        self.message.header.frame_id = topics.BASE_FRAME
        # Until a robot state has arrived no pose is safe to name; a quaternion of length 0 tells every receiver so.
        self.message.target.orientation.w = 0.0
        self._provenance: Provenance | None = None

    def filled(self, command: Command) -> msg.ControlCommand:
        """The message with what a command says; it is the same object each time."""
        message = self.message
        stamp = message.header.stamp
        stamp.sec, stamp.nanosec = divmod(command.stamp_ns, 1_000_000_000)
        message.tick = command.tick
        message.action = command.action
        target = command.target
        if target is not None:
            position, orientation = message.target.position, message.target.orientation
            position.x, position.y, position.z = target.position.tolist()
            orientation.x, orientation.y, orientation.z, orientation.w = target.orientation.tolist()
            message.gripper_width = float(target.gripper_width)
        message.mode, message.reason = int(command.mode), int(command.reason)
        message.reason_text = command.reason_text
        message.clamps = int(command.clamps)
        message.chunk_id, message.chunk_index = command.chunk_id, command.chunk_index
        message.observation_age_ms = command.observation_age_ms
        message.slowdown = 1.0 - command.pace
        if command.provenance is not self._provenance:
            self._provenance = command.provenance
            message.provenance = provenance_message(command.provenance)
        return message


def episode_of(status: msg.EpisodeStatus) -> Episode:
    """What the loop needs to know of an episode status."""
    running = status.state == msg.EpisodeStatus.STATE_RUNNING
    remaining = float(status.timeout - status.elapsed) if status.timeout > 0.0 else None
    return Episode(
        int(status.episode_id),
        running,
        status.state == msg.EpisodeStatus.STATE_RESETTING,
        status.task,
        to_ns(status.header.stamp),
        remaining,
        1.0 - float(status.slowdown),
    )


def statistics_message(loop: ControlLoop, stamp: Time) -> msg.LoopStatistics:
    """Message of a loop's figures: those of its last window in milliseconds, and counts since its start."""
    figures = loop.statistics.figures()
    message = msg.LoopStatistics(
        window=figures.window_s,
        rate_hz=figures.rate_hz,
        tick_error_p50_ms=figures.tick_error.p50,
        tick_error_p99_ms=figures.tick_error.p99,
        tick_error_max_ms=figures.tick_error.maximum,
        cpu_mean_ms=figures.cpu.mean,
        cpu_max_ms=figures.cpu.maximum,
        ticks=figures.ticks,
        late_ticks=figures.late,
        skipped_ticks=figures.skipped,
        starved_ticks=figures.starved,
        chunks_accepted=loop.queue.accepted,
        chunks_rejected=loop.queue.refusals,
        corrections_applied=loop.arbiter.applied,
        corrections_timed_out=loop.arbiter.timed_out,
        mode=int(loop.mode),
        stages=[_stage(name, summary) for name, summary in figures.stages],
    )
    message.header.stamp = stamp
    return message


def loop_figures(loop: ControlLoop, reason: str) -> dict[str, object]:
    """A loop's figures for ``/diagnostics``, by name. ``reason``: the last command's sentence."""
    figures = loop.statistics.figures()
    values: dict[str, object] = {
        "mode": loop.mode.name.lower(),
        "reason": reason,
        "rate_hz": round(figures.rate_hz, 2),
        "tick_error_p99_ms": round(figures.tick_error.p99, 3),
        "cpu_mean_ms": round(figures.cpu.mean, 3),
        "ticks": figures.ticks,
        "late_ticks": figures.late,
        "skipped_ticks": figures.skipped,
        "starved_ticks": figures.starved,
        "chunks_accepted": loop.queue.accepted,
        "corrections_applied": loop.arbiter.applied,
        "corrections_timed_out": loop.arbiter.timed_out,
        "takeovers": loop.takeover.taken,
        "speed_scale": round(loop.pace.value, 3),
        "clock_jumps": loop.clock_jumps,
        "internal_errors": loop.internal_errors,
    }
    values |= {f"chunks refused: {why.value}": count for why, count in loop.queue.refused.items()}
    values |= {f"takeovers refused: {why.value}": count for why, count in loop.takeover.refused.items()}
    values |= {f"states refused: {why.value}": count for why, count in loop.measurement.refused.items()}
    return values


def _stage(name: str, summary: Summary) -> msg.StageLatency:
    return msg.StageLatency(
        stage=name, count=summary.count, p50_ms=summary.p50, p99_ms=summary.p99, max_ms=summary.maximum
    )
