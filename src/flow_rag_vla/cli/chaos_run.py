# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Faults injected into the running graph, one a round, and what came of each."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from flow_rag_vla.bringup.chaos_graph import (
    ARM,
    COMMAND_TIMEOUT_S,
    MONITOR_FILE,
    PULSE_FILE,
    SIMULATOR,
    chaos_graph,
    victims,
)
from flow_rag_vla.bringup.graph import MEMORY_DATABASE
from flow_rag_vla.bringup.resources import default_params_file
from flow_rag_vla.bringup.supervisor import Supervisor
from flow_rag_vla.cli.chaos_machine import MachineReader
from flow_rag_vla.evaluate.chaos import plan
from flow_rag_vla.evaluate.chaos.clock import SettableClock
from flow_rag_vla.evaluate.chaos.journal import Line, Tail, holds, of, stalls
from flow_rag_vla.evaluate.chaos.plan import Fault, draw_plan
from flow_rag_vla.evaluate.chaos.stretch import Stretch
from flow_rag_vla.evaluate.chaos.verdict import LOOP, GapVerdict, judge_gap, stream_violations
from flow_rag_vla.evaluate.chaos.watch import FOLLOW, Gap
from flow_rag_vla.nodes.chaos_client import LOST, ChaosClient
from flow_rag_vla.nodes.words_client import LOST as UNANSWERED
from flow_rag_vla.nodes.words_client import WordsClient

START_TIMEOUT_S = 90.0
RECOVERY_TIMEOUT_S = 60.0
LABELING_TIMEOUT_S = 240.0
"""Until the labeling node reports again: it loads at a low priority, behind everything that the graph does."""
_POLL_S = 0.02
_BEFORE_KILL = 3
"""Cases that are stored right before the memory is killed."""
_CORRUPTED_PLACES = 3
_SLACK_NS = 100_000_000
"""A controller that comes back needs a few ticks until its stream is even."""


class ChaosError(RuntimeError):
    """The graph did not come up, or cannot go on."""


@dataclass
class Round:
    """One fault and what came of it. Times in milliseconds from the fault's beginning; None if it did not come.

    back: until the node that was killed reported again
    following: until commands followed a chunk again, 0 if they never stopped to
    taken_up: whether the episode went on under an episode manager that was started again
    """

    number: int
    fault: Fault
    start_ns: int
    end_ns: int = 0
    back: float | None = None
    following: float | None = None
    taken_up: bool = False
    notes: list[str] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)
    reactions: Counter[str] = field(default_factory=Counter)


