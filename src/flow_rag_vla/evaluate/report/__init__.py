# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A run folder told on one page: ``report.html`` and ``episode.gif``."""

from __future__ import annotations

from pathlib import Path

from flow_rag_vla.core.files import write_text
from flow_rag_vla.evaluate.report.animation import choose_episode, write_animation
from flow_rag_vla.evaluate.report.page import page
from flow_rag_vla.evaluate.report.run import Run, open_run
from flow_rag_vla.evaluate.report.stories import failure_stories

__all__ = ["Run", "make_report", "open_run"]


def make_report(folder: str | Path, *, animate: bool = True) -> tuple[Path, ...]:
    """Write the report of a run folder into it; the files written, the page first.

    Whatever the folder lacks (a bag that breaks off, records, run.json) is said on the page.

    Args:
        folder: the run: ``run.json``, ``episodes/``, ``bag/``, each of which may be missing.
        animate: also draw ``episode.gif``; about 50 ms a frame.

    Raises:
        FileNotFoundError: if there is no such folder.
        OSError: if the files cannot be written.
    """
    root = Path(folder)
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is no run folder; give one of those below runs/")
    run = open_run(root)
    stories = failure_stories(run.records, run.digest, run.bag)
    chosen, animation = None, None
    if animate and run.bag is not None and run.digest is not None:
        chosen = choose_episode(run.records, run.digest)
        if chosen is not None:
            animation = write_animation(root / "episode.gif", run.bag, run.digest, chosen)
    write_text(root / "report.html", page(run, stories, animation, chosen))
    made = [root / "report.html"]
    if animation is not None:
        made.append(animation)
    return tuple(made)
