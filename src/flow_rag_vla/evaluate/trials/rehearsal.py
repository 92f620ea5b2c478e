# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Rehearsal: after a failure the system finds out in a simulated copy what would have been right, then does it.

Nobody says what would have been right. What is known is what was seen and felt, and whether an attempt succeeded.

1. *Look again.* A copy is fitted to the pictures of the failed attempt, see ``fitting``. A policy that misreads a thing
   of unknown size misreads it at every moment in another way, so no single shift of its perception mends that; in the
   copy it is known where everything is.
2. *Search.* In the copy the policy acts on what is true there. That may still fail: a larger drawer seems to be open
   before it is. So a small constant offset is searched for, of the target along three axes and of the destination along
   one, in the target's own frame, by what an attempt in the copy comes to: success, the sooner the better, else
   progress. It is judged from several moments of the failed attempt, not from its start alone: a lucky sweep succeeds
   from one place only and says nothing about the next. What was found for other situations is tried first, that for
   the most similar size before the others.
3. *Do it.* The robot goes on from where it was stuck, and tries from the start set up again. The copy goes along: it is
   given the same commands and says where things are. Only what succeeds there counts as a correction at all.
4. *Label.* What was seen in the attempts that succeeded is labelled by what was done. What was seen in the failed one
   is labelled by what would have been done there, as far as the copy goes on to a success from the moment before.

No pictures are drawn in copies after the fit, so an attempt in one costs a small part of a real one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.control.integrator import TargetIntegrator
from flow_rag_vla.core.action import CONTROL_RATE_HZ, GRIPPER
from flow_rag_vla.core.files import write_text
from flow_rag_vla.core.goal import Goal
from flow_rag_vla.core.state import CartesianTarget, RobotState
from flow_rag_vla.evaluate.trials.attempts import Attempt, attempt
from flow_rag_vla.evaluate.trials.bank import BankEpisode
from flow_rag_vla.evaluate.trials.copies import supposed_scene, unlikeness
from flow_rag_vla.evaluate.trials.fitting import Fitted, Sight, fit
from flow_rag_vla.evaluate.trials.labelled import Keeper, Labelled, Seen, within_limits
from flow_rag_vla.evaluate.trials.protocol import Start, TrialError
from flow_rag_vla.evaluate.trials.rig import Rig
from flow_rag_vla.evaluate.trials.scenes import scene_of
from flow_rag_vla.memory.lesson import COMPARED, disagreement
from flow_rag_vla.policy.follower import ChunkFollower, noise_seed
from flow_rag_vla.policy.observation import DESTINATIONS, relative_reading
from flow_rag_vla.policy.policy import FlowPolicy
from flow_rag_vla.sim.camera import SceneRenderer
from flow_rag_vla.sim.places import places
from flow_rag_vla.sim.scene import SceneSpec
from flow_rag_vla.sim.world import Snapshot, World

Offset = NDArray[np.float64]
"""(4,) metres in the target's frame: the target along, across and up, the destination along."""

REHEARSALS = "rehearsals.jsonl"
"""A line for each failed episode: what was fitted, tried and found."""

CLOSING = 0.078
"""Metres between the fingers: from below it on things may have been moved, and pictures are not compared."""

BEST = 1.5
"""Score of a success at once; one at the last moment has 1."""

OTHERWISE = 0.08
"""Root mean square, in largest steps, from which on what was found is another action than the policy's.

Both are the same policy's, with the same noise: unlike an expert's, small differences are no matter of style.
"""