class ChaosRun:
    """One graph, brought up once, and its rounds. Use as a context manager."""

    def __init__(self, folder: Path, seed: int, *, simulated: bool = False, also: Sequence[str] = ()) -> None:
        """The graph on the mock arm, or in simulation; also: nodes of ``chaos_graph.ALSO``."""
        self.folder, self._random = folder, np.random.default_rng(seed + 1)
        folder.mkdir(parents=True, exist_ok=True)
        self.events: list[str] = []
        self.rounds: list[Round] = []
        self.notes: list[str] = []
        try:
            self._clock: SettableClock | None = SettableClock(folder / "clock")
        except RuntimeError as error:
            self._clock = None
            self.notes.append(f"the clock was not made to jump: {error}")
        self._processes = chaos_graph(folder, default_params_file(), seed, simulated=simulated, also=also)
        self._supervisor = Supervisor(
            self._processes, folder / "log", self.events.append, self._clock.environment if self._clock else None
        )
        self._client = ChaosClient()
        self._words = WordsClient() if "deliberation" in also else None
        """Asks the deliberation all the while, so that it and the language model die in the middle of something."""
        self._page = next((one.overrides["port"] for one in self._processes if one.spec.name == "dashboard"), 0)
        self._monitor, self._pulse = Tail(folder / MONITOR_FILE), Tail(folder / PULSE_FILE)
        self._down: list[Stretch] = []
        self._machine = MachineReader(self._names, self._supervisor.pid)
        self._acknowledged: dict[int, int] = {}
        self._stored = 0
        self._destroyed = 0
        self._ended = ""
        self._closing = threading.Event()
        self._watcher = threading.Thread(target=self._look_after, name="supervisor", daemon=True)
        self._started_ns = time.monotonic_ns()
        self.first_command_s = self.first_follow_s = 0.0

    def __enter__(self) -> ChaosRun:
        try:
            self._client.__enter__()
            if self._words is not None:
                self._words.__enter__()
            self._started_ns = time.monotonic_ns()
            self._supervisor.start()
            self._watcher.start()
            self._machine.__enter__()
            self._come_up()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        self._closing.set()
        self._machine.__exit__(None, None, None)
        if self._watcher.is_alive():
            self._watcher.join()
        for name in self._names:
            # A process that is still stopped would not hear that it is to end.
            self._signal(name, signal.SIGCONT)
        killed = self._supervisor.stop()
        if killed:
            self.notes.append(f"had to be killed at the end: {', '.join(killed)}")
        if self._words is not None:
            self._words.__exit__(None, None, None)
        self._client.__exit__(None, None, None)
        if self._clock is not None:
            self._clock.close()

    @property
    def _names(self) -> list[str]:
        return [process.spec.name for process in self._processes]

    def plan(self, seed: int, rounds: int, only: tuple[str, ...] = ()) -> tuple[Fault, ...]:
        """The faults of this run; ``only``: kinds to draw from, all if empty."""
        without = [kind for kind in plan.KINDS if only and kind not in only]
        if self._clock is None:
            without.append(plan.CLOCK)
        paused = (ARM,) if ARM in self._names else ()
        return draw_plan(seed, rounds, victims(self._processes), paused, without)

    def inject(self, fault: Fault) -> Round:
        """One round: the fault, its end, and the wait until the graph does again what it did before.

        Raises:
            ChaosError: if the graph ended.
        """
        self._monitor.read()
        first = len(self._monitor.lines)
        done = Round(len(self.rounds) + 1, fault, time.monotonic_ns())
        self.rounds.append(done)
        {
            plan.KILL: self._kill, plan.RESTART: self._kill, plan.PAUSE: self._pause, plan.DELAY: self._disturb,
            plan.DROP: self._disturb, plan.DUPLICATE: self._disturb, plan.REORDER: self._disturb,
            plan.DISK_FULL: self._fill_disk, plan.CORRUPT: self._corrupt, plan.CLOCK: self._set_clock,
            plan.HOGS: self._hog, plan.STOP: self._stop,
        }[fault.kind](done)  # fmt: skip
        self._recover(done, first)
        done.end_ns = time.monotonic_ns()
        lines = self._monitor.lines[first:]
        for line in of(lines, "mode"):
            if line["mode"] != FOLLOW:
                done.reactions[str(line["reason"])] += 1
        return done

    def finish(self) -> dict[str, Any]:
        """Check what must hold of the whole run, and give its content for the report."""
        # One that was interrupted says nothing, unless it is why the run ended.
        self.rounds = [done for done in self.rounds if done.end_ns or done.problems]
        lost, unknown = self._missing_cases()
        self._look_for_answers()
        # What came last is written half a second later.
        time.sleep(0.6)
        self._monitor.read()
        self._pulse.read()
        now = time.monotonic_ns()
        lines = self._monitor.lines
        unheld = holds(lines, "NO_COMMAND", now)
        late = stalls(self._pulse.lines)
        gaps = [self._judged(Gap(int(line["start_ns"]), int(line["ns"])), late, unheld) for line in of(lines, "gap")]
        count = of(lines, "count")[-1] if of(lines, "count") else {}
        return {
            "rounds": [_told(done) for done in self.rounds],
            "violations": self._violations(lines, gaps, lost, unknown),
            "gaps": [_told_gap(one, self._round_at(one.gap.start_ns)) for one in gaps],
            "loop_gaps": sum(one.owner == LOOP for one in gaps),
            "timer_gaps": sum(one.end_ns - one.start_ns > 25_000_000 for one in late),
            "stop_delays_ms": [line["delay_ms"] for line in of(lines, "stopped")],
            "commands": count.get("commands", 0),
            "lost_ticks": count.get("lost", 0),
            "first_command_s": self.first_command_s,
            "first_follow_s": self.first_follow_s,
            "cases": {"acknowledged": self._stored, "lost": len(lost), "destroyed": self._destroyed},
            "episodes": self._client.episodes,
            "outcomes": dict(Counter(told.outcome for told in self._client.told)),
            "taken_up": sum(done.taken_up for done in self.rounds),
            "words": {} if self._words is None else dict(self._words.outcomes),
            "notes": self.notes,
        }

    def _violations(
        self, lines: Sequence[Line], gaps: Sequence[GapVerdict], lost: Sequence[int], unknown: Sequence[int]
    ) -> list[dict[str, Any]]:
        """What the monitor saw, gaps that nothing excuses, what went wrong in a round, and cases that are gone."""
        found = stream_violations(lines, gaps, self._round_at)
        found += [
            {"kind": kind, "text": text, "round": done.number} for done in self.rounds for kind, text in done.problems
        ]
        if lost:
            found.append({"kind": "lost", "text": f"acknowledged cases {lost} are gone", "round": 0})
        if unknown:
            text = f"the memory did not answer for {len(unknown)} acknowledged cases"
            found.append({"kind": "not answered", "text": text, "round": 0})
        return found

    def _judged(self, gap: Gap, late: list[Stretch], unheld: list[Stretch]) -> GapVerdict:
        stretch, machine = Stretch(gap.start_ns, gap.end_ns), self._machine
        timeout_ns = int(COMMAND_TIMEOUT_S * 1e9)
        still, stolen_ns = machine.still(stretch), machine.stolen_ns(stretch)
        return judge_gap(gap, late, machine.waits, self._down, unheld, timeout_ns, still, stolen_ns)

    def _come_up(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        waiting = set(self._names)
        while time.monotonic() < deadline:
            self._check()
            for line in self._monitor.read():
                seconds = (line["ns"] - self._started_ns) / 1e9
                if line["what"] == "mode":
                    self.first_command_s = self.first_command_s or seconds
                    if line["mode"] == FOLLOW:
                        self.first_follow_s = self.first_follow_s or seconds
                elif line["what"] == "alive":
                    waiting.discard(line["node"])
            if not waiting and self.first_follow_s and not self._client.disturb():
                raise ChaosError("the relay does not take its settings; see its log")
            if not waiting and self.first_follow_s:
                return
            time.sleep(_POLL_S)
        what = ", ".join(sorted(waiting)) or "a command that follows a chunk"
        raise ChaosError(f"not there after {START_TIMEOUT_S:g} s: {what}; see the logs in {self.folder / 'log'}")

    def _look_after(self) -> None:
        while not self._closing.wait(_POLL_S):
            reason = self._supervisor.poll()
            if reason is not None:
                self._ended = reason
                return

    def _check(self) -> None:
        if self._ended:
            raise ChaosError(self._ended)

    def _round_at(self, at_ns: int) -> int:
        found = [done.number for done in self.rounds if done.start_ns <= at_ns + 25_000_000]
        return found[-1] if found else 0

    def _signal(self, name: str, number: int) -> int:
        pid = self._supervisor.pid(name)
        if pid is not None:
            # It may end at the same moment.
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        return pid or 0

    def _kill(self, done: Round) -> None:
        name = done.fault.target
        if name == "failure_memory":
            self._store(done, _BEFORE_KILL)
        if name in ("episode_manager", SIMULATOR):
            # What becomes of an episode is the question; one that is over is not.
            self._until(lambda: self._client.running > 0)
        done.start_ns = time.monotonic_ns()
        self._end(done, signal.SIGKILL if done.fault.kind == plan.KILL else signal.SIGINT)

    def _end(self, done: Round, number: int) -> None:
        name = done.fault.target
        watchdog, episode = self._watchdog_stops(), self._client.running
        old = self._signal(name, number)
        with self._controller_down(name):
            self._await_new(done, name, old)
        if episode and name == "episode_manager":
            self._look_for_episode(done, episode, number == signal.SIGKILL)
        if episode and name == SIMULATOR:
            self._look_for_reason(done, episode)
        if name == "dashboard":
            self._look_at_page(done)
        if name == "robot" and self._watchdog_stops() <= watchdog:
            done.problems.append(("watchdog", "the arm's own watchdog did not stop it when its bridge was gone"))
        if name == "failure_memory":
            self._look_for_cases(done)

    def _await_new(self, done: Round, name: str, old: int) -> None:
        patience_s = LABELING_TIMEOUT_S if name == "labeling" else RECOVERY_TIMEOUT_S
        deadline, spawned_ns = time.monotonic() + patience_s, 0
        while time.monotonic() < deadline:
            self._check()
            new = self._supervisor.pid(name)
            if new is not None and new != old and not spawned_ns:
                spawned_ns = time.monotonic_ns()
                seen = len(self._monitor.lines)
            self._monitor.read()
            if spawned_ns:
                for line in of(self._monitor.lines[seen:], "alive"):
                    if line["node"] == name and line["ns"] > spawned_ns:
                        done.back = (line["ns"] - done.start_ns) / 1e6
                        return
            time.sleep(_POLL_S)
        done.problems.append(("not back", f"{name} did not report within {patience_s:g} s"))

    def _look_for_episode(self, done: Round, episode: int, killed: bool) -> None:
        """The episode goes on under a manager that is started again; one that was told to end has ended it."""
        back_ns, client = time.monotonic_ns(), self._client
        if not killed:
            self._look_for_reason(done, episode)
            return
        # It is silent about episodes until it has decided.
        self._until(lambda: client.heard_since(back_ns) or client.told_of(episode) is not None)
        told = client.told_of(episode)
        if client.running == episode or (told is not None and told.outcome in ("success", "failure")):
            done.taken_up = True
            return
        said = "nothing was said of it" if told is None else f"{told.outcome}, {told.reason}"
        done.problems.append(("episode", f"episode {episode} did not go on: {said}"))

    def _look_for_reason(self, done: Round, episode: int) -> None:
        """Whoever asked for the episode is told how it ended, and why."""
        self._until(lambda: self._client.told_of(episode) is not None)
        told = self._client.told_of(episode)
        if told is None or not told.reason:
            done.problems.append(("episode", f"nobody was told why episode {episode} ended"))
        else:
            done.notes.append(f"episode {episode}: {told.outcome}, {told.reason}")

    def _look_at_page(self, done: Round) -> None:
        """The live page answers under the address that it had."""
        problem = ""

        def answers() -> bool:
            nonlocal problem
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self._page}/live/", timeout=5.0) as answer:
                    return int(answer.status) < 500
            except urllib.error.HTTPError as error:
                problem = str(error)
                return error.code < 500
            except OSError as error:
                problem = str(error)
                return False

        if not self._until(answers):
            done.problems.append(("page", f"the live page does not answer: {problem}"))

    def _look_for_answers(self) -> None:
        """After the last round commands in words are answered again, and no goal was lost."""
        words, last = self._words, self.rounds[-1] if self.rounds else None
        if last is not None and any(told.outcome == LOST for told in self._client.told):
            last.problems.append(("episode", "the episode manager did not know a goal that it had accepted"))
        if words is None or last is None:
            return

        def answered() -> int:
            return sum(count for outcome, count in words.outcomes.items() if outcome != UNANSWERED)

        before = answered()
        if not self._until(lambda: answered() > before):
            last.problems.append(("words", f"no command in words was answered for {RECOVERY_TIMEOUT_S:g} s"))

    def _until(self, found: Callable[[], bool]) -> bool:
        """Wait for something as long as for any recovery; whether it came.

        Raises:
            ChaosError: if the graph ended.
        """
        deadline = time.monotonic() + RECOVERY_TIMEOUT_S
        while not found():
            if time.monotonic() > deadline:
                return False
            self._check()
            time.sleep(_POLL_S)
        return True

    @contextlib.contextmanager
    def _controller_down(self, name: str) -> Iterator[None]:
        start = time.monotonic_ns()
        yield
        if name == "controller":
            self._down.append(Stretch(start, time.monotonic_ns() + _SLACK_NS))

    def _pause(self, done: Round) -> None:
        name = done.fault.target
        with self._controller_down(name):
            self._signal(name, signal.SIGSTOP)
            time.sleep(done.fault.seconds)
            self._signal(name, signal.SIGCONT)

    def _disturb(self, done: Round) -> None:
        fault = done.fault
        name = {plan.DELAY: "delay", plan.DROP: "drop", plan.DUPLICATE: "duplicate", plan.REORDER: "reorder"}[
            fault.kind
        ]
        done.start_ns = time.monotonic_ns()
        if not self._client.disturb(topic=fault.target, **{name: fault.amount}):
            done.problems.append(("relay", "it did not take the fault; the round says nothing"))
        time.sleep(fault.seconds)
        self._client.disturb()

    def _fill_disk(self, done: Round) -> None:
        name = done.fault.target
        pid = self._supervisor.pid(name)
        if pid is None:
            return
        unlimited = resource.RLIM_INFINITY
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, unlimited))
        try:
            if name == "failure_memory":
                number = self._add_case(2.0)
                if number is not None:
                    self._acknowledged[number] = done.number
                    self._stored += 1
                done.notes.append("a case was refused" if number is None else f"case {number} was acknowledged")
            time.sleep(done.fault.seconds)
        finally:
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (unlimited, unlimited))
        if name == "failure_memory":
            self._store(done, 1)

    def _corrupt(self, done: Round) -> None:
        self._store(done, _BEFORE_KILL)
        self._signal(done.fault.target, signal.SIGSTOP)
        # What was written last is still in the log beside the database.
        files = [self.folder / f"{MEMORY_DATABASE}{suffix}" for suffix in ("", "-wal")]
        sizes = {file: file.stat().st_size for file in files if file.exists()}
        large = [file for file, size in sizes.items() if size > 8192]
        if large:
            path = large[int(self._random.integers(len(large)))]
            size = sizes[path]
            with path.open("r+b") as stream:
                for place in self._random.integers(4096, size - 512, _CORRUPTED_PLACES):
                    stream.seek(int(place))
                    stream.write(self._random.bytes(512))
            done.notes.append(f"{_CORRUPTED_PLACES} places of {path.name} ({size} bytes) overwritten")
        done.start_ns = time.monotonic_ns()
        self._end(done, signal.SIGKILL)

    def _set_clock(self, done: Round) -> None:
        if self._clock is None:
            return
        done.start_ns = time.monotonic_ns()
        try:
            self._clock.set(int(done.fault.amount * 1e9))
            time.sleep(done.fault.seconds)
        finally:
            self._clock.set(0)

    def _hog(self, done: Round) -> None:
        code = "from flow_rag_vla.core.processes import end_with_parent\nend_with_parent(9)\nwhile True: pass"
        hogs = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(os.cpu_count() or 1)]
        try:
            time.sleep(done.fault.seconds)
        finally:
            for hog in hogs:
                hog.kill()
                hog.wait()

    def _stop(self, done: Round) -> None:
        done.start_ns = time.monotonic_ns()
        self._client.emergency_stop()
        time.sleep(done.fault.seconds)
        if not self._client.release(RECOVERY_TIMEOUT_S):
            done.problems.append(("release", "the emergency stop was not released"))

    def _recover(self, done: Round, first: int) -> None:
        """Wait until commands follow a chunk again, and each node is there."""
        ended_ns = time.monotonic_ns()
        deadline = time.monotonic() + RECOVERY_TIMEOUT_S
        while time.monotonic() < deadline:
            self._check()
            self._monitor.read()
            counts = of(self._monitor.lines[first:], "count")
            if counts and counts[-1]["last_ns"] > ended_ns and counts[-1]["mode"] == FOLLOW:
                modes = of(self._monitor.lines[first:], "mode")
                away = [line for line in modes if line["ns"] > done.start_ns]
                back = [line["ns"] for line in away if line["mode"] == FOLLOW]
                done.following = (back[-1] - done.start_ns) / 1e6 if back else 0.0
                return
            time.sleep(_POLL_S)
        last = of(self._monitor.lines, "mode")[-1:]
        text = str(last[0]["text"]) if last else "no command at all"
        done.problems.append(("not recovered", f"nothing was followed for {RECOVERY_TIMEOUT_S:g} s: {text}"))

    def _watchdog_stops(self) -> int:
        self._monitor.read()
        lines = of(self._monitor.lines, "watchdog")
        return int(lines[-1]["count"]) if lines else 0

    def _store(self, done: Round, number: int) -> None:
        stored = 0
        deadline = time.monotonic() + RECOVERY_TIMEOUT_S
        while stored < number and time.monotonic() < deadline:
            case = self._add_case(5.0)
            if case is None:
                if self._client.pattern(2.0) is None:
                    done.notes.append("the memory has no case yet to make others like")
                    return
                time.sleep(0.1)
                continue
            self._acknowledged[case] = done.number
            self._stored += 1
            stored += 1
        if stored < number:
            done.problems.append(("memory", f"no case was taken within {RECOVERY_TIMEOUT_S:g} s"))

    def _add_case(self, timeout_s: float) -> int | None:
        pattern = self._client.pattern(timeout_s)
        return None if pattern is None else self._client.add_case(pattern, self._random, timeout_s)

    def _has_case(self, number: int) -> bool | None:
        for _ in range(5):
            found = self._client.has_case(number, 5.0)
            if found is not None:
                return found
        return None

    def _missing_cases(self) -> tuple[list[int], list[int]]:
        """Acknowledged cases that are gone, and those for which no answer came."""
        lost: list[int] = []
        numbers = list(self._acknowledged)
        for place, number in enumerate(numbers):
            found = self._has_case(number)
            if found is None:
                return lost, numbers[place:]
            if not found:
                lost.append(number)
        return lost, []

    def _look_for_cases(self, done: Round) -> None:
        recent = [number for number, when in self._acknowledged.items() if when == done.number]
        gone = [number for number in (recent if done.fault.kind != plan.CORRUPT else list(self._acknowledged))
                if self._has_case(number) is False]  # fmt: skip
        if done.fault.kind == plan.CORRUPT:
            self._destroyed += len(gone)
            for number in gone:
                del self._acknowledged[number]
            done.notes.append(f"{len(gone)} acknowledged cases were destroyed by the fault")


def _told(done: Round) -> dict[str, Any]:
    return {
        "number": done.number,
        "kind": done.fault.kind,
        "target": done.fault.target,
        "fault": done.fault.text,
        "seconds": max(done.end_ns - done.start_ns, 0) / 1e9,
        "back_ms": done.back,
        "following_ms": done.following,
        "reactions": dict(done.reactions),
        "notes": done.notes,
        "problems": [text for _, text in done.problems],
    }


def _told_gap(one: GapVerdict, number: int) -> dict[str, Any]:
    return {
        "ms": one.gap.ms,
        "owner": one.owner,
        "held": one.held,
        "wrong": one.wrong,
        "waited_ms": one.waited_ms,
        "stolen_ms": one.stolen_ms,
        "still_ms": one.still_ms,
        "states": dict(one.states),
        "round": number,
    }
