# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What the graph says during an episode, as the values that an episode record keeps."""

from __future__ import annotations

from flow_rag_vla.core.failure import Evidence, FailureType
from flow_rag_vla.data.episode_record import FailureRecord
from flow_rag_vla.evaluate.episode import EpisodeTracker, LoopSample
from flow_rag_vla.nodes.stamps import to_ns, to_stamp
from flow_rag_vla_interfaces.msg import EpisodeStatus, FailureEvent, LoopStatistics


def status_message(episode: EpisodeTracker | None, now_ns: int, finished: int, succeeded: int) -> EpisodeStatus:
    """Where an episode stands at a moment of the node's clock; idle without one."""
    message = EpisodeStatus(episodes_finished=finished, episodes_succeeded=succeeded, state=EpisodeStatus.STATE_IDLE)
    message.header.stamp = to_stamp(now_ns)
    if episode is not None:
        message.episode_id, message.state = episode.episode_id, int(episode.state)
        message.task, message.variant, message.seed = episode.task, episode.variant, episode.seed
        message.instruction, message.phase = episode.instruction, episode.phase
        message.elapsed = episode.elapsed(now_ns)
        message.timeout, message.failures = float(episode.timeout), episode.failures
        message.outcome = episode.verdict.word if episode.verdict is not None else ""
        message.intervened = episode.intervened
        message.slowdown, message.slowdown_reason = 1.0 - episode.pace, episode.pace_reason
    return message


def failure_record(message: FailureEvent, elapsed: float) -> FailureRecord:
    """Record of a failure event seen ``elapsed`` seconds into its episode; a type of a newer interface is unknown."""
    known = message.failure_type in set(FailureType)
    return FailureRecord(
        int(message.event_id),
        FailureType(message.failure_type if known else 0).name.lower(),
        float(message.confidence),
        message.phase,
        message.detector,
        message.description,
        to_ns(message.header.stamp),
        to_ns(message.onset),
        round(elapsed, 3),
        tuple(Evidence(item.name, item.value, item.threshold, item.unit) for item in message.evidence),
    )


def loop_sample(message: LoopStatistics) -> LoopSample:
    """Sample of the loop's statistics."""
    return LoopSample.of(message)