@dataclass(frozen=True, slots=True)
class RehearsalSettings:
    """How long and how far is searched.

    tries: offsets that are tried in the copy, at most
    moments: of the failed attempt, its first and last among them, that an offset is judged from
    attempt_s, copy_s: simulated seconds of one attempt, in fact and in the copy, at most
    spread: metres, standard deviation of what is drawn, of each part of an offset
    good: mean score from which no better one is looked for
    in_place: a real attempt goes on where the arm is stuck
    reset: a real attempt begins at the start, set up again
    """

    tries: int = 12
    moments: int = 4
    attempt_s: float = 4.5
    copy_s: float = 3.0
    spread: tuple[float, float, float, float] = (0.006, 0.003, 0.008, 0.012)
    good: float = 1.2
    in_place: bool = True
    reset: bool = True

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        for label, count in (("tries", self.tries), ("moments", self.moments)):
            if count < 1:
                raise ValueError(f"{label} is {count}, expected at least 1")
        if not (self.in_place or self.reset):
            raise ValueError("in_place and reset are both false: what is found in a copy must be tried in fact")
        for name, length in (("attempt_s", self.attempt_s), ("copy_s", self.copy_s), ("spread", min(self.spread))):
            if not length > 0.0:
                raise ValueError(f"{name} is {length}, expected above 0")


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """What a rehearsal came to.

    error: of the fit; size: of the fitted target, times the usual one
    unlike: of the failed attempt in the copy beside what was felt, see ``copies.unlikeness``
    tries: in the copy; score: of the best offset there; found: it, metres, None if none succeeded in the copy
    sound: of the moments that it was judged from, those from which it succeeded
    in_place, reset: whether the real attempt from there succeeded; None: there was none
    labels: observations labelled; doubtful: left out because the copy did not go on to a success from there
    cases, refused: kept, and not taken by the memory
    """

    place: int
    error: float
    size: float
    unlike: float
    tries: int
    score: float
    found: tuple[float, ...] | None
    sound: tuple[int, ...] = ()
    in_place: bool | None = None
    reset: bool | None = None
    labels: int = 0
    doubtful: int = 0
    cases: int = 0
    refused: int = 0


