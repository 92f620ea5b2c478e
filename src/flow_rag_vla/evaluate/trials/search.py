# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Search: a policy that failed tries again with a shifted perception, and remembers what then succeeded.

Nobody says what would have been right. What a systematic failure asks for is often simple: act as if the target, the
destination or the hand itself were a little elsewhere. So the start is set up again and the same policy tries with a
shift drawn at random; the only thing that is sensed beyond what the robot senses anyway is whether an attempt
succeeded. A shift counts as found when it succeeds twice, with other noise the second time: an attempt may succeed by
luck. Shifts that were found are tried first afterwards, as in the cross-entropy method (Rubinstein 1999), but around
each of them rather than around their mean, because what is too large and what is too small ask for opposite shifts.

A found shift labels every observation of its episode: what the policy does there, its perception shifted.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.core.action import CONTROL_RATE_HZ
from flow_rag_vla.core.files import write_text
from flow_rag_vla.core.goal import Goal
from flow_rag_vla.core.state import RobotState
from flow_rag_vla.evaluate.trials.attempts import Attempt, attempt, go_home
from flow_rag_vla.evaluate.trials.bank import BankEpisode
from flow_rag_vla.evaluate.trials.copies import Felt, likely_copies
from flow_rag_vla.evaluate.trials.labelled import Keeper, Labelled, Seen, within_limits
from flow_rag_vla.evaluate.trials.protocol import Start, TrialError
from flow_rag_vla.evaluate.trials.rig import Rig
from flow_rag_vla.evaluate.trials.scenes import scene_of
from flow_rag_vla.policy.follower import noise_seed
from flow_rag_vla.policy.policy import SHIFT_SHAPE, FlowPolicy
from flow_rag_vla.sim.scene import SceneSpec
from flow_rag_vla.sim.world import Snapshot

Shift = NDArray[np.float64]

SEARCHES = "search.jsonl"
"""A line for each failed episode: what was tried and found."""

STUCK_S = 1.0
"""Seconds at the end of a failed attempt that are where the arm was stuck."""


@dataclass(frozen=True, slots=True)
class SearchSettings:
    """How long and how far is searched.

    attempts: in one episode, at most, those that confirm included
    attempt_s: simulated seconds of one attempt, at most
    spread: metres, standard deviation of a broad draw, of target, destination and hand
    broad: share of draws that stay broad once something was found
    near: metres, standard deviation around a shift that succeeded; within so much of a failed one it is not repeated
    kept: shifts that are remembered, at most
    reset: the start is set up again for every attempt, what succeeds is confirmed, and the shift labels all that was
        seen; otherwise the first attempt goes on from where the arm is stuck, the others from home with things as they
        are, the first success counts, and only that attempt and the place where the arm was stuck are labelled
    relabel: the shift also labels what was seen in attempts that failed; otherwise only what succeeded is kept
    copies: simulated copies in which shifts are tried beforehand, see ``copies``; 0: none
    supposed: shifts that are tried in every copy
    """

    attempts: int = 8
    attempt_s: float = 4.5
    spread: tuple[float, float, float] = (0.015, 0.04, 0.015)
    broad: float = 0.3
    near: float = 0.004
    kept: int = 32
    reset: bool = True
    relabel: bool = True
    copies: int = 0
    supposed: int = 4

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        if self.attempts < 2:
            raise ValueError(f"attempts is {self.attempts}, expected at least 2: one that finds and one that confirms")
        if not 0.0 <= self.broad <= 1.0:
            raise ValueError(f"broad is {self.broad}, expected 0 to 1")
        if self.kept < 1:
            raise ValueError(f"kept is {self.kept}, expected at least 1")
        if self.copies < 0 or self.supposed < 1:
            raise ValueError(
                f"copies is {self.copies} and supposed {self.supposed}, expected at least 0 copies and 1 shift"
            )
        for name, value in (("attempt_s", self.attempt_s), ("near", self.near), ("spread", min(self.spread))):
            if not value > 0.0:
                raise ValueError(f"{name} is {value}, expected above 0")


@dataclass(slots=True)
class _Known:
    shift: Shift
    successes: int = 1
    tries: int = 1


@dataclass(frozen=True, slots=True)
class Draw:
    """A shift (3, 3), metres, to try. known: which one that succeeded it was drawn around; None: a broad draw."""

    shift: Shift
    known: int | None = None


