# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What episodes have shown: one plain record of each, whatever kind of log it was kept in.

Three kinds are read: the episodes of the graph (a folder of JSON files), the trials of an evaluation
(``trials.jsonl``), and rehearsals (``rehearsals.jsonl``). What a log does not hold stays unknown.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from flow_rag_vla.core.goal import TASKS
from flow_rag_vla.data.episode_record import EpisodeRecord, EpisodeRecordError, read_record, read_records
from flow_rag_vla.evaluate.trials.journal import read_trials
from flow_rag_vla.evaluate.trials.protocol import TrialError, TrialResult
from flow_rag_vla.memory.credit import Counts
from flow_rag_vla.memory.ledger import Ledger
from flow_rag_vla.memory.store import CaseFilter, FailureStore

TRIALS, REHEARSALS = "trials.jsonl", "rehearsals.jsonl"

SIDE_EFFECTS = frozenset({"collision", "drop"})
"""Failures that touch what the task is not about, or let go of what it holds."""

CONTACT_PHASES = frozenset({"grasp", "transport"})
"""Phases in which the hand is on something."""


class HistoryError(ValueError):
    """A log that cannot be read; the text names it and the remedy."""


@dataclass(frozen=True, slots=True)
class EpisodeFact:
    """One episode that ran to its end.

    duration: seconds; first_contact: seconds until the hand was first on something
    failures: kinds in lower case, in their order; corrected: whether the memory shaped it
    peak_force: newtons at the tool; moved_others: metres by which the task moved what it is not about, at most
    source: which log it is of; variant: of the scene; seed: of the scene
    method: what the memory was told to do in a trial, such as "off"; empty where the log does not say
    """

    task: str
    success: bool
    duration: float
    failures: tuple[str, ...] = ()
    corrected: bool = False
    first_contact: float | None = None
    peak_force: float | None = None
    moved_others: float | None = None
    source: str = ""
    variant: str = ""
    seed: int = 0
    method: str = ""


@dataclass(frozen=True, slots=True)
class CaseHistory:
    """What a failure memory knows about a task.

    shaped, baseline: episodes that its cases shaped, and those that none did; cases: active ones
    uses, successes: summed over cases; largest: uses of the case that was used most
    """

    task: str
    cases: int
    uses: int
    successes: int
    largest: int
    baseline: Counts = field(default_factory=Counts)
    source: str = ""


def read_history(path: str | Path) -> tuple[EpisodeFact, ...]:
    """Every scored episode of a log: a file of trials or rehearsals, an episode's file, or a folder that holds such.

    Raises:
        HistoryError: for a path that holds none of them, or a file that is damaged.
    """
    source = Path(path).expanduser()
    try:
        if source.is_file():
            return _file(source)
        found: list[EpisodeFact] = []
        for name in (TRIALS, REHEARSALS):
            if (source / name).is_file():
                found += _file(source / name)
        for folder in (source, source / "episodes"):
            if folder.is_dir() and any(folder.glob("[0-9]*.json")):
                records, _ = read_records(folder)
                found += [fact_of_record(record, str(folder)) for record in records if _counts(record)]
    except (TrialError, EpisodeRecordError, OSError, ValueError) as error:
        raise HistoryError(f"{source}: {error}") from error
    if not found:
        raise HistoryError(
            f"{source} holds no scored episode; name a run's folder, a folder with {TRIALS} or {REHEARSALS}, or one of "
            "these files"
        )
    return tuple(found)


def fact_of_record(record: EpisodeRecord, source: str) -> EpisodeFact:
    """An episode of the graph."""
    contacts = [span.start for span in record.phases if span.name in CONTACT_PHASES]
    return EpisodeFact(
        record.task,
        record.succeeded,
        record.duration,
        tuple(failure.failure_type for failure in record.failures),
        bool(record.corrections),
        min(contacts, default=None),
        source=source,
        variant=record.variant,
        seed=record.seed,
    )


def fact_of_trial(result: TrialResult, source: str) -> EpisodeFact:
    """A trial of an evaluation."""
    return EpisodeFact(
        result.task,
        result.success,
        result.duration,
        tuple(item.kind for item in result.failures),
        result.corrected > 0,
        source=source,
        variant=result.scene,
        seed=result.trial.start.seed,
        method=result.trial.variant,
    )


def fact_to_json(fact: EpisodeFact) -> str:
    """One line of ``rehearsals.jsonl``."""
    return json.dumps(asdict(fact), allow_nan=False, separators=(",", ":")) + "\n"


def fact_from_json(line: str) -> EpisodeFact:
    """What :func:`fact_to_json` wrote.

    Raises:
        ValueError: for anything else.
    """
    values: Any = json.loads(line)
    if not isinstance(values, dict) or not {entry.name for entry in fields(EpisodeFact)} >= set(values):
        raise ValueError("the line is no episode of a rehearsal")
    try:
        fact = EpisodeFact(**{**values, "failures": tuple(values.get("failures", ()))})
    except TypeError as error:
        raise ValueError(f"the line is no episode of a rehearsal: {error}") from None
    if not (math.isfinite(fact.duration) and fact.duration >= 0.0):
        raise ValueError(f"duration is {fact.duration}, expected seconds from 0")
    return fact


def case_histories(database: str | Path) -> dict[str, CaseHistory]:
    """What a failure memory's database knows about each task, read beside whoever writes it.

    Raises:
        StoreError: if it cannot be read.
    """
    store = FailureStore(Path(database).expanduser(), create=False)
    try:
        counts: dict[str, list[int]] = {}
        offset = 0
        while True:
            total, page = store.page(CaseFilter(), offset, 1000)
            for case in page:
                entry = counts.setdefault(case.task, [0, 0, 0, 0])
                entry[0] += 1
                entry[1] += case.uses
                entry[2] += case.successes
                entry[3] = max(entry[3], case.uses)
            offset += len(page)
            if not page or offset >= total:
                break
        ledger = Ledger(store)
        tasks = sorted({*counts, *TASKS})
        found = {}
        for task in tasks:
            cases, uses, successes, largest = counts.get(task, [0, 0, 0, 0])
            found[task] = CaseHistory(task, cases, uses, successes, largest, ledger.baseline(task), str(database))
        return found
    finally:
        store.close()


def by_task(facts: Iterable[EpisodeFact]) -> Mapping[str, Sequence[EpisodeFact]]:
    """The episodes of each task, in their order."""
    found: dict[str, list[EpisodeFact]] = {}
    for fact in facts:
        found.setdefault(fact.task, []).append(fact)
    return found


def _counts(record: EpisodeRecord) -> bool:
    # What became of an episode in which a person took over is theirs.
    return record.scored and not record.intervened


def _file(path: Path) -> tuple[EpisodeFact, ...]:
    if path.name.endswith(".jsonl"):
        first = next((line for line in path.read_text(encoding="utf-8").splitlines() if line), "")
        if '"trial"' in first:
            return tuple(fact_of_trial(result, str(path)) for result in read_trials(path))
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        # What follows the last newline was being written when somebody died.
        return tuple(fact_from_json(line) for line in lines if line.endswith("\n") and line.strip())
    record = read_record(path)
    return (fact_of_record(record, str(path)),) if _counts(record) else ()
