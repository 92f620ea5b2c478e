"""``flow_rag_vla live``: the live page beside a running graph."""

from __future__ import annotations

import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console

if TYPE_CHECKING:
    from flow_rag_vla.bringup.graph import Process

POLL_S = 0.2


def live(
    host: str = typer.Option("127.0.0.1", help="Address to listen on; 0.0.0.0 is every one of this machine."),
    port: int = typer.Option(8600, min=0, max=65535, help="Port to listen on; 0 takes a free one."),
    tokens: str = typer.Option("", help="Token file; empty: tokens for this run are made and shown once."),
    new_token: str = typer.Option(
        "", help="NAME:ROLE: add a token to the file of --tokens, show it once, and end. Roles: see docs/live.md."
    ),
    expires: float = typer.Option(0.0, min=0.0, help="Hours that --new-token lasts; 0: it does not expire."),
    namespace: str = typer.Option("", help="Namespace of the graph to show."),
    params_file: str = typer.Option("", help="YAML file of parameters; empty: config/flow_rag_vla.yaml."),
    log_level: str = typer.Option("info", help="Severity from which the node logs."),
) -> None:
    """Serve the live page of a graph that runs on this machine: cameras, commands, loop, failures, memory, stop.

    [bold]Examples[/bold]

      flow_rag_vla live                                  then open the address that it prints

      flow_rag_vla live --namespace left --port 8601     of one of two graphs

      flow_rag_vla live --tokens lab.json --new-token ada:operator --expires 8   a token for a shift
    """
    console = Console(soft_wrap=True)
    if new_token:
        _add_token(console, tokens, new_token, expires)
        return
    from flow_rag_vla.bringup.live import dashboard_process
    from flow_rag_vla.bringup.resources import default_params_file

    file = Path(params_file) if params_file else default_params_file()
    if not file.is_file():
        raise typer.BadParameter(f"params_file {params_file!r} does not exist; copy config/flow_rag_vla.yaml")
    overrides = {"host": host, "port": port, "tokens": str(Path(tokens).expanduser().resolve()) if tokens else ""}
    raise typer.Exit(_run(console, dashboard_process(overrides, file, namespace, log_level)))


def _add_token(console: Console, tokens: str, wanted: str, hours: float) -> None:
    from flow_rag_vla.gateway.access import ROLES, AccessError, Role, load_access, new_token, save_access

    name, _, word = wanted.rpartition(":")
    if not tokens:
        raise typer.BadParameter("--new-token needs the file to write to: --tokens FILE")
    if not name or word not in ROLES:
        raise typer.BadParameter(f"--new-token is {wanted!r}, expected NAME:ROLE with a role of {', '.join(ROLES)}")
    path = Path(tokens).expanduser()
    try:
        kept = load_access(path).tokens if path.exists() else ()
    except AccessError as error:
        raise typer.BadParameter(str(error)) from None
    token, secret = new_token(name, Role[word.upper()], hours * 3600.0 if hours else None)
    # A name has one token: a new one takes the place of the old.
    save_access(path, [*(item for item in kept if item.name != name), token])
    console.print(f"token of {name} ({word}), shown this once: {secret}", highlight=False)


def _run(console: Console, process: Process) -> int:
    """Run the node until it ends or Ctrl-C; its output is shown as it comes."""
    from flow_rag_vla.bringup.supervisor import Supervisor

    with tempfile.TemporaryDirectory(prefix="flow_rag_vla_live_") as folder, _ended_by_signals() as ended:
        # The node's output holds the secrets that it made: its file is this person's alone, and goes with the folder.
        log = Path(folder) / f"{process.spec.name}.log"
        log.touch(0o600)
        supervisor = Supervisor([process], Path(folder), lambda sentence: console.print(f"[yellow]{sentence}[/yellow]"))
        supervisor.start()
        shown, reason = 0, None
        try:
            while reason is None and not ended.wait(POLL_S):
                reason = supervisor.poll()
                shown = _show(console, log, shown)
        finally:
            supervisor.stop()
            _show(console, log, shown)
        if reason is not None:
            console.print(f"[red]{reason}[/red]")
    return 0 if reason is None else 1


def _show(console: Console, log: Path, shown: int) -> int:
    """Print what is new in a log; how much was shown then."""
    with log.open("rb") as stream:
        stream.seek(shown)
        text = stream.read()
    whole = text[: text.rfind(b"\n") + 1]
    if whole:
        console.print(whole.decode(errors="replace").rstrip("\n"), markup=False, highlight=False)
    return shown + len(whole)


@contextmanager
def _ended_by_signals() -> Iterator[threading.Event]:
    ended = threading.Event()
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda _number, _frame: ended.set()) for number in numbers}
    try:
        yield ended
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
