"""The bench of the simulated robot: a task in a scene variant, done by a policy checkpoint with the graph's delays.

An episode here is ``evaluate.rollout.rollout`` with more eyes: a failure detector fed at 40 Hz, the phases that the
memory is searched by, and, for a memory that grows, the expert who says afterwards what would have been right.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.control.arbiter import ArbiterSettings
from flow_rag_vla.control.integrator import TargetIntegrator
from flow_rag_vla.core.action import CONTROL_RATE_HZ, TICK_S
from flow_rag_vla.core.correction import Correction
from flow_rag_vla.core.failure import FailureType
from flow_rag_vla.core.goal import Goal
from flow_rag_vla.core.state import RobotState
from flow_rag_vla.evaluate.arbitration import Arbitration
from flow_rag_vla.evaluate.rollout import RolloutSettings
from flow_rag_vla.evaluate.trials.answers import (
    ANSWERS,
    AnswerContext,
    Answering,
    EpisodeContext,
    key_stamp,
    memory_stamp,
)
from flow_rag_vla.evaluate.trials.bank import BankEpisode, CaseBank, GrowingBank, TemporaryMemory, open_bank
from flow_rag_vla.evaluate.trials.homing import HOME_TICKS, homeward, is_home
from flow_rag_vla.evaluate.trials.lessons import PRACTISED, SOURCES, Lessons, Teaching
from flow_rag_vla.evaluate.trials.protocol import (
    FailureSeen,
    Intervention,
    Latency,
    Start,
    Trial,
    TrialError,
    TrialResult,
)
from flow_rag_vla.evaluate.trials.variants import OFF, Variant, parse
from flow_rag_vla.failure.detector import FailureDetector
from flow_rag_vla.failure.sample import Command, Episode, FailureReport
from flow_rag_vla.memory.memory import FailureMemory
from flow_rag_vla.policy.checkpoint import SHIPPED_POLICY, CheckpointError, load_checkpoint
from flow_rag_vla.policy.encoders import Encoder, make_encoder
from flow_rag_vla.policy.follower import ChunkFollower, noise_seed
from flow_rag_vla.policy.policy import FlowPolicy
from flow_rag_vla.policy.situation import NAME, SituationKey
from flow_rag_vla.sim.camera import FRONT, WRIST
from flow_rag_vla.sim.scene import SceneSpec, sample_scene
from flow_rag_vla.sim.tasks import TASK_RULES
from flow_rag_vla.sim.world import World

if TYPE_CHECKING:
    from flow_rag_vla.evaluate.trials.rig import Rig

DISPLACED_BY, DISPLACED_TURN = 0.010, 0.10
"""Metres and radians by which a nearby start moves what the task is about, at most."""

RETRIES = 3
"""Blind retries of one episode, at most."""


@dataclass(frozen=True, slots=True)
class SimulatedSpec:
    """A task in a scene variant with a checkpoint, as it travels to a worker.

    policy: name and revision of the checkpoint; checkpoint: its folder, None: the one that ships
    cases, cases_revision: the bank that memories are built from; dagger: folder of the fine-tuned checkpoint
    workspace: folder in which growing memories live; source: who corrects there, see ``lessons``
    """

    task: str
    scene: str
    policy: str
    checkpoint: str | None = None
    encoder: str = "compact"
    settings: RolloutSettings = field(default_factory=RolloutSettings)
    cases: str | None = None
    cases_revision: str = ""
    dagger: str | None = None
    dagger_revision: str = ""
    workspace: str | None = None
    source: str = "expert"

    @property
    def key(self) -> str:
        """Environment, task, scene, policy."""
        return f"pybullet/{self.task}/{self.scene}/{self.policy}"

    def describe(self) -> Mapping[str, Any]:
        """Everything that decides results; where folders lie does not, what is in them does."""
        values = asdict(self)
        for name in ("checkpoint", "cases", "dagger", "workspace"):
            del values[name]
        return values

    def check(self, variant: str) -> None:
        """Refuse a variant that cannot be run; see ``protocol.BenchSpec``."""
        found = parse(variant)
        name = found.method.name
        if name == "dagger" and self.dagger is None:
            raise TrialError("memory 'dagger' needs the fine-tuned checkpoint: --dagger FOLDER")
        if found.needs_cases and self.cases is None:
            raise TrialError(f"memory {variant!r} needs a bank of cases: --cases FOLDER, made with --collect N")
        if found.online and self.workspace is None:
            raise TrialError(f"memory {variant!r} grows, which needs a folder: --output FOLDER")
        if found.method.needs_cases and name not in ANSWERS:
            raise TrialError(f"memory {variant!r} is not known in this simulator; it knows {', '.join(ANSWERS)}")
        if found.episodes is not None and found.episodes > self.bank_episodes:
            raise TrialError(
                f"memory {variant!r}: the bank {self.cases} has {self.bank_episodes} known episodes of {self.key}; ask "
                "for fewer, or collect more"
            )

    @property
    def bank_episodes(self) -> int:
        """Episodes of this bench that its bank was made of; 0 without a bank, or if it does not say."""
        return 0 if self.cases is None else sum(item.bench == self.key for item in open_bank(self.cases).episodes)

    def failed_starts(self) -> tuple[Start, ...]:
        """Starts of this bench that failed while its bank was made."""
        return () if self.cases is None else open_bank(self.cases).failed_starts(self.key)

    def build(self) -> SimulatedBench:
        """The bench; models are loaded once a process and checkpoint."""
        return SimulatedBench(self)


def simulated_spec(
    task: str,
    scene: str,
    *,
    checkpoint: str | Path | None = None,
    encoder: str = "compact",
    settings: RolloutSettings | None = None,
    cases: str | Path | None = None,
    dagger: str | Path | None = None,
    workspace: str | Path | None = None,
    source: str = "expert",
) -> SimulatedSpec:
    """Describe a bench, after a look at the folders.

    Raises:
        CheckpointError: if a checkpoint cannot be loaded.
        TrialError: if the bank cannot, or nobody is called ``source``.
    """
    if source not in SOURCES and source not in PRACTISED:
        known = ", ".join((*SOURCES, *PRACTISED))
        raise TrialError(f"source of corrections {source!r} is not known; known: {known}")
    return SimulatedSpec(
        task,
        scene,
        policy_name(checkpoint),
        None if checkpoint is None else str(checkpoint),
        encoder,
        settings or RolloutSettings(),
        None if cases is None else str(cases),
        "" if cases is None else open_bank(cases).revision,
        None if dagger is None else str(dagger),
        "" if dagger is None else policy_name(dagger),
        None if workspace is None else str(workspace),
        source,
    )


def policy_folder(checkpoint: str | Path | None) -> Path:
    """Folder of a checkpoint; None: the one that ships."""
    return SHIPPED_POLICY if checkpoint is None else Path(checkpoint)


@lru_cache(maxsize=16)
def policy_name(checkpoint: str | Path | None) -> str:
    """Folder name (``shipped`` for the one that ships) and revision of a checkpoint.

    Raises:
        CheckpointError: if it cannot be loaded.
    """
    revision = load_checkpoint(checkpoint)[2]
    return f"{'shipped' if checkpoint is None else Path(checkpoint).resolve().name}@{revision}"


@lru_cache(maxsize=4)
def _policy(checkpoint: str | None, settings: RolloutSettings) -> FlowPolicy:
    import torch

    torch.set_num_threads(1)
    policy = FlowPolicy.load(checkpoint)
    policy.configure(solver=settings.solver, steps=settings.steps, samples=settings.samples)
    return policy


@lru_cache(maxsize=4)
def _key(checkpoint: str | None) -> SituationKey:
    return SituationKey.load(policy_folder(checkpoint))


@lru_cache(maxsize=2)
def _encoder(name: str) -> Encoder:
    return make_encoder(name)


@lru_cache(maxsize=1)
def _world() -> World:
    # One for all benches of a process: the same spec gives the same states whatever the world did before.
    return World()


class SimulatedBench:
    """See the module."""

    def __init__(self, spec: SimulatedSpec) -> None:
        """Load policy, encoder and bank.

        Raises:
            CheckpointError: if they do not fit together.
        """
        self.spec = spec
        self._encoder = _encoder(spec.encoder)
        self._memories: dict[tuple[int | None, bool], TemporaryMemory] = {}
        self._bank = None if spec.cases is None else CaseBank(spec.cases)
        self._rig: Rig | None = None

    def close(self) -> None:
        """Close the memories, and what was practised with."""
        if self._rig is not None:
            self._rig.close()
            self._rig = None
        while self._memories:
            self._memories.popitem()[1].close()

    def run(self, trial: Trial) -> TrialResult:
        """Run one episode until success or the task's time limit; see ``protocol.Bench``."""
        variant = parse(trial.variant)
        if variant.online:
            return self._run_online(trial, variant)
        return self._episode(trial, variant, self._memory(variant), None)

    def collect(self, folder: str | Path, trial: Trial) -> TrialResult:
        """Run an episode without memory, whose failures become cases of the bank in ``folder``.

        Raises:
            TrialError: if the bank does not hold exactly the episodes before the trial's place.
        """
        with GrowingBank(folder, trial.place) as bank:
            return self._taught(trial, parse(OFF), bank)

    def _run_online(self, trial: Trial, variant: Variant) -> TrialResult:
        assert self.spec.workspace is not None  # checked above
        folder = Path(self.spec.workspace) / trial.bench.replace("/", "_") / str(variant)
        with GrowingBank(folder, trial.place) as bank:
            return self._taught(trial, variant, bank)

    def _taught(self, trial: Trial, variant: Variant, bank: GrowingBank) -> TrialResult:
        lessons = self._teaching(trial, bank)
        result = self._episode(trial, variant, bank.memory, lessons)
        lessons.end(result.success, [case_id for item in result.interventions for case_id in item.case_ids])
        bank.finish(
            BankEpisode(trial.place, trial.bench, trial.start, result.success, lessons.cases, lessons.situations)
        )
        return result

    def _teaching(self, trial: Trial, bank: GrowingBank) -> Teaching:
        if self.spec.source not in PRACTISED:
            return Lessons(bank.memory, _world(), self._encoder, self.spec.source)
        # Not above: practice plays episodes of this bench.
        from flow_rag_vla.evaluate.trials.practised import PractisedLessons
        from flow_rag_vla.evaluate.trials.rig import Rig

        if self._rig is None:
            self._rig = Rig(self.spec)
        return PractisedLessons(bank.memory, self._rig, self.spec.source, bank.folder, trial.start)

    def _memory(self, variant: Variant) -> FailureMemory | None:
        if not variant.needs_cases or self._bank is None:
            return None
        key = variant.episodes, variant.shuffled
        found = self._memories.get(key)
        if found is None:
            found = self._memories[key] = self._bank.memory(episodes=variant.episodes, shuffled=variant.shuffled)
        return found.memory

    def _context(self, memory: FailureMemory, policy: FlowPolicy, goal: Goal) -> AnswerContext:
        """A memory says by its stamp what it is asked with: embeddings, or the policy's own situations."""
        if memory.stamp is None or memory.stamp.encoder != NAME:
            return AnswerContext(memory, memory_stamp(self._encoder), policy, self._encoder, goal)
        key = _key(self.spec.checkpoint)
        return AnswerContext(memory, key_stamp(key), policy, self._encoder, goal, key)

    def _episode(
        self, trial: Trial, variant: Variant, memory: FailureMemory | None, lessons: Teaching | None
    ) -> TrialResult:
        spec = self.spec
        checkpoint = spec.dagger if variant.method.name == "dagger" else spec.checkpoint
        policy, world = _policy(checkpoint, spec.settings), _world()
        scene = scene_of(spec.task, spec.scene, trial.start)
        answering: Answering | None = None
        if memory is not None and variant.method.needs_cases:
            answering = ANSWERS[variant.method.name](self._context(memory, policy, scene.goal))
        cases = 0 if memory is None else memory.statistics().cases
        episode = SimulatedEpisode(
            world, policy, self._encoder, scene, trial.start.noise, spec.settings,
            answering=answering, retries=RETRIES if variant.method.name == "retry" else 0, lessons=lessons,
        )  # fmt: skip
        return episode.run(trial, spec, cases)


