# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What the first page says of the memory in this simulator, and how it is made again in short: with one policy each.

Policies differ more than starts do, so one policy's figures are not the page's. They show whether the same comes of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flow_rag_vla.evaluate.trials.tables import against, points, share
from flow_rag_vla.proof.stages import Ground, ProofSettings

VARIANTS = "off,retry,blend,shuffled+by_cause,dagger,by_cause"
"""What is told on the first page."""

TRAINING_SEED = 0


@dataclass(frozen=True, slots=True)
class Claim:
    """A row of the page.

    ground: where; demonstrations: of each goal, of which its policies were made
    rounds: how often a start that failed in practice was tried again, at most
    results: its committed results, by the beginning of their names
    """

    ground: Ground
    demonstrations: int
    rounds: int
    results: str


CLAIMS = (
    Claim(Ground("open_drawer", "object_size"), 20, 0, "open_drawer-object_size"),
    Claim(Ground("open_drawer", "plain"), 120, 3, "open_drawer-plain-mass"),
    Claim(Ground("pick_and_place", "held_out_strip"), 20, 3, "pick_and_place-held_out_strip-mass"),
)


def claim_folder(work: Path, claim: Claim) -> Path:
    """Where its policy is: claims whose policies had the same demonstrations share it."""
    return work / f"of-{claim.demonstrations}"


def claim_settings(claim: Claim, settings: ProofSettings) -> ProofSettings:
    """How it is made again; everything that the claim does not say is as in ``settings``."""
    return replace(
        settings,
        grounds=(claim.ground,),
        training_seeds=(TRAINING_SEED,),
        demonstrations=claim.demonstrations,
        rounds=claim.rounds,
        variants=VARIANTS,
    )


def claim_row(content: Mapping[str, Any]) -> list[str]:
    """Starts, success alone, retried, blended, shuffled, fine-tuned and with the memory, lift, mended and broken.

    Args:
        content: of a ``summary.json``; its first block of fresh starts is told.
    """
    group = next(group for group in content["groups"] if group["block"] == "fresh")
    variants = {item["variant"]: item for item in group["variants"]}
    shares = [share(variants[name]["success"]) if name in variants else "" for name in VARIANTS.split(",")]
    beside = against(variants["by_cause"], "off")
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
        "One policy for each ground, where the page has three, and starts of its own. Success with Wilson 95 %",
        "intervals, lift with Newcombe's for pairs.",
        "",
        f"| {' | '.join(COLUMNS)} |",
        f"|{'---|' * len(COLUMNS)}",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
    ]
    if seconds is not None:
        lines += [f"It took {seconds / 60.0:.0f} minutes.", ""]
    return "\n".join(lines)
