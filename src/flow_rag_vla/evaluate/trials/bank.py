# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A bank of cases: the failure database of some episodes, and what those episodes were.

A folder with ``failure_memory.db`` and ``episodes.jsonl``, a line an episode: from which start it began, how it ended,
and which cases came of it. The lines say which starts failed while the memory was built, and let a memory be cut to its
first episodes. A folder with a database alone serves too, less these two.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType

import numpy as np

from flow_rag_vla.core.files import replaced_file, write_text
from flow_rag_vla.evaluate.trials.protocol import Start, TrialError
from flow_rag_vla.memory.case import FailureCase
from flow_rag_vla.memory.ledger import Ledger, SuccessSituation
from flow_rag_vla.memory.memory import FailureMemory
from flow_rag_vla.memory.results import MemorySettings
from flow_rag_vla.memory.store import CaseFilter, FailureStore, StoreError
from flow_rag_vla.policy.situation import NAME

DATABASE, EPISODES = "failure_memory.db", "episodes.jsonl"

SETTINGS = MemorySettings(capacity=1_000_000, cache_size=0, successes_kept=4096)
"""Nothing is pruned, no success forgotten: an experiment sets the size. No cache: it rounds, and trials repeat."""

_PAGE = 1000


@dataclass(frozen=True, slots=True)
class BankEpisode:
    """An episode that a memory was built from. cases: ids of those that came of it, new or known already.

    situations: how many embeddings of a success it gave for the calibration
    """

    place: int
    bench: str
    start: Start
    success: bool
    cases: tuple[int, ...] = ()
    situations: int = 0


class CaseBank:
    """A bank in a folder, read once."""

    def __init__(self, folder: str | Path) -> None:
        """Read the lines of a bank; the database is opened when a memory is asked for.

        Raises:
            TrialError: if the folder holds no database, or a line makes no sense.
        """
        self.folder = Path(folder)
        if not (self.folder / DATABASE).is_file():
            raise TrialError(
                f"{self.folder} holds no {DATABASE}; make a bank: flow_rag_vla practice, or evaluate --collect N"
            )
        self.episodes = read_episodes(self.folder)

    @property
    def revision(self) -> str:
        """Short name of what the bank holds: its cases' identities, corrections and misreadings, and its episodes."""
        digest = hashlib.sha256()
        for case in self.cases():
            digest.update(f"{case.case_id} {case.uid} {case.retired}".encode())
            digest.update(b"" if case.correction is None else case.correction.tobytes())
            digest.update(b"" if case.misreading is None else case.misreading.tobytes())
        for episode in self.episodes:
            digest.update(json.dumps(asdict(episode), sort_keys=True).encode())
        return digest.hexdigest()[:12]

    def failed_starts(self, bench: str = "") -> tuple[Start, ...]:
        """Starts of the episodes that failed, in their order, each once; ``bench``: only those of its key."""
        failed = (item.start for item in self.episodes if not item.success and bench in ("", item.bench))
        return tuple(dict.fromkeys(failed))

    @property
    def answers_consensus(self) -> bool:
        """Whether a consensus can be asked of it: its cases are situations, or it knows what was done in successes.

        Pictures of one scene are alike whatever is right in them, so among failures alone each has a say everywhere.
        """
        store = FailureStore(self.folder / DATABASE, create=False)
        try:
            stamp = store.stamp
            return stamp is None or stamp.encoder == NAME or Ledger(store).success_count() > 0
        finally:
            store.close()

    def cases(self) -> list[FailureCase]:
        """All cases, oldest first."""
        store = FailureStore(self.folder / DATABASE, create=False)
        try:
            return _all_cases(store)
        finally:
            store.close()

    def memory(self, *, episodes: int | None = None, shuffled: bool = False, seed: int = 0) -> TemporaryMemory:
        """A memory of the bank's cases under their own ids, in a folder that goes with it.

        Args:
            episodes: only of the first so many episodes of each bench; their situations alone calibrate the threshold.
            shuffled: the corrections of cases of the same task and horizon are permuted among them, none staying where
                it was if there are two or more.
            seed: of the permutation.

        Raises:
            TrialError: if a size is asked for and the bank does not say of which episodes its cases are.
        """
        store = FailureStore(self.folder / DATABASE, create=False)
        try:
            cases = _all_cases(store)
            dimension = cases[0].stamp.dimension if cases else 0
            situations = store.situations(dimension) if cases else []
            successes = Ledger(store).successes(cases[0].stamp) if cases else []
        finally:
            store.close()
        if episodes is not None:
            if not self.episodes:
                raise TrialError(
                    f"{self.folder} has no {EPISODES}, so it is not known which cases came of the first {episodes} "
                    "episodes; collect the bank with --collect"
                )
            counted = Counter[str]()
            first = []
            for item in self.episodes:
                counted[item.bench] += 1
                if counted[item.bench] <= episodes:
                    first.append(item)
            kept = {case_id for item in first for case_id in item.cases}
            cases = [case for case in cases if case.case_id in kept]
            # The store keeps the newest situations only; those of the first episodes may be gone.
            owners = [item.place for item in self.episodes for _ in range(item.situations)][-len(situations) :]
            places = {item.place for item in first}
            # A success knows its episode by the number that counts from 1.
            successes = [item for item in successes if item.episode_id - 1 in places]
            situations = [one for one, place in zip(situations, owners, strict=False) if place in places]
        if shuffled:
            cases = shuffled_corrections(cases, np.random.default_rng((seed, len(cases))))
        return TemporaryMemory(cases, situations, successes)


