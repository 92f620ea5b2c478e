# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A run folder as a report sees it: whatever is there, and a sentence for whatever is not."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from flow_rag_vla import __version__
from flow_rag_vla.data.bag import Bag, BagError
from flow_rag_vla.data.episode_record import EpisodeRecord, read_records
from flow_rag_vla.evaluate.report.digest import Digest, digest_bag

PACKAGES = ("numpy", "torch", "pybullet", "faiss-cpu", "rclpy", "rosbags")


@dataclass(frozen=True, slots=True)
class Run:
    """One run. ``problems`` says in sentences what is missing or broken; ``about`` is run.json."""

    folder: Path
    about: Mapping[str, Any]
    records: tuple[EpisodeRecord, ...]
    bag: Bag | None
    digest: Digest | None
    problems: tuple[str, ...]

    @property
    def scored(self) -> tuple[EpisodeRecord, ...]:
        """Episodes that count."""
        return tuple(record for record in self.records if record.scored)


def open_run(folder: str | Path) -> Run:
    """Read a run folder: ``run.json``, ``episodes/*.json``, ``bag/``. Nothing that is missing or broken raises."""
    root = Path(folder)
    problems: list[str] = []
    about = _about(root / "run.json", problems)
    records, broken = read_records(root / "episodes")
    problems.extend(f"Episode left out: {sentence}" for sentence in broken)
    if not records:
        problems.append("No finished episode is on record (episodes/ is missing or empty).")
    bag, digest = _bag(root, problems)
    if digest is not None:
        _check_digest(digest, records, problems)
    return Run(root, about, records, bag, digest, tuple(problems))


def versions() -> dict[str, str]:
    """What this report was made with."""
    found = {"flow_rag_vla": __version__, "Python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def command_line(about: Mapping[str, Any]) -> str:
    """The command that made the run; empty if it is not on record."""
    command = about.get("command", "")
    if isinstance(command, Sequence) and not isinstance(command, str):
        return " ".join(str(part) for part in command)
    return str(command)


def _about(path: Path, problems: list[str]) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        problems.append("run.json is missing: the command line and the parameters of this run are not known.")
        return {}
    except (OSError, ValueError) as error:
        problems.append(f"run.json is not readable ({error}): the command line and the parameters are not known.")
        return {}
    return content if isinstance(content, dict) else {}


def _bag(root: Path, problems: list[str]) -> tuple[Bag | None, Digest | None]:
    folder = root / "bag"
    if not folder.exists():
        problems.append("There is no bag: timing, latencies, modes and pictures are missing.")
        return None, None
    try:
        bag = Bag(folder)
        digest = digest_bag(bag)
    except (BagError, OSError) as error:
        problems.append(f"The bag is not readable ({error}): timing, latencies, modes and pictures are missing.")
        return None, None
    problems.extend(f"The bag is not whole: {sentence}." for sentence in bag.problems)
    if bag.unreadable:
        topics = ", ".join(bag.unreadable)
        problems.append(f"Some messages of {topics} do not fit their definition and were passed over.")
    return bag, digest


def _check_digest(digest: Digest, records: Sequence[EpisodeRecord], problems: list[str]) -> None:
    known = {record.episode_id for record in records}
    lost = sorted(number for number in digest.windows if number not in known)
    if lost:
        numbers = ", ".join(map(str, lost[:8]))
        problems.append(f"The bag shows episodes without a record (interrupted?): {numbers}.")
    if not digest.commands:
        problems.append("The bag holds no commands: loop timing and modes are missing.")
