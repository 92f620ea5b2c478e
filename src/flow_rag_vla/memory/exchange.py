# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Failure cases in one file, to hand from robot to robot: a .npz of plain arrays, without pickle.

An export is whole or absent: it is written under another name and renamed, and each array in it has a checksum that is
tested when it is read. A file that was cut, that lacks an array, or whose lengths disagree is refused as a whole. In a
whole file each case stands for itself: one that makes no sense, or that the guard stops, is refused with a reason and
the others are taken, all of them in one transaction.
"""

from __future__ import annotations

import dataclasses
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.core.action import ACTION_DIM
from flow_rag_vla.core.failure import Evidence, FailureType
from flow_rag_vla.core.files import replaced_file
from flow_rag_vla.memory.case import CaseError, EncoderStamp, FailureCase, OriginCredit, Revision
from flow_rag_vla.memory.images import CaseImage, checked_images
from flow_rag_vla.memory.ledger import Ledger
from flow_rag_vla.memory.memory import FailureMemory
from flow_rag_vla.memory.merging import Arrival, MergeReport, Progress, Refused, merge_cases
from flow_rag_vla.memory.store import CaseFilter, FailureStore

FORMAT = "flow_rag_vla/failure_cases/3"
FORMATS = ("flow_rag_vla/failure_cases/1", "flow_rag_vla/failure_cases/2", FORMAT)
"""Those that are read. The first knows neither calibration nor shares of credit, history and pictures, the first two no
misreadings."""

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
    "calibration_id",
)
_NEW_TEXTS = ("calibration_id",)
_NUMBERS = ("failure_type", "uses", "successes", "retired", "created_ns")


class ExchangeError(RuntimeError):
    """A file of cases that cannot be written or read; the text names it and the remedy."""


ImportReport = MergeReport


@dataclass(frozen=True, slots=True)
class Export:
    """What a file holds: cases that make sense, and the others with the reason."""

    arrivals: tuple[Arrival, ...]
    refused: tuple[Refused, ...]

    @property
    def stamp(self) -> EncoderStamp | None:
        """Whose embeddings the cases hold; None if there is none."""
        return self.arrivals[0].case.stamp if self.arrivals else None


def export_cases(
    memory: FailureMemory,
    path: str | Path,
    *,
    include_retired: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
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
        if progress is not None:
            progress(len(cases), total)
        if not some or len(cases) >= total:
            break
    cases.reverse()
    images = {row: found for row, case in enumerate(cases) if (found := memory.ledger.images(case.case_id))}
    try:
        with replaced_file(target) as temporary, temporary.open("wb") as stream:
            # Keyword arguments named like numpy's own would be taken for them; no array here is.
            np.savez_compressed(stream, **_arrays(cases, images))  # type: ignore[arg-type]
    except OSError as error:
        raise ExchangeError(f"{target} cannot be written ({error}); check its folder and the space there") from error
    return len(cases)


def import_cases(
    memory: FailureMemory,
    path: str | Path,
    *,
    origin: str = "",
    dry_run: bool = False,
    progress: Progress | None = None,
) -> MergeReport:
    """Take in the cases of a file: of those that make sense and may act, all or none.

    Args:
        memory: where they go.
        path: file made by :func:`export_cases`.
        origin: kept with each case; "" keeps what the file says.
        dry_run: check everything and store nothing.
        progress: told how far it is.

    Raises:
        ExchangeError: if the file cannot be read as a whole.
        StoreError: if the cases are of another encoder, do not fit, or cannot be written.
    """
    export = read_export(path)
    report = merge_cases(memory, export.arrivals, Path(path).name, origin=origin, dry_run=dry_run, progress=progress)
    report.refused[:0] = export.refused
    return report


def merge_store(
    memory: FailureMemory, path: str | Path, *, dry_run: bool = False, progress: Progress | None = None
) -> MergeReport:
    """Take in every case of another database, retired ones too, which is only read.

    Raises:
        StoreError: if it cannot be opened, is of another encoder, or the cases do not fit or cannot be written.
    """
    with closing(FailureStore(path, create=False)) as store:
        if store.stamp is not None:
            memory.store.check_stamp(store.stamp)
        arrivals = tuple(_stored(store))
    return merge_cases(memory, arrivals, Path(path).name, dry_run=dry_run, progress=progress)


def read_cases(path: str | Path, origin: str = "") -> list[FailureCase]:
    """The cases of a file, in its order, if every one makes sense.

    Raises:
        ExchangeError: if it cannot be read or a case in it makes no sense, naming which.
    """
    export = read_export(path)
    if export.refused:
        raise ExchangeError(f"{Path(path).expanduser()}: {export.refused[0]}")
    cases = [item.case for item in export.arrivals]
    return [dataclasses.replace(case, origin=origin) for case in cases] if origin else cases


def read_export(path: str | Path) -> Export:
    """What a file holds.

    Raises:
        ExchangeError: if it cannot be read as a whole.
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
    except (OSError, ValueError, EOFError, MemoryError, zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error) as error:
        raise ExchangeError(f"{source} is no readable .npz file ({error}); export it again") from error
    try:
        said = str(arrays["format"])
        if said not in FORMATS:
            raise ExchangeError(f"{source} has format {said!r}, expected one of {', '.join(map(repr, FORMATS))}")
        return _read(arrays, source)
    except KeyError as error:
        raise ExchangeError(f"{source} lacks the array {error}; it is no export of failure cases") from error


