# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What a job is asked for, and how it stands: two small JSON files in its folder."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from flow_rag_vla.core.files import write_text
from flow_rag_vla.labeling.evaluation.evaluate import THRESHOLD
from flow_rag_vla.labeling.pipeline.errors import SettingError, SourceError
from flow_rag_vla.labeling.training.settings import DetectorTraining, settings_from
from flow_rag_vla.labeling.training.tracking import AUTO

TRAINING_PAGE = "training.html"
ORDER, STATUS = "order.json", "status.json"
TRAIN, EVALUATE = "train", "evaluate"
WAITING, RUNNING, FINISHED, STOPPED, FAILED = "waiting", "running", "finished", "stopped", "failed"
ENDED = (FINISHED, STOPPED, FAILED)


@dataclass(frozen=True, slots=True)
class TrainOrder:
    """A training. dataset: a folder, or simulator:N; tracking: auto, none or mlflow."""

    dataset: str
    settings: DetectorTraining = field(default_factory=DetectorTraining)
    tracking: str = AUTO


@dataclass(frozen=True, slots=True)
class EvaluateOrder:
    """An evaluation. detector, model: as the backends know them; see ``run_evaluation`` for the rest."""

    dataset: str
    part: str = "test"
    detector: str = "compact"
    model: str = ""
    threshold: float = THRESHOLD
    most: int = 0
    device: str = "cpu"


Order = TrainOrder | EvaluateOrder


@dataclass(frozen=True, slots=True)
class Status:
    """How a job stands.

    state: waiting, running, finished, stopped (a training can go on) or failed; code, message: why it failed
    stage: what it does; done, total: of that stage, total 0: not known; note: a few words
    best: mAP of the best weights so far, or of the evaluation; map50: of the evaluation
    result: folder of the model, or the page of an evaluation
    """

    state: str = WAITING
    code: str = ""
    message: str = ""
    stage: str = ""
    done: int = 0
    total: int = 0
    note: str = ""
    best: float = 0.0
    map50: float = 0.0
    result: str = ""

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen by itself."""
        return self.state in ENDED


def write_order(folder: Path, order: Order) -> None:
    """Write it into a job's folder."""
    kind = TRAIN if isinstance(order, TrainOrder) else EVALUATE
    write_text(folder / ORDER, json.dumps({"kind": kind, **asdict(order)}, indent=1) + "\n")


def read_order(folder: Path) -> Order:
    """The order in a folder.

    Raises:
        SourceError: if there is none, or it is damaged.
        SettingError: if a value in it makes no sense.
    """
    path = folder / ORDER
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        kind = values.pop("kind")
        if kind == TRAIN:
            return TrainOrder(str(values["dataset"]), settings_from(values["settings"]), str(values["tracking"]))
        names = {one.name for one in dataclasses.fields(EvaluateOrder)}
        if kind != EVALUATE or set(values) != names:
            raise ValueError(f"kind {kind!r} with {', '.join(sorted(values))}")
        return EvaluateOrder(**values)
    except SettingError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SourceError(f"{path} is no order of a job ({error}): order it again", "source_corrupt") from error


def write_status(folder: Path, status: Status) -> None:
    """Replace the status as a whole."""
    write_text(folder / STATUS, json.dumps(asdict(status)) + "\n")


def read_status(folder: Path) -> Status:
    """How the job in a folder stands; waiting where nothing was written yet."""
    try:
        values = json.loads((folder / STATUS).read_text(encoding="utf-8"))
        return replace(Status(), **{str(key): value for key, value in values.items()})
    except (OSError, ValueError, TypeError, AttributeError):
        return Status()
