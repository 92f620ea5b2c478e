# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What is told of a training: a line of numbers a step or a try, into a file and, where it is installed, MLflow."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from flow_rag_vla.core.files import write_text
from flow_rag_vla.labeling.pipeline.errors import ModelError, SettingError

METRICS = "metrics.jsonl"
MLFLOW_NOTE = "mlflow.json"
EXPERIMENT = "flow_rag_vla detectors"
AUTO, NONE, MLFLOW = "auto", "none", "mlflow"
CHOICES = (AUTO, NONE, MLFLOW)


class Tracker(Protocol):
    """Takes what is told of a training."""

    def begin(self, settings: Mapping[str, Any], rows: Sequence[Mapping[str, float]]) -> None:
        """A training begins, or goes on after ``rows``."""

    def row(self, row: Mapping[str, float]) -> None:
        """Numbers by name; ``step`` among them."""

    def end(self, state: str, files: Sequence[Path]) -> None:
        """It ends: state is finished or stopped; files are worth keeping."""


class MetricsFile:
    """A JSON object a line. What a broken training told after its last checkpoint is taken out when it goes on."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / METRICS

    def begin(self, settings: Mapping[str, Any], rows: Sequence[Mapping[str, float]]) -> None:
        """See ``Tracker.begin``."""
        write_text(self.path, "".join(json.dumps(dict(row)) + "\n" for row in rows))

    def row(self, row: Mapping[str, float]) -> None:
        """See ``Tracker.row``."""
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(dict(row)) + "\n")

    def end(self, state: str, files: Sequence[Path]) -> None:
        """See ``Tracker.end``."""


class MlflowTracker:
    """A run of MLflow, gone on with by its id. Where: MLFLOW_TRACKING_URI, else files below the training's parent."""

    def __init__(self, folder: Path, uri: str = "") -> None:
        """Nothing is made before ``begin``: a training that cannot start leaves no store behind.

        Raises:
            ModelError: if MLflow is not installed; it names the extra.
        """
        try:
            from mlflow.tracking import MlflowClient
        except ImportError as error:
            raise ModelError(
                f"tracking with MLflow needs a library ({error}); install it: pip install 'flow_rag_vla[tracking]', or "
                "take --tracking none: metrics.jsonl has the same numbers",
                "extra_missing",
            ) from error
        self._folder = folder
        self.uri = uri or os.environ.get("MLFLOW_TRACKING_URI", "") or usual_store(folder)
        if "://" not in self.uri or self.uri.startswith("file:"):
            # MLflow keeps its file store, but wants to be told that it is meant.
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        self._open = MlflowClient
        self._client: Any = None
        self._run = ""

    def begin(self, settings: Mapping[str, Any], rows: Sequence[Mapping[str, float]]) -> None:
        """See ``Tracker.begin``."""
        self._client = self._open(self.uri)
        note = self._folder / MLFLOW_NOTE
        if note.is_file():
            kept = json.loads(note.read_text(encoding="utf-8"))
            if kept.get("uri") == self.uri:
                self._run = str(kept["run"])
                self._client.update_run(self._run, status="RUNNING")
                return
        found = self._client.get_experiment_by_name(EXPERIMENT)
        experiment = found.experiment_id if found is not None else self._client.create_experiment(EXPERIMENT)
        self._run = str(self._client.create_run(experiment, run_name=self._folder.resolve().name).info.run_id)
        for name, value in settings.items():
            self._client.log_param(self._run, name, str(value)[:500])
        write_text(note, json.dumps({"uri": self.uri, "run": self._run}) + "\n")

    def row(self, row: Mapping[str, float]) -> None:
        """See ``Tracker.row``."""
        for name, value in row.items():
            if name != "step":
                self._client.log_metric(self._run, name, float(value), step=int(row["step"]))

    def end(self, state: str, files: Sequence[Path]) -> None:
        """See ``Tracker.end``."""
        for path in files:
            if path.is_file():
                self._client.log_artifact(self._run, str(path))
        self._client.set_terminated(self._run, "FINISHED" if state == "finished" else "KILLED")


def usual_store(folder: Path) -> str:
    """The file store beside the trainings: all of one parent folder are compared on one page."""
    return (folder.resolve().parent / "mlruns").as_uri()


def trackers(folder: Path, choice: str = AUTO) -> tuple[list[Tracker], str]:
    """What a training tells, and a line about it for people.

    Args:
        folder: of the training.
        choice: auto takes MLflow if it is installed; mlflow insists on it; none: the file alone.

    Raises:
        SettingError: for another choice.
        ModelError: if MLflow is insisted on and not installed.
    """
    if choice not in CHOICES:
        raise SettingError(f"tracking is {choice!r}, expected one of {', '.join(CHOICES)}")
    file = MetricsFile(folder)
    if choice == NONE:
        return [file], f"metrics in {file.path}"
    try:
        mlflow = MlflowTracker(folder)
    except ModelError:
        if choice == MLFLOW:
            raise
        return [file], (
            f"metrics in {file.path}; MLflow is not installed (pip install 'flow_rag_vla[tracking]' for its pages)"
        )
    return [file, mlflow], f"metrics in {file.path} and in MLflow at {mlflow.uri}"