class Rehearsal:
    """Practice without an expert; see the module."""

    def __init__(
        self,
        rig: Rig,
        keeper: Keeper,
        settings: RehearsalSettings | None = None,
        *,
        known: Sequence[Rehearsed] = (),
    ) -> None:
        """Practise with this policy and world, and keep in this memory; known: earlier rehearsals, to go on from."""
        self._rig, self._keeper = rig, keeper
        self.settings = settings or RehearsalSettings()
        self._limit = round(self.settings.attempt_s * CONTROL_RATE_HZ)
        self._copy_limit = round(self.settings.copy_s * CONTROL_RATE_HZ)
        self._known = [
            (item.size, np.array(item.found))
            for item in known
            if item.found is not None and (item.in_place or item.reset)
        ]
        self._renderer: SceneRenderer | None = None
        self.rehearsals = list(known)

    def finish(self, folder: Path) -> None:
        """Write what was tried and found."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None
        lines = (json.dumps(asdict(item), separators=(",", ":")) + "\n" for item in self.rehearsals)
        write_text(folder / REHEARSALS, "".join(lines))

    def episode(self, place: int, start: Start) -> BankEpisode:
        """One start: the policy alone, then, if it fails, what was found in the copy."""
        rig, world = self._rig, self._rig.world
        spec = rig.spec
        scene = scene_of(spec.task, spec.scene, start)
        home = world.reset(scene)
        first = attempt(rig, world, scene, home, start.noise, self._limit)
        if first.success:
            self._keeper.success(place, scene.task, scene.goal, [(item, item.chunk.actions) for item in first.seen])
            return BankEpisode(place, spec.key, start, True)
        ids = self._rehearse(place, start, scene, first)
        return BankEpisode(place, spec.key, start, False, ids)

    def _rehearse(self, place: int, start: Start, scene: SceneSpec, first: Attempt) -> tuple[int, ...]:
        goal = scene.goal
        fitted = self._fit(goal, first)
        size = size_of(fitted.scene, goal)
        moments, unlike = self._replayed(fitted.scene, first)
        rng = np.random.default_rng((start.seed, start.noise, 37))
        offset, scores, tries = self._search(goal, size, first, moments, rng)
        sound = tuple(place for place, score in scores.items() if score >= 1.0)
        mean = sum(scores.values()) / len(scores)
        line = Rehearsed(place, round(fitted.error, 4), round(size, 3), round(unlike, 2), tries, round(mean, 3), None)
        if not sound:
            self.rehearsals.append(line)
            return ()
        line = replace(line, found=tuple(round(float(value), 5) for value in offset), sound=sound)
        self._rig.copies.restore(moments[-1])
        done: list[Attempt] = []
        if self.settings.in_place:
            done.append(self._real(scene, self._rig.world.robot_state(), noise_seed(start.noise, -1), offset))
            line = replace(line, in_place=done[-1].success)
        if self.settings.reset:
            state = self._rig.world.reset(scene)
            self._rig.copies.restore(moments[0])
            done.append(self._real(scene, state, noise_seed(start.noise, -2), offset))
            line = replace(line, reset=done[-1].success)
        done = [item for item in done if item.success]
        if not done:
            self.rehearsals.append(line)
            return ()
        # As it is written, so that whoever goes on from the file goes on from the same.
        self._known.append((line.size, np.array(line.found)))
        labelled, doubtful = self._labelled(goal, first, moments, sound, done, offset)
        refused = self._keeper.refused
        ids = self._keeper.failure(
            place, scene.task, goal, first.kind, labelled, source="search", note=f"rehearsed in episode {place}",
            differs=otherwise,
        )  # fmt: skip
        self.rehearsals.append(
            replace(
                line, labels=len(labelled), doubtful=doubtful, cases=len(ids), refused=self._keeper.refused - refused
            )
        )
        return ids

    def _fit(self, goal: Goal, first: Attempt) -> Fitted:
        """The copy that looks most like what the failed attempt saw before the hand first closed."""
        before = [Sight(item.embedding, item.state) for item in until_closing(first.seen)]
        reading = self._rig.policy.reading(before[0].embedding, before[0].state)
        supposed = supposed_scene(goal, reading, before[0].state)
        if self._renderer is None:
            self._renderer = SceneRenderer(supposed)
        return fit(self._renderer, self._rig.encoder, supposed, before)

    def _search(
        self, goal: Goal, size: float, first: Attempt, moments: Sequence[Snapshot], rng: np.random.Generator
    ) -> tuple[Offset, dict[int, float], int]:
        """The best offset in the copy, its score at each moment that it was judged from, and how many were tried."""
        settings, world = self.settings, self._rig.copies
        nearest = sorted(self._known, key=lambda item: abs(item[0] - size))
        proposed = [*(offset for _, offset in nearest[:3]), np.zeros(4)]
        chosen = self._judged(len(first.seen))
        best, scores, spread = proposed[0], dict.fromkeys(chosen, 0.0), np.array(settings.spread)
        for number in range(settings.tries):
            offset = proposed[number] if number < len(proposed) else best + spread * rng.normal(size=4)
            before, noise = sum(scores.values()), int(rng.integers(2**31))
            found: dict[int, float] = {}
            for place in chosen:
                state = world.restore(moments[place])
                found[place] = self._score(self._play(state, goal, first.seen[place], noise + place, offset))
                # Not even successes at once from all other moments would make it better.
                if sum(found.values()) + BEST * (len(chosen) - len(found)) <= before:
                    break
            else:
                best, scores = offset, found
            if sum(scores.values()) >= settings.good * len(chosen):
                return best, scores, number + 1
        return best, scores, settings.tries

    def _play(self, state: RobotState, goal: Goal, seen: Seen, noise: int, offset: Offset) -> tuple[bool, int, float]:
        """An attempt in the copy as it is now: success, ticks, progress."""
        world, settings = self._rig.copies, self._rig.spec.settings
        follower = ChunkFollower(
            self._rig.policy, self._rig.encoder, goal, seed=noise, delay_ticks=settings.delay_ticks,
            believed=lambda felt: believed(world, felt, goal, offset),
        )  # fmt: skip
        integrator, best = TargetIntegrator(), 0.0
        for tick in range(self._copy_limit):
            if tick % settings.replan_ticks == 0:
                # What is believed is not read in pictures: any embedding will do.
                follower.observe_embedding(tick, seen.embedding, state)
                best = max(best, world.progress())
            state = world.step(integrator.advance(follower.action(tick, state), state)[0])
            if world.success():
                return True, tick + 1, 1.0
        return False, self._copy_limit, best

    def _score(self, played: tuple[bool, int, float]) -> float:
        success, ticks, progress = played
        return BEST - (BEST - 1.0) * ticks / self._copy_limit if success else 0.8 * progress

    def _replayed(self, copy: SceneSpec, first: Attempt) -> tuple[list[Snapshot], float]:
        """The copy at each observation of the failed attempt, left at its end; how unlike it went to what was felt."""
        world, every = self._rig.copies, self._rig.spec.settings.replan_ticks
        states, moments = [world.reset(copy)], []
        for tick, target in enumerate(first.targets):
            if tick % every == 0:
                moments.append(world.save())
            states.append(world.step(target))
        return moments, unlikeness(states, first.states)

    def _real(self, scene: SceneSpec, state: RobotState, noise: int, offset: Offset) -> Attempt:
        """On from here; the copy, which is where the world is, goes along."""
        rig, copy = self._rig, self._rig.copies

        def beside(target: CartesianTarget) -> None:
            copy.step(target)

        return attempt(
            rig, rig.world, scene, state, noise, self._limit,
            believed=lambda felt: believed(copy, felt, scene.goal, offset), beside=beside,
        )  # fmt: skip

    def _labelled(
        self,
        goal: Goal,
        first: Attempt,
        moments: Sequence[Snapshot],
        sound: Sequence[int],
        done: Sequence[Attempt],
        offset: Offset,
    ) -> tuple[list[Labelled], int]:
        """Labels of the attempts that succeeded, then of the failed one; and how many were left out."""
        policy, world = self._rig.policy, self._rig.copies
        labelled, doubtful = [], 0
        for item in self._keeper.distinct([item for one in done for item in one.seen], goal):
            labelled.append(Labelled(item, act_as(policy, item, goal), within_limits(item.chunk.actions)))
        place_of = {id(item): place for place, item in enumerate(first.seen)}
        judged = self._judged(len(first.seen))
        for item in self._keeper.distinct(first.seen, goal):
            place = place_of[id(item)]
            if max(one for one in judged if one <= place) not in sound:
                doubtful += 1
                continue
            world.restore(moments[place])
            right = act_as(policy, item, goal, believed(world, item.state, goal, offset))
            labelled.append(Labelled(item, act_as(policy, item, goal), within_limits(right), False))
        return labelled, doubtful

    def _judged(self, count: int) -> list[int]:
        """The moments that offsets are judged from, of so many observations."""
        places: list[int] = np.unique(np.linspace(0, count - 1, self.settings.moments).round().astype(int)).tolist()
        return places


def believed(world: World, felt: RobotState, goal: Goal, offset: Offset) -> NDArray[np.float32]:
    """(READING_DIM,) float32: where things are in a copy for a robot that feels this, offset in the target's frame.

    Args:
        world: holds the copy.
        felt: the robot, of the copy or the real one.
        goal: names target and destination.
        offset: (4,) metres: the target along, across and up, the destination along.
    """
    there = places(world.spec, world.scene_state())
    heading = there[goal.target][1]
    along = np.array([math.cos(heading), math.sin(heading), 0.0])
    across = np.array([-along[1], along[0], 0.0])
    moves = {
        goal.target: along * offset[0] + across * offset[1] + np.array([0.0, 0.0, offset[2]]),
        DESTINATIONS[goal.task]: along * offset[3],
    }
    moved = {name: (position + moves.get(name, 0.0), yaw) for name, (position, yaw) in there.items()}
    return relative_reading(felt, moved)[0]


def size_of(copy: SceneSpec, goal: Goal) -> float:
    """What is acted on, times its usual size: the drawer's scale, or an object's width in 4 cm."""
    return copy.drawer.scale if copy.drawer is not None else copy.object(goal.target).grasp_width / 0.04


def until_closing(seen: Sequence[Seen]) -> list[Seen]:
    """Observations before the hand first closed, at least one."""
    closed = next((place for place, item in enumerate(seen) if item.state.gripper_width < CLOSING), len(seen))
    return list(seen[: max(closed, 1)])


def noise_of(item: Seen) -> int:
    """The noise with which an observation's chunk was made."""
    made = item.chunk.provenance
    return 0 if made is None else made.noise_seed


