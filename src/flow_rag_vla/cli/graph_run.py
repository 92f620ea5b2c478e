# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A graph that a command starts, watches and ends, and the folder of its run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from flow_rag_vla.cli.saying import complain, warn
from flow_rag_vla.cli.signals import INTERRUPTED, interruptible, uninterrupted

if TYPE_CHECKING:
    from flow_rag_vla.bringup.graph import Process
    from flow_rag_vla.bringup.supervisor import Supervisor
    from flow_rag_vla.nodes.operator import Operator

START_TIMEOUT_S = 90.0
"""On two cores a first start, with nothing in the disk cache, takes up to 25 s."""


class GraphEnded(RuntimeError):
    """The graph cannot go on."""


class GraphRun:
    """The processes of one run, not started yet.

    code: what the command is to exit with; 1 once the graph ended early or a node had to be killed, 130 after Ctrl-C
    """

    def __init__(self, supervisor: Supervisor, names: Sequence[str]) -> None:
        self.supervisor, self.names = supervisor, list(names)
        self.code = 0

    def start(self) -> None:
        """Start every process."""
        self.supervisor.start()

    def check(self) -> None:
        """Look after the processes once.

        Raises:
            GraphEnded: if the whole graph has to end; the text says why.
        """
        reason = self.supervisor.poll()
        if reason is not None:
            raise GraphEnded(reason)

    def wait_until_up(self, operator: Operator) -> None:
        """Wait until every node reports.

        Raises:
            GraphEnded: if the graph ends meanwhile.
            OperatorError: if it is not up after ``START_TIMEOUT_S``.
        """
        operator.wait_until_up(self.names, START_TIMEOUT_S, self.check)


@contextmanager
def graph_run(
    console: Console,
    processes: Sequence[Process],
    logs: Path,
    *,
    stopping: str = "stopping",
    until_interrupted: bool = False,
) -> Iterator[GraphRun]:
    """A graph that ends with the block, however that ends.

    Ctrl-C, SIGTERM and what the graph or its operator raise end the block here: it is said, and kept in ``code``.

    Args:
        console: where it is said.
        processes: of the graph.
        logs: folder that gets a file a node.
        stopping: said where a person ends it.
        until_interrupted: whether that is how it is meant to end, which leaves ``code`` at 0.
    """
    from flow_rag_vla.bringup.supervisor import Supervisor
    from flow_rag_vla.nodes.operator import OperatorError

    supervisor = Supervisor(processes, logs, lambda sentence: warn(console, sentence))
    run = GraphRun(supervisor, [process.spec.name for process in processes])
    try:
        with interruptible():
            yield run
    except KeyboardInterrupt:
        console.print(stopping)
        run.code = 0 if until_interrupted else INTERRUPTED
    except (OperatorError, GraphEnded) as error:
        complain(console, error)
        run.code = 1
    finally:
        with uninterrupted():
            killed = supervisor.stop()
    if killed:
        console.print(f"[red]had to be killed: {', '.join(killed)}[/red]")
        run.code = 1


def new_run_folder(runs: Path) -> Path:
    """Make the folder of one run, named after the time, inside ``runs``; its absolute path.

    Raises:
        typer.BadParameter: if it cannot be made.
    """
    name = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    for suffix in ("", *(f"_{count}" for count in range(2, 100))):
        folder = runs / f"{name}{suffix}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise typer.BadParameter(f"run folder {folder} cannot be made: {error.strerror}; see --runs") from None
        return folder.resolve()
    raise typer.BadParameter(f"no free name for a run folder in {runs}")