class ShiftProposal:
    """Where to look next; learns from what succeeded and failed."""

    def __init__(self, settings: SearchSettings) -> None:
        """Begin broad."""
        self._settings = settings
        self._known: list[_Known] = []

    @property
    def known(self) -> list[Shift]:
        """Shifts that succeeded and are remembered."""
        return [item.shift for item in self._known]

    def draw(self, rng: np.random.Generator, failed: Sequence[Shift]) -> Draw:
        """The next shift of an episode in which those of ``failed`` did not help."""
        settings = self._settings
        weights = np.array([(item.successes + 1) / (item.tries + 2) for item in self._known])
        for place, item in enumerate(self._known):
            for other in failed:
                squared = float(np.sum(np.square(item.shift - other)))
                weights[place] *= 1.0 - np.exp(-squared / (8.0 * settings.near**2))
        if len(weights) and weights.sum() > 0.05 and rng.random() >= settings.broad:
            chosen = int(rng.choice(len(weights), p=weights / weights.sum()))
            around = self._known[chosen].shift
            # A part that was not shifted stays where it is read.
            moved = around + rng.normal(scale=settings.near, size=SHIFT_SHAPE) * (around != 0.0).any(axis=1)[:, None]
            return Draw(moved, chosen)
        # One part at a time, in turn: few attempts find nothing where all nine numbers have to be right.
        part = (len(failed) + int(rng.integers(SHIFT_SHAPE[0]))) % SHIFT_SHAPE[0]
        shift = np.zeros(SHIFT_SHAPE)
        shift[part] = rng.normal(scale=settings.spread[part], size=3)
        return Draw(shift)

    def succeeded(self, draw: Draw) -> None:
        """Look here again."""
        if draw.known is not None:
            self._known[draw.known].successes += 1
            self._known[draw.known].tries += 1
        self._known.append(_Known(draw.shift))
        if len(self._known) > self._settings.kept:
            self._known.remove(min(self._known, key=lambda item: item.successes / item.tries))

    def failed(self, draw: Draw) -> None:
        """Look here less often."""
        if draw.known is not None:
            self._known[draw.known].tries += 1


@dataclass(frozen=True, slots=True)
class Searched:
    """What a search came to. attempts: how many; found: rows of the shift in metres, None if nothing was found.

    luck: attempts that succeeded and could not be confirmed
    known: whether it was drawn around one that had succeeded before
    copied: share of the copies in which the first shift succeeded; None without copies
    first: whether the first shift that was tried succeeded
    refused: cases that the memory did not take
    """

    place: int
    attempts: int
    found: tuple[tuple[float, ...], ...] | None
    luck: int = 0
    known: bool = False
    cases: int = 0
    refused: int = 0
    copied: float | None = None
    first: bool = False


