# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Practice: a policy tries, an expert takes over when it is stuck, and what the expert did there is remembered.

A person who watches a robot fail does not say what the one wrong chunk should have been: they take over and finish the
task. All of that is worth keeping: what would have been right in each situation on the way into the failure, and on the
way out of it, where the policy has never been. Situations in which the policy does as the expert would, and all those
of its successes, are kept beside them: they say where nothing needs to be corrected.

What was learned of a failure leads the policy to where it has never been. There it may fail anew, and nothing is known.
So a start that failed is tried again with what is remembered by then, until it is done or a few times, and each further
failure is learned in the same way: labelled are the situations that the memory leads to (the idea of DAgger, Ross et
al. 2011, arXiv 1011.0686, with a memory in place of the training).

A memory may also lead astray where the policy alone was right. So at the end every start is tried once more with all
that is remembered, those too that the policy had done by itself, and what fails then is learned as before.

The start is also run with the policy told where the target is. If that is all that it lacked, the cases say by how much
it had misread the target in each situation: that is remembered better than any action. A policy that fails now and then
may do it the next time without being told anything, so it is tried with other noise, told and untold.

On a robot no start comes twice and nobody knows where things are. ``takeover`` is what is left there: what was done
from the takeover on, and where the target was by where the hand closed at last (see ``memory.hindsight``).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.control.integrator import TargetIntegrator
from flow_rag_vla.core.action import CLOSED_BELOW, CONTROL_RATE_HZ, GRIPPER, TICK_NS, TICK_S, CorrectionMode
from flow_rag_vla.core.correction import FARTHEST_SHIFT, Correction
from flow_rag_vla.core.failure import FailureType
from flow_rag_vla.core.files import write_text
from flow_rag_vla.core.goal import Goal
from flow_rag_vla.core.state import RobotState
from flow_rag_vla.evaluate.trials.attempts import attempt
from flow_rag_vla.evaluate.trials.bank import DATABASE, EPISODES, SETTINGS, BankEpisode, read_episodes
from flow_rag_vla.evaluate.trials.labelled import Keeper, Labelled, Labels, Seen
from flow_rag_vla.evaluate.trials.lessons import expert_chunk, target_place
from flow_rag_vla.evaluate.trials.plan import fresh_starts
from flow_rag_vla.evaluate.trials.protocol import Start, TrialError
from flow_rag_vla.evaluate.trials.rehearsal import Rehearsal, RehearsalSettings
from flow_rag_vla.evaluate.trials.rig import Rig
from flow_rag_vla.evaluate.trials.scenes import scene_of
from flow_rag_vla.evaluate.trials.search import Search, SearchSettings
from flow_rag_vla.evaluate.trials.simulated_description import SimulatedDescription
from flow_rag_vla.failure.detector import FailureDetector
from flow_rag_vla.failure.sample import Command, Episode
from flow_rag_vla.memory.consensus import ConsensusMemory
from flow_rag_vla.memory.hindsight import explained, grasp_of
from flow_rag_vla.memory.memory import FailureMemory
from flow_rag_vla.memory.store import FailureStore
from flow_rag_vla.memory.takeover import Takeover, done_in
from flow_rag_vla.policy.follower import ChunkFollower, noise_seed
from flow_rag_vla.policy.observation import SITUATION_COLUMNS, proprioception
from flow_rag_vla.sim.camera import FRONT, WRIST
from flow_rag_vla.sim.expert import ScriptedExpert
from flow_rag_vla.sim.scene import SceneSpec
from flow_rag_vla.sim.tasks import TASK_RULES

OTHER_NOISES = 3
"""Noises with which a failed start is tried again, told where the target is and untold. Told it must be done more
often: a policy that does every second one either way is then said to have misread it in 17 of 100 starts, without these
tries in 50; one that does every second one told, and none untold, in 44."""

ROUNDS = 3
"""How often a start that failed is tried again with what is remembered by then, unless something else is asked."""

PATIENCE_S = (4.5, 6.0)
"""Seconds after which the expert takes over, drawn for each episode: about twice what a task takes."""

