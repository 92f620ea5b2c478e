"""Practice: a policy tries, an expert takes over when it is stuck, and what the expert did there is remembered.

A person who watches a robot fail does not say what the one wrong chunk should have been: they take over and finish the
task. All of that is worth keeping: what would have been right in each situation on the way into the failure, and on the
way out of it, where the policy has never been. Situations in which the policy does as the expert would, and all those
of its successes, are kept beside them: they say where nothing needs to be corrected.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.control.integrator import TargetIntegrator
from flow_rag_vla.core.action import CONTROL_RATE_HZ, TICK_NS, TICK_S, ActionChunk
from flow_rag_vla.core.failure import FailureType
from flow_rag_vla.core.files import replaced_file, write_text
from flow_rag_vla.core.state import RobotState
from flow_rag_vla.evaluate.trials.bank import DATABASE, EPISODES, SETTINGS, BankEpisode
from flow_rag_vla.evaluate.trials.lessons import expert_chunk
from flow_rag_vla.evaluate.trials.plan import fresh_starts
from flow_rag_vla.evaluate.trials.protocol import Start, TrialError
from flow_rag_vla.evaluate.trials.simulated import SimulatedSpec, policy_folder, scene_of
from flow_rag_vla.failure.detector import FailureDetector
from flow_rag_vla.failure.sample import Command, Episode
from flow_rag_vla.memory.case import EncoderStamp, FailureCase
from flow_rag_vla.memory.ledger import SuccessSituation
from flow_rag_vla.memory.memory import FailureMemory
from flow_rag_vla.memory.store import FailureStore
from flow_rag_vla.policy.action_space import FREE_DIM, normalised
from flow_rag_vla.policy.encoders import make_encoder
from flow_rag_vla.policy.follower import ChunkFollower, noise_seed
from flow_rag_vla.policy.observation import READING_DIM, proprioception
from flow_rag_vla.policy.policy import FlowPolicy
from flow_rag_vla.policy.situation import DIMENSION, NAME, SituationKey
from flow_rag_vla.sim.camera import FRONT, WRIST
from flow_rag_vla.sim.expert import ScriptedExpert
from flow_rag_vla.sim.tasks import TASK_RULES
from flow_rag_vla.sim.world import Snapshot, World

PATIENCE_S = (4.5, 6.0)
"""Seconds after which the expert takes over, drawn for each episode: about twice what a task takes."""

DISAGREEMENT = 0.25
"""Root mean square, in normalised units, between what the policy would do and the expert does: a failure from here."""

SAME_SITUATION = 0.956
"""Cosine of keys above which a situation says again what an earlier one of its episode said."""

COMPARED = slice(3, 12)
"""Rows of chunks that are compared: those before are committed, those after are rarely executed."""

LABELS = "labels.npz"
"""The expert's chunk at every labelled observation, as training data: for the control that fine-tunes on the same."""


@dataclass(slots=True)
class Labels:
    """What the expert said, row by row: the fields of training samples."""

    embedding: list[NDArray[np.float32]] = field(default_factory=list)
    proprioception: list[NDArray[np.float32]] = field(default_factory=list)
    goal: list[int] = field(default_factory=list)
    chunks: list[NDArray[np.float32]] = field(default_factory=list)
    place: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Seen:
    """An observation of the episode, and the moment to which the world can be taken back."""

    embedding: NDArray[np.float32]
    state: RobotState
    phase: str
    chunk: ActionChunk
    moment: Snapshot


def practise(
    folder: str | Path,
    spec: SimulatedSpec,
    episodes: int,
    first_seed: int,
    *,
    progress: Callable[[int, int, int], None] | None = None,
) -> int:
    """Make a bank of cases: ``episodes`` starts from ``first_seed`` on.

    Args:
        folder: gets the database, the list of episodes and the labels; must hold none yet.
        spec: task, scene and policy.
        episodes: how many.
        first_seed: of the first start.
        progress: (done, episodes, failures so far).

    Returns:
        How many episodes the policy failed.

    Raises:
        TrialError: if the folder holds a bank.
    """
    root = Path(folder)
    root.mkdir(parents=True, exist_ok=True)
    if (root / DATABASE).exists():
        raise TrialError(f"{root} holds a bank already; give another folder, or remove it")
    practice = _Practice(spec, FailureMemory(FailureStore(root / DATABASE), SETTINGS))
    lines: list[BankEpisode] = []
    try:
        for place, start in enumerate(fresh_starts(episodes, first_seed)):
            lines.append(practice.episode(place, start))
            if progress is not None:
                progress(place + 1, episodes, sum(not line.success for line in lines))
        practice.memory.recalibrate()
    finally:
        practice.close()
    practice.write_labels(root / LABELS)
    write_text(root / EPISODES, "".join(json.dumps(asdict(line), separators=(",", ":")) + "\n" for line in lines))
    return sum(not line.success for line in lines)