def _stored(store: FailureStore) -> Iterator[Arrival]:
    ledger, which, offset = Ledger(store), CaseFilter(include_retired=True), 0
    while True:
        total, some = store.page(which, offset, BATCH)
        for case in some:
            # Its number means something there only.
            yield Arrival(
                f"case {case.case_id} there", dataclasses.replace(case, case_id=0), ledger.images(case.case_id)
            )
        offset += len(some)
        if not some or offset >= total:
            return


def _arrays(cases: Sequence[FailureCase], images: Mapping[int, tuple[CaseImage, ...]]) -> dict[str, NDArray[Any]]:
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
    misread = [case.misreading for case in cases if case.misreading is not None]
    arrays["has_misreading"] = np.array([case.misreading is not None for case in cases], dtype=np.bool_)
    arrays["misreading"] = np.array(misread, dtype=np.float32).reshape(-1, 3)
    arrays["proprioception_size"] = np.array([case.proprioception.size for case in cases], dtype=np.int64)
    arrays["proprioception"] = _joined([case.proprioception for case in cases])
    evidence = [(row, item) for row, case in enumerate(cases) for item in case.evidence]
    arrays["evidence_case"] = np.array([row for row, _ in evidence], dtype=np.int64)
    arrays["evidence_name"] = np.array([item.name for _, item in evidence], dtype=np.str_)
    arrays["evidence_value"] = np.array([[item.value, item.threshold] for _, item in evidence]).reshape(-1, 2)
    arrays["evidence_unit"] = np.array([item.unit for _, item in evidence], dtype=np.str_)
    credits = [(row, item) for row, case in enumerate(cases) for item in case.credits]
    arrays["credit_case"] = np.array([row for row, _ in credits], dtype=np.int64)
    arrays["credit_origin"] = np.array([item.origin for _, item in credits], dtype=np.str_)
    arrays["credit_counts"] = np.array([[item.uses, item.successes] for _, item in credits], dtype=np.int64)
    history = [(row, item) for row, case in enumerate(cases) for item in case.history]
    arrays["history_case"] = np.array([row for row, _ in history], dtype=np.int64)
    arrays["history_stamp_ns"] = np.array([item.stamp_ns for _, item in history], dtype=np.int64)
    arrays["history_texts"] = np.array(
        [[item.change, item.origin, item.detail] for _, item in history], dtype=np.str_
    ).reshape(-1, 3)
    shown = [(row, item) for row, some in images.items() for item in some]
    arrays["image_case"] = np.array([row for row, _ in shown], dtype=np.int64)
    arrays["image_texts"] = np.array([[item.name, item.format] for _, item in shown], dtype=np.str_).reshape(-1, 2)
    arrays["image_size"] = np.array([len(item.data) for _, item in shown], dtype=np.int64)
    arrays["image_data"] = np.frombuffer(b"".join(item.data for _, item in shown), dtype=np.uint8)
    return arrays


