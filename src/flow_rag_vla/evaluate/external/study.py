# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The paired protocol on external tasks: prepare a policy a training seed, then describe benches to run trials in.

The gap of each task is declared here: how few demonstrations the policy gets. It was tuned on development seeds so that
the policy alone neither fails nor succeeds at everything, and then left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import as_completed
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from flow_rag_vla.core.processes import worker_pool
from flow_rag_vla.evaluate.external.bench import ExternalBenchSpec
from flow_rag_vla.evaluate.external.cases import RecallSettings
from flow_rag_vla.evaluate.external.environment import ExternalError
from flow_rag_vla.evaluate.external.preparation import Preparation, prepare
from flow_rag_vla.evaluate.external.tasks import external_task

DECLARED_DEMONSTRATIONS: Mapping[str, int] = {
    "metaworld/pick-place-v3": 12,
    "metaworld/push-v3": 8,
    "metaworld/drawer-open-v3": 1,
    "metaworld/door-open-v3": 1,
    "metaworld/peg-insert-side-v3": 35,
    "gym/MountainCarContinuous-v0": 1,
}
"""Demonstrations of each task: the declared gap."""
DEMONSTRATIONS = 10
"""Of a task that is not declared."""

LENGTH_SCALE = 3.0
RECALL = RecallSettings()
"""Of the memory's key and of its recall; chosen on development seeds of door-open and push, the same for every task."""

Report = Callable[[str], None]


def _silent(_: str) -> None:
    pass


def is_external(task: str) -> bool:
    """Whether a task's name is one of an external environment."""
    return task.partition("/")[0] in ("metaworld", "gym")


def prepared_benches(
    tasks: Sequence[str],
    folder: str | Path,
    *,
    policy_seeds: Sequence[int] = (0,),
    preparation: Preparation | None = None,
    success: str = "",
    step_limit: int = 0,
    workers: int = 1,
    report: Report = _silent,
) -> list[ExternalBenchSpec]:
    """Prepare what is not prepared yet, and describe the benches.

    Args:
        tasks: names for :func:`external_task`.
        folder: one folder a task and training seed is made below it.
        policy_seeds: a policy each, trained and failing on its own.
        preparation: how; its training seed is set here, and demonstrations of 0 take the declared number.
        success: words for :func:`success_rule`; empty for the task's own.
        step_limit: of an episode; 0 for the task's own.
        workers: processes that prepare; with 1 it is done in this one.
        report: told what is done; with several workers only what is ready.

    Raises:
        ExternalError: if a task cannot be prepared, or is named twice.
    """
    if len(set(tasks)) < len(tasks):
        raise ExternalError(f"task {max(tasks, key=list(tasks).count)!r} is named twice")
    known = {name: external_task(name, success=success, step_limit=step_limit) for name in tasks}
    wanted = preparation or Preparation(0)
    jobs: list[tuple[str, Preparation, Path]] = []
    for policy_seed in policy_seeds:
        for name in tasks:
            number = wanted.demonstrations or DECLARED_DEMONSTRATIONS.get(name, DEMONSTRATIONS)
            training = replace(wanted.training, seed=policy_seed)
            this = replace(wanted, demonstrations=number, policy_seed=policy_seed, training=training)
            place = Path(folder) / name.replace("/", "_") / f"{this.observation}-{number}-seed{policy_seed}"
            jobs.append((name, this, place))
    if workers > 1:
        with worker_pool(min(workers, len(jobs))) as pool:
            begun = {
                pool.submit(_prepare_alone, *job, success, step_limit): f"{job[0]}, seed {job[1].policy_seed}"
                for job in jobs
            }
            for future in as_completed(begun):
                future.result()
                report(f"{begun[future]}: ready")
    else:
        for name, this, place in jobs:
            prepare(known[name], this, place, partial(_labelled, report, f"{name}, seed {this.policy_seed}"))
    return [
        ExternalBenchSpec.of(
            name, place, success=success, step_limit=step_limit, length_scale=LENGTH_SCALE, recall=RECALL
        )
        for name, _, place in jobs
    ]


def _prepare_alone(name: str, preparation: Preparation, place: Path, success: str, step_limit: int) -> None:
    """Prepare in a process that has others beside it."""
    torch.set_num_threads(1)
    prepare(external_task(name, success=success, step_limit=step_limit), preparation, place)


def _labelled(report: Report, label: str, text: str) -> None:
    report(f"{label}: {text}")
