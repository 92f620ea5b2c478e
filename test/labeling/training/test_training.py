# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The loop: it learns, stops, goes on, and gives the same weights however often it was cut."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from flow_rag_vla.labeling.evaluation.dataset import open_part
from flow_rag_vla.labeling.pipeline.errors import SettingError, SourceError
from flow_rag_vla.labeling.training import checkpoint, report
from flow_rag_vla.labeling.training.orders import RUNNING, TrainOrder, read_status, write_order
from flow_rag_vla.labeling.training.runs import run_training
from flow_rag_vla.labeling.training.settings import DetectorTraining, settings_from
from flow_rag_vla.labeling.training.tracking import METRICS, MetricsFile
from flow_rag_vla.labeling.training.train import TrainingData, rate_at, train_detector

Tiny = Callable[..., DetectorTraining]


def weights(folder: Path) -> dict[str, np.ndarray]:
    (state,) = folder.glob("step-*/state.safetensors")
    return {name: value.numpy() for name, value in load_file(state).items()}


def assert_same(first: Path, second: Path) -> None:
    one, other = weights(first), weights(second)
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)


@pytest.mark.parametrize("architecture", ["rtdetr_v2", "d_fine"])
def test_it_learns_what_it_is_shown(architecture: str, data: TrainingData, tiny: Tiny, tmp_path: Path) -> None:
    settings = tiny(architecture=architecture, epochs=10, rate=5e-3, every=10, save_every=50, augment=False)
    done = train_detector(data, tmp_path, settings)
    losses = [row["loss"] for row in done.rows if "loss" in row]
    assert done.finished and done.steps == done.total == 20 and not done.early
    # Two means of ten steps each.
    assert len(losses) == 2 and losses[1] < 0.9 * losses[0]
    assert (tmp_path / "model" / "model.safetensors").is_file()


def test_one_that_is_stopped_goes_on_to_the_same_weights(data: TrainingData, tiny: Tiny, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train_detector(data, whole, tiny())
    count = 0

    def stop() -> bool:
        nonlocal count
        count += 1
        return count == 3

    told = MetricsFile(parts)
    first = train_detector(data, parts, tiny(), tell=[told], stop=stop)
    assert not first.finished and 0 < first.steps < first.total
    # What a crash leaves after the last checkpoint is forgotten.
    told.row({"step": 99, "loss": 1.0})
    second = train_detector(data, parts, tiny(save_every=50), tell=[told])
    assert second.finished and second.steps == second.total
    assert_same(whole, parts)
    rows = [json.loads(line) for line in (parts / METRICS).read_text().splitlines()]
    assert [row["step"] for row in rows if "val_ap" in row] == [2, 4, 6] and all(row["step"] <= 6 for row in rows)
    # Finished: nothing more is done.
    assert train_detector(data, parts, tiny()).steps == second.total


def test_one_that_is_killed_goes_on_from_its_last_checkpoint(tiny: Tiny, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    settings = tiny(epochs=12, every=12, save_every=1, width=64)
    killed.mkdir()
    write_order(killed, TrainOrder("simulator:1", settings, "none"))
    command = [sys.executable, "-m", "flow_rag_vla.labeling.training.process", str(killed), "0"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while (standing := checkpoint.read(killed)) is None or standing.step < 3:
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[1].decode()[-2000:]
        time.sleep(0.02)
    process.kill()
    process.communicate()
    assert read_status(killed).state == RUNNING
    standing = checkpoint.read(killed)
    assert standing is not None and 3 <= standing.step < 12
    steps: list[int] = []
    done = run_training(
        "simulator:1", killed, settings, tracking="none", bar=lambda title: (
            lambda at, _total, note="": steps.append(at) if title == "Training" else None
        ),
    )  # fmt: skip
    assert steps[0] == standing.step + 1 and done.trained.finished and done.evaluation is not None
    _, categories, train = open_part("simulator:1", "train")
    _, _, val = open_part("simulator:1", "val")
    train_detector(TrainingData("simulator:1", categories, train, val), whole, settings)
    assert_same(whole, killed)
    assert "</html>" in done.page.read_text() and (killed / "evaluation.html").is_file()


def test_it_ends_when_tries_bring_nothing_better(data: TrainingData, tiny: Tiny, tmp_path: Path) -> None:
    # At this rate nothing is learned: every try after the first is as bad.
    done = train_detector(data, tmp_path, tiny(rate=1e-9, epochs=8, patience=2))
    assert done.finished and done.early and done.steps == 6


def test_another_training_in_the_same_folder_is_refused(
    data: TrainingData, tiny: Tiny, trained: Path, tmp_path: Path
) -> None:
    tmp_path = Path(shutil.copytree(trained, tmp_path / "copy"))
    with pytest.raises(SourceError, match="another rate, seed"):
        train_detector(data, tmp_path, tiny(epochs=1, rate=1e-3, seed=1))
    with pytest.raises(SourceError, match="another data"):
        train_detector(replace(data, train=data.train[:4]), tmp_path, tiny(epochs=1))
    (tmp_path / checkpoint.POINTER).write_text('{"format": "else"}')
    with pytest.raises(SourceError, match="no record of a training"):
        train_detector(data, tmp_path, tiny(epochs=1))


def test_a_cut_checkpoint_is_an_error_and_not_noise(data: TrainingData, tiny: Tiny, tmp_path: Path) -> None:
    train_detector(data, tmp_path, tiny(epochs=2), stop=lambda: True)
    (state,) = tmp_path.glob("step-*/state.safetensors")
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(SourceError, match="cannot be read"):
        train_detector(data, tmp_path, tiny(epochs=2))


def test_a_part_without_things_is_refused(data: TrainingData) -> None:
    with pytest.raises(SourceError, match="'val' of squares"):
        replace(data, val=[])
    with pytest.raises(SourceError, match="'train' of squares"):
        replace(data, categories=("teapot",))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"width": 100}, "width is 100, expected a multiple of 32"),
        ({"rate": float("nan")}, "rate is nan"),
        ({"epochs": 0}, "epochs is 0"),
        ({"epochs": True}, "epochs is true, expected a int"),
        ({"architecture": "yolo"}, "expected one of rtdetr_v2, d_fine"),
        ({"pace": 3}, "'pace' is no setting"),
        ({"model": 7}, "model is 7, expected a str"),
    ],
)
def test_settings_that_make_no_sense_are_named(values: dict[str, object], words: str) -> None:
    with pytest.raises(SettingError, match=words):
        settings_from(values)


def test_the_rate_rises_then_falls(tiny: Tiny) -> None:
    settings = tiny(warm_up=0.1)
    rates = [rate_at(step, 100, settings) for step in range(100)]
    assert max(rates) == rates[10] == settings.rate
    assert rates[:11] == sorted(rates[:11]) and rates[10:] == sorted(rates[10:], reverse=True)
    assert 0.0 < rates[-1] < 0.03 * settings.rate


def test_a_training_shows_itself_at_any_time(data: TrainingData, tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="holds no training"):
        report.write_report(tmp_path)
    train_detector(data, tmp_path, tiny(epochs=2), stop=lambda: True)
    assert "not finished" in report.write_report(tmp_path).read_text()
    train_detector(data, tmp_path, tiny(epochs=2))
    page = report.write_report(tmp_path).read_text()
    assert page.count("<svg") == 4 and "<script" not in page
    figures = json.loads((tmp_path / report.FIGURES).read_text())
    assert figures["finished"] and len([row for row in figures["rows"] if "val_ap" in row]) == 2
