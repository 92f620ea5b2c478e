# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A recorded run decided again, with one memory or two, and what came out otherwise."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from flow_rag_vla.bringup.replay_settings import ReplaySettings, replay_settings
from flow_rag_vla.cli.saying import warn
from flow_rag_vla.core.files import write_text
from flow_rag_vla.data.bag import BagError
from flow_rag_vla.evaluate.decisions.comparison import Comparison, compare
from flow_rag_vla.evaluate.decisions.difference_page import as_json, difference_page, summary_lines
from flow_rag_vla.evaluate.decisions.reading import read_recording
from flow_rag_vla.evaluate.decisions.recording import DecisionRecording
from flow_rag_vla.evaluate.decisions.replay import Decisions, Replay, recorded_decisions
from flow_rag_vla.evaluate.decisions.variants import VariantError, open_variant
from flow_rag_vla.memory.store import StoreError
from flow_rag_vla.policy.checkpoint import CheckpointError
from flow_rag_vla.policy.policy import FlowPolicy


class DecisionReplay:
    """A recording with the policy and the settings by which it is decided again.

    notes: what a reader of the comparison must know, as it comes up
    """

    def __init__(self, recording: DecisionRecording, settings: ReplaySettings, policy: FlowPolicy, seed: int) -> None:
        """Make ready; ``seed`` is the base of the noise, below 0: the noise that was recorded."""
        self._recording, self._settings, self.policy = recording, settings, policy
        self._policy_settings = settings.policy
        if seed >= 0:
            self._policy_settings = replace(settings.policy, seed=seed)
        self.notes = [*recording.problems, *settings.notes]
        if not recording.exact:
            self.notes.append(
                "this bag has no tick records: what had arrived at a tick is guessed from times of reception"
            )
        if recording.policy_revision and policy.revision != recording.policy_revision:
            self.notes.append(
                f"the bag was made by policy {recording.policy_revision}, this is {policy.revision}: chunks will differ"
            )

    def run(self, console: Console, name: str) -> tuple[Decisions, str]:
        """Decide with one variant of the memory; what came out, and a sentence about it.

        Raises:
            VariantError: for a name that is no variant.
            StoreError: for a database that cannot be used.
        """
        recording, settings = self._recording, self._settings
        with open_variant(name, recording, settings.memory, settings.database) as (source, meaning):
            variant = Replay(
                recording,
                source,
                self.policy,
                name=name,
                policy_settings=self._policy_settings,
                loop_settings=settings.loop,
                changes=settings.loop_changes,
            )
            started = time.perf_counter()
            with console.status(f"{name}: {meaning}"):
                made = variant.run()
            took = time.perf_counter() - started
            speed = recording.duration_s / took if took > 0.0 else 0.0
            self.notes.extend(f"{name}: {note}" for note in (*made.notes, *getattr(source, "notes", ())))
            return made, f"{name}: {meaning}; {took:.1f} s, {speed:.0f} times as fast as it was recorded"

    def compared(self, console: Console, names: Sequence[str]) -> tuple[Comparison, tuple[str, str]]:
        """Decide with two variants, or with one beside what was decided live; the sentences about both.

        Raises:
            VariantError, StoreError: as ``run``.
        """
        first, one = self.run(console, names[0])
        if len(names) == 2:
            second, other = self.run(console, names[1])
        else:
            second, other = recorded_decisions(self._recording), "live: as it was recorded"
        return compare(first, second), (one, other)


def replay_decisions(
    console: Console,
    bag: Path,
    memory: str,
    *,
    checkpoint: str,
    seed: int,
    namespace: str,
    html: Path | None,
    output: Path | None,
) -> None:
    """Decide a recorded run again and print what came out otherwise.

    Args:
        console: where it is printed.
        bag: a bag or the folder of a run.
        memory: one or two variants, separated by a comma.
        checkpoint: folder of the policy; empty: the one that the bag names, or that ships.
        seed: base of the noise; below 0: the noise that was recorded.
        namespace: of the graph that was recorded.
        html: page to write; None: none.
        output: JSON file to write; None: none.

    Raises:
        typer.BadParameter: for what cannot be read, or makes no sense.
    """
    names = [name.strip() for name in memory.split(",") if name.strip()]
    if not 1 <= len(names) <= 2:
        raise typer.BadParameter(f"--memory {memory!r} names {len(names)} variants, expected one or two")
    try:
        recording = read_recording(bag, namespace)
    except (BagError, OSError) as error:
        raise typer.BadParameter(str(error)) from None
    settings = replay_settings(recording)
    try:
        policy = FlowPolicy.load(checkpoint or settings.checkpoint or None)
    except CheckpointError as error:
        raise typer.BadParameter(f"--checkpoint: {error}") from None
    replay = DecisionReplay(recording, settings, policy, seed)
    try:
        comparison, sentences = replay.compared(console, names)
    except (VariantError, StoreError) as error:
        raise typer.BadParameter(str(error)) from None
    for line in summary_lines(comparison, sentences):
        console.print(line, markup=False)
    for note in replay.notes:
        warn(console, note)
    about = {
        "bag": str(recording.path),
        "made": datetime.now().astimezone().isoformat(timespec="seconds"),
        "policy": policy.revision,
        "variants": "; ".join(sentences),
    }
    if html is not None:
        write_text(html, difference_page(comparison, about, replay.notes))
        console.print(str(html))
    if output is not None:
        content: dict[str, Any] = as_json(comparison, {**about, "notes": replay.notes})
        write_text(output, json.dumps(content, indent=1) + "\n")
        console.print(str(output))
