# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Which trials answer which question: the starts of each block, and the presets."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from flow_rag_vla.evaluate.trials.protocol import EXACT, FRESH, NEARBY, ONLINE, BenchSpec, Start, Trial, TrialError
from flow_rag_vla.evaluate.trials.runner import paired_trials
from flow_rag_vla.evaluate.trials.variants import BY_CASE, OFF, Variant, parse, parse_all

NOISE_STRIDE = 1_000_003
"""Between the noise seeds of one start: far enough that neighbouring starts never share one."""


SIZES = (50, 100)
"""Memories of so many episodes are controls of one of all."""


@dataclass(frozen=True, slots=True)
class Preset:
    """A question with its variants.

    repeats: noises of each failed start in the blocks of repeat failures; online: the memory grows, in order
    labels: what the variants are called in this question
    """

    name: str
    description: str
    variants: tuple[Variant, ...]
    repeats: int = 0
    online: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plan:
    """Trials in the order in which they are run, and the benches that run them."""

    specs: tuple[BenchSpec, ...]
    variants: tuple[Variant, ...]
    trials: tuple[Trial, ...]


PRESETS: Mapping[str, str] = {
    "ablation": "The first design's ablation: flow only, RAG only, sequential, parallel.",
    "controls": (
        "The method of --memory beside no memory, blind retry, its shuffled memory, the first blend, DAgger (with "
        "--dagger), memories of 50 and 100 episodes where the bank has more; repeat failures too."
    ),
    "online": "The method of --memory with a memory that begins empty and grows, beside no memory on the same starts.",
}


def preset(name: str, method: str = BY_CASE, *, dagger: bool = False, bank_episodes: int | None = None) -> Preset:
    """A preset for one method of the memory.

    Args:
        name: one of ``PRESETS``.
        method: that uses cases.
        dagger: whether there is a fine-tuned checkpoint.
        bank_episodes: how many episodes a bank has at least; None leaves no size out.

    Raises:
        TrialError: for an unknown preset, or a method that cannot be put into it.
    """
    if name == "ablation":
        labels = {OFF: "flow only", "rag_only": "RAG only", "sequential": "sequential", BY_CASE: "parallel"}
        return Preset(name, PRESETS[name], parse_all(f"rag_only,sequential,{BY_CASE}"), labels=labels)
    if name not in PRESETS:
        raise TrialError(f"preset {name!r} is not known; known: {', '.join(PRESETS)}")
    plain = parse(method)
    if plain != Variant(plain.method) or not plain.method.needs_cases:
        raise TrialError(
            f"preset {name} takes a method that uses cases, not {method!r}; give for example --memory guide"
        )
    word = plain.method.name
    if name == "online":
        return Preset(name, PRESETS[name], parse_all(f"online+{word}"), online=True)
    # A memory of 50 of 40 episodes would be that of all under another name.
    sizes = [f"{word}:{size}" for size in SIZES if bank_episodes is None or size < bank_episodes]
    names = ["retry", "blend", f"shuffled+{word}", *(["dagger"] if dagger else []), *sizes, word]
    return Preset(name, PRESETS[name], parse_all(",".join(names)), repeats=1)


def fresh_starts(episodes: int, first_seed: int) -> tuple[Start, ...]:
    """Starts of consecutive seeds; the noise of each is its own seed, as in a plain evaluation.

    Raises:
        TrialError: for a count below 1 or a negative seed.
    """
    if episodes < 1 or first_seed < 0:
        raise TrialError(f"{episodes} episodes from seed {first_seed} cannot be run; give at least 1, from 0 on")
    return tuple(Start(seed, seed) for seed in range(first_seed, first_seed + episodes))


def repeat_starts(failed: Sequence[Start], repeats: int, *, nearby: bool) -> tuple[Start, ...]:
    """Failed starts again, each with ``repeats`` noises that are not its own; nearby: each displaced anew, too."""
    return tuple(
        Start(start.seed, start.noise + NOISE_STRIDE * (number + (repeats if nearby else 0)), number if nearby else 0)
        for start in failed
        for number in range(1, repeats + 1)
    )


def make_plan(
    specs: Sequence[BenchSpec],
    variants: Sequence[Variant],
    *,
    episodes: int,
    first_seed: int,
    repeats: int = 0,
    online: bool = False,
) -> Plan:
    """Fresh starts for every variant on every bench, and the failed starts of each bench's memory again.

    Args:
        specs: the benches; no two of one key.
        variants: what the memory does; ``off`` is added if it is missing.
        episodes: fresh starts of each bench.
        first_seed: the first of them.
        repeats: noises (and displacements) of each failed start; 0 leaves these blocks out.
        online: the fresh starts are one block in order, in which memories may grow.

    Raises:
        TrialError: if a bench cannot run a variant, or a fresh seed is one that its memory was built from.
    """
    keys = [spec.key for spec in specs]
    if len(set(keys)) < len(keys):
        raise TrialError(f"two benches are called {max(keys, key=keys.count)!r}; give each checkpoint once")
    some = tuple(dict.fromkeys([parse(OFF), *variants]))
    growing = [str(variant) for variant in some if variant.online]
    if growing and not online:
        raise TrialError(f"memory {growing[0]!r} grows, so episodes must come in order: use --preset online")
    starts = fresh_starts(episodes, first_seed)
    for spec in specs:
        used = {start.seed for start in spec.failed_starts()} & {start.seed for start in starts}
        if used:
            raise TrialError(
                f"seed {min(used)} is one that the memory of {spec.key} was built from; take other fresh seeds (--seed)"
            )
    trials = paired_trials(specs, some, {spec.key: starts for spec in specs}, ONLINE if online else FRESH)
    if repeats:
        for block, nearby in ((EXACT, False), (NEARBY, True)):
            again = {spec.key: repeat_starts(spec.failed_starts(), repeats, nearby=nearby) for spec in specs}
            trials += paired_trials(specs, some, again, block)
    return Plan(tuple(specs), some, tuple(trials))


def words(values: Sequence[str] | None) -> list[str]:
    """A repeated option, each of which may be a list with commas, as one list."""
    return [word for value in values or () for word in re.split(r"[,\s]+", value) if word]
