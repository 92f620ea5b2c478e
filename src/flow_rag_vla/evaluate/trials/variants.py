# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What the memory may do in a trial, by name. How it is done is each bench's matter.

A variant is written ``name``, ``name:N`` (a memory of only the first N episodes of its bank), ``shuffled+name`` (what
the cases know, permuted among their situations: the control) or ``online+name`` (the memory begins empty and grows).
``on``, ``shuffled`` and ``online`` alone mean the method in force, which the bank decides: see :class:`InForce`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from flow_rag_vla.evaluate.trials.protocol import TrialError

OFF = "off"
"""The baseline that every comparison is made with."""

BY_CASE = "dispatch"
"""What can be asked of any bank, and what the presets mean unless a method is named."""

AS_GRAPH = "by_cause"
"""What the running graph does by default."""


@dataclass(frozen=True, slots=True)
class InForce:
    """What ``on`` stands for.

    bank: the method of ``on`` and ``shuffled``; growing: of ``online``. What the graph does, where that can be asked
    """

    bank: str = BY_CASE
    growing: str = BY_CASE

    @property
    def words(self) -> Mapping[str, str]:
        """Each short word and what it stands for."""
        return {"on": self.bank, "shuffled": f"shuffled+{self.bank}", "online": f"online+{self.growing}"}


@dataclass(frozen=True, slots=True)
class Method:
    """A behaviour of the memory.

    needs_cases: whether it answers from a bank of cases
    always: whether it changes an episode even where no case is credible and nothing fails
    """

    name: str
    description: str
    needs_cases: bool = True
    always: bool = False


@dataclass(frozen=True, slots=True)
class Variant:
    """A method and how its memory is made.

    episodes: first episodes of the bank that the memory is built from; None: all
    shuffled: what cases know is permuted among situations; online: the memory begins empty and grows
    """

    method: Method
    episodes: int | None = None
    shuffled: bool = False
    online: bool = False

    def __str__(self) -> str:
        """As ``parse`` reads it."""
        prefix = "shuffled+" if self.shuffled else "online+" if self.online else ""
        return f"{prefix}{self.method.name}" + ("" if self.episodes is None else f":{self.episodes}")

    @property
    def needs_cases(self) -> bool:
        """Whether a bank of cases must be there before."""
        return self.method.needs_cases and not self.online

    @property
    def description(self) -> str:
        """One line for a table."""
        text = self.method.description
        if self.episodes is not None:
            text += f" Memory of the first {self.episodes} episodes."
        if self.shuffled:
            text += " Control: what the cases know is permuted among their situations."
        if self.online:
            text += " The memory begins empty and grows with each failed episode."
        return text


_METHODS: dict[str, Method] = {}
_WRITTEN = re.compile(r"(?:(shuffled|online)\+)?([a-z][a-z0-9_-]*)(?::([0-9]+))?")


def register(name: str, description: str, *, needs_cases: bool = True, always: bool = False) -> Method:
    """Add a method; the same name again replaces it. Benches say for themselves which they can run."""
    method = Method(name, description, needs_cases, always)
    if _WRITTEN.fullmatch(name) is None or name in InForce().words:
        raise ValueError(f"method {name!r} cannot be written in a list of variants; use lower case letters and _")
    _METHODS[name] = method
    return method


def parse(text: str, in_force: InForce | None = None) -> Variant:
    """Read one variant. in_force: what ``on`` stands for; None: what any bank allows.

    Raises:
        TrialError: for words that name none, with what is known.
    """
    written = text.strip()
    head, colon, count = written.partition(":")
    short = (in_force or InForce()).words
    match = _WRITTEN.fullmatch(short.get(head, head) + colon + count)
    method = None if match is None else _METHODS.get(match[2])
    if match is None or method is None:
        known = ", ".join([*_METHODS, *short])
        raise TrialError(
            f"memory {written!r} is not known; known: {known}; also NAME:50 (first 50 episodes), shuffled+NAME, "
            "online+NAME"
        )
    episodes = None if match[3] is None else int(match[3])
    variant = Variant(method, episodes, match[1] == "shuffled", match[1] == "online")
    if not method.needs_cases and variant != Variant(method):
        raise TrialError(f"memory {written!r}: {method.name} uses no cases, so it has neither a size nor an order")
    if episodes == 0:
        raise TrialError(f"memory {written!r}: a memory of no episode is {OFF!r}")
    if variant.online and episodes is not None:
        raise TrialError(f"memory {written!r}: a memory that grows is not cut to a size")
    return variant


def parse_all(text: str, in_force: InForce | None = None) -> tuple[Variant, ...]:
    """Read a list with commas; ``off`` comes first whether or not it is named, and none comes twice.

    in_force: what ``on`` stands for; None: what any bank allows.

    Raises:
        TrialError: for words that name no variant.
    """
    found = [parse(OFF), *(parse(part, in_force) for part in text.split(",") if part.strip())]
    return tuple(dict.fromkeys(found))


def resolved(text: str, in_force: InForce) -> Mapping[str, str]:
    """The short words in a list with commas, by the variant that each stands for, as a report shows both."""
    parts = [part.strip() for part in text.split(",")]
    return {str(parse(part, in_force)): part for part in parts if part.partition(":")[0] in in_force.words}


def methods() -> Iterator[Method]:
    """All methods in the order in which they were added."""
    yield from _METHODS.values()


def with_method(variant: Variant, method: str) -> Variant:
    """The same memory under another method.

    Raises:
        TrialError: if there is no such method.
    """
    return replace(variant, method=parse(method).method)


register(OFF, "No memory: the policy alone.", needs_cases=False)
register("dispatch", "Chosen by what the cases know: residual, guidance or negative.")
register("consensus", "Guidance toward what corrections and successes of similar situations say, wherever some failed.")
register("relocation", "The target is taken to be where misreadings of similar situations say; the policy acts.")
register("by_cause", "As in the graph: relocation where misreadings explain most failures nearby, else consensus.")
register("steadfast", "As by_cause, but it never lets go of an arm that it leads nowhere.")
register("guide", "Guidance inside the flow toward the correction of the most credible case.")
register("prior", "The flow begins at an intermediate time from the most credible case's correction under noise.")
register("negative", "Sampling away from the failed chunks; corrections are not used.")
register("residual", "The most similar case's correction minus what failed, clipped and added by the controller.")
register("blend", "The first design's baseline: a rule by failure type, averaged in at a weight of 0.3.")
register("retry", "Blind retry: after a detected failure back to the start pose, then other noise.", needs_cases=False)
register(
    "rewind",
    "No memory: after a detected failure back to a safe checkpoint, then away from what failed, as in the graph.",
    needs_cases=False,
)
register("rewind_by_cause", "As by_cause, and after a detected failure as rewind: what the graph does with rewinds.")
register("rag_only", "No flow: the chunk that the most similar case knows is executed as it is.")
register("sequential", "As dispatch, but the policy begins after the search has answered: one tick later.", always=True)
register(
    "dagger", "No memory: a checkpoint that was fine-tuned on the same corrections.", needs_cases=False, always=True
)
