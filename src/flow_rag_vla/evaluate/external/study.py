# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The paired protocol on external tasks: prepare a policy a training seed, then describe benches to run trials in.

The gap of each task is declared here: how few demonstrations the policy gets. It was tuned on development seeds so that
the policy alone neither fails nor succeeds at everything, and then left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

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
        report: told what is done.

    Raises:
        ExternalError: if a task cannot be prepared, or is named twice.
    """
    if len(set(tasks)) < len(tasks):
        raise ExternalError(f"task {max(tasks, key=list(tasks).count)!r} is named twice")
    wanted = preparation or Preparation(0)
    specs = []
    for policy_seed in policy_seeds:
        for name in tasks:
            task = external_task(name, success=success, step_limit=step_limit)
            number = wanted.demonstrations or DECLARED_DEMONSTRATIONS.get(name, DEMONSTRATIONS)
            this = replace(
                wanted,
                demonstrations=number,
                policy_seed=policy_seed,
                training=replace(wanted.training, seed=policy_seed),
            )
            place = Path(folder) / name.replace("/", "_") / f"{this.observation}-{number}-seed{policy_seed}"
            prepare(task, this, place, partial(_labelled, report, f"{name}, seed {policy_seed}"))
            specs.append(
                ExternalBenchSpec.of(
                    name, place, success=success, step_limit=step_limit, length_scale=LENGTH_SCALE, recall=RECALL
                )
            )
    return specs


def _labelled(report: Report, label: str, text: str) -> None:
    report(f"{label}: {text}")
