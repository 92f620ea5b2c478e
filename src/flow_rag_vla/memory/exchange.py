"""Failure cases in one file, to hand from robot to robot: a .npz of plain arrays, without pickle."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.core.action import ACTION_DIM
from flow_rag_vla.core.failure import Evidence, FailureType
from flow_rag_vla.core.files import replaced_file
from flow_rag_vla.memory.case import CaseError, FailureCase
from flow_rag_vla.memory.memory import FailureMemory
from flow_rag_vla.memory.store import CaseFilter

FORMAT = "flow_rag_vla/failure_cases/1"

MOST_BYTES = 8 * 1024**3
"""Largest unpacked size that is read: a file that claims more is refused before it fills the memory."""

BATCH = 512

_TEXTS = (
    "task",
    "phase",
    "encoder",
    "encoder_revision",
    "correction_source",
    "note",
    "retired_reason",
    "origin",
)
_NUMBERS = ("failure_type", "uses", "successes", "retired", "created_ns")


class ExchangeError(RuntimeError):
    """A file of cases that cannot be written or read; the text names it and the remedy."""


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import did, or in a dry run would do."""

    imported: int
    duplicates: int
    origins: tuple[str, ...]


def export_cases(
    memory: FailureMemory, path: str | Path, *, include_retired: bool = False, overwrite: bool = False
) -> int:
    """Write every case to a .npz file, oldest first; give their number.

    Raises:
        ExchangeError: if the file exists and may not be overwritten, is no .npz, or cannot be written.
        StoreError: if the store cannot be read.
    """
    target = Path(path).expanduser()
    if target.suffix != ".npz":
        raise ExchangeError(f"{target}: an export is a .npz file; give it that ending")
    if target.exists() and not overwrite:
        raise ExchangeError(f"{target} exists; allow overwriting or choose another path")
    cases: list[FailureCase] = []
    which = CaseFilter(include_retired=include_retired)
    while True:
        total, some = memory.page(which, len(cases), BATCH)
        cases.extend(some)
        if not some or len(cases) >= total:
            break
    cases.reverse()
    try:
        with replaced_file(target) as temporary, temporary.open("wb") as stream:
            # Keyword arguments named like numpy's own would be taken for them; no array here is.
            np.savez_compressed(stream, **_arrays(cases))  # type: ignore[arg-type]
    except OSError as error:
        raise ExchangeError(f"{target} cannot be written ({error}); check its folder and the space there") from error
    return len(cases)


def import_cases(memory: FailureMemory, path: str | Path, *, origin: str = "", dry_run: bool = False) -> ImportReport:
    """Store the cases of a file that are not known yet: all of them or, if anything is wrong, none.

    Args:
        memory: where they go.
        path: file made by :func:`export_cases`.
        origin: kept with each case; "" keeps what the file says.
        dry_run: check everything and store nothing.

    Raises:
        ExchangeError: if the file cannot be read or a case in it makes no sense, naming which.
        StoreError: if they are of another encoder, do not fit, or cannot be written.
    """
    cases = read_cases(path, origin)
    imported, duplicates = memory.add_all(cases, dry_run=dry_run)
    return ImportReport(imported, duplicates, tuple(sorted({case.origin for case in cases})))


def read_cases(path: str | Path, origin: str = "") -> list[FailureCase]:
    """The cases of a file, in its order.

    Raises:
        ExchangeError: if it cannot be read or a case in it makes no sense, naming which.
    """
    source = Path(path).expanduser()
    if not source.is_file():
        raise ExchangeError(f"{source}: there is no such file; check the path")
    try:
        with zipfile.ZipFile(source) as archive:
            size = sum(item.file_size for item in archive.infolist())
        if size > MOST_BYTES:
            raise ExchangeError(f"{source} unpacks to {size} bytes, more than {MOST_BYTES}; export fewer cases at once")
        with np.load(source, allow_pickle=False) as data:
            arrays = {name: data[name] for name in data.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zipfile.LargeZipFile) as error:
        raise ExchangeError(f"{source} is no readable .npz file ({error}); export it again") from error
    try:
        if str(arrays["format"]) != FORMAT:
            raise ExchangeError(f"{source} has format {str(arrays['format'])!r}, expected {FORMAT!r}")
        return _cases(arrays, source, origin)
    except KeyError as error:
        raise ExchangeError(f"{source} lacks the array {error}; it is no export of failure cases") from error