class TemporaryMemory:
    """A failure memory whose database goes when it is closed: trials may not change what they are given."""

    def __init__(
        self,
        cases: Sequence[FailureCase],
        situations: Sequence[tuple[str, str, np.ndarray]] = (),
        successes: Sequence[SuccessSituation] = (),
    ) -> None:
        """Put cases in under their own ids, and calibrate on situations (task, phase, embedding (D,)).

        successes: what was done where nothing failed
        """
        self._folder = tempfile.TemporaryDirectory(prefix="flow_rag_vla_trials_")
        store = FailureStore(Path(self._folder.name) / DATABASE)
        if cases:
            store.restore(cases)
            store.add_situations(situations, len(situations))
        self.memory = FailureMemory(store, SETTINGS)
        if successes:
            self.memory.observe_done(successes)
        if situations:
            self.memory.recalibrate()

    def close(self) -> None:
        """Close the memory and remove its folder."""
        self.memory.close()
        self._folder.cleanup()

    def __enter__(self) -> TemporaryMemory:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class GrowingBank:
    """A bank that episodes are added to, one after the other. One process at a time."""

    def __init__(self, folder: str | Path, place: int) -> None:
        """Open a bank to go on with at the episode ``place``, or make it.

        An episode that was begun before, and interrupted before its result was kept, has left no trace: cases, uses
        and calibration are as they were before it.

        Raises:
            TrialError: if the bank lacks episodes before ``place``.
            StoreError: if the database cannot be read or written.
        """
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        database = self.folder / DATABASE
        known = read_episodes(self.folder)
        self.episodes = [item for item in known if item.place < place]
        if [item.place for item in self.episodes] != list(range(place)) or (place and not database.is_file()):
            raise TrialError(
                f"{self.folder} lacks some of the {place} episodes before this one; remove the folder and the run's "
                "trials, and start again"
            )
        self._go_back(place)
        if len(known) > len(self.episodes):
            write_text(self.folder / EPISODES, "".join(_line(item) for item in self.episodes))
        self.memory = FailureMemory(FailureStore(database), SETTINGS)

    def _go_back(self, place: int) -> None:
        """Have the database as it was before the episode, and keep a copy of that until the next one."""
        database, before = self.folder / DATABASE, self.folder / f"before-{place}.db"
        if before.is_file() or place == 0:
            for name in (DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm"):
                (self.folder / name).unlink(missing_ok=True)
        if before.is_file():
            with replaced_file(database) as temporary:
                shutil.copyfile(before, temporary)
        elif place:
            store = FailureStore(database)
            store.checkpoint()
            store.close()
            with replaced_file(before) as temporary:
                shutil.copyfile(database, temporary)
        for other in self.folder.glob("before-*.db"):
            if other != before:
                other.unlink()

    @property
    def cases(self) -> int:
        """Active cases."""
        return self.memory.statistics().cases

    def finish(self, episode: BankEpisode) -> None:
        """Note that an episode is over; its cases are in the memory already."""
        with (self.folder / EPISODES).open("a", encoding="utf-8") as stream:
            stream.write(_line(episode))
            stream.flush()
            os.fsync(stream.fileno())
        self.episodes.append(episode)

    def close(self) -> None:
        """Close the memory."""
        self.memory.close()

    def __enter__(self) -> GrowingBank:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_episodes(folder: Path) -> list[BankEpisode]:
    """The episodes of a bank, a half-written last line left out; none without the file.

    Raises:
        TrialError: for a whole line that is no episode.
    """
    found: list[BankEpisode] = []
    content = b""
    with suppress(FileNotFoundError):
        content = (folder / EPISODES).read_bytes()
    for number, line in enumerate(content.splitlines(keepends=True), 1):
        if not line.endswith(b"\n"):
            break
        try:
            values = json.loads(line)
            values["start"] = Start(**values["start"])
            values["cases"] = tuple(values.get("cases", ()))
            found.append(BankEpisode(**values))
        except (ValueError, KeyError, TypeError) as error:
            raise TrialError(
                f"{folder / EPISODES}, line {number} is no episode ({type(error).__name__}: {error}); collect the "
                "bank again"
            ) from None
    return found


def shuffled_corrections(cases: Sequence[FailureCase], generator: np.random.Generator) -> list[FailureCase]:
    """The cases, their corrections and misreadings permuted together among those of one task and horizon.

    The permutation is one cycle over a random order, so that no correction stays unless it is the only one.
    """
    groups: dict[tuple[str, int], list[int]] = defaultdict(list)
    for place, case in enumerate(cases):
        if case.correction is not None:
            groups[case.task, case.horizon].append(place)
    result = list(cases)
    for places in groups.values():
        order = [places[index] for index in generator.permutation(len(places))]
        for place, other in zip(order, [*order[1:], order[0]], strict=True):
            said = cases[other]
            result[place] = replace(cases[place], correction=said.correction, misreading=said.misreading)
    return result


def open_bank(folder: str | Path) -> CaseBank:
    """The bank in a folder.

    Raises:
        TrialError: if there is none, or its database cannot be read.
    """
    try:
        bank = CaseBank(folder)
        bank.cases()
    except StoreError as error:
        raise TrialError(str(error)) from error
    return bank


def _all_cases(store: FailureStore) -> list[FailureCase]:
    found: list[FailureCase] = []
    while True:
        total, page = store.page(CaseFilter(include_retired=True), len(found), _PAGE)
        found += page
        if not page or len(found) >= total:
            return sorted(found, key=lambda case: case.case_id)


def _line(episode: BankEpisode) -> str:
    return json.dumps(asdict(episode), separators=(",", ":")) + "\n"
