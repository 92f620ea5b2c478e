# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""``flow_rag_vla live``: the live page beside a running graph."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from flow_rag_vla.cli.known import SEVERITIES
from flow_rag_vla.cli.saying import complain, warn
from flow_rag_vla.cli.signals import ended_by_signals

if TYPE_CHECKING:
    from flow_rag_vla.bringup.graph import Process

POLL_S = 0.2
ADDRESS = re.compile(r"the live page is at (http://\S+)")
"""What the node says once it answers."""


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
    log_level: str = typer.Option("info", help=f"Severity from which the node logs: {SEVERITIES}."),
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
    with tempfile.TemporaryDirectory(prefix="flow_rag_vla_live_") as folder:
        made, secrets = (str(Path(tokens).expanduser().resolve()), {}) if tokens else _page_tokens(Path(folder))
        overrides = {"host": host, "port": port, "tokens": made}
        process = dashboard_process(overrides, file, namespace, log_level)
        raise typer.Exit(_run(console, process, Path(folder), secrets))


def with_page(console: Console, processes: Sequence[Process], folder: Path, port: int) -> tuple[Process, ...]:
    """A graph whose live page has tokens of its own, written to ``folder``; they are shown here, once."""
    tokens, secrets = _page_tokens(folder)
    _tell(console, secrets, f"http://127.0.0.1:{port}/")
    own = {"tokens": tokens, "port": port}
    return tuple(
        replace(item, overrides=item.overrides | own) if item.spec.name == "dashboard" else item for item in processes
    )


def _page_tokens(folder: Path) -> tuple[str, dict[str, str]]:
    """A token file for one run, and its secrets by role."""
    from flow_rag_vla.gateway.access import Role, new_token, save_access

    made = {role.word: new_token(role.word, role) for role in (Role.VIEWER, Role.OPERATOR)}
    file = folder / "live_tokens.json"
    save_access(file, [token for token, _ in made.values()])
    return str(file), {word: secret for word, (_, secret) in made.items()}


def _tell(console: Console, secrets: Mapping[str, str], address: str) -> None:
    for word, secret in secrets.items():
        console.print(f"live page, {word}: {address}live/#token={secret}", highlight=False)


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
    try:
        save_access(path, [*(item for item in kept if item.name != name), token])
    except OSError as error:
        raise typer.BadParameter(f"--tokens {path} cannot be written: {error.strerror}; name another file") from None
    console.print(f"token of {name} ({word}), shown this once: {secret}", highlight=False)


def _run(console: Console, process: Process, folder: Path, secrets: Mapping[str, str]) -> int:
    """Run the node until it ends or Ctrl-C; its output is shown as it comes."""
    from flow_rag_vla.bringup.supervisor import Supervisor

    log, reason = Log(folder / f"{process.spec.name}.log"), None
    supervisor = Supervisor([process], folder, lambda sentence: warn(console, sentence))
    with ended_by_signals() as ended:
        supervisor.start()
        try:
            while reason is None and not ended.wait(POLL_S):
                reason = supervisor.poll()
                for line in log.lines():
                    console.print(line, markup=False, highlight=False)
                    found = ADDRESS.search(line)
                    if found is not None:
                        _tell(console, secrets, found[1])
        finally:
            supervisor.stop()
        for line in log.lines():
            console.print(line, markup=False, highlight=False)
    if reason is not None:
        complain(console, reason)
    return 0 if reason is None else 1


class Log:
    """A file that another process writes."""

    def __init__(self, path: Path) -> None:
        self._path, self._read = path, 0

    def lines(self) -> list[str]:
        """The whole lines that came since the last call."""
        with self._path.open("rb") as stream:
            stream.seek(self._read)
            text = stream.read()
        text = text[: text.rfind(b"\n") + 1]
        self._read += len(text)
        return text.decode(errors="replace").splitlines()
