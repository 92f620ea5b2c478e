# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The shipped policy under faults, as a failure monitor sees it; one calibration from bags and one from simulation."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from flow_rag_vla.core.goal import task_names
from flow_rag_vla.failure.trace import TraceError, save_traces
from flow_rag_vla.learn.detection_data import PARTS, Part, collect_part
from flow_rag_vla.learn.watched_rollouts import WatchedJob, fault_jobs, run_watched, success_jobs, watch
from flow_rag_vla.sim.perturbation import PERTURBATIONS, PerturbationKind


@pytest.fixture(scope="module")
def traces():
    return run_watched([WatchedJob("push", 700), WatchedJob("stack", 701, "grasp_too_early")])


def test_a_trace_holds_ten_frames_a_second_each_with_its_chunk(traces):
    calm, faulty = traces
    assert calm.info.cause == ""
    for trace in traces:
        elapsed = [frame.elapsed for frame in trace.frames]
        assert np.allclose(np.diff(elapsed), 0.1)
        assert elapsed[-1] <= trace.info.duration
        assert all(frame.chunk is not None and frame.chunk.stamp_ns == frame.stamp_ns for frame in trace.frames)
        assert all(frame.goal is not None and frame.goal.task == trace.info.task for frame in trace.frames)
    assert faulty.info.cause == "grasp_too_early"
    assert 0.0 < faulty.info.onset < faulty.info.duration
    assert faulty.info.description.startswith("fingers closed")
    assert faulty.info.timeout_at <= faulty.info.duration


def test_the_same_job_gives_the_same_trace(traces):
    (again,) = run_watched([WatchedJob("stack", 701, "grasp_too_early")])
    assert again.info == traces[1].info
    for frame, same in zip(traces[1].frames, again.frames, strict=True):
        assert np.array_equal(frame.embedding, same.embedding)
        assert np.array_equal(frame.chunk.actions, same.chunk.actions)


def test_jobs_cover_tasks_and_kinds_and_parts_share_no_seed():
    jobs = fault_jobs(48, 0)
    assert {job.kind for job in jobs} == {kind.value for kind in PerturbationKind}
    assert all(job.task in PERTURBATIONS[PerturbationKind(job.kind)].tasks for job in jobs)
    assert {job.task for job in success_jobs(2 * len(task_names()), 0)} == set(task_names())
    spans = [range(part.first_seed, part.first_seed + part.episodes) for part in PARTS]
    seeds = [seed for span in spans for seed in span]
    assert len(seeds) == len(set(seeds))
    assert all((part.first_seed >= 100_000) == part.name.startswith("test") for part in PARTS)


def test_collected_episodes_are_kept_and_those_of_another_policy_refused(tmp_path, traces):
    part = Part("some", False, 700, 8)
    from flow_rag_vla.learn.watched_rollouts import trace_origin
    from flow_rag_vla.policy.encoders import make_encoder
    from flow_rag_vla.policy.policy import FlowPolicy

    origin = trace_origin(FlowPolicy.load(), make_encoder("compact"))
    save_traces(tmp_path / "some_8.safetensors", origin, traces)
    told = []
    known, kept = collect_part(part, tmp_path, progress=lambda done, total, note="": told.append((done, total)))
    assert (known, len(kept), told) == (origin, 2, [(8, 8)])
    other = dataclasses.replace(origin, policy_revision="eeee")
    save_traces(tmp_path / "some_8.safetensors", other, traces)
    with pytest.raises(TraceError, match="another folder or remove"):
        collect_part(part, tmp_path)


def test_no_worker_is_refused():
    with pytest.raises(ValueError, match="workers is 0"):
        list(watch([WatchedJob("push", 1)], workers=0))
