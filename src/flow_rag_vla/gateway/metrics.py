# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Figures in the text format of Prometheus (exposition format 0.0.4)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Sample:
    """One value, with its labels."""

    value: float
    labels: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Metric:
    """One family of samples. ``kind`` is "gauge" or "counter"; a unit is part of the name (``_seconds``)."""

    name: str
    kind: str
    help: str
    samples: tuple[Sample, ...]


def gauge(name: str, text: str, value: float) -> Metric:
    """A gauge with one sample."""
    return Metric(name, "gauge", text, (Sample(value),))


def counter(name: str, text: str, value: float) -> Metric:
    """A counter with one sample; its name ends in ``_total``."""
    return Metric(name, "counter", text, (Sample(value),))


def labelled(name: str, kind: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    """One sample for each value of a label."""
    return Metric(name, kind, text, tuple(Sample(value, ((label, key),)) for key, value in values.items()))


def prometheus_text(metrics: Iterable[Metric]) -> str:
    """The page that a Prometheus server reads."""
    lines: list[str] = []
    for metric in metrics:
        text = metric.help.replace("\\", "\\\\").replace("\n", "\\n")
        lines += [f"# HELP {metric.name} {text}", f"# TYPE {metric.name} {metric.kind}"]
        lines += [f"{metric.name}{_labels(sample.labels)} {_number(sample.value)}" for sample in metric.samples]
    return "\n".join(lines) + "\n"


def _labels(labels: tuple[tuple[str, str], ...]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return repr(float(value))
