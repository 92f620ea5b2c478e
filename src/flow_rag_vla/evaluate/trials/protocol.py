# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What a paired trial is, what it leaves behind, and what an environment must offer for trials to run in it.

Nothing here knows a simulator, a robot or a policy. An environment family is one ``BenchSpec`` (a small frozen
dataclass that travels to a worker process) and the ``Bench`` that the worker builds of it once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Protocol

FORMAT = 1
"""Version of a trial as JSON. A reader refuses a newer one."""

FRESH, EXACT, NEARBY, ONLINE = "fresh", "exact", "nearby", "online"
BLOCKS: Mapping[str, str] = {
    FRESH: "starts that no memory was built from",
    EXACT: "starts that failed while the memory was built, with noise that was not used then",
    NEARBY: "starts that failed while the memory was built, displaced a little, with noise that was not used then",
    ONLINE: "fresh starts in a fixed order, the memory growing on the way",
}
"""What a trial's start has to do with the memory."""


class TrialError(ValueError):
    """Trials that cannot be run, or a file that holds none; the text names what and the remedy."""


@dataclass(frozen=True, slots=True)
class Start:
    """A situation to begin from, and the noise of the policy in it. Equal starts begin bit for bit alike.

    seed: of the scene; noise: seed of the policy's sampling
    displaced: 0 is the seed's own scene; n > 0 the n-th small displacement of it
    """

    seed: int
    noise: int
    displaced: int = 0


@dataclass(frozen=True, slots=True)
class Trial:
    """One episode to run.

    bench: key of the bench; variant: what the memory does, as ``variants.parse`` reads it
    block: one of ``BLOCKS``; place: number of the trial in its block, which a memory that grows goes by
    """

    bench: str
    variant: str
    start: Start
    block: str = FRESH
    place: int = 0

    @property
    def key(self) -> str:
        """Names the trial in a journal: two of one key are the same trial."""
        start = self.start
        return f"{self.bench}|{self.variant}|{self.block}|{start.seed}|{start.displaced}|{start.noise}"

    @property
    def pair(self) -> str:
        """Equal for the trials that are compared with each other: all but the variant."""
        start = self.start
        return f"{self.bench}|{self.block}|{start.seed}|{start.displaced}|{start.noise}"


@dataclass(frozen=True, slots=True)
class FailureSeen:
    """A failure that a detector reported. at: seconds since the episode began; kind: its type in lower case."""

    kind: str
    at: float
    phase: str = ""
    detector: str = ""


@dataclass(frozen=True, slots=True)
class Intervention:
    """Observations whose plan the memory shaped in one way. observations: how many; case_ids: of all of them."""

    mode: str
    observations: int
    case_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Latency:
    """What one step of the loop took in this episode, milliseconds. Wall time: no part of what a trial repeats."""

    name: str
    count: int
    p50_ms: float
    p99_ms: float
    max_ms: float


@dataclass(frozen=True, slots=True)
class TrialResult:
    """How a trial ended.

    task, scene, policy: what the bench was; policy names the checkpoint, whose trials form one cluster
    duration: seconds of the environment's time until success or the end
    progress: 0 to 1, the farthest that was reached
    observations: how many plans were made; interventions: those that the memory shaped, by mode
    starved_ticks: control ticks without a plan; retries: how often the episode went back to try again
    detail: what else the bench says, plain JSON values
    timing: wall times, which differ from run to run
    """

    trial: Trial
    task: str
    scene: str
    policy: str
    success: bool
    duration: float
    progress: float = 0.0
    ticks: int = 0
    observations: int = 0
    starved_ticks: int = 0
    retries: int = 0
    failures: tuple[FailureSeen, ...] = ()
    interventions: tuple[Intervention, ...] = ()
    cases: int = 0
    """Active cases in the memory as the episode began."""
    detail: Mapping[str, Any] = field(default_factory=dict)
    timing: tuple[Latency, ...] = ()

    @property
    def repeatable(self) -> TrialResult:
        """The result without what differs from run to run."""
        return replace(self, timing=())

    @property
    def corrected(self) -> int:
        """Observations whose plan the memory shaped."""
        return sum(item.observations for item in self.interventions)


class Bench(Protocol):
    """One task in one environment, in one worker process. Not used by two threads at once."""

    def run(self, trial: Trial) -> TrialResult:
        """Run one episode to its end.

        The same trial gives the same result (but for ``timing``) in every process and whatever ran before. A variant
        that learns goes on from what the trials of its bench with a lower ``place`` left on disk: the runner sends
        them in order, to any process, and after an interruption again from the first that is not in the journal.

        Raises:
            TrialError: if the variant cannot be run here.
        """
        ...

    def close(self) -> None:
        """Free what it holds."""
        ...


class BenchSpec(Protocol):
    """Describes a bench; picklable, compared by value, cheap to make."""

    @property
    def key(self) -> str:
        """Names the bench in results: environment, task, scene, policy, e.g. ``pybullet/push/plain/1f0c2a``."""
        ...

    @property
    def task(self) -> str:
        """What is to be done."""
        ...

    @property
    def scene(self) -> str:
        """In which version of the scene."""
        ...

    @property
    def policy(self) -> str:
        """Which checkpoint acts; benches of one policy form a cluster."""
        ...

    def check(self, variant: str) -> None:
        """Refuse, before anything runs, a variant that this bench cannot run.

        Raises:
            TrialError: with the reason and the remedy.
        """
        ...

    def failed_starts(self) -> tuple[Start, ...]:
        """Starts that failed while the memory was built, in their order; none without a memory."""
        ...

    def build(self) -> Bench:
        """The bench, in the process that calls; loads what it needs."""
        ...


def to_json(result: TrialResult) -> dict[str, Any]:
    """Plain JSON values of a result."""
    return {"format": FORMAT, **asdict(result)}


def from_json(content: Mapping[str, Any]) -> TrialResult:
    """The result that ``to_json`` made plain.

    Raises:
        TrialError: for content of another layout, naming what is wrong.
    """
    if not isinstance(content, Mapping) or not isinstance(content.get("format"), int):
        raise TrialError("it has no format number; it was not written as a trial's result")
    if content["format"] > FORMAT:
        raise TrialError(f"its format is {content['format']}, this version reads up to {FORMAT}; update the software")
    known = {entry.name for entry in fields(TrialResult)}
    values = {name: value for name, value in content.items() if name in known}
    try:
        trial = values.pop("trial")
        start = Start(**trial["start"])
        values["trial"] = Trial(**{**trial, "start": start})
        for name, kind in (("failures", FailureSeen), ("timing", Latency)):
            values[name] = tuple(kind(**item) for item in values.get(name, ()))
        values["interventions"] = tuple(
            Intervention(item["mode"], item["observations"], tuple(item["case_ids"]))
            for item in values.get("interventions", ())
        )
        return TrialResult(**values)
    except (KeyError, TypeError, AttributeError) as error:
        raise TrialError(f"a field is missing or wrong ({type(error).__name__}: {error})") from None