LABELS = "labels.npz"
"""What was right at every labelled observation, as training data: for the control that fine-tunes on the same."""

SOURCES: Mapping[str, str] = {
    "expert": "the scripted expert of the simulator, who takes over when the policy is stuck",
    "takeover": "the same expert, but as a person with a robot: only what they do counts, and where their hand closed",
    "rehearsal": "nobody: what succeeds in a simulated copy of what was seen, and then in fact",
    "search": "nobody: attempts with a shifted perception, of which those that succeed are kept",
}
"""Who says what would have been right."""


class Practising(Protocol):
    """Plays one start after another and keeps what it teaches."""

    def episode(self, place: int, start: Start) -> BankEpisode:
        """One start; what came of it is in the memory afterwards."""
        ...

    def finish(self, folder: Path) -> None:
        """Write what is kept beside the bank."""
        ...


def practise(
    folder: str | Path,
    spec: SimulatedDescription,
    episodes: int,
    first_seed: int,
    *,
    source: str = "expert",
    rounds: int | None = None,
    add: bool = False,
    search: SearchSettings | None = None,
    rehearsal: RehearsalSettings | None = None,
    progress: Callable[[int, int, int], None] | None = None,
) -> int:
    """Make a bank of cases: ``episodes`` starts from ``first_seed`` on.

    Args:
        folder: gets the database, the list of episodes and the labels; must hold none yet, unless ``add``.
        spec: task, scene and policy.
        episodes: how many.
        first_seed: of the first start.
        source: who says what would have been right, one of ``SOURCES``.
        rounds: how often a start that failed is tried again with what is remembered by then, at most, for the sources
            ``expert`` and ``takeover``; None: ``ROUNDS`` for the first, 0 for the second, since no start comes twice.
            With any, every start is tried once more at the end, which counts as further ``episodes`` in the progress.
        add: go on with the bank that the folder holds, if it holds one, of the same policy.
        search: how far is searched, for source ``search``; None: as by default.
        rehearsal: the same for source ``rehearsal``.
        progress: (done, episodes, failures so far).

    Returns:
        How many episodes the policy failed.

    Raises:
        TrialError: if the folder holds a bank that is not to be added to or is another policy's, nobody is called
            ``source``, or ``rounds`` mean nothing to it.
    """
    if rounds and source not in ("expert", "takeover"):
        raise TrialError(f"rounds {rounds}: source {source!r} tries again by itself; leave them out")
    if rounds is None:
        rounds = ROUNDS if source == "expert" else 0
    if source not in SOURCES:
        raise TrialError(f"source of corrections {source!r} is not known; known: {', '.join(SOURCES)}")
    root = Path(folder)
    root.mkdir(parents=True, exist_ok=True)
    there = (root / DATABASE).exists()
    if there and not add:
        raise TrialError(f"{root} holds a bank already; add to it, give another folder, or remove it")
    if there and source in ("search", "rehearsal"):
        raise TrialError(f"{root} holds a bank already, and source {source!r} cannot add to one; give another folder")
    rig = Rig(spec)
    memory = FailureMemory(FailureStore(root / DATABASE), SETTINGS)
    keeper = Keeper(memory, rig.key, Labels.read(root / LABELS) if there else None)
    lines: list[BankEpisode] = []
    practice: Practising
    reviewing: Practice | None = None
    if source == "search":
        practice = Search(rig, keeper, search)
    elif source == "rehearsal":
        practice = Rehearsal(rig, keeper, rehearsal)
    else:
        practice = taught = Practice(rig, keeper, by_hand=source == "takeover", rounds=rounds)
        reviewing = taught if rounds else None
    try:
        if memory.stamp not in (None, keeper.stamp):
            raise TrialError(f"{root} holds situations of {memory.stamp}, this policy's are {keeper.stamp}")
        known = read_episodes(root) if there else ()
        total = episodes * (1 if reviewing is None else 2)
        for place, start in enumerate(fresh_starts(episodes, first_seed), len(known)):
            lines.append(practice.episode(place, start))
            if progress is not None:
                progress(len(lines), total, sum(not line.success for line in lines))
        if reviewing is not None:
            for number, line in enumerate(lines):
                lines[number] = reviewing.reviewed(line)
                if progress is not None:
                    progress(episodes + number + 1, total, sum(not line.success for line in lines))
        keeper.memory.recalibrate()
    finally:
        rig.close()
        keeper.memory.close()
    practice.finish(root)
    keeper.labels.write(root / LABELS)
    every = (*known, *lines)
    write_text(root / EPISODES, "".join(json.dumps(asdict(line), separators=(",", ":")) + "\n" for line in every))
    return sum(not line.success for line in lines)


