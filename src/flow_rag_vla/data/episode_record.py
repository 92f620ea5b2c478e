# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The result of one episode as it is kept on disk: everything that a report needs, one JSON file an episode."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flow_rag_vla.core.failure import Evidence
from flow_rag_vla.core.files import write_text

FORMAT = 1
"""Version of the file's layout. A reader refuses a newer one."""

OUTCOMES = ("success", "failure", "canceled", "aborted")


class EpisodeRecordError(ValueError):
    """A file that is no episode record; the text names file and field."""


@dataclass(frozen=True, slots=True)
class PhaseSpan:
    """A stretch of an episode. start, end: seconds since the episode began to run."""

    name: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class FailureRecord:
    """A failure that the detector reported. Stamps in ns of the node's clock, elapsed in seconds."""

    event_id: int
    failure_type: str
    confidence: float
    phase: str
    detector: str
    description: str
    stamp_ns: int
    onset_ns: int
    elapsed: float
    evidence: tuple[Evidence, ...] = ()


@dataclass(frozen=True, slots=True)
class CorrectionUse:
    """Consecutive executed chunks that the memory shaped in the same way.

    chunks: how many; first_ns, last_ns: stamps of the first and last command made of them
    """

    mode: str
    case_ids: tuple[int, ...]
    strength: float
    chunks: int
    first_ns: int
    last_ns: int


@dataclass(frozen=True, slots=True)
class LoopSummary:
    """How the 40 Hz loop did: counters over this episode, figures of its last second. Milliseconds and Hz."""

    rate_hz: float = math.nan
    tick_error_p50_ms: float = math.nan
    tick_error_p99_ms: float = math.nan
    tick_error_max_ms: float = math.nan
    cpu_mean_ms: float = math.nan
    ticks: int = 0
    late_ticks: int = 0
    skipped_ticks: int = 0
    starved_ticks: int = 0
    chunks_accepted: int = 0
    chunks_rejected: int = 0


@dataclass(frozen=True, slots=True)
class EpisodeRecord:
    """One episode. start_ns, end_ns: node clock, from the start of running to the verdict; duration in seconds."""

    episode_id: int
    task: str
    variant: str
    instruction: str
    seed: int
    outcome: str
    reason: str
    start_ns: int
    end_ns: int
    duration: float
    timeout: float
    phases: tuple[PhaseSpan, ...] = ()
    failures: tuple[FailureRecord, ...] = ()
    corrections: tuple[CorrectionUse, ...] = ()
    loop: LoopSummary | None = None
    intervened: bool = False
    """A person took over: what became of it is theirs."""
    speed_scale: float = 1.0
    """Share of the speed at which it was done, and why below 1."""
    speed_reason: str = ""
    away: float = 0.0
    """Seconds for which no episode manager watched it: what failed in that time is not on record."""

    @property
    def succeeded(self) -> bool:
        """Whether the task was done."""
        return self.outcome == "success"

    @property
    def scored(self) -> bool:
        """Whether it counts: canceled and aborted episodes say nothing about the policy."""
        return self.outcome in ("success", "failure")


def write_record(path: str | Path, record: EpisodeRecord) -> None:
    """Write a record; the file is whole or absent."""
    content = {"format": FORMAT, **plain(dataclasses.asdict(record))}
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def read_record(path: str | Path) -> EpisodeRecord:
    """Read a record.

    Raises:
        EpisodeRecordError: naming the file and what is wrong with it.
    """
    source = Path(path)
    try:
        content = json.loads(source.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EpisodeRecordError(f"{source}: {error}") from error
    if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
        raise EpisodeRecordError(f"{source}: is no episode record of format {FORMAT}")
    try:
        record = EpisodeRecord(
            **{
                **content,
                "phases": tuple(PhaseSpan(**item) for item in content.get("phases", ())),
                "failures": tuple(failure_of(item) for item in content.get("failures", ())),
                "corrections": tuple(correction_of(item) for item in content.get("corrections", ())),
                "loop": _loop(content.get("loop")),
            }
        )
    except (TypeError, KeyError, AttributeError) as error:
        raise EpisodeRecordError(f"{source}: {error}") from error
    if record.outcome not in OUTCOMES:
        raise EpisodeRecordError(f"{source}: outcome {record.outcome!r} is not one of {', '.join(OUTCOMES)}")
    return record


def record_path(folder: str | Path, episode_id: int) -> Path:
    """File of an episode: names sort as the episodes ran."""
    return Path(folder) / f"{episode_id:06d}.json"


def read_records(folder: str | Path) -> tuple[tuple[EpisodeRecord, ...], tuple[str, ...]]:
    """Every record in a folder in the order of ids, and one sentence for each file that is none."""
    records, problems = [], []
    for path in sorted(Path(folder).glob("*.json")):
        try:
            records.append(read_record(path))
        except EpisodeRecordError as error:
            problems.append(str(error))
    records.sort(key=lambda record: record.episode_id)
    return tuple(records), tuple(problems)


def last_episode_id(folder: str | Path) -> int:
    """Highest id that a folder holds; 0 if none. Only names are read."""
    return max((int(path.stem) for path in Path(folder).glob("*.json") if path.stem.isdigit()), default=0)


def failure_of(item: Mapping[str, Any]) -> FailureRecord:
    """A failure from JSON.

    Raises:
        TypeError, KeyError, AttributeError: if it is none.
    """
    evidence = tuple(Evidence(**_floats(entry, ("value", "threshold"))) for entry in item.get("evidence", ()))
    return FailureRecord(**{**_floats(item, ("confidence", "elapsed")), "evidence": evidence})


def correction_of(item: Mapping[str, Any]) -> CorrectionUse:
    """A correction's use from JSON; raises as ``failure_of``."""
    return CorrectionUse(**{**item, "case_ids": tuple(item["case_ids"])})


def _loop(item: Mapping[str, Any] | None) -> LoopSummary | None:
    if item is None:
        return None
    names = [entry.name for entry in dataclasses.fields(LoopSummary) if entry.type == "float"]
    return LoopSummary(**_floats(item, names))


def _floats(item: Mapping[str, Any], names: Any) -> dict[str, Any]:
    """JSON has no NaN: it is kept as null."""
    return {key: math.nan if key in names and value is None else value for key, value in item.items()}


def plain(value: Any) -> Any:
    """What JSON can say of a value: a list for a tuple, null for a number that is not finite."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