class _Practice:
    def __init__(self, spec: SimulatedSpec, memory: FailureMemory) -> None:
        import torch

        torch.set_num_threads(1)
        self.memory, self._spec = memory, spec
        self._policy = FlowPolicy.load(spec.checkpoint)
        self._policy.configure(solver=spec.settings.solver, steps=spec.settings.steps, samples=spec.settings.samples)
        self._encoder = make_encoder(spec.encoder)
        self._key = SituationKey.load(policy_folder(spec.checkpoint))
        self._stamp = EncoderStamp(NAME, self._key.revision, DIMENSION)
        self._world = World()
        self._labels = Labels()

    def close(self) -> None:
        self._world.close()
        self.memory.close()

    def write_labels(self, path: Path) -> None:
        """Keep the labels beside the bank; none if the policy never failed."""
        found, count = self._labels, len(self._labels.goal)
        if count == 0:
            return
        with replaced_file(path) as temporary, temporary.open("wb") as stream:
            np.savez(
                stream,
                embedding=np.stack(found.embedding),
                proprioception=np.stack(found.proprioception),
                goal=np.array(found.goal, dtype=np.int64),
                chunks=np.stack(found.chunks).reshape(count, -1, FREE_DIM),
                reading=np.zeros((count, READING_DIM), dtype=np.float32),
            )

    def episode(self, place: int, start: Start) -> BankEpisode:
        """One start: the policy alone, then, if it is stuck, the expert."""
        spec, world, settings = self._spec, self._world, self._spec.settings
        scene = scene_of(spec.task, spec.scene, start)
        state = world.reset(scene)
        detector, integrator = FailureDetector(), TargetIntegrator()
        limit = round(TASK_RULES[scene.task].time_limit_s * CONTROL_RATE_HZ)
        detector.start(Episode(1, scene.task, state.stamp_ns, limit * TICK_S, scene.goal))
        detector.update(state)
        follower = ChunkFollower(
            self._policy, self._encoder, scene.goal, seed=start.noise, delay_ticks=settings.delay_ticks,
            corrector=self._look,
        )  # fmt: skip
        expert = ScriptedExpert(world, scene.goal, np.random.default_rng(0))
        patience = np.random.default_rng((start.seed, 29)).uniform(*PATIENCE_S)
        seen: list[_Seen] = []
        kind, taken_over, tick = FailureType.TIMEOUT, False, 0
        while tick < limit and not world.success():
            if tick % settings.replan_ticks == 0:
                images = {"front": world.render(FRONT), "wrist": world.render(WRIST)}
                if taken_over:
                    chunk = self._policy.act(
                        self._encoder.encode(images), state, scene.goal, stamp_ns=tick * TICK_NS,
                        seed=noise_seed(start.noise, tick),
                    )  # fmt: skip
                    self._embedding = self._encoder.encode(images)
                else:
                    chunk = follower.observe(tick, images, state)
                seen.append(_Seen(self._embedding, state, detector.phase.value, chunk, world.save()))
            action = expert.action() if taken_over else follower.action(tick, state)
            target, _, _ = integrator.advance(action, state)
            detector.offer_command(Command(state.stamp_ns, target, state.stamp_ns))
            state = world.step(target)
            tick += 1
            reports = detector.update(state)
            if reports and not taken_over:
                kind = reports[0].failure_type
            taken_over = taken_over or tick * TICK_S > patience
        if not taken_over:
            self._keep_success(place, scene.task, [(item, item.chunk.actions) for item in seen])
            return BankEpisode(place, self._spec.key, start, True)
        ids = self._keep_failure(place, kind, seen)
        return BankEpisode(place, self._spec.key, start, False, ids)

    def _look(self, embedding: NDArray[np.float32], state: RobotState, goal: object, stamp_ns: int) -> None:
        self._embedding = embedding

    def _keep_failure(self, place: int, kind: FailureType, seen: Sequence[_Seen]) -> tuple[int, ...]:
        world, spec = self._world, self._world.spec
        kept: list[NDArray[np.float32]] = []
        ids: list[int] = []
        fine: list[tuple[_Seen, NDArray[np.float32]]] = []
        for item in seen:
            label = expert_chunk(world, spec, item.moment, item.chunk.horizon)
            felt = proprioception(item.state)
            self._labels.embedding.append(item.embedding)
            self._labels.proprioception.append(felt)
            self._labels.goal.append(spec.goal.index)
            self._labels.chunks.append(normalised(label))
            self._labels.place.append(place)
            key = self._key(item.embedding, felt, spec.goal)
            if any(float(key @ other) > SAME_SITUATION for other in kept):
                continue
            kept.append(key)
            if disagreement(item.chunk.actions, label) < DISAGREEMENT:
                fine.append((item, label))
                continue
            case = FailureCase(
                failure_type=kind,
                task=spec.task,
                phase=item.phase,
                encoder=self._stamp.encoder,
                encoder_revision=self._stamp.revision,
                embedding=key,
                failed_actions=item.chunk.actions,
                correction=label,
                correction_source="expert",
                proprioception=felt,
                note=f"taken over in episode {place}",
                origin="simulator",
            )
            result = self.memory.add(case)
            if result.case_id:
                ids.append(result.case_id)
        self._keep_success(place, spec.task, fine)
        return tuple(dict.fromkeys(ids))

    def _keep_success(self, place: int, task: str, done: Sequence[tuple[_Seen, NDArray[np.float32]]]) -> None:
        kept: list[SuccessSituation] = []
        for item, actions in done:
            key = self._key(item.embedding, proprioception(item.state), self._world.spec.goal)
            if any(float(key @ other.embedding) > SAME_SITUATION for other in kept):
                continue
            kept.append(SuccessSituation(task, item.phase, self._stamp, key, actions, place + 1, "simulator"))
        self.memory.observe_done(kept)


def disagreement(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Root mean square of the difference of two chunks' motion (H, 7) over the rows compared, normalised units."""
    difference = (normalised(one) - normalised(other))[COMPARED, : FREE_DIM - 1]
    return float(np.sqrt(np.mean(np.square(difference))))
