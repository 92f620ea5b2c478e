# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Episodes on disk."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from flow_rag_vla.failure.trace import TraceError, load_traces, save_traces

from .synthetic import ORIGIN, make_trace


def test_what_is_saved_comes_back(tmp_path):
    traces = [make_trace(1), make_trace(2, "stuck"), make_trace(3, chunks=False)]
    save_traces(tmp_path / "some.safetensors", ORIGIN, traces)
    origin, loaded = load_traces(tmp_path / "some.safetensors")
    assert origin == ORIGIN
    assert [trace.info for trace in loaded] == [trace.info for trace in traces]
    for trace, same in zip(traces, loaded, strict=True):
        assert len(trace.frames) == len(same.frames)
        for frame, other in zip(trace.frames, same.frames, strict=True):
            plain = dataclasses.asdict(frame) | {"chunk": None}
            for name, value in (dataclasses.asdict(other) | {"chunk": None}).items():
                assert np.all(value == plain[name]), name
            assert (frame.chunk is None) == (other.chunk is None)
            if frame.chunk is not None:
                assert np.array_equal(frame.chunk.actions, other.chunk.actions)
                assert np.array_equal(frame.chunk.uncertainty, other.chunk.uncertainty)
                assert frame.chunk.committed == other.chunk.committed


def test_a_missing_and_a_damaged_file_are_refused(tmp_path):
    path = tmp_path / "some.safetensors"
    with pytest.raises(TraceError, match="collect it again"):
        load_traces(path)
    save_traces(path, ORIGIN, [make_trace(1)])
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(TraceError, match="collect it again"):
        load_traces(path)
    with pytest.raises(TraceError, match="nothing to save"):
        save_traces(path, ORIGIN, [])
