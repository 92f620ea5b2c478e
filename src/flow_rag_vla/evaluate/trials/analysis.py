# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What paired trials show: rates with intervals, paired differences, repeat failures, learning curves. Pure functions.

Trials are pooled over checkpoints (training seeds) within a task and scene, and over everything. Newcombe's interval
and McNemar's test take each start as one observation; the bootstrap beside them draws checkpoints too.
"""

from __future__ import annotations

import math
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.evaluate.intervals import (
    Difference,
    Pairs,
    Proportion,
    cluster_bootstrap,
    mcnemar_p,
    paired_difference,
    wilson,
)
from flow_rag_vla.evaluate.trials.protocol import BLOCKS, ONLINE, TrialError, TrialResult
from flow_rag_vla.evaluate.trials.variants import OFF, parse

FORMAT = 1
"""Version of summary.json."""

ALL = "all"
"""Task and scene of the group that pools everything."""

CONTROLS = ("retry", "blend", "dagger")
"""Methods that every memory is compared with beside ``off``; its own shuffled memory is one more."""


@dataclass(frozen=True, slots=True)
class Reduction:
    """By which share something became rarer, 1 - rate / baseline rate; None where the baseline had none."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """A variant beside another on the same starts with the same noise.

    pairs: the other first; difference: in success, this minus the other; p: exact McNemar
    bootstrap: the same difference with checkpoints drawn too; clusters: how many there are
    helped, hurt: fixed and broken episodes in which the variant did something; unexplained: changed although it did not
    failures: share of failed episodes that went away; events: of failure events
    faster: median seconds saved in episodes that succeeded under both; None without any
    """

    against: str
    pairs: Pairs
    difference: Difference
    p: float
    bootstrap: Difference
    clusters: int
    helped: int
    hurt: int
    unexplained: int
    failures: Reduction
    events: Reduction
    faster: float | None


@dataclass(frozen=True, slots=True)
class VariantSummary:
    """How one variant did in a group.

    events: failure events by kind; durations: seconds of each success, sorted
    corrected: share of observations that the memory shaped; touched: episodes with one at least
    timing: wall milliseconds by step: median of the episodes' medians, largest 99th percentile
    curve: for each place of the block, successes and trials and mean number of cases
    """

    variant: str
    description: str
    success: Proportion
    failure: Proportion
    events: Mapping[str, int]
    events_per_episode: float
    durations: tuple[float, ...]
    corrected: float
    touched: int
    modes: Mapping[str, int]
    starved_ticks: int
    retries: int
    timing: Mapping[str, Mapping[str, float]]
    curve: tuple[tuple[int, int, float], ...]
    comparisons: tuple[Comparison, ...] = ()


@dataclass(frozen=True, slots=True)
class Group:
    """Trials of one block in one task and scene; incomplete: starts that lack some variant, and are left out."""

    block: str
    task: str
    scene: str
    policies: tuple[str, ...]
    starts: int
    incomplete: int
    variants: tuple[VariantSummary, ...]


@dataclass(frozen=True, slots=True)
class Summary:
    """Everything that a report draws. about: command, versions, settings; broken: trials that raised, and why."""

    about: Mapping[str, Any]
    groups: tuple[Group, ...]
    broken: tuple[str, ...] = ()
    format: int = FORMAT
    blocks: Mapping[str, str] = field(default_factory=lambda: dict(BLOCKS))


def summarise(
    results: Iterable[TrialResult], about: Mapping[str, Any], broken: Sequence[str] = (), draws: int = 2000
) -> Summary:
    """Compare what there is: each block by task and scene, and pooled if there are several."""
    by_block: dict[str, dict[tuple[str, str], list[TrialResult]]] = defaultdict(lambda: defaultdict(list))
    for result in results:
        by_block[result.trial.block][result.task, result.scene].append(result)
    groups: list[Group] = []
    # A question that names its variants names them in the order in which they are read.
    order = list(about.get("labels") or ())
    for block in sorted(by_block, key=list(BLOCKS).index):
        parts = by_block[block]
        if len(parts) > 1:
            groups.append(_group(block, ALL, ALL, [item for some in parts.values() for item in some], draws, order))
        groups += [_group(block, task, scene, some, draws, order) for (task, scene), some in sorted(parts.items())]
    return Summary(about, tuple(groups), tuple(broken))


def plain(summary: Summary) -> dict[str, Any]:
    """JSON values; numbers that are none are null."""
    return dict(_plain(asdict(summary)))


def check_plain(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """The content of a summary.json, if this version reads it.

    Raises:
        TrialError: if it does not.
    """
    found = content.get("format") if isinstance(content, Mapping) else None
    if not isinstance(found, int) or found > FORMAT or "groups" not in content:
        raise TrialError(f"summary of format {found!r}, this version reads up to {FORMAT}; summarise the trials again")
    return content


def _group(
    block: str, task: str, scene: str, results: Sequence[TrialResult], draws: int, order: Sequence[str]
) -> Group:
    variants = sorted({item.trial.variant for item in results}, key=lambda name: _place(name, order))
    by_pair: dict[str, dict[str, TrialResult]] = defaultdict(dict)
    for item in results:
        by_pair[item.trial.pair][item.trial.variant] = item
    # Only starts that every variant has met: a run that was interrupted must not favour one of them.
    complete = {pair: some for pair, some in by_pair.items() if len(some) == len(variants)}
    columns = {variant: [some[variant] for some in complete.values()] for variant in variants}
    summaries = tuple(_variant_summary(variant, columns, block, draws) for variant in variants)
    policies = tuple(sorted({item.policy for item in results}))
    return Group(block, task, scene, policies, len(complete), len(by_pair) - len(complete), summaries)


def _place(variant: str, order: Sequence[str]) -> tuple[bool, int, bool, str, float]:
    found = parse(variant)
    size = math.inf if found.episodes is None else found.episodes
    named = list(order).index(variant) if variant in order else len(order)
    return variant != OFF, named, found.shuffled, found.method.name, size


def _variant_summary(
    variant: str, columns: Mapping[str, Sequence[TrialResult]], block: str, draws: int
) -> VariantSummary:
    results = columns[variant]
    successes = sum(item.success for item in results)
    events = Counter(event.kind for item in results for event in item.failures)
    modes = Counter[str]()
    for item in results:
        for use in item.interventions:
            modes[use.mode] += use.observations
    observations = sum(item.observations for item in results)
    return VariantSummary(
        variant=variant,
        description=parse(variant).description,
        success=wilson(successes, len(results)),
        failure=wilson(len(results) - successes, len(results)),
        events=dict(sorted(events.items())),
        events_per_episode=sum(events.values()) / len(results) if results else 0.0,
        durations=tuple(sorted(round(item.duration, 6) for item in results if item.success)),
        corrected=sum(modes.values()) / observations if observations else 0.0,
        touched=sum(_acted(item) for item in results),
        modes=dict(sorted(modes.items())),
        starved_ticks=sum(item.starved_ticks for item in results),
        retries=sum(item.retries for item in results),
        timing=_timing(results),
        curve=_curve(results) if block == ONLINE else (),
        comparisons=tuple(
            compare(columns[other], results, draws=draws) for other in _others(variant, list(columns)) if results
        ),
    )


def _others(variant: str, known: Sequence[str]) -> list[str]:
    """What a variant is compared with, of what there is."""
    if variant == OFF:
        return []
    found = parse(variant)
    wanted = [OFF]
    # A memory of the first episodes is a control itself.
    if found.method.name not in CONTROLS and not found.shuffled and found.episodes is None:
        wanted += [*CONTROLS, f"shuffled+{found.method.name}"]
    return [other for other in wanted if other in known and other != variant]


def compare(baseline: Sequence[TrialResult], variant: Sequence[TrialResult], *, draws: int = 2000) -> Comparison:
    """Two variants on the same starts.

    Args:
        baseline: results of one variant.
        variant: results of the other, in the same order of starts.
        draws: of each bootstrap, whose generator is seeded by what is compared.

    Raises:
        ValueError: if the starts are not the same.
    """
    if [item.trial.pair for item in baseline] != [item.trial.pair for item in variant]:
        raise ValueError("the two variants were not run on the same starts in the same order; pair them first")
    couples = list(zip(baseline, variant, strict=True))
    pairs = Pairs.of((old.success, new.success) for old, new in couples)
    changed = [(old, new) for old, new in couples if old.success != new.success]
    acted = [(old, new) for old, new in changed if _acted(new) or _acted(old)]
    both = [old.duration - new.duration for old, new in couples if old.success and new.success]
    seed = zlib.crc32("|".join([old.trial.variant + new.trial.key for old, new in couples[:1]]).encode())
    lift = [(old, float(new.success) - float(old.success)) for old, new in couples]
    clusters = _clusters(lift)
    return Comparison(
        against=baseline[0].trial.variant if baseline else "",
        pairs=pairs,
        difference=paired_difference(pairs),
        p=mcnemar_p(pairs),
        bootstrap=cluster_bootstrap(clusters, np.random.default_rng(seed), draws=draws),
        clusters=len(clusters),
        helped=sum(new.success for _, new in acted),
        hurt=sum(old.success for old, _ in acted),
        unexplained=len(changed) - len(acted),
        failures=reduction(
            [(float(not old.success), float(not new.success)) for old, new in couples],
            np.random.default_rng(seed + 1),
            draws=draws,
        ),
        events=reduction(
            [(float(len(old.failures)), float(len(new.failures))) for old, new in couples],
            np.random.default_rng(seed + 2),
            draws=draws,
        ),
        faster=float(np.median(both)) if both else None,
    )


def reduction(
    counts: Sequence[tuple[float, float]],
    generator: np.random.Generator,
    *,
    draws: int = 2000,
    confidence: float = 0.95,
) -> Reduction:
    """1 - sum of the second counts / sum of the first, with the percentile interval of a bootstrap over pairs.

    Draws in which the first are all zero say nothing and are left out.
    """
    values = np.asarray(counts, dtype=np.float64).reshape(-1, 2)
    if len(values) == 0 or values[:, 0].sum() == 0.0:
        return Reduction(None, None, None)
    drawn = values[generator.integers(len(values), size=(draws, len(values)))].sum(axis=1)
    drawn = drawn[drawn[:, 0] > 0.0]
    shares = 1.0 - drawn[:, 1] / drawn[:, 0]
    low, high = np.quantile(shares, [0.5 - confidence / 2, 0.5 + confidence / 2])
    total = values.sum(axis=0)
    return Reduction(float(1.0 - total[1] / total[0]), float(low), float(high))


def running_share(curve: Sequence[tuple[int, int, float]], window: int) -> list[float | None]:
    """Success share over the last ``window`` places of a learning curve, at each place; None before any trial.

    Raises:
        ValueError: for a window below 1.
    """
    if window < 1:
        raise ValueError(f"window is {window}, expected at least 1")
    shares: list[float | None] = []
    for place in range(len(curve)):
        part = curve[max(0, place + 1 - window) : place + 1]
        trials = sum(count for _, count, _ in part)
        shares.append(sum(done for done, _, _ in part) / trials if trials else None)
    return shares


def _acted(result: TrialResult) -> bool:
    """Whether the variant did anything that the policy alone would not have done."""
    return result.corrected > 0 or result.retries > 0 or parse(result.trial.variant).method.always


def _clusters(values: Sequence[tuple[TrialResult, float]]) -> list[list[NDArray[np.float64]]]:
    by_policy: dict[str, dict[tuple[str, str], list[float]]] = defaultdict(lambda: defaultdict(list))
    for result, value in values:
        by_policy[result.policy][result.task, result.scene].append(value)
    return [[np.array(some) for _, some in sorted(strata.items())] for _, strata in sorted(by_policy.items())]


def _timing(results: Sequence[TrialResult]) -> dict[str, dict[str, float]]:
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for item in results:
        for latency in item.timing:
            found[latency.name].append((latency.p50_ms, latency.p99_ms))
    return {
        name: {"p50_ms": float(np.median([p50 for p50, _ in some])), "p99_ms": max(p99 for _, p99 in some)}
        for name, some in sorted(found.items())
    }


def _curve(results: Sequence[TrialResult]) -> tuple[tuple[int, int, float], ...]:
    places: dict[int, list[TrialResult]] = defaultdict(list)
    for item in results:
        places[item.trial.place].append(item)
    last = max(places, default=-1)
    curve = []
    for place in range(last + 1):
        some = places.get(place, [])
        cases = sum(item.cases for item in some) / len(some) if some else 0.0
        curve.append((sum(item.success for item in some), len(some), round(cases, 3)))
    return tuple(curve)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
