# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Options that the commands which start a graph share."""

from __future__ import annotations

import typer

POLICY_SERVER = typer.Option(
    "", help="Policy server of openpi's protocol in the flow policy's place, as ws://host:8000."
)
POLICY_PRESET = typer.Option(
    "libero", help="What that server takes and gives: libero, droid, plain, or a YAML file (docs/remote_policy.md)."
)
POLICY_PROFILE = typer.Option(
    "", help="Robot profile whose kinematics turn that server's joint velocities into motion."
)
ON_REQUEST = ("llm", "deliberation", "labeling")
"""Nodes that a graph has only where they are asked for."""


def complete_node(incomplete: str) -> list[str]:
    """Names for the shell's completion."""
    return [name for name in ON_REQUEST if name.startswith(incomplete)]


CORRECTORS = ("consensus", "dispatch", "rules_blend", "off")
"""What the memory's parameter takes; a test holds it to that, which would cost a second of imports here."""


def complete_corrector(incomplete: str) -> list[str]:
    """Names for the shell's completion."""
    return [name for name in CORRECTORS if name.startswith(incomplete)]


CORRECTOR = typer.Option(
    "consensus",
    help=f"How the memory acts: {', '.join(CORRECTORS[:-1])} or {CORRECTORS[-1]}.",
    autocompletion=complete_corrector,
)
ALSO = typer.Option(
    [],
    "--with",
    help="Start this node too: llm, deliberation (llm comes with it) or labeling; repeat it.",
    autocompletion=complete_node,
)
LIVE = typer.Option(False, "--live", help="Serve the live page too; its address is printed.")
LIVE_PORT = typer.Option(8600, min=1, max=65535, help="Port of the live page.")
PARAMS_FILE = typer.Option("", help="YAML file of parameters; empty: config/flow_rag_vla.yaml.")


def also_started(names: list[str]) -> dict[str, str]:
    """The graph's arguments for the nodes of ``ALSO``.

    Raises:
        typer.BadParameter: for a name that is none of them.
    """
    for name in names:
        if name not in ON_REQUEST:
            raise typer.BadParameter(f"--with {name}: expected one of {', '.join(ON_REQUEST)}")
    # Without a language model every deliberation would be held.
    wanted = {*names, "llm"} if "deliberation" in names else set(names)
    return {name: "true" for name in ON_REQUEST if name in wanted}
