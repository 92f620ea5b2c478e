# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Trainings and evaluations as processes of their own."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flow_rag_vla.labeling.pipeline.errors import SettingError, SourceError
from flow_rag_vla.labeling.training.jobs import JobBusyError, Jobs
from flow_rag_vla.labeling.training.orders import (
    FAILED,
    FINISHED,
    RUNNING,
    STOPPED,
    EvaluateOrder,
    Status,
    TrainOrder,
    write_status,
)

LONG = 150.0


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    made = Jobs(tmp_path / "jobs", niceness=0)
    yield made
    made.close(patience_s=30.0)


def until_it_trains(jobs: Jobs, name: str) -> None:
    deadline = time.monotonic() + LONG
    while (status := jobs.job(name).status).stage != "Training" or not status.done:
        assert not status.ended, status
        assert time.monotonic() < deadline, status
        time.sleep(0.05)


def test_a_training_waits_stops_with_a_checkpoint_and_goes_on(jobs: Jobs, tiny) -> None:
    order = TrainOrder("simulator:1", tiny(epochs=2000, every=2000, save_every=1000, width=64), "none")
    started = jobs.start(order, "one")
    assert started.status.state in ("waiting", RUNNING)
    with pytest.raises(JobBusyError, match="job one is under way"):
        jobs.start(EvaluateOrder("simulator:1"))
    until_it_trains(jobs, "one")
    process = jobs._process
    assert process is not None
    assert jobs.pause(True) and jobs.job("one").paused
    state = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    deadline = time.monotonic() + LONG
    while state != "T" and time.monotonic() < deadline:
        state = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    assert state == "T"
    # Withdrawn while it waits: it goes on, writes its checkpoint and ends.
    jobs.cancel("one")
    done = jobs.wait("one", LONG)
    assert done.status.state == STOPPED and process.returncode == 0
    assert list(done.folder.glob("step-*/state.safetensors")) and not jobs.pause(True)
    with pytest.raises(SourceError, match="there is a job one already"):
        jobs.start(TrainOrder("simulator:2", order.settings, "none"), "one")
    assert jobs.start(order, "one").status.state in ("waiting", RUNNING)
    until_it_trains(jobs, "one")
    assert jobs.under_way == "one"
    jobs.close(LONG, hurry=lambda: True)
    died = jobs.job("one")
    assert (died.status.state, died.status.code, jobs.under_way) == (FAILED, "job_died", "")
    assert "ended with -9" in died.status.message and list(died.folder.glob("step-*/state.safetensors"))
    assert [job.name for job in Jobs(jobs.folder).jobs()] == ["one"]


@pytest.mark.parametrize("kind", ["training", "evaluation"])
def test_what_has_nothing_to_keep_ends_at_once(jobs: Jobs, tiny, kind: str) -> None:
    # Pictures that take minutes to draw.
    training = kind == "training"
    job = jobs.start(TrainOrder("simulator:5000", tiny(), "none") if training else EvaluateOrder("simulator:5000"))
    deadline = time.monotonic() + LONG
    while not (status := jobs.job(job.name).status).done:
        assert not status.ended and time.monotonic() < deadline, status
        time.sleep(0.02)
    jobs.cancel(job.name)
    done = jobs.wait(job.name, LONG)
    assert done.status.state == STOPPED and done.status.stage.startswith("Pictures")
    assert 0 < done.status.done < done.status.total
    assert (jobs._process.returncode, (job.folder / "job.log").read_text()) == (0, "")


def test_a_job_that_has_ended_is_not_under_way_while_its_process_takes_a_moment_to_go(jobs: Jobs) -> None:
    job = jobs.start(EvaluateOrder("simulator:5000"))
    assert jobs.under_way == job.name
    jobs.pause(True)
    os.waitid(os.P_PID, jobs._process.pid, os.WSTOPPED | os.WNOWAIT)
    write_status(job.folder, Status(FINISHED))
    assert jobs.under_way == ""
    jobs.pause(False)


def test_an_evaluation_that_cannot_be_done_says_why(jobs: Jobs, tmp_path: Path) -> None:
    job = jobs.start(EvaluateOrder(str(tmp_path / "nowhere"), detector="detr", model=str(tmp_path / "nothing")))
    done = jobs.wait(job.name, LONG)
    assert (done.status.state, done.status.code) == (FAILED, "model_missing") and "nothing" in done.status.message
    for name in ("../up", "", "a b"):
        with pytest.raises(SettingError, match="of a job"):
            jobs.job(name)
    with pytest.raises(SourceError, match="there is no job other"):
        jobs.job("other")
