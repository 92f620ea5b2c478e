"""What the graph says during an episode, as the values that an episode record keeps."""

from __future__ import annotations

from flow_rag_vla.core.failure import Evidence, FailureType
from flow_rag_vla.data.episode_record import FailureRecord
from flow_rag_vla.evaluate.episode import LoopSample
from flow_rag_vla.nodes.stamps import to_ns
from flow_rag_vla_interfaces.msg import FailureEvent, LoopStatistics


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
