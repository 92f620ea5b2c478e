# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Entry point: puts the commands together. Heavy libraries are imported by the command that needs them."""

from __future__ import annotations

import errno
import os
import sys

import typer
from rich.console import Console

from flow_rag_vla import __version__
from flow_rag_vla.cli.ask import ask
from flow_rag_vla.cli.bench import bench
from flow_rag_vla.cli.calibrate import calibrate
from flow_rag_vla.cli.causes import causes
from flow_rag_vla.cli.chaos import chaos
from flow_rag_vla.cli.curate import app as curate
from flow_rag_vla.cli.dataset import app as dataset
from flow_rag_vla.cli.deliberate import deliberate
from flow_rag_vla.cli.detector import app as detector
from flow_rag_vla.cli.diagnose import diagnose
from flow_rag_vla.cli.evaluate import evaluate
from flow_rag_vla.cli.external import external
from flow_rag_vla.cli.knowledge import app as knowledge
from flow_rag_vla.cli.label import label
from flow_rag_vla.cli.label_dataset import app as label_dataset
from flow_rag_vla.cli.language import language
from flow_rag_vla.cli.live import live
from flow_rag_vla.cli.llm import app as llm
from flow_rag_vla.cli.memory import app as memory
from flow_rag_vla.cli.missing import where_from
from flow_rag_vla.cli.pairs import pairs
from flow_rag_vla.cli.person import approve, score
from flow_rag_vla.cli.practice import practice
from flow_rag_vla.cli.proof import proof
from flow_rag_vla.cli.record import record
from flow_rag_vla.cli.reference import reference
from flow_rag_vla.cli.registry import app as registry
from flow_rag_vla.cli.regret import regret
from flow_rag_vla.cli.replay import replay
from flow_rag_vla.cli.report import report
from flow_rag_vla.cli.review import review
from flow_rag_vla.cli.robot import robot
from flow_rag_vla.cli.saying import complain
from flow_rag_vla.cli.security import app as security
from flow_rag_vla.cli.signals import INTERRUPTED
from flow_rag_vla.cli.sim import sim
from flow_rag_vla.cli.soak import soak
from flow_rag_vla.cli.teleop import teleop
from flow_rag_vla.cli.train import train
from flow_rag_vla.cli.train_compact import train_compact
from flow_rag_vla.cli.why import why

app = typer.Typer(
    name="flow_rag_vla",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)

RUN, EXPLAIN, REMEMBER = "Run the graph", "Look into a run", "Remember failures"
LABEL, MEASURE, ABOUT = "Label", "Train and measure", "About the graph"
"""Headings of the list of commands, in its order."""

_ELSEWHERE = "name another place, or change who may write there"
_ROOM = "make room there, or name another place"
REFUSED = {
    errno.EACCES: _ELSEWHERE,
    errno.EPERM: _ELSEWHERE,
    errno.EROFS: _ELSEWHERE,
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.ENOTDIR: "a file is where a folder is wanted: name another place",
    errno.EEXIST: "it is there already, and is not what is wanted there: name another place",
    errno.EISDIR: "a folder is where a file is wanted: name a file in it, or another place",
    errno.ENAMETOOLONG: "take a shorter name",
}
"""What the system may say of a file, and what a person can do about it. Anything else is a fault of the program."""

for heading, commands in {
    RUN: (sim, robot, live, record, teleop, ask, deliberate, approve, score, language),
    EXPLAIN: (report, why, replay, causes, diagnose, regret),
    REMEMBER: (practice, pairs, proof, calibrate),
    LABEL: (label, review),
    MEASURE: (train, train_compact, evaluate, external, bench, chaos, soak),
    ABOUT: (reference,),
}.items():
    for command in commands:
        app.command(rich_help_panel=heading)(command)
app.add_typer(dataset, name="dataset", rich_help_panel=EXPLAIN)
app.add_typer(memory, name="memory", rich_help_panel=REMEMBER)
app.add_typer(registry, name="registry", rich_help_panel=LABEL)
app.add_typer(curate, name="curate", rich_help_panel=LABEL)
app.add_typer(label_dataset, name="label-dataset", rich_help_panel=LABEL)
app.add_typer(detector, name="detector", rich_help_panel=LABEL)
app.add_typer(llm, name="llm", rich_help_panel=MEASURE)
app.add_typer(knowledge, name="knowledge", rich_help_panel=REMEMBER)
app.add_typer(security, name="security", rich_help_panel=ABOUT)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"flow_rag_vla {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: bool = typer.Option(
        False, "--version", help="Print the version and exit.", callback=_version, is_eager=True
    ),
) -> None:
    """A flow-matching policy under a 40 Hz loop that remembers its failures.

    [bold]Examples[/bold]

      flow_rag_vla sim -n 3                        three episodes in PyBullet, and a report of them

      flow_rag_vla why runs/2026-01-31_12-00-00 failure:1   what made the command at the first failure

      flow_rag_vla COMMAND --help                  every command shows examples

      flow_rag_vla --install-completion            names, options and values with the tab key
    """


def main() -> None:
    """Run the console command.

    A file that the system refuses, or a package that is not installed, wherever that is noticed, ends it with one line.
    What a command checks beforehand is said by it, with its option.
    """
    try:
        app()
    except SystemExit as ended:
        _leave_behind(ended.code)
        raise
    except KeyboardInterrupt:
        # Before a command began: the others end by themselves.
        sys.exit(INTERRUPTED)
    except ModuleNotFoundError as error:
        said = where_from(error.name or "")
        if not said:
            raise
        complain(Console(stderr=True), said)
        sys.exit(1)
    except OSError as error:
        if error.errno not in REFUSED:
            raise
        # Of a file that takes another's place the second is the one that the person named.
        named = error.filename2 if error.filename2 is not None else error.filename
        where = named if named is not None else "a file"
        complain(Console(stderr=True), f"{where}: {error.strerror}; {REFUSED[error.errno]}")
        sys.exit(1)


def _leave_behind(code: str | int | None) -> None:
    """End at once where a language model still loads for an answer that was given up: it can take minutes."""
    local = sys.modules.get("flow_rag_vla.llm.providers.local")
    if local is not None and local.at_work():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 0 if code is None else 1)


if __name__ == "__main__":
    main()