class SimulatedEpisode:
    """One episode under the eyes of the failure detector."""

    def __init__(
        self,
        world: World,
        policy: FlowPolicy,
        encoder: Encoder,
        scene: SceneSpec,
        noise: int,
        settings: RolloutSettings,
        *,
        answering: Answering | None = None,
        retries: int = 0,
        lessons: Teaching | None = None,
    ) -> None:
        """Set an episode up.

        Args:
            world: reset when the episode runs.
            policy: what acts.
            encoder: the one that the policy was trained with.
            scene: the start.
            noise: seed of the policy's noise.
            settings: delays.
            answering: what the memory answers.
            retries: how often a detected failure sends the arm back to its start to try with other noise.
            lessons: takes failures in, where a memory grows.
        """
        self._world, self._policy, self._encoder, self._scene = world, policy, encoder, scene
        self._noise, self._retries, self._answering, self._lessons = noise, retries, answering, lessons
        extra = 0 if answering is None else answering.delay_ticks
        self._settings = replace(settings, delay_ticks=settings.delay_ticks + extra)
        self._detector = FailureDetector()
        self._memory_ms: list[float] = []
        self._policy_ms: list[float] = []
        self._seen: NDArray[np.float32] | None = None
        arbiter = None if answering is None else answering.arbiter
        self._arbitration = Arbitration(self._answer, arbiter or ArbiterSettings())
        self._starved = self._chunks = 0

    def run(self, trial: Trial, spec: SimulatedSpec, cases: int) -> TrialResult:
        """Run until success or the time limit."""
        world, scene, settings = self._world, self._scene, self._settings
        limit = round(TASK_RULES[scene.task].time_limit_s * CONTROL_RATE_HZ)
        home = state = world.reset(scene)
        detector, integrator = self._detector, TargetIntegrator()
        detector.start(Episode(1, scene.task, state.stamp_ns, limit * TICK_S, scene.goal))
        detector.update(state)
        if self._lessons is not None:
            self._lessons.begin(trial.place + 1, scene, state.stamp_ns)
        if self._answering is not None:
            self._answering.begin(EpisodeContext(scene.task, lambda: detector.phase.value, trial.start))
        failures: list[FailureSeen] = []
        follower, retried, rewind_from, best, tick = self._follower(self._noise), 0, -1, 0.0, 0
        while tick < limit and not world.success():
            rewinding = rewind_from >= 0
            if tick % settings.replan_ticks == 0:
                best = max(best, world.progress())
                if not rewinding:
                    self._observe(follower, tick, state)
            action = homeward(state, home, tick - rewind_from) if rewinding else follower.action(tick, state)
            target, _, _ = integrator.advance(action, state)
            detector.offer_command(Command(state.stamp_ns, target, self._arbitration.followed_ns or state.stamp_ns))
            state = world.step(target)
            tick += 1
            reports = detector.update(state)
            failures += [_seen(report) for report in reports]
            if self._lessons is not None:
                self._lessons.watch(state, detector.phase.value, reports)
            if rewinding and (is_home(state, home) or tick - rewind_from >= HOME_TICKS):
                rewind_from = -1
                self._count(follower)
                follower = self._follower(noise_seed(self._noise, -retried))
            elif reports and not rewinding and retried < self._retries:
                retried, rewind_from = retried + 1, tick
        self._count(follower)
        success = world.success()
        return TrialResult(
            trial=trial,
            task=scene.task,
            scene=scene.variant,
            policy=spec.policy,
            success=success,
            duration=tick * TICK_S,
            progress=1.0 if success else best,
            ticks=tick,
            observations=self._chunks,
            starved_ticks=self._starved,
            retries=retried,
            failures=tuple(failures),
            interventions=tuple(
                Intervention(mode.name.lower(), count, tuple(sorted(self._arbitration.cases[mode])))
                for mode, count in sorted(self._arbitration.modes.items())
            ),
            cases=cases,
            detail={"target": scene.goal.target},
            timing=(*_latency("policy", self._policy_ms), *_latency("memory", self._memory_ms)),
        )

    def _follower(self, noise: int) -> ChunkFollower:
        return ChunkFollower(
            self._policy,
            self._encoder,
            self._scene.goal,
            seed=noise,
            delay_ticks=self._settings.delay_ticks,
            corrector=self._arbitration.correct,
            arrived=self._arbitration.arrive,
        )

    def _count(self, follower: ChunkFollower) -> None:
        self._starved += follower.starved_ticks
        self._chunks += follower.chunks

    def _observe(self, follower: ChunkFollower, tick: int, state: RobotState) -> None:
        images = {"front": self._world.render(FRONT), "wrist": self._world.render(WRIST)}
        started, before = time.perf_counter(), sum(self._memory_ms)
        chunk = follower.observe(tick, images, state)
        spent = (time.perf_counter() - started) * 1e3
        self._policy_ms.append(spent - (sum(self._memory_ms) - before))
        if self._lessons is not None and self._seen is not None:
            self._lessons.observe(self._seen, chunk, state)

    def _answer(
        self, embedding: NDArray[np.float32], state: RobotState, goal: Goal, stamp_ns: int
    ) -> Correction | None:
        self._seen = embedding
        if self._answering is None:
            return None
        started = time.perf_counter()
        correction = self._answering(embedding, state, goal, stamp_ns)
        self._memory_ms.append((time.perf_counter() - started) * 1e3)
        return correction


