# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What the first page says of the memory, and how each of its rows is made again in short: with one policy each.

Policies differ more than starts do, so one policy's figures are not the page's. They show whether the same comes of it.
The page's last row, of the running graph, is made by ``flow_rag_vla pairs``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flow_rag_vla.evaluate.external.preparation import Preparation
from flow_rag_vla.evaluate.trials.protocol import FRESH, ONLINE
from flow_rag_vla.evaluate.trials.tables import against, points, share
from flow_rag_vla.proof.stages import USUAL_SOURCE, Ground, ProofSettings, ground_name

VARIANTS = "off,retry,blend,shuffled+by_cause,dagger,by_cause"
"""What is told on the first page."""
REPEATED = "off,by_cause"
"""The same of starts that failed in practice, tried again."""

EPISODES = 80
"""Fresh starts of each claim, unless something else is asked; the page has some 400."""

TRAINING_SEED = 0


@dataclass(frozen=True, slots=True)
class Claim:
    """A row of the page, or several that are the same but for their policies, on a ground of this project's simulator.

    ground: where; demonstrations: of each goal, of which its policies were made
    rounds: how often a start that failed in practice was tried again, at most
    results: its committed results, a row each, by the beginning of their names
    source: who says in practice what would have been right; practice: episodes, fewer where each takes long
    variants, repeated: what is compared, on fresh starts and on those that failed in practice
    online: the memory begins empty and grows on the way
    """

    ground: Ground
    demonstrations: int
    rounds: int
    results: tuple[str, ...]
    source: str = USUAL_SOURCE
    practice: int = 100
    variants: str = VARIANTS
    repeated: str = ""
    online: bool = False

    @property
    def name(self) -> str:
        """How its folders, its results and its row are called."""
        return ground_name(self.ground, self.source, online=self.online)

    @property
    def memory(self) -> str:
        """The variant that the row is about."""
        return "online+by_cause" if self.online else "by_cause"


SIZES = Ground("open_drawer", "object_size")
PLAIN = Ground("open_drawer", "plain")
STRIP = Ground("pick_and_place", "held_out_strip")

CLAIMS = (
    Claim(SIZES, 20, 0, (f"{SIZES}",), repeated=REPEATED),
    Claim(
        SIZES, 20, 0, (f"{SIZES}-found-letting-go",), source="rehearsal", practice=50,
        variants="off,shuffled+by_cause,dagger,by_cause",
    ),
    Claim(
        SIZES, 20, 0, (f"{SIZES}-online-letting-go",), source="rehearsal", variants="off,online+by_cause", online=True,
    ),
    Claim(PLAIN, 120, 3, (f"{PLAIN}-mass",)),
    Claim(STRIP, 20, 3, (f"{STRIP}-mass", f"{STRIP}-letting-go"), repeated=REPEATED),
    Claim(
        STRIP, 20, 0, (f"{STRIP}-takeover-letting-go",), source="takeover", variants="off,shuffled+by_cause,by_cause",
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ExternalClaim:
    """The page's row of other people's environments.

    name: of its folder, its results and its row
    tasks: pooled; variants: what is compared; memory: the one that the row is about
    episodes: fresh starts of each task, unless something else is asked
    """

    name: str
    tasks: tuple[str, ...]
    variants: str
    memory: str
    episodes: int


EXTERNAL = ExternalClaim(
    "metaworld",
    tuple(f"metaworld/{task}-v3" for task in ("pick-place", "push", "drawer-open", "door-open", "peg-insert-side")),
    "off,shuffled+consensus,dagger,consensus",
    "consensus",
    40,
)


def claim_folder(work: Path, claim: Claim) -> Path:
    """Where its policy is: claims whose policies had the same demonstrations share it."""
    return work / f"of-{claim.demonstrations}"


def claim_settings(claim: Claim, settings: ProofSettings) -> ProofSettings:
    """How it is made again; everything that the claim does not say is as in ``settings``, and no more is practised."""
    return replace(
        settings,
        grounds=(claim.ground,),
        training_seeds=(TRAINING_SEED,),
        demonstrations=claim.demonstrations,
        practice=min(claim.practice, settings.practice),
        source=claim.source,
        rounds=claim.rounds,
        variants=claim.variants,
        repeated=claim.repeated,
        online=claim.online,
    )


def external_preparation(settings: ProofSettings) -> Preparation:
    """How the policies of other people's environments are made again: as declared, and no more than in ``settings``."""
    usual = Preparation(0)
    training = replace(usual.training, iterations=min(usual.training.iterations, settings.iterations))
    return replace(usual, episodes=min(usual.episodes, settings.practice), training=training)


def claim_row(content: Mapping[str, Any], memory: str = "by_cause") -> list[str]:
    """Starts, success alone, retried, blended, shuffled, fine-tuned and with the memory, lift, mended and broken.

    What was not compared is left empty.

    Args:
        content: of a ``summary.json``; its first block of fresh starts is told, in any order or, ``online``, in theirs.
            Of several tasks that is the one of all together.
        memory: the variant that the row is about.
    """
    group = next(group for group in content["groups"] if group["block"] in (FRESH, ONLINE))
    variants = {item["variant"]: item for item in group["variants"]}
    told = ("off", "retry", "blend", f"shuffled+{memory}", "dagger", memory)
    shares = [share(variants[name]["success"]) if name in variants else "" for name in told]
    beside = against(variants[memory], "off")
    if beside is None:
        return [str(group["starts"]), *shares, "", ""]
    pairs = beside["pairs"]
    return [str(group["starts"]), *shares, points(beside["difference"]), f"{pairs['fixed']} / {pairs['broken']}"]


COLUMNS = (
    "ground", "starts", "policy alone", "blind retry", "0.3 blend", "shuffled memory", "fine-tuned", "with the memory",
    "lift, points", "mended / broken",
)  # fmt: skip
"""Of a table of claims: the ground, then what ``claim_row`` gives."""


def claims_markdown(rows: Sequence[Sequence[str]], command: str, seconds: float | None) -> str:
    """The page of one run.

    Args:
        rows: of cells, one for each of ``COLUMNS``.
        command: that made it.
        seconds: that it took from the beginning; None: it was not made in one go.
    """
    lines = ["# The first page's figures, made again in short", "", f"`{command}`", ""]
    lines += [
        "One policy for each row (of Meta-World for each task), where the page has three, and starts of its own.",
        "Success with Wilson 95 % intervals, lift with Newcombe's for pairs.",
        "",
        f"| {' | '.join(COLUMNS)} |",
        f"|{'---|' * len(COLUMNS)}",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
    ]
    if seconds is not None:
        lines += [f"It took {seconds / 60.0:.0f} minutes.", ""]
    return "\n".join(lines)