def act_as(
    policy: FlowPolicy, item: Seen, goal: Goal, reading: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """(H, 7) float32: what a policy does in an observation, its noise as it was; reading: what it believes."""
    chunk = policy.act(
        item.embedding, item.state, goal, seed=noise_of(item), stamp_ns=item.chunk.stamp_ns, reading=reading
    )
    return chunk.actions


def read_rehearsals(folder: str | Path, *, before: int | None = None) -> list[Rehearsed]:
    """What the rehearsals in a bank's folder came to; none where nobody rehearsed. before: only of earlier episodes.

    Raises:
        TrialError: for a line that makes no sense.
    """
    path = Path(folder) / REHEARSALS
    if not path.is_file():
        return []
    try:
        lines = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
        return [
            Rehearsed(
                **{
                    **item,
                    "found": None if item["found"] is None else tuple(item["found"]),
                    "sound": tuple(item["sound"]),
                }
            )
            for item in lines
            if before is None or item["place"] < before
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise TrialError(
            f"{path} is no list of rehearsals ({type(error).__name__}: {error}); practise again"
        ) from error


def otherwise(planned: NDArray[np.float32], right: NDArray[np.float32]) -> bool:
    """Whether what was found (H, 7) is another action than what the policy does alone (H, 7)."""
    return disagreement(planned, right) >= OTHERWISE or bool(
        np.abs(planned[COMPARED, GRIPPER] - right[COMPARED, GRIPPER]).mean() > 0.5
    )
