# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Paired trials of the memory at the console: run, counted while they run, and told as tables."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from flow_rag_vla.cli.progress import progress_display
from flow_rag_vla.cli.signals import INTERRUPTED

if TYPE_CHECKING:
    from flow_rag_vla.evaluate.trials.analysis import Summary
    from flow_rag_vla.evaluate.trials.protocol import TrialResult
    from flow_rag_vla.evaluate.trials.runner import Broken
    from flow_rag_vla.evaluate.trials.simulated_spec import SimulatedSpec
    from flow_rag_vla.evaluate.trials.variants import InForce

BROKEN_SHOWN = 5
"""Trials that broke which are named; a wrong folder breaks all of them alike."""


@dataclass(frozen=True, slots=True)
class PairedTrials:
    """How paired trials are run.

    memory: variants of the memory, separated by commas; preset: a question with variants of its own; one of the two
    episodes: fresh starts of each bench, from seed ``seed`` on
    repeats: noises with which each start that failed in the bank is run again; None: as the preset says, else none
    folder: gets the trials, or has some of them already with ``resume``
    """

    memory: str | None
    preset: str | None
    episodes: int
    seed: int
    repeats: int | None
    workers: int
    folder: Path
    resume: bool


def run_paired(console: Console, specs: Sequence[SimulatedSpec], trials: PairedTrials) -> int:
    """Run paired trials into a folder, and print the table of what they show; the command's exit code.

    Raises:
        TrialError: if they cannot be run as they are asked for.
    """
    from flow_rag_vla import __version__
    from flow_rag_vla.evaluate.trials.plan import make_plan
    from flow_rag_vla.evaluate.trials.plan import preset as find_preset
    from flow_rag_vla.evaluate.trials.session import REPORT, TABLES, run_plan
    from flow_rag_vla.evaluate.trials.variants import BY_CASE, parse, parse_all, resolved

    about: dict[str, Any] = {
        "command": " ".join(["flow_rag_vla", *sys.argv[1:]]),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S"),
        "version": __version__,
        "episodes": trials.episodes,
        "first_seed": trials.seed,
    }
    in_force = _in_force(specs, trials.memory or "")
    if trials.preset == "online":
        # There it is the memory that grows which the method is asked of.
        in_force = replace(in_force, bank=in_force.growing)
    short = resolved(trials.memory or "", in_force)
    if short:
        about["asked_as"] = dict(short)
    if trials.preset is None:
        variants, again, online = parse_all(trials.memory or "", in_force), trials.repeats or 0, False
    else:
        found = find_preset(
            trials.preset,
            str(parse(trials.memory, in_force)) if trials.memory else BY_CASE,
            dagger=any(spec.dagger for spec in specs),
            bank_episodes=min(spec.bank_episodes for spec in specs),
        )
        variants, online = found.variants, found.online
        again = found.repeats if trials.repeats is None else trials.repeats
        about |= {"preset": f"{found.name}: {found.description}", "labels": dict(found.labels)}
        if online:
            about["corrections"] = ", ".join(dict.fromkeys(spec.source for spec in specs))
    for variant, word in short.items():
        said = f"memory {word} is {variant}"
        if BY_CASE in variant:
            said += ": what the graph does needs situations, "
            said += (
                "which --source takeover or rehearsal gives"
                if trials.preset == "online" or variant.startswith("online+")
                else "which a bank of `flow_rag_vla practice` holds"
            )
        console.print(said, highlight=False)
    plan = make_plan(specs, variants, episodes=trials.episodes, first_seed=trials.seed, repeats=again, online=online)
    try:
        with progress_display(console) as display:
            summary = run_plan(
                plan, trials.folder, workers=trials.workers, resume=trials.resume, about=about,
                progress=Tally(display).note,
            )  # fmt: skip
    except KeyboardInterrupt:
        console.print(f"stopped; what was done is in {trials.folder}: go on with --resume", highlight=False)
        return INTERRUPTED
    print_summary(console, summary)
    for line in summary.broken[:BROKEN_SHOWN]:
        console.print(f"[red]broken: {line}")
    if len(summary.broken) > BROKEN_SHOWN:
        console.print(f"[red]and {len(summary.broken) - BROKEN_SHOWN} more; all are in {trials.folder / TABLES}")
    console.print(f"report: {trials.folder / REPORT}", highlight=False)
    return 1 if summary.broken else 0


def _in_force(specs: Sequence[SimulatedSpec], memory: str) -> InForce:
    """What ``on`` means on every bench.

    Raises:
        TrialError: if it is asked for and means one thing here and another there.
    """
    from flow_rag_vla.evaluate.trials.protocol import TrialError
    from flow_rag_vla.evaluate.trials.variants import resolved

    found = {spec.in_force: spec for spec in specs}
    first, *others = found
    for other in others:
        if resolved(memory, first) != resolved(memory, other):
            raise TrialError(
                f"memory {memory!r} means {', '.join(resolved(memory, first))} with the cases {found[first].cases} and "
                f"{', '.join(resolved(memory, other))} with {found[other].cases}; name the method instead"
            )
    return first


class Tally:
    """The progress bar of paired trials: success so far of each variant."""

    def __init__(self, display: Progress) -> None:
        self._display = display
        self._task = display.add_task("Trials", total=None, note="")
        self._done: Counter[str] = Counter()
        self._all: Counter[str] = Counter()

    def note(self, done: int, total: int, outcome: TrialResult | Broken | None) -> None:
        """Report progress."""
        success = getattr(outcome, "success", None)
        if outcome is not None and success is not None:
            self._done[outcome.trial.variant] += success
            self._all[outcome.trial.variant] += 1
        shares = (f"{name} {self._done[name]}/{count}" for name, count in self._all.items())
        self._display.update(self._task, completed=done, total=total, note="  ".join(shares))


def print_summary(console: Console, summary: Summary) -> None:
    """Print a table of each bench and kind of start."""
    from flow_rag_vla.evaluate.trials.analysis import plain
    from flow_rag_vla.evaluate.trials.tables import against, group_title, label, p_value, points, share

    content = plain(summary)
    for group in content["groups"]:
        table = Table("memory", "success [95 %]", "lift, points [95 %]", "p", "fixed / broken", "events an episode")
        for item in group["variants"]:
            found = against(item, "off")
            cells = ["", "", ""]
            if found is not None:
                pairs = found["pairs"]
                cells = [points(found["difference"]), p_value(found["p"]), f"{pairs['fixed']} / {pairs['broken']}"]
            name = label(item["variant"], content["about"])
            table.add_row(name, share(item["success"]), *cells, f"{item['events_per_episode']:.2f}")
        console.print(f"{group_title(group)} ({group['starts']} starts)", highlight=False)
        console.print(table)
