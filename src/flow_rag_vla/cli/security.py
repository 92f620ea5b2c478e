# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""``flow_rag_vla security``: the SROS2 policy of the graph, its enclaves, and whether changes are permitted here."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from flow_rag_vla.robot.profile import RobotProfile

app = typer.Typer(
    help="The SROS2 policy of the graph, its enclaves, and whether changes are permitted here.", no_args_is_help=True
)

NAMESPACE = typer.Option("", help="Namespace of the graph.")


@app.command()
def policy(
    profile: str = typer.Option("mock", help="Arm whose topics are in it: one in config/robots/, or a YAML file."),
    namespace: str = NAMESPACE,
    output: Path | None = typer.Option(None, "--output", "-o", help="File to write; empty: print it."),
) -> None:
    """Write the policy that [bold]ros2 security create_permission[/bold] reads: one enclave a node, least privilege.

    [bold]Examples[/bold]

      flow_rag_vla security policy -o config/security/policy.xml

      flow_rag_vla security policy --profile franka --namespace left -o left.xml
    """
    from flow_rag_vla.bringup.security.policy import policy as text_of
    from flow_rag_vla.core.files import write_text

    text = text_of(_profile(profile), namespace)
    if output is None:
        typer.echo(text, nl=False)
        return
    try:
        write_text(output, text)
    except OSError as error:
        typer.echo(f"{output} cannot be written: {error.strerror}", err=True)
        raise typer.Exit(2) from error


@app.command()
def enclaves(namespace: str = NAMESPACE) -> None:
    """Print the path of every enclave, one a line, for a loop over [bold]ros2 security create_enclave[/bold].

    [bold]Examples[/bold]

      flow_rag_vla security enclaves --namespace left

      for name in $(flow_rag_vla security enclaves); do ros2 security create_enclave keystore $name; done
    """
    from flow_rag_vla.bringup.security.grants import enclave_nodes
    from flow_rag_vla.bringup.security.policy import enclave

    for node in enclave_nodes():
        typer.echo(enclave(node, namespace))


@app.command()
def check() -> None:
    """Say how far discovery reaches from this shell, and whether nodes started in it change anything for callers.

    The exit code is 1 where they refuse. A node's parameter open_to_network is not looked at.

    [bold]Examples[/bold]

      flow_rag_vla security check

      ROS_AUTOMATIC_DISCOVERY_RANGE=SUBNET flow_rag_vla security check
    """
    from flow_rag_vla.bringup.security.permission import beyond_this_host, enforced, refusal, stay_local

    environment = dict(os.environ)
    stay_local(environment)
    typer.echo(beyond_this_host(environment) or "discovery stays on this host")
    typer.echo("SROS2 is enforced" if enforced(environment) else "SROS2 is not enforced")
    reason = refusal(environment, open_to_network=False)
    typer.echo(f"changes are {reason}" if reason else "changes are permitted")
    if reason:
        raise typer.Exit(1)


@app.command()
def audit(
    profile: str = typer.Option("mock", help="Arm whose topics are granted: one in config/robots/, or a YAML file."),
    namespace: str = NAMESPACE,
    patience: float = typer.Option(3.0, min=0.1, help="Seconds in which the graph is discovered."),
) -> None:
    """Hold the running graph against the policy: the exit code is 1 where a node does what no grant names.

    It finds what the policy would forbid before keys are made. It also finds endpoints that nodes of your own added.

    [bold]Examples[/bold]

      flow_rag_vla security audit

      flow_rag_vla security audit --profile franka --namespace left
    """
    import time

    from rich.console import Console

    from flow_rag_vla.bringup.security.audit import beyond
    from flow_rag_vla.bringup.security.grants import enclave_nodes, grants
    from flow_rag_vla.nodes.endpoints_seen import EndpointsWatch

    given = grants(_profile(profile))
    with EndpointsWatch(namespace) as watch, Console(stderr=True).status("looking at the graph"):
        time.sleep(patience)
        observed = watch.look(enclave_nodes())
    if not observed:
        typer.echo(f"no node of the graph was found within {patience:g} s; start it, or name its namespace", err=True)
        raise typer.Exit(2)
    found = beyond(given, observed, namespace)
    for sentence in found:
        typer.echo(sentence)
    typer.echo(f"{len(observed)} nodes, {len(found)} endpoints beyond their grant")
    if found:
        raise typer.Exit(1)


def _profile(name: str) -> RobotProfile:
    from flow_rag_vla.bringup.resources import robots_folder
    from flow_rag_vla.robot.fields import ProfileError
    from flow_rag_vla.robot.profile import find_profile, load_profile

    try:
        return load_profile(find_profile(name, robots_folder()))
    except ProfileError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