class Search:
    """Practice without an expert; see the module."""

    def __init__(self, rig: Rig, keeper: Keeper, settings: SearchSettings | None = None) -> None:
        """Search with this policy and world, and keep in this memory."""
        self._rig, self._keeper = rig, keeper
        self.settings = settings or SearchSettings()
        self.proposal = ShiftProposal(self.settings)
        self.searches: list[Searched] = []
        self._limit = round(self.settings.attempt_s * CONTROL_RATE_HZ)

    def finish(self, folder: Path) -> None:
        """Write what was tried and found."""
        lines = (json.dumps(asdict(item), separators=(",", ":")) + "\n" for item in self.searches)
        write_text(folder / SEARCHES, "".join(lines))

    def episode(self, place: int, start: Start) -> BankEpisode:
        """One start: the policy alone, then, if it fails, with a shifted perception."""
        spec, world = self._rig.spec, self._rig.world
        scene = scene_of(spec.task, spec.scene, start)
        home = world.reset(scene)
        begin = world.save()
        first = attempt(self._rig, world, scene, home, start.noise, self._limit)
        if first.success:
            done = [(item, item.chunk.actions) for item in first.seen]
            self._keeper.success(place, scene.task, scene.goal, done)
            return BankEpisode(place, spec.key, start, True)
        ids = self._search(place, start, scene, begin, home, first)
        return BankEpisode(place, spec.key, start, False, ids)

    def _search(
        self, place: int, start: Start, scene: SceneSpec, begin: Snapshot, home: RobotState, first: Attempt
    ) -> tuple[int, ...]:
        settings, world = self.settings, self._rig.world
        rng = np.random.default_rng((start.seed, start.noise, 31))
        failed: list[Shift] = []
        tried: list[Attempt] = [first]
        draw, copied = self._supposed(scene.goal, rng, first) if settings.copies else (None, None)
        attempts = luck = 0
        at_once, confirming = False, False
        found: Draw | None = None
        while attempts < settings.attempts and found is None:
            draw = draw or self.proposal.draw(rng, failed)
            attempts += 1
            if settings.reset:
                state = world.restore(begin)
            else:
                # The first goes on from where the arm is stuck: that is where the memory will be asked.
                state = world.robot_state() if attempts == 1 else go_home(world, home)
            noise = noise_seed(start.noise, -attempts)
            tried.append(attempt(self._rig, world, scene, state, noise, self._limit, shift=draw.shift))
            if tried[-1].success:
                at_once = at_once or attempts == 1
                found = draw if confirming or not settings.reset else None
                confirming = True
                continue
            luck += confirming
            failed.append(draw.shift)
            self.proposal.failed(draw)
            draw, confirming = None, False
        if found is None:
            self.searches.append(Searched(place, attempts, None, luck, copied=copied, first=at_once))
            return ()
        self.proposal.succeeded(found)
        refused = self._keeper.refused
        ids = self._keeper.failure(
            place, scene.task, scene.goal, first.kind, self._labelled(scene, tried, found.shift),
            source="search", note=f"found in attempt {attempts} of episode {place}",
        )  # fmt: skip
        rows = tuple(tuple(round(float(value), 5) for value in row) for row in found.shift)
        self.searches.append(
            Searched(
                place,
                attempts,
                rows,
                luck,
                found.known is not None,
                len(ids),
                self._keeper.refused - refused,
                copied,
                at_once,
            )
        )
        return ids

    def _labelled(self, scene: SceneSpec, tried: Sequence[Attempt], shift: Shift) -> list[Labelled]:
        """What the found shift says of what was seen; attempts that succeeded with it say it themselves."""
        labelled = []
        for seen, success in to_label(tried, self.settings, self._rig.spec.settings.replan_ticks):
            for item in self._keeper.distinct(seen, scene.goal):
                alone = seen_with(self._rig.policy, item, scene.goal, None)
                right = item.chunk.actions if success else seen_with(self._rig.policy, item, scene.goal, shift)
                labelled.append(Labelled(item, alone, within_limits(right), success))
        return labelled

    def _supposed(self, goal: Goal, rng: np.random.Generator, first: Attempt) -> tuple[Draw, float]:
        """The shift that succeeds in most copies of the situation, and in what share of them."""
        seen, world = first.seen[0], self._rig.copies
        reading = self._rig.policy.reading(seen.embedding, seen.state)
        felt = Felt(tuple(first.states), tuple(first.targets))
        copies = likely_copies(world, goal, reading, felt, self.settings.copies)
        draws: list[Draw] = []
        done: list[int] = []
        for _ in range(self.settings.supposed):
            # What was supposed before and did not help in most copies is not supposed again.
            useless = [draw.shift for draw, count in zip(draws, done, strict=True) if 2 * count <= len(copies)]
            draws.append(self.proposal.draw(rng, useless))
            done.append(0)
            for number, copy in enumerate(copies):
                state = world.reset(copy.scene)
                noise = int(rng.integers(2**31)) + number
                done[-1] += attempt(
                    self._rig, world, copy.scene, state, noise, self._limit, shift=draws[-1].shift
                ).success
            if done[-1] == len(copies):
                break
        best = int(np.argmax(done))
        return draws[best], done[best] / len(copies)


def to_label(tried: Sequence[Attempt], settings: SearchSettings, replan_ticks: int) -> list[tuple[list[Seen], bool]]:
    """Which observations get a label: those of an attempt, and whether it says itself what was right.

    What succeeded comes first, so that other observations of the same situations do not take its place.

    Args:
        tried: the failed attempt of the policy alone, then those of the search; the last succeeded.
        settings: of the search.
        replan_ticks: ticks from one observation to the next.
    """
    if settings.reset:
        chosen = [(one.seen, one.success) for one in (*tried[-2:], *tried[:-2])]
    else:
        stuck = round(STUCK_S * CONTROL_RATE_HZ / replan_ticks)
        chosen = [(tried[-1].seen, True), (tried[0].seen[-stuck:], False)]
    return [(seen, success) for seen, success in chosen if success or settings.relabel]


def seen_with(policy: FlowPolicy, item: Seen, goal: Goal, shift: Shift | None) -> NDArray[np.float32]:
    """(H, 7) float32: what a policy does in an observation with a shifted perception, the noise as it was."""
    made = item.chunk.provenance
    seed = 0 if made is None else made.noise_seed
    chunk = policy.act(item.embedding, item.state, goal, seed=seed, stamp_ns=item.chunk.stamp_ns, shift=shift)
    return chunk.actions


def read_searches(folder: str | Path) -> list[Searched]:
    """What the searches in a bank's folder came to; none where nobody searched.

    Raises:
        TrialError: for a line that makes no sense.
    """
    path = Path(folder) / SEARCHES
    if not path.is_file():
        return []
    try:
        values = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return [
            Searched(**{**item, "found": None if item["found"] is None else tuple(map(tuple, item["found"]))})
            for item in values
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise TrialError(f"{path} is no list of searches ({type(error).__name__}: {error}); practise again") from error