def _arrays(cases: Sequence[FailureCase]) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {"format": np.array(FORMAT)}
    for name in _TEXTS:
        arrays[name] = np.array([getattr(case, name) for case in cases], dtype=np.str_)
    for name in _NUMBERS:
        arrays[name] = np.array([int(getattr(case, name)) for case in cases], dtype=np.int64)
    arrays["embedding"] = np.array([case.embedding for case in cases], dtype=np.float32)
    arrays["horizon"] = np.array([case.horizon for case in cases], dtype=np.int64)
    arrays["failed_actions"] = _joined([case.failed_actions for case in cases]).reshape(-1, ACTION_DIM)
    arrays["has_correction"] = np.array([case.correction is not None for case in cases], dtype=np.bool_)
    arrays["correction"] = _joined([case.correction for case in cases if case.correction is not None]).reshape(
        -1, ACTION_DIM
    )
    arrays["proprioception_size"] = np.array([case.proprioception.size for case in cases], dtype=np.int64)
    arrays["proprioception"] = _joined([case.proprioception for case in cases])
    evidence = [(row, item) for row, case in enumerate(cases) for item in case.evidence]
    arrays["evidence_case"] = np.array([row for row, _ in evidence], dtype=np.int64)
    arrays["evidence_name"] = np.array([item.name for _, item in evidence], dtype=np.str_)
    arrays["evidence_value"] = np.array([[item.value, item.threshold] for _, item in evidence]).reshape(-1, 2)
    arrays["evidence_unit"] = np.array([item.unit for _, item in evidence], dtype=np.str_)
    return arrays


def _cases(arrays: dict[str, NDArray[Any]], source: Path, origin: str) -> list[FailureCase]:
    count = len(np.atleast_1d(arrays["embedding"]))
    per_case = (*_TEXTS, *_NUMBERS, "horizon", "has_correction", "proprioception_size")
    for name in per_case:
        if arrays[name].shape != (count,):
            raise ExchangeError(f"{source}: {name} has shape {arrays[name].shape}, expected ({count},)")
    horizons, sizes = arrays["horizon"].tolist(), arrays["proprioception_size"].tolist()
    evidence: dict[int, list[Evidence]] = {}
    rows = zip(
        arrays["evidence_case"].tolist(),
        arrays["evidence_name"].tolist(),
        arrays["evidence_value"].tolist(),
        arrays["evidence_unit"].tolist(),
        strict=False,
    )
    for row, name, (value, threshold), unit in rows:
        evidence.setdefault(row, []).append(Evidence(name, value, threshold, unit))
    cases = []
    failed_from = corrected_from = felt_from = 0
    for row in range(count):
        horizon, size, corrected = horizons[row], sizes[row], bool(arrays["has_correction"][row])
        try:
            texts: dict[str, Any] = {name: str(arrays[name][row]) for name in _TEXTS}
            if origin:
                texts["origin"] = origin
            numbers = {name: int(arrays[name][row]) for name in _NUMBERS}
            cases.append(
                FailureCase(
                    **texts,
                    failure_type=FailureType(numbers["failure_type"]),
                    uses=numbers["uses"],
                    successes=numbers["successes"],
                    retired=bool(numbers["retired"]),
                    created_ns=numbers["created_ns"],
                    embedding=arrays["embedding"][row],
                    failed_actions=arrays["failed_actions"][failed_from : failed_from + horizon],
                    correction=arrays["correction"][corrected_from : corrected_from + horizon] if corrected else None,
                    proprioception=arrays["proprioception"][felt_from : felt_from + size],
                    evidence=tuple(evidence.get(row, ())),
                )
            )
        except (CaseError, ValueError, TypeError) as error:
            raise ExchangeError(f"{source}: case {row} of {count}: {error}; nothing was imported") from error
        failed_from += horizon
        corrected_from += horizon * corrected
        felt_from += size
    return cases


def _joined(parts: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.float32)
