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
PARAMS_FILE = typer.Option("", help="YAML file of parameters; empty: config/flow_rag_vla.yaml.")