@dataclass(slots=True)
class _Record:
    """What was commanded and felt in an episode, tick by tick, and from which tick on by whoever took over."""

    actions: list[NDArray[np.float32]] = field(default_factory=list)
    positions: list[NDArray[np.float64]] = field(default_factory=list)
    phases: list[tuple[int, str]] = field(default_factory=list)
    theirs: int | None = None

    def add(self, action: NDArray[np.float32], phase: str, state: RobotState, taken_over: bool) -> None:
        """One tick."""
        if taken_over and self.theirs is None:
            self.theirs = len(self.actions)
        self.phases.append((len(self.actions) * TICK_NS, phase))
        self.actions.append(np.asarray(action, dtype=np.float32))
        self.positions.append(state.position)

    def takeover(self) -> Takeover:
        """What was done from the takeover on."""
        ticks = np.arange(self.theirs or 0, len(self.actions), dtype=np.int64)
        return Takeover("expert", ticks, ticks * TICK_NS, np.stack([self.actions[tick] for tick in ticks]))

    @property
    def first_closed(self) -> int | None:
        """When the policy first closed the hand; None if it never did, or began so."""
        closed = np.array([action[GRIPPER] < CLOSED_BELOW for action in self.actions[: self.theirs]], dtype=bool)
        rows = np.flatnonzero(closed[1:] & ~closed[:-1])
        return int(rows[0] + 1) * TICK_NS if len(rows) else None

    def tool(self, stamp_ns: int) -> NDArray[np.float32] | None:
        """(3,) metres: where the tool was; None after the end."""
        tick = round(stamp_ns / TICK_NS)
        return np.asarray(self.positions[tick], dtype=np.float32) if tick < len(self.positions) else None


@dataclass(frozen=True, slots=True)
class _Played:
    """One attempt: whether the policy did it, what was seen, what was done, and which failure was reported first."""

    success: bool
    seen: list[Seen]
    record: _Record
    kind: FailureType


