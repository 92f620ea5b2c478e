# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A plan run into a folder: ``setup.json``, ``trials.jsonl``, ``summary.json``, ``summary.md``, ``report.html``."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any, cast

from flow_rag_vla.core.files import write_text
from flow_rag_vla.evaluate.trials.analysis import Summary, plain, summarise
from flow_rag_vla.evaluate.trials.journal import Journal, read_trials
from flow_rag_vla.evaluate.trials.plan import Plan
from flow_rag_vla.evaluate.trials.protocol import BenchSpec, TrialError, TrialResult
from flow_rag_vla.evaluate.trials.report import page
from flow_rag_vla.evaluate.trials.runner import Broken, run_trials
from flow_rag_vla.evaluate.trials.tables import markdown

SETUP, TRIALS, SUMMARY, TABLES, REPORT = "setup.json", "trials.jsonl", "summary.json", "summary.md", "report.html"

FORMAT = 1

Progress = Callable[[int, int, TrialResult | Broken | None], None]
"""(trials done, trials in all, what just ended; None as it begins)."""


def describe(spec: BenchSpec) -> dict[str, Any]:
    """Plain JSON values of what decides a bench's results: its ``describe()`` if it has one, else its fields."""
    own = getattr(spec, "describe", None)
    values: Any = own() if callable(own) else asdict(cast(Any, spec)) if is_dataclass(spec) else {}
    # As it comes back from the file, for comparison: tuples are lists there.
    return dict(json.loads(json.dumps({"key": spec.key, **values}, default=str)))


def check_setup(folder: str | Path, plan: Plan, *, resume: bool) -> None:
    """Make a folder ready for a plan.

    Raises:
        TrialError: if it holds trials and is not to be resumed, or trials of other benches than the plan's.
    """
    root = Path(folder)
    file, benches = root / SETUP, [describe(spec) for spec in plan.specs]
    if file.is_file():
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
            before = {item["key"]: item for item in found["benches"]}
        except (ValueError, KeyError, TypeError) as error:
            raise TrialError(f"{file} cannot be read ({error}); choose another --output") from None
        if not resume:
            raise TrialError(f"{root} holds a run already; go on with it (--resume), or choose another --output")
        for item in benches:
            known = before.get(item["key"], item)
            changed = [name for name in item if known.get(name) != item[name]]
            if changed:
                raise TrialError(
                    f"{root}: {changed[0]} of {item['key']} was {known.get(changed[0])!r} and is {item[changed[0]]!r}; "
                    "its trials cannot be continued: choose another --output"
                )
        benches = [*{**before, **{item["key"]: item for item in benches}}.values()]
    elif (root / TRIALS).is_file():
        raise TrialError(f"{root} has trials but no {SETUP}; choose another --output")
    write_text(file, json.dumps({"format": FORMAT, "benches": benches}, indent=1) + "\n")


def run_plan(
    plan: Plan,
    folder: str | Path,
    *,
    workers: int = 1,
    resume: bool = False,
    about: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Summary:
    """Run what of a plan the folder lacks, then write its summary and report.

    If it is interrupted (an exception, Ctrl-C), what was done is summarised before the exception goes on.

    Raises:
        TrialError: see ``check_setup`` and ``runner.run_trials``.
        OSError: if the folder cannot be written.
    """
    root = Path(folder)
    check_setup(root, plan, resume=resume)
    broken: list[str] = []
    with Journal(root / TRIALS) as journal:
        wanted = {trial.key for trial in plan.trials}
        done = len(wanted & journal.results.keys())
        if progress is not None:
            progress(done, len(wanted), None)
        outcomes = run_trials(plan.specs, plan.trials, journal, workers)
        try:
            for outcome in outcomes:
                done += 1
                if isinstance(outcome, Broken):
                    broken.append(f"{outcome.trial.key}: {outcome.reason}")
                if progress is not None:
                    progress(done, len(wanted), outcome)
        finally:
            # The trials under way end and are kept before anything is summed up.
            outcomes.close()
            summary = write_outputs(root, about or {}, broken)
    return summary


def write_outputs(folder: str | Path, about: Mapping[str, Any], broken: list[str] | None = None) -> Summary:
    """Summarise the trials of a folder into ``summary.json``, ``summary.md`` and ``report.html``.

    Raises:
        TrialError: if its trials cannot be read.
        OSError: if it cannot be written.
    """
    root = Path(folder)
    summary = summarise(read_trials(root / TRIALS), about, broken or ())
    content = plain(summary)
    write_text(root / SUMMARY, json.dumps(content, indent=1, allow_nan=False) + "\n")
    write_text(root / TABLES, markdown(content))
    write_text(root / REPORT, page(content, root.resolve().name))
    return summary