def _read(arrays: dict[str, NDArray[Any]], source: Path) -> Export:
    count = len(np.atleast_1d(arrays["embedding"]))
    old = str(arrays["format"]) == FORMATS[0]
    if str(arrays["format"]) in FORMATS[:2]:
        arrays |= {"has_misreading": np.zeros(count, np.bool_), "misreading": np.zeros((0, 3), np.float32)}
    texts = [name for name in _TEXTS if not (old and name in _NEW_TEXTS)]
    for name in (*texts, *_NUMBERS, "horizon", "has_correction", "has_misreading", "proprioception_size"):
        if arrays[name].shape != (count,):
            raise ExchangeError(f"{source}: {name} has shape {arrays[name].shape}, expected ({count},)")
    failed = _Rows(arrays, source, "failed_actions", arrays["horizon"])
    corrected = _Rows(arrays, source, "correction", arrays["horizon"] * arrays["has_correction"].astype(bool))
    misread = _Rows(arrays, source, "misreading", arrays["has_misreading"].astype(np.int64))
    felt = _Rows(arrays, source, "proprioception", arrays["proprioception_size"])
    evidence = _grouped(arrays, ("evidence_case", "evidence_name", "evidence_value", "evidence_unit"))
    credits = {} if old else _grouped(arrays, ("credit_case", "credit_origin", "credit_counts"))
    history = {} if old else _grouped(arrays, ("history_case", "history_stamp_ns", "history_texts"))
    images = {} if old else _images(arrays, source)
    arrivals, refused = [], []
    for row in range(count):
        place = f"case {row} of {count}"
        try:
            said: dict[str, Any] = {name: str(arrays[name][row]) for name in texts}
            numbers = {name: int(arrays[name][row]) for name in _NUMBERS}
            case = FailureCase(
                **said,
                failure_type=FailureType(numbers["failure_type"]),
                uses=numbers["uses"],
                successes=numbers["successes"],
                retired=bool(numbers["retired"]),
                created_ns=numbers["created_ns"],
                embedding=arrays["embedding"][row],
                failed_actions=failed[row].reshape(-1, ACTION_DIM),
                correction=corrected[row].reshape(-1, ACTION_DIM) if arrays["has_correction"][row] else None,
                proprioception=felt[row],
                misreading=misread[row].reshape(-1) if arrays["has_misreading"][row] else None,
                evidence=tuple(
                    Evidence(str(name), float(pair[0]), float(pair[1]), str(unit))
                    for name, pair, unit in evidence.get(row, ())
                ),
                credits=tuple(
                    OriginCredit(str(name), int(pair[0]), int(pair[1])) for name, pair in credits.get(row, ())
                ),
                history=tuple(
                    Revision(int(stamp), str(entry[0]), str(entry[1]), str(entry[2]))
                    for stamp, entry in history.get(row, ())
                ),
            )
            pictures = tuple(CaseImage(*item) for item in images.get(row, ()))
            arrivals.append(Arrival(place, case, checked_images(pictures)))
        except (CaseError, ValueError, TypeError, IndexError) as error:
            refused.append(Refused(place, f"{error}; mend it where it was exported"))
    return Export(tuple(arrivals), tuple(refused))


class _Rows:
    """Rows of several cases that follow each other in one array."""

    def __init__(self, arrays: dict[str, NDArray[Any]], source: Path, name: str, sizes: NDArray[Any]) -> None:
        """Find out where each case's rows are.

        Raises:
            ExchangeError: if the sizes do not add up to the array: then nobody knows which rows belong to whom.
        """
        values = arrays[name]
        if (sizes < 0).any() or int(sizes.sum()) != len(values):
            raise ExchangeError(
                f"{source}: {name} has {len(values)} rows, but the cases' sizes add up to {int(sizes.sum())}; the file "
                "is damaged, export it again"
            )
        self._values, self._ends = values, np.cumsum(sizes)
        self._starts = self._ends - sizes

    def __getitem__(self, row: int) -> NDArray[Any]:
        found: NDArray[Any] = self._values[self._starts[row] : self._ends[row]]
        return found


def _grouped(arrays: dict[str, NDArray[Any]], names: tuple[str, ...]) -> dict[int, list[tuple[Any, ...]]]:
    """Lists by case of what further arrays say; the first name is that of the array of cases."""
    found: dict[int, list[tuple[Any, ...]]] = {}
    for row, *values in zip(*(arrays[name].tolist() for name in names), strict=False):
        found.setdefault(row, []).append(tuple(values))
    return found


def _images(arrays: dict[str, NDArray[Any]], source: Path) -> dict[int, list[tuple[str, str, bytes]]]:
    data = _Rows(arrays, source, "image_data", arrays["image_size"])
    found: dict[int, list[tuple[str, str, bytes]]] = {}
    for place, (row, (name, kind)) in enumerate(
        zip(arrays["image_case"].tolist(), arrays["image_texts"].tolist(), strict=False)
    ):
        found.setdefault(row, []).append((name, kind, data[place].astype(np.uint8).tobytes()))
    return found


def _joined(parts: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.float32)