class Practice:
    """See the module."""

    def __init__(self, rig: Rig, keeper: Keeper, *, by_hand: bool = False, rounds: int = 0) -> None:
        """Practise with this rig.

        Args:
            rig: policy and world.
            keeper: gets what is learned.
            by_hand: keep only what a robot can know of somebody who takes over.
            rounds: how often a start that failed is tried again with what is remembered by then, at most.
        """
        self._rig, self._keeper, self._by_hand, self._rounds = rig, keeper, by_hand, rounds
        self._consensus = ConsensusMemory(keeper.memory)
        self._misreading_explains: dict[int, bool] = {}
        self._embedding: NDArray[np.float32] = np.zeros(0, dtype=np.float32)

    def finish(self, folder: Path) -> None:
        """Nothing to add."""

    def episode(self, place: int, start: Start) -> BankEpisode:
        """One start: the policy alone, then, if it is stuck, the expert; and again with what was learned of it."""
        spec = self._rig.spec
        scene = scene_of(spec.task, spec.scene, start)
        limit = round(TASK_RULES[scene.task].time_limit_s * CONTROL_RATE_HZ)
        played = self._play(scene, start, start.noise, limit)
        if played.success:
            done = [(item, item.chunk.actions) for item in played.seen]
            self._keeper.success(place, scene.task, scene.goal, done)
            return BankEpisode(place, spec.key, start, True)
        # Before anything else is played: the moments of an attempt are of this world.
        labelled = self._labelled(scene, played)
        misread = self._misreading_explains[place] = not self._by_hand and self._misread(scene, start, limit)
        ids = self._learned(place, scene, played.kind, labelled, misread)
        ids += self._remembering(place, start, first=1)
        return BankEpisode(place, spec.key, start, False, tuple(dict.fromkeys(ids)))

    def reviewed(self, line: BankEpisode) -> BankEpisode:
        """The start of an episode once more, with all that is remembered by now; what fails is learned."""
        ids = self._remembering(line.place, line.start, first=self._rounds + 1)
        return replace(line, cases=tuple(dict.fromkeys((*line.cases, *ids))))

    def _remembering(self, place: int, start: Start, first: int) -> tuple[int, ...]:
        """Ids of what is learned of a start while it is tried with the memory, until it is done or ``rounds`` times.

        first: number of the first of these tries, which decides the noise
        """
        spec = self._rig.spec
        scene = scene_of(spec.task, spec.scene, start)
        limit = round(TASK_RULES[scene.task].time_limit_s * CONTROL_RATE_HZ)
        misread = self._misreading_explains.get(place, False)
        ids: tuple[int, ...] = ()
        for turn in range(first, first + self._rounds):
            again = self._play(scene, start, noise_seed(start.noise, -OTHER_NOISES - turn), limit, remembering=True)
            if again.success:
                break
            ids += self._learned(place, scene, again.kind, self._labelled(scene, again), misread)
        return ids

    def _play(self, scene: SceneSpec, start: Start, noise: int, limit: int, *, remembering: bool = False) -> _Played:
        """The policy, and the expert once it is stuck. remembering: with what the memory says by now."""
        rig, world, settings = self._rig, self._rig.world, self._rig.spec.settings
        state = world.reset(scene)
        detector, integrator = FailureDetector(), TargetIntegrator()
        detector.start(Episode(1, scene.task, state.stamp_ns, limit * TICK_S, scene.goal))
        detector.update(state)
        corrector = partial(self._remember, scene.task, lambda: detector.phase.value) if remembering else self._look
        follower = ChunkFollower(
            rig.policy, rig.encoder, scene.goal, seed=noise, delay_ticks=settings.delay_ticks, corrector=corrector
        )
        expert = ScriptedExpert(world, scene.goal, np.random.default_rng(0))
        patience = np.random.default_rng((start.seed, 29)).uniform(*PATIENCE_S)
        seen: list[Seen] = []
        record = _Record()
        kind, taken_over, tick = FailureType.TIMEOUT, False, 0
        while tick < limit and not world.success():
            if tick % settings.replan_ticks == 0:
                images = {"front": world.render(FRONT), "wrist": world.render(WRIST)}
                chunk = None if taken_over else follower.observe(tick, images, state)
                if chunk is None or remembering:
                    # What the policy alone would do here.
                    self._embedding = rig.encoder.encode(images)
                    chunk = rig.policy.act(
                        self._embedding, state, scene.goal, stamp_ns=tick * TICK_NS, seed=noise_seed(noise, tick)
                    )
                seen.append(Seen(self._embedding, state, detector.phase.value, chunk, world.save()))
            action = expert.action() if taken_over else follower.action(tick, state)
            record.add(action, detector.phase.value, state, taken_over)
            target, _, _ = integrator.advance(action, state)
            detector.offer_command(Command(state.stamp_ns, target, state.stamp_ns))
            state = world.step(target)
            tick += 1
            reports = detector.update(state)
            if reports and not taken_over:
                kind = reports[0].failure_type
            taken_over = taken_over or tick * TICK_S > patience
        return _Played(not taken_over, seen, record, kind)

    def _labelled(self, scene: SceneSpec, played: _Played) -> list[Labelled]:
        """What was right at each moment of an attempt in which the expert took over."""
        if self._by_hand:
            return self._known_by_hand(played.seen, played.record, scene.goal)
        world, labelled = self._rig.world, []
        for item in played.seen:
            assert item.moment is not None
            right = expert_chunk(world, scene, item.moment, item.chunk.horizon)
            there = target_place(world, scene, item.moment)
            misreading = None if there is None else self._misreading(item.embedding, item.state, scene.goal, there)
            labelled.append(Labelled(item, item.chunk.actions, right, misreading=misreading))
        return labelled

    def _learned(
        self, place: int, scene: SceneSpec, kind: FailureType, labelled: list[Labelled], misread: bool
    ) -> tuple[int, ...]:
        """Ids of the cases that an attempt leaves. misread: whether its misreadings explain it, where they are told."""
        if not misread and not self._by_hand:
            labelled = [replace(item, misreading=None) for item in labelled]
        note = f"taken over in episode {place}"
        return self._keeper.failure(place, scene.task, scene.goal, kind, labelled, source="expert", note=note)

    def _known_by_hand(self, seen: Sequence[Seen], record: _Record, goal: Goal) -> list[Labelled]:
        """What was done from the takeover on, and how far the target was misread there and before.

        Those of the takeover come first: what they say is not said again by one of which less is known.
        """
        takeover = record.takeover()

        def read(item: Seen) -> NDArray[np.float32]:
            relative = self._rig.policy.reading(item.embedding, item.state)[SITUATION_COLUMNS[goal.index]][:3]
            return np.asarray(item.state.position + relative, dtype=np.float32)

        situations = [replace(self._keeper.situation(item, goal), read=partial(read, item)) for item in seen]
        right = {item.stamp_ns: item.right for item in done_in(takeover, situations)}
        grasp = grasp_of(takeover, record.phases, record.tool)
        told = (
            [] if grasp is None else explained(situations, grasp, takeover.start_ns, record.tool, record.first_closed)
        )
        misread = {item.stamp_ns: item.misreading for item in told}
        labelled = [
            Labelled(item, item.chunk.actions, right.get(stamp), misreading=misread.get(stamp))
            for item in seen
            if (stamp := item.chunk.stamp_ns) in right or stamp in misread
        ]
        return sorted(labelled, key=lambda item: item.right is None)

    def _misread(self, scene: SceneSpec, start: Start, limit: int) -> bool:
        """Whether the policy does what it failed to do because it is told where the target is: it had misread that.

        The same start again, in ``limit`` ticks: with the same noise, and with others, told and untold, for what it
        does next time may be chance. Nothing else is told, neither headings nor the destination.
        """
        world = self._rig.world

        def telling(embedding: NDArray[np.float32], state: RobotState, goal: Goal, stamp_ns: int) -> Correction | None:
            there = target_place(world, scene)
            shift = None if there is None else self._misreading(embedding, state, goal, there)
            return None if shift is None else Correction(stamp_ns, CorrectionMode.SHIFT, 1.0, shift=shift)

        def does(noise: int, told: bool) -> bool:
            corrector = telling if told else None
            return attempt(self._rig, world, scene, world.reset(scene), noise, limit, corrector=corrector).success

        if not does(start.noise, True):
            return False
        others = [noise_seed(start.noise, -turn) for turn in range(1, OTHER_NOISES + 1)]
        return sum(int(does(noise, True)) - int(does(noise, False)) for noise in others) > 0

    def _misreading(
        self, embedding: NDArray[np.float32], state: RobotState, goal: Goal, there: NDArray[np.float64]
    ) -> NDArray[np.float32] | None:
        """(3,) metres from where the policy reads the target to where it is; None if that is another thing."""
        read = self._rig.policy.reading(embedding, state)[SITUATION_COLUMNS[goal.index]][:3]
        misreading = np.asarray(there - state.position - read, dtype=np.float32)
        return misreading if float(np.linalg.norm(misreading)) <= FARTHEST_SHIFT else None

    def _remember(
        self,
        task: str,
        phase: Callable[[], str],
        embedding: NDArray[np.float32],
        state: RobotState,
        goal: Goal,
        stamp_ns: int,
    ) -> Correction | None:
        key = self._rig.key(embedding, proprioception(state), goal)
        return self._consensus.answer(
            key, stamp=self._keeper.stamp, task=task, phase=phase(), stamp_ns=stamp_ns
        ).correction

    def _look(self, embedding: NDArray[np.float32], state: RobotState, goal: object, stamp_ns: int) -> None:
        self._embedding = embedding
