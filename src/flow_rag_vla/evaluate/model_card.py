# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The page beside a checkpoint that says what made it and how well it does."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from flow_rag_vla.core.files import write_text
from flow_rag_vla.evaluate.intervals import wilson
from flow_rag_vla.evaluate.rollout import RolloutResult
from flow_rag_vla.policy.checkpoint import PolicyConfig

_PACKAGES = ("torch", "numpy", "pybullet", "safetensors")


def write_model_card(
    folder: str | Path,
    *,
    config: PolicyConfig,
    revision: str,
    command: str,
    evaluation_command: str,
    report: Mapping[str, Any],
    results: Sequence[RolloutResult],
) -> Path:
    """Write MODEL_CARD.md into a checkpoint folder and give its path.

    Args:
        folder: of the policy checkpoint.
        config: of the checkpoint.
        revision: of the checkpoint.
        command: that trained it.
        evaluation_command: that made ``results``.
        report: of the pipeline: what each stage made and cost.
        results: closed-loop episodes on test seeds.
    """
    lines = [
        "# Flow policy",
        "",
        "A flow-matching policy over action chunks of 16 ticks (40 Hz), conditioned on the embedding of two cameras,",
        "proprioception and one of six goals. Trained by imitation of a scripted expert in PyBullet.",
        "",
        f"- revision: `{revision}`",
        f"- encoder: `{config.encoder.name}` `{config.encoder.revision}`, {config.encoder.dimension} numbers",
        f"- made by: `{command}`",
        f"- Python {platform.python_version()}, " + ", ".join(f"{name} {_version(name)}" for name in _PACKAGES),
        "- licence: Apache-2.0; data: simulated only",
        "",
        "## Data",
        "",
        *_data_lines(report),
        "",
        "## Cost",
        "",
        "Wall time depends on what else the machine does; CPU time counts all processes.",
        "",
        "| stage | wall s | CPU s |",
        "|---|---|---|",
        *(f"| {key} | {facts['wall_s']} | {facts['cpu_s']} |" for key, facts in report.items() if "wall_s" in facts),
        "",
        "## Readout on held-out episodes (median errors)",
        "",
        *_error_lines(report),
        "",
        "## Scores",
        "",
        f"`{evaluation_command}`; success with Wilson 95 % intervals. Test seeds were not used to train or choose.",
        "",
        *score_table(results),
        "",
        "## Limits",
        "",
        "It knows the simulator's objects, cameras and goals and nothing else. The variants other than plain are",
        "outside its training distribution on purpose. It has not been run on a robot.",
        "",
    ]
    path = Path(folder) / "MODEL_CARD.md"
    write_text(path, "\n".join(lines))
    return path


def score_table(results: Sequence[RolloutResult]) -> list[str]:
    """Markdown rows: task, variant, success, mean duration of the successes."""
    groups: dict[tuple[str, str], list[RolloutResult]] = {}
    for result in results:
        groups.setdefault((result.task, result.variant), []).append(result)
    lines = ["| task | variant | success | seconds |", "|---|---|---|---|"]
    for (task, variant), items in groups.items():
        done = [item.duration_s for item in items if item.success]
        seconds = f"{sum(done) / len(done):.1f}" if done else "-"
        lines.append(f"| {task} | {variant} | {wilson(len(done), len(items))} | {seconds} |")
    return lines


def _data_lines(report: Mapping[str, Any]) -> list[str]:
    lines = []
    for key, words in (("demonstrations", "first round"), ("second_demonstrations", "second round")):
        facts = report.get(key)
        if facts:
            episodes = "; ".join(f"{goal}: {count}" for goal, count in facts["episodes"].items())
            lines.append(f"- {words}: {facts['frames']} frame pairs; episodes: {episodes}")
    return lines or ["- none recorded"]


def _error_lines(report: Mapping[str, Any]) -> list[str]:
    errors = report.get("encoder", {}).get("held_out_errors")
    if not errors:
        return ["not measured"]
    lines = ["| entity | anywhere mm | within 10 cm of the tool mm | heading degrees |", "|---|---|---|---|"]
    for name, value in errors["position"].items():
        near = errors["near_position"].get(name)
        heading = errors["heading"].get(name)
        lines.append(
            f"| {name} | {1e3 * value:.1f} | {'-' if near is None else f'{1e3 * near:.1f}'} | "
            f"{'-' if heading is None else f'{57.2958 * heading:.1f}'} |"
        )
    return lines


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
