# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Looks whether what a fault struck is there again and does what it did; what is not becomes the round's problem."""

from __future__ import annotations

import time
import urllib.error
import urllib.request

from flow_rag_vla.cli.chaos_cases import AcknowledgedCases
from flow_rag_vla.cli.chaos_rig import POLL_S, RECOVERY_TIMEOUT_S, ChaosRig
from flow_rag_vla.evaluate.chaos.journal import of
from flow_rag_vla.evaluate.chaos.rounds import Round
from flow_rag_vla.evaluate.chaos.verdict import why_not_taken_up
from flow_rag_vla.evaluate.chaos.watch import FOLLOW

LABELING_TIMEOUT_S = 240.0
"""Until the labeling node reports again: it loads at a low priority, behind everything that the graph does."""


class Recovery:
    """Waits as long as any recovery may take. Every method raises a ``ChaosError`` if the graph ended."""

    def __init__(self, rig: ChaosRig, cases: AcknowledgedCases) -> None:
        self._rig, self._cases = rig, cases

    def await_following(self, done: Round, first: int) -> None:
        """Commands follow a chunk again; first: where the round's lines of the monitor begin."""
        monitor = self._rig.monitor
        ended_ns = time.monotonic_ns()
        deadline = time.monotonic() + RECOVERY_TIMEOUT_S
        while time.monotonic() < deadline:
            self._rig.check()
            monitor.read()
            counts = of(monitor.lines[first:], "count")
            if counts and counts[-1]["last_ns"] > ended_ns and counts[-1]["mode"] == FOLLOW:
                modes = of(monitor.lines[first:], "mode")
                away = [line for line in modes if line["ns"] > done.start_ns]
                back = [line["ns"] for line in away if line["mode"] == FOLLOW]
                done.following = (back[-1] - done.start_ns) / 1e6 if back else 0.0
                return
            time.sleep(POLL_S)
        last = of(monitor.lines, "mode")[-1:]
        text = str(last[0]["text"]) if last else "no command at all"
        done.problems.append(("not recovered", f"nothing was followed for {RECOVERY_TIMEOUT_S:g} s: {text}"))

    def await_episode(self, done: Round) -> None:
        """An episode runs: what becomes of one is the question, and one that is over is not."""
        if not self._rig.until(lambda: self._rig.client.running > 0):
            text = f"no episode ran within {RECOVERY_TIMEOUT_S:g} s; the round says nothing"
            done.problems.append(("episode", text))

    def await_node(self, done: Round, name: str, old: int) -> None:
        """Another process than ``old`` has the node's name, and reports."""
        rig, monitor = self._rig, self._rig.monitor
        patience_s = LABELING_TIMEOUT_S if name == "labeling" else RECOVERY_TIMEOUT_S
        deadline, spawned_ns = time.monotonic() + patience_s, 0
        while time.monotonic() < deadline:
            rig.check()
            new = rig.pid(name)
            if new is not None and new != old and not spawned_ns:
                spawned_ns = time.monotonic_ns()
                seen = len(monitor.lines)
            monitor.read()
            if spawned_ns:
                for line in of(monitor.lines[seen:], "alive"):
                    if line["node"] == name and line["ns"] > spawned_ns:
                        done.back = (line["ns"] - done.start_ns) / 1e6
                        return
            time.sleep(POLL_S)
        done.problems.append(("not back", f"{name} did not report within {patience_s:g} s"))

    def look_for_episode(self, done: Round, episode: int) -> None:
        """The episode goes on under the manager that is there instead of one that was killed."""
        client, back_ns = self._rig.client, time.monotonic_ns()
        # It is silent about episodes until it has decided.
        self._rig.until(lambda: client.heard_since(back_ns) or client.told_of(episode) is not None)
        told = client.told_of(episode)
        problem = why_not_taken_up(
            episode,
            client.running if client.heard_since(back_ns) else None,
            None if told is None else (told.outcome, told.reason),
        )
        done.taken_up = not problem
        if problem:
            done.problems.append(("episode", problem))

    def look_for_reason(self, done: Round, episode: int) -> None:
        """Whoever asked for an episode that ended is told how, and why."""
        client = self._rig.client
        self._rig.until(lambda: client.told_of(episode) is not None)
        told = client.told_of(episode)
        if told is None or not told.reason:
            done.problems.append(("episode", f"nobody was told why episode {episode} ended"))
        else:
            done.notes.append(f"episode {episode}: {told.outcome}, {told.reason}")

    def look_at_page(self, done: Round) -> None:
        """The live page answers under the address that it had."""
        problem = ""

        def answers() -> bool:
            nonlocal problem
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self._rig.page}/live/", timeout=5.0) as answer:
                    return int(answer.status) < 500
            except urllib.error.HTTPError as error:
                problem = str(error)
                return error.code < 500
            except OSError as error:
                problem = str(error)
                return False

        if not self._rig.until(answers):
            done.problems.append(("page", f"the live page does not answer: {problem}"))

    def look_for_cases(self, done: Round, round_number: int | None = None) -> None:
        """What the memory acknowledged is there, of one round or of all."""
        gone = self._cases.gone(round_number)
        self._cases.strike_off(gone, destroyed=False)
        if gone:
            done.problems.append(("lost", f"acknowledged cases {gone} are gone"))

    def count_destroyed(self, done: Round) -> None:
        """What a damaged file took with it."""
        gone = self._cases.gone()
        self._cases.strike_off(gone, destroyed=True)
        done.notes.append(f"{len(gone)} acknowledged cases were destroyed by the fault")

    def arm_is_moved(self) -> bool:
        """Whether the bridge, by what it said last, tells the arm to follow commands."""
        self._rig.monitor.read()
        lines = of(self._rig.monitor.lines, "hold")
        return bool(lines) and not lines[-1]["text"]

    def watchdog_stops(self) -> int:
        """How often the arm's own watchdog has stopped it."""
        self._rig.monitor.read()
        lines = of(self._rig.monitor.lines, "watchdog")
        return int(lines[-1]["count"]) if lines else 0
