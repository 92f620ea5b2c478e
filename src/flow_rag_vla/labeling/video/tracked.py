# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Asking tracks: in time order, by label, time and confidence."""

from __future__ import annotations

from collections.abc import Iterable

from flow_rag_vla.labeling.video.tracks import Track


def query_tracks(
    tracks: Iterable[Track],
    *,
    label: str | None = None,
    start_ns: int | None = None,
    end_ns: int | None = None,
    least_confidence: float = 0.0,
    least_sightings: int = 1,
) -> list[Track]:
    """Tracks by the time at which they begin.

    Args:
        tracks: of one video or topic.
        label: only of this category.
        start_ns: only those that are seen at or after it, nanoseconds.
        end_ns: only those that are seen at or before it, nanoseconds.
        least_confidence: least mean score, 0 to 1.
        least_sightings: least number of frames that show it.
    """
    chosen = [
        track
        for track in tracks
        if (label is None or track.label == label)
        and (start_ns is None or track.end_ns >= start_ns)
        and (end_ns is None or track.start_ns <= end_ns)
        and track.mean_confidence >= least_confidence
        and len(track.sightings) >= least_sightings
    ]
    return sorted(chosen, key=lambda track: (track.start_ns, track.track_id))
