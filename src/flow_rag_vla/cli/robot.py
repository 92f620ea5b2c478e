# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""``flow_rag_vla robot``: the graph over a real arm or its mock, and the check of a robot profile."""

from __future__ import annotations

import itertools
import json
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from flow_rag_vla.cli.graph_options import (
    ALSO,
    CORRECTOR,
    LIVE,
    LIVE_PORT,
    PARAMS_FILE,
    POLICY_PRESET,
    POLICY_SERVER,
    also_started,
)
from flow_rag_vla.cli.graph_run import graph_run, new_run_folder
from flow_rag_vla.cli.known import SEVERITIES
from flow_rag_vla.cli.live import with_page
from flow_rag_vla.cli.saying import complain
from flow_rag_vla.core.files import write_text

if TYPE_CHECKING:
    from flow_rag_vla.bringup.graph import Process

WAITING_S = 0.2
"""How often the processes are looked after while others send tasks."""


def robot(
    profile: str = typer.Option(
        "", "--profile", "-p", help="A profile that ships (mock, franka, ...), or a YAML file."
    ),
    mock: bool = typer.Option(False, "--mock", help="Start a mock of the robot too, on the profile's topics."),
    check: str = typer.Option("", "--check", help="Only check a profile, and say what the arm can reach."),
    instruction: str = typer.Option("", "--instruction", "-i", help="Do this once the graph is up, then end."),
    encoder: str = typer.Option("compact", help="Vision backbone: compact, dinov2, mobilenet, a folder or a hub id."),
    checkpoint: str = typer.Option("", help="Folder of the policy checkpoint; empty: the one that ships."),
    corrector: str = CORRECTOR,
    memory: str = typer.Option(
        "",
        help="Failure memory to use and extend, a database or its folder; empty: one in the run folder, or "
        "without --runs the one in ~/.ros/flow_rag_vla; a mock then begins a new one.",
    ),
    policy_server: str = POLICY_SERVER,
    policy_preset: str = POLICY_PRESET,
    also: list[str] = ALSO,
    params_file: str = PARAMS_FILE,
    namespace: str = typer.Option("", help="Namespace of the graph; two can run side by side."),
    log_level: str = typer.Option("info", help=f"Severity from which nodes log: {SEVERITIES}."),
    runs: Path | None = typer.Option(
        None, help="Record the run into a folder of its own inside this one; left out: nothing is recorded."
    ),
    live: bool = LIVE,
    live_port: int = LIVE_PORT,
) -> None:
    """Run the graph over an arm that takes joint or tool commands, until Ctrl-C.

    [bold]Examples[/bold]

      flow_rag_vla robot --check my_arm.yaml             is the profile right, what can the arm reach

      flow_rag_vla robot --profile mock --mock           the whole graph over an arm that is not there

      flow_rag_vla robot --profile my_arm.yaml --mock    your profile, before the real arm

      flow_rag_vla robot --profile my_arm.yaml           the real arm

      flow_rag_vla robot --profile my_arm.yaml --live    the same, with the page: cameras, loop, emergency stop

      flow_rag_vla robot --profile franka --policy-server ws://10.0.0.5:8000 --policy-preset droid   an openpi policy
    """
    console = Console(soft_wrap=True)
    if check:
        raise typer.Exit(_check_profile(console, check))
    from flow_rag_vla.bringup.graph import GraphError
    from flow_rag_vla.bringup.resources import default_params_file
    from flow_rag_vla.bringup.robot_graph import robot_graph

    arguments = {
        "profile": profile,
        "mock": "true" if mock else "false",
        "encoder": encoder,
        "checkpoint": checkpoint,
        "corrector": corrector,
        "memory": memory,
        "policy_server": policy_server,
        "policy_preset": policy_preset,
        "params_file": params_file,
        "namespace": namespace,
        "log_level": log_level,
        "dashboard": "true" if live else "false",
        **also_started(also),
    }
    try:
        processes = robot_graph(arguments, default_params_file())
        if runs is None:
            with tempfile.TemporaryDirectory(prefix="flow_rag_vla_robot_") as temporary:
                if live:
                    processes = with_page(console, processes, Path(temporary), live_port)
                raise typer.Exit(_run(console, processes, Path(temporary), namespace, instruction))
        folder = new_run_folder(runs)
        processes = robot_graph({**arguments, "run_folder": str(folder)}, default_params_file())
    except GraphError as error:
        raise typer.BadParameter(str(error)) from None
    if live:
        processes = with_page(console, processes, folder, live_port)
    about = {
        "command": ["flow_rag_vla", *sys.argv[1:]],
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        "profile": profile,
        "params_file": processes[0].params_file,
        "parameters": {process.spec.name: process.overrides for process in processes},
    }
    write_text(folder / "run.json", json.dumps(about, indent=2))
    console.print(f"run [bold]{folder}[/bold]")
    raise typer.Exit(_run(console, processes, folder / "log", namespace, instruction))


