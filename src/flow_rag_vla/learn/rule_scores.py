# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""How well the rules detect: false alarms on success episodes, and what they find of each perturbation.

``python -m flow_rag_vla.learn.rule_scores`` prints the table that ``failure/README.md`` quotes.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from flow_rag_vla.core.action import TICK_NS
from flow_rag_vla.core.goal import task_names
from flow_rag_vla.learn.failure_rollouts import FailureEpisode, Plan, run_episode
from flow_rag_vla.learn.failure_truth import TrueFailure
from flow_rag_vla.sim.perturbation import PERTURBATIONS, PerturbationKind, perturbed_scene, sample_perturbation
from flow_rag_vla.sim.scene import sample_scene
from flow_rag_vla.sim.world import World

FIRST_SEED = 100_000
WINDOW_TICKS = 40
"""A report whose stretch from onset to stamp lies this near to a true failure is about it."""


@dataclass(slots=True)
class Tally:
    """Counts over the episodes of one kind. ``detected`` counts true failures with a report near them."""

    episodes: int = 0
    success: int = 0
    clean: int = 0
    false_alarms: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    detected: Counter[str] = field(default_factory=Counter)
    reports: Counter[str] = field(default_factory=Counter)

    def add(self, episode: FailureEpisode) -> None:
        """Count one episode."""
        self.episodes += 1
        self.success += episode.success
        if episode.clean:
            self.clean += 1
            self.false_alarms += bool(episode.reports)
        for failure in episode.truth:
            self.failures[failure.kind] += 1
            self.detected[failure.kind] += is_reported(failure, episode)
        for report in episode.reports:
            self.reports[report.failure_type.name.lower()] += 1


def is_reported(failure: TrueFailure, episode: FailureEpisode) -> bool:
    """Whether the rules said something about a true failure."""
    return any(
        report.onset_ns / TICK_NS - WINDOW_TICKS <= failure.tick <= report.stamp_ns / TICK_NS + WINDOW_TICKS
        for report in episode.reports
    )


def success_tally(world: World, task: str, episodes: int, variant: str = "plain") -> Tally:
    """The undisturbed expert on ``episodes`` seeds."""
    tally = Tally()
    for seed in range(FIRST_SEED, FIRST_SEED + episodes):
        plan = Plan(sample_scene(task, variant, seed))
        tally.add(run_episode(world, plan, np.random.default_rng(seed), limit=480))
    return tally


def perturbation_tally(world: World, kind: PerturbationKind, task: str, episodes: int) -> Tally:
    """The expert under one kind of perturbation."""
    tally = Tally()
    for seed in range(FIRST_SEED, FIRST_SEED + episodes):
        rng = np.random.default_rng((seed, 9))
        perturbation = sample_perturbation(kind, task, rng)
        spec = perturbed_scene(sample_scene(task, "plain", seed), perturbation, rng)
        tally.add(run_episode(world, Plan(spec, perturbation=perturbation), rng, limit=320))
    return tally


def _row(name: str, tally: Tally) -> str:
    found = ", ".join(f"{kind} {tally.detected[kind]}/{count}" for kind, count in sorted(tally.failures.items()))
    told = ", ".join(f"{kind} {count}" for kind, count in sorted(tally.reports.items()))
    success, alarms = f"{tally.success}/{tally.episodes}", f"{tally.false_alarms}/{tally.clean}"
    cells = (name, success, alarms, found or "-", told or "-")
    return "| " + " | ".join(cells) + " |"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the scores as a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--success", type=int, default=25, help="success episodes of each task")
    parser.add_argument("--perturbed", type=int, default=8, help="episodes of each perturbation and task")
    options = parser.parse_args(arguments)
    started = time.process_time()
    print("| episodes | success | false alarms on clean ones | true failures reported | reports |")
    print("|---|---|---|---|---|")
    with World() as world:
        for task in task_names():
            print(_row(f"{task}, undisturbed", success_tally(world, task, options.success)), flush=True)
        for kind, info in PERTURBATIONS.items():
            total = Tally()
            for task in info.tasks:
                part = perturbation_tally(world, kind, task, options.perturbed)
                for name in ("episodes", "success", "clean", "false_alarms"):
                    setattr(total, name, getattr(total, name) + getattr(part, name))
                total.failures += part.failures
                total.detected += part.detected
                total.reports += part.reports
            print(_row(kind.value, total), flush=True)
    print(f"{time.process_time() - started:.0f} s of CPU", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
