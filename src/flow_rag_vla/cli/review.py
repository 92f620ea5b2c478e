# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""``flow_rag_vla review``: the review page and the HTTP interface over a registry of labels. No ROS is needed."""

from __future__ import annotations

import getpass
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from flow_rag_vla.cli.saying import complain

if TYPE_CHECKING:
    from flow_rag_vla.gateway.access import Access
    from flow_rag_vla.labeling.training.jobs import Jobs

POLL_S = 0.2


def review(
    registry: Annotated[str, typer.Argument(help="Folder of the registry, or a PostgreSQL URL")],
    files: Annotated[str, typer.Option(help="Folder for masks and pictures where the registry is a URL")] = "",
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 is every one of this machine")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one")] = 8601,
    tokens: Annotated[str, typer.Option(help="Token file; empty: a reviewer's token for this run is made")] = "",
    name: Annotated[str, typer.Option(help="Who the token of this run is for; empty: who is logged in")] = "",
    media: Annotated[
        list[Path], typer.Option("--media", help="Folder whose pictures may be registered over HTTP; several times")
    ] = [],  # noqa: B006 - Typer reads it and gives a new list
    models: Annotated[bool, typer.Option(help="Take pictures to label; --no-models only shows what is there")] = True,
    detector: Annotated[str, typer.Option(help="compact, florence2, grounding_dino or detr")] = "compact",
    segmenter: Annotated[str, typer.Option(help="auto, none or sam2")] = "auto",
    embedder: Annotated[str, typer.Option(help="auto, none, compact or dinov2")] = "auto",
    detector_model: Annotated[str, typer.Option(help="Folder or hub id of the detector; empty: the usual one")] = "",
    segmenter_model: Annotated[str, typer.Option(help="Folder or hub id of the segmenter")] = "",
    embedder_model: Annotated[str, typer.Option(help="Folder or hub id of the embedder")] = "",
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps")] = "cpu",
    precision: Annotated[str, typer.Option(help="float32, bfloat16 or float16")] = "float32",
    calibration: Annotated[str, typer.Option(help="JSON file that turns scores to shares of correct ones")] = "",
    connections_each: Annotated[
        int, typer.Option(min=1, max=400, help="Open connections from one address; raise it behind a proxy")
    ] = 100,
    requests: Annotated[int, typer.Option(min=1, help="Requests that are answered at once")] = 100,
    create: Annotated[bool, typer.Option("--create", help="Make the registry if it is not there")] = False,
) -> None:
    """Serve the page on which labels are accepted, rejected and corrected, until Ctrl-C.

    It prints a link that holds a token. Tokens of a file are made with [bold]flow_rag_vla live --new-token[/bold].

    [bold]Examples[/bold]

      flow_rag_vla label pictures/ --registry runs/registry     then

      flow_rag_vla review runs/registry

      flow_rag_vla review runs/registry --tokens lab.json --host 0.0.0.0 --media /data/pictures

      flow_rag_vla review runs/registry --detector detr --detector-model runs/detectors/cups/model --embedder compact

      flow_rag_vla review postgresql://lab@server/labels --files /data/labels --no-models
    """
    console = Console(soft_wrap=True, highlight=False)
    try:
        from flow_rag_vla.bringup.labeling_models import LabelingModels
        from flow_rag_vla.gateway.app import make_app
        from flow_rag_vla.gateway.labeling.labels import Labels
        from flow_rag_vla.gateway.labeling.models import Models
        from flow_rag_vla.gateway.labeling.pictures import Pictures
        from flow_rag_vla.gateway.labeling.section import NAME, labeling_section
        from flow_rag_vla.gateway.patience import Patience
        from flow_rag_vla.gateway.server import Server, ServerError
        from flow_rag_vla.labeling.backends import BackendSettings, make_pipeline
        from flow_rag_vla.labeling.registry.errors import RegistryError
        from flow_rag_vla.labeling.registry.registry import Registry
        from flow_rag_vla.labeling.training.jobs import Jobs
    except ImportError as error:
        said = f"{error}; install it: pip install 'flow_rag_vla[web,labeling]'"
        complain(console, said)
        raise typer.Exit(2) from error
    for folder in media:
        if not folder.is_dir():
            raise typer.BadParameter(f"--media {folder}: there is no such folder")
    access, secret = _access(tokens, name)
    settings = BackendSettings(
        detector, segmenter, embedder, detector_model, segmenter_model, embedder_model, device, precision,
        calibration=calibration,
    )  # fmt: skip
    memory = LabelingModels(device)
    try:
        with Registry(registry, files=files or None, create=create) as opened, _signals() as came:
            labels = Labels(
                opened, Pictures(media), Models((lambda: make_pipeline(settings, memory)) if models else None)
            )
            jobs = Jobs(opened.folder / "trainings")
            patience = Patience(connections_each=connections_each, requests=requests)
            with (
                _ended(console, jobs, came),
                Server(make_app(access, [labeling_section(labels, jobs)], patience), host, port) as server,
            ):
                counts = opened.statistics()
                left = counts.by_state["unreviewed"]
                console.print(f"{counts.objects} objects in {counts.images} pictures, {left} not reviewed")
                console.print(f"{server.url}{NAME}/" + (f"#token={secret}" if secret else ""), markup=False)
                console.print("Ctrl-C ends")
                while not came():
                    time.sleep(POLL_S)
    except (RegistryError, ServerError) as error:
        complain(console, error)
        raise typer.Exit(2) from error


def _access(tokens: str, name: str) -> tuple[Access, str]:
    """Who may do what, and the secret that is shown; empty if the tokens come from a file."""
    from flow_rag_vla.gateway.access import Access, AccessError, Role, load_access, new_token

    if tokens:
        try:
            return load_access(Path(tokens).expanduser()), ""
        except AccessError as error:
            raise typer.BadParameter(str(error)) from None
    token, secret = new_token(name or getpass.getuser(), Role.REVIEWER)
    return Access([token]), secret


@contextmanager
def _ended(console: Console, jobs: Jobs, came: Callable[[], int]) -> Iterator[None]:
    """Ends what is under way behind the block. That may take a while, so it says so, and how not to wait."""
    try:
        yield
    finally:
        before = came()
        if name := jobs.under_way:
            console.print(
                f"ending the job {name}: a training writes a checkpoint behind the step that it is in; Ctrl-C again "
                "ends it without, and it goes on from the one before",
                markup=False,
            )
        jobs.close(hurry=lambda: came() > before)


@contextmanager
def _signals() -> Iterator[Callable[[], int]]:
    """How many signals that end the command came so far."""
    came: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    handlers = {number: signal.signal(number, lambda received, _frame: came.append(received)) for number in numbers}
    try:
        yield lambda: len(came)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
