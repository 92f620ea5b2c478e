# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What a training tells, where MLflow is installed and where it is not."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from flow_rag_vla.labeling.pipeline.errors import ModelError, SettingError
from flow_rag_vla.labeling.training.tracking import MlflowTracker, trackers
from flow_rag_vla.labeling.training.train import train_detector


def test_without_mlflow_the_file_has_everything_and_a_line_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow.tracking", None)
    tell, words = trackers(tmp_path)
    assert len(tell) == 1 and "flow_rag_vla[tracking]" in words
    with pytest.raises(ModelError, match=r"flow_rag_vla\[tracking\]") as refused:
        trackers(tmp_path, "mlflow")
    assert refused.value.code == "extra_missing"
    with pytest.raises(SettingError, match="tracking is 'wandb'"):
        trackers(tmp_path, "wandb")


def test_a_training_that_goes_on_is_one_run_in_the_file_store(
    data, tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    folder = tmp_path / "one"
    for stop in (True, False):
        tell, words = trackers(folder)
        done = train_detector(data, folder, tiny(epochs=2), tell=tell, stop=(lambda stop=stop: stop))
        for tracker in tell:
            tracker.end("finished" if done.finished else "stopped", [folder / "training.json"])
    assert "MLflow" in words
    from mlflow.tracking import MlflowClient

    client = MlflowClient((tmp_path / "mlruns").as_uri())
    (experiment,) = [one for one in client.search_experiments() if one.name == "flow_rag_vla detectors"]
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED" and run.data.params["architecture"] == "rtdetr_v2"
    history = client.get_metric_history(run.info.run_id, "val_ap")
    assert [one.step for one in history] == [2, 4]
    assert [one.path for one in client.list_artifacts(run.info.run_id)] == ["training.json"]
    assert isinstance(tell[1], MlflowTracker)
