# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The episode that runs, as it is kept on disk for the episode manager that is started after the present one.

One small JSON file, replaced as a whole. It says what was asked for and under which id, how far it is, and by which
marks a later process tells that the world is still the one in which the episode ran.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from flow_rag_vla.core.files import replaced_file
from flow_rag_vla.data.episode_record import CorrectionUse, FailureRecord, correction_of, failure_of, plain

FORMAT = 1
"""Version of the file's layout. Any other is refused: what a process of another version left is not gone on with."""

FILE = "running_episode"
"""In the folder of episode records. It has no suffix, so that nobody takes it for one."""

LISTED = 100
"""So many failures and corrections are kept, the newest: the file is written often, and an episode may be long."""

GOAL_ID_BYTES = 16

OPEN_STATES = (1, 2)
"""Of an episode without a verdict, as EpisodeStatus numbers them: waiting for the simulator's reset, and running."""

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

Kept = TypeVar("Kept", "Moment", "Asked", "Marks", "Course")


class RunningEpisodeError(ValueError):
    """A file that is no running episode; the text names file and field."""


@dataclass(frozen=True, slots=True)
class Moment:
    """When something was.

    boot: of the machine, since when its steady clock counts; empty where the system tells none
    steady_ns: the steady clock, which all processes of one machine share and nobody sets
    stamp_ns: the node's clock
    """

    boot: str
    steady_ns: int
    stamp_ns: int

    @classmethod
    def now(cls, stamp_ns: int) -> Moment:
        """The present moment."""
        try:
            boot = _BOOT_ID.read_text(encoding="ascii").strip()
        except OSError:
            boot = ""
        return cls(boot, time.monotonic_ns(), stamp_ns)


@dataclass(frozen=True, slots=True)
class Asked:
    """The request, and the id (16 bytes as hex digits) under which whoever asked waits for its result."""

    goal_id: str
    instruction: str = ""
    task: str = ""
    variant: str = ""
    seed: int = 0
    timeout: float = 0.0
    speed_scale: float = 1.0


@dataclass(frozen=True, slots=True)
class Marks:
    """By which the world is known again.

    controller, simulator: ids of their publishers in the graph, hex; each process has its own. Empty: none was heard,
        or the middleware does not tell
    tick: of the newest command, -1 before one; it begins anew with each controller
    scene: the simulator's number of the episode's scene, -1 before it was shown
    scene_before: the one that was shown before the episode, -1 if none was
    """

    controller: str = ""
    tick: int = -1
    simulator: str = ""
    scene: int = -1
    scene_before: int = -1


@dataclass(frozen=True, slots=True)
class Course:
    """How far an episode is. Stamps in ns of the node's clock; numbers of states and outcomes as in the messages.

    outcome: -1 while it runs; phases: (name, stamp at which it began)
    unlisted_failures: how many are only counted
    loop_before: the loop's figures as it began, by name
    """

    episode_id: int
    task: str
    variant: str
    seed: int
    instruction: str
    state: int
    timeout: float
    started_ns: int
    pace: float = 1.0
    pace_reason: str = ""
    outcome: int = -1
    word: str = ""
    reason: str = ""
    ended_ns: int = 0
    corrected_chunks: int = 0
    intervened: bool = False
    away: float = 0.0
    unlisted_failures: int = 0
    phases: tuple[tuple[str, int], ...] = ()
    failures: tuple[FailureRecord, ...] = ()
    corrections: tuple[CorrectionUse, ...] = ()
    loop_before: Mapping[str, float] | None = None


@dataclass(frozen=True, slots=True)
class RunningEpisode:
    """What is kept.

    course: None while it is still being decided what the words mean
    result_file: of an episode that is over and on record
    """

    moment: Moment
    asked: Asked
    marks: Marks = Marks()
    course: Course | None = None
    result_file: str = ""

    @property
    def over(self) -> bool:
        """Whether there is a verdict."""
        return self.course is not None and self.course.outcome >= 0