def _run(console: Console, processes: tuple[Process, ...], logs: Path, namespace: str, instruction: str) -> int:
    from flow_rag_vla.nodes.operator import Operator

    started = time.monotonic()
    with graph_run(console, processes, logs, until_interrupted=not instruction) as graph:
        graph.start()
        with Operator(namespace) as operator:
            graph.wait_until_up(operator)
            console.print(f"ready after {time.monotonic() - started:.1f} s: {', '.join(graph.names)}")
            if instruction:
                from flow_rag_vla_interfaces.action import ExecuteTask

                result = operator.execute(ExecuteTask.Goal(instruction=instruction), graph.check)
                console.print(f"{instruction}: {result.outcome} after {result.duration:.1f} s  {result.reason}")
                graph.code = 0 if result.success else 1
            else:
                console.print(
                    "the arm holds until a task is given: on the page of --live or flow_rag_vla live, or to the action "
                    "execute_task; Ctrl-C ends"
                )
                while True:
                    graph.check()
                    time.sleep(WAITING_S)
    return graph.code


def _check_profile(console: Console, name: str) -> int:
    import numpy as np

    from flow_rag_vla.bringup.discovery import short_buffer
    from flow_rag_vla.bringup.resources import robots_folder
    from flow_rag_vla.robot.arm import Arm
    from flow_rag_vla.robot.camera_feed import REMEDY
    from flow_rag_vla.robot.fields import ProfileError
    from flow_rag_vla.robot.profile import find_profile, load_profile

    try:
        profile = load_profile(find_profile(name, robots_folder()))
        arm = Arm(profile)
    except ProfileError as error:
        complain(console, error)
        return 1
    home = profile.limits("home")
    position, orientation = arm.pose(home)
    low, high = np.array(profile.workspace_low), np.array(profile.workspace_high)
    inside = bool(((low <= position) & (position <= high)).all())
    points = [low + (high - low) * np.array(share) for share in itertools.product(np.linspace(0.0, 1.0, 5), repeat=3)]
    solutions = [arm.solve(point, orientation, home) for point in points]
    turned = 0.02 if profile.orientation == "exact" else np.pi
    reached = sum(one.position_error < 2e-3 and one.orientation_error <= turned for one in solutions)
    console.print(f"{profile.name}: {len(profile.joints)} joints, {profile.mode} to {profile.command_topic}")
    console.print(f"tool {profile.tool_frame} at home: {position.round(3).tolist()} m in {profile.base_frame}, "
                  f"{'inside' if inside else '[yellow]outside[/yellow]'} the workspace")  # fmt: skip
    console.print(f"reached from home, orientation as there: {reached} of {len(points)} points over the workspace")
    for camera in profile.cameras:
        console.print(f"camera {camera.role}: {camera.image}{' (compressed)' if camera.compressed else ''}")
    if (room := short_buffer()) and not all(camera.compressed for camera in profile.cameras):
        console.print(f"[yellow]raw images above {room} bytes (width x height x 3) would be lost: {REMEDY}")
    console.print("the profile can be used")
    return 0