def scene_of(task: str, scene: str, start: Start) -> SceneSpec:
    """What a start looks like.

    The n-th displacement of a seed's scene moves what the task is about by up to 10 mm in any direction and turns it by
    up to 0.1 rad, drawn from seed and n; everything else stays.
    """
    spec = sample_scene(task, scene, start.seed)
    if start.displaced == 0:
        return spec
    rng = np.random.default_rng((start.seed, start.displaced, 23))
    distance, heading = DISPLACED_BY * math.sqrt(rng.random()), rng.uniform(-math.pi, math.pi)
    turn = rng.uniform(-DISPLACED_TURN, DISPLACED_TURN)

    def moved(position: tuple[float, float, float]) -> tuple[float, float, float]:
        return (position[0] + distance * math.cos(heading), position[1] + distance * math.sin(heading), position[2])

    if spec.drawer is not None:
        drawer = replace(spec.drawer, position=moved(spec.drawer.position), yaw=spec.drawer.yaw + turn)
        return replace(spec, drawer=drawer)
    objects = tuple(
        replace(thing, position=moved(thing.position), yaw=thing.yaw + turn)
        if thing.name == spec.goal.target
        else thing
        for thing in spec.objects
    )
    return replace(spec, objects=objects)


def _seen(report: FailureReport) -> FailureSeen:
    at = round(report.stamp_ns * 1e-9, 6)
    return FailureSeen(FailureType(report.failure_type).name.lower(), at, report.phase.value, report.detector)


def _latency(name: str, values_ms: list[float]) -> tuple[Latency, ...]:
    if not values_ms:
        return ()
    p50, p99 = np.percentile(values_ms, [50, 99])
    return (Latency(name, len(values_ms), round(float(p50), 4), round(float(p99), 4), round(max(values_ms), 4)),)


__all__ = ["CheckpointError", "SimulatedBench", "SimulatedSpec", "scene_of", "simulated_spec"]