def write_running(path: str | Path, kept: RunningEpisode, *, synced: bool = True) -> None:
    """Replace the file; it is the one before or this one, never a part.

    synced: False does not wait for the disk: enough against a process that dies.

    Raises:
        OSError: if it cannot be written.
    """
    text = json.dumps({"format": FORMAT, **plain(dataclasses.asdict(kept))}, allow_nan=False)
    with replaced_file(path, synced=synced) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_running(path: str | Path) -> RunningEpisode | None:
    """What the file keeps; None if there is none.

    Raises:
        RunningEpisodeError: for a file that is torn, of another version or no such file at all, naming what is wrong.
    """
    source = Path(path)
    try:
        content = json.loads(source.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise RunningEpisodeError(f"{source} cannot be read: {error}") from error
    version = content.get("format") if isinstance(content, dict) else None
    if version != FORMAT:
        raise RunningEpisodeError(f"{source} is no running episode of format {FORMAT} but of {version!r}")
    try:
        course = content["course"]
        return RunningEpisode(
            _checked(Moment, content["moment"]),
            _asked(content["asked"]),
            _checked(Marks, content["marks"]),
            None if course is None else _course(course),
            str(content["result_file"]),
        )
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise RunningEpisodeError(f"{source} is damaged: {type(error).__name__}: {error}") from error


def remove_leftovers(path: str | Path) -> None:
    """Take away what a process that was killed while it wrote left beside the file.

    Raises:
        OSError: if the folder cannot be changed.
    """
    target = Path(path)
    for left in target.parent.glob(f".{target.name}.*"):
        left.unlink(missing_ok=True)


def absence(kept: Moment, now: Moment) -> float | None:
    """Seconds between two moments; None where nothing is known of it: another boot, or a clock that ran backwards."""
    if kept.boot != now.boot or now.steady_ns < kept.steady_ns:
        return None
    return (now.steady_ns - kept.steady_ns) * 1e-9


def too_late(kept: Moment, now: Moment, limit_s: float) -> str:
    """Why an episode may not be gone on with after this time, in words; empty if it may.

    limit_s: for which nobody may have watched it; 0: an episode is never gone on with
    """
    if limit_s <= 0.0:
        return "take_up_limit is 0"
    gone = absence(kept, now)
    if gone is None:
        return "how long it had been gone is not known: the machine was started anew, or its steady clock ran backwards"
    if gone > limit_s:
        return f"it had been gone for {gone:.1f} s, longer than take_up_limit, {limit_s:g} s"
    return ""


def still_there(kept: Marks, seen: Marks, *, simulated: bool) -> str | None:
    """Whether the world is the one in which the episode ran.

    Args:
        kept: the marks of the episode.
        seen: what was heard since.
        simulated: whether a simulator shows the scene; else a person set up a real one, which nothing here tells of.

    Returns:
        None while not enough was heard, a sentence for a world that is another, and empty if it is the one.
    """
    if not kept.controller and kept.tick < 0:
        return "no controller had been heard before"
    if seen.tick < 0 or (simulated and seen.scene < 0):
        return None
    if seen.controller != kept.controller or seen.tick < kept.tick:
        return "the controller was started anew meanwhile"
    if not simulated:
        return ""
    if kept.simulator and seen.simulator != kept.simulator:
        return "the simulator was started anew meanwhile"
    if (seen.scene == kept.scene_before) if kept.scene < 0 else (seen.scene != kept.scene):
        return "the simulator's scene was reset meanwhile"
    return ""


def _asked(item: Mapping[str, Any]) -> Asked:
    asked = _checked(Asked, item)
    if len(bytes.fromhex(asked.goal_id)) != GOAL_ID_BYTES:
        raise ValueError(f"goal_id is {asked.goal_id!r}, expected {2 * GOAL_ID_BYTES} hex digits")
    _check_seed(asked.seed)
    return asked


def _check_seed(seed: int) -> None:
    # No message could carry another, and a node that fails to send one at its start would fail at each start.
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed is {seed}, expected 0 to 2**64 - 1")


def _course(item: Mapping[str, Any]) -> Course:
    before = item["loop_before"]
    listed: dict[str, Any] = {
        "phases": tuple((str(name), int(stamp)) for name, stamp in item["phases"]),
        "failures": tuple(failure_of(failure) for failure in item["failures"]),
        "corrections": tuple(correction_of(use) for use in item["corrections"]),
        "loop_before": None
        if before is None
        else {str(name): float("nan") if value is None else value for name, value in before.items()},
    }
    course = dataclasses.replace(_checked(Course, {key: item[key] for key in item if key not in listed}), **listed)
    if course.episode_id < 1:
        raise ValueError(f"episode_id is {course.episode_id}, expected 1 or more")
    _check_seed(course.seed)
    if (course.outcome < 0) is not (course.state in OPEN_STATES):
        raise ValueError(f"state {course.state} and outcome {course.outcome} contradict each other")
    return course


_KINDS: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "str": (str,), "bool": (bool,)}


def _checked(kind: type[Kept], item: Mapping[str, Any]) -> Kept:
    """A value whose plain fields are of the declared types; JSON alone would let a word stand where a number must."""
    for entry in dataclasses.fields(kind):
        known = _KINDS.get(str(entry.type))
        value = item.get(entry.name)
        if entry.name not in item or known is None:
            continue
        if not isinstance(value, known) or (isinstance(value, bool) and bool not in known):
            raise ValueError(f"{entry.name} is {value!r}, expected {entry.type}")
    return kind(**item)
