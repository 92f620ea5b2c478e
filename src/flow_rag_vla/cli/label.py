# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""``flow_rag_vla label``: a folder of pictures, a video or a bag becomes labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from flow_rag_vla.cli.moments import nanoseconds
from flow_rag_vla.cli.saying import complain

if TYPE_CHECKING:
    from flow_rag_vla.labeling.runs import RunReport, Sink
    from flow_rag_vla.labeling.sinks import RegistrySink

MOST_ERRORS_SHOWN = 10


def label(
    path: Annotated[Path, typer.Argument(help="Folder of pictures, one picture, video, or bag (folder or .mcap)")],
    prompts: Annotated[
        list[str], typer.Option("--prompt", "-p", help="What to look for; several times; none: all that is known")
    ] = [],  # noqa: B006 - Typer reads it and gives a new list
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder of the results; default: runs/labels/<name>")
    ] = None,
    threshold: Annotated[float, typer.Option(min=0.0, max=1.0, help="Least score that is kept")] = 0.5,
    synonyms: Annotated[
        list[str], typer.Option("--synonyms", help="category=word,word: other words for a category; several times")
    ] = [],  # noqa: B006 - Typer reads it and gives a new list
    detector: Annotated[str, typer.Option(help="compact, florence2, grounding_dino or detr")] = "compact",
    segmenter: Annotated[str, typer.Option(help="auto, none or sam2")] = "auto",
    embedder: Annotated[str, typer.Option(help="auto, none, compact or dinov2")] = "auto",
    detector_model: Annotated[str, typer.Option(help="Folder or hub id of the detector; empty: the usual one")] = "",
    segmenter_model: Annotated[str, typer.Option(help="Folder or hub id of the segmenter")] = "",
    embedder_model: Annotated[str, typer.Option(help="Folder or hub id of the embedder")] = "",
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps")] = "cpu",
    precision: Annotated[str, typer.Option(help="float32, bfloat16 or float16")] = "float32",
    calibration: Annotated[str, typer.Option(help="JSON file that turns scores to shares of correct ones")] = "",
    batch: Annotated[int, typer.Option(min=1, max=256, help="Pictures that go through the models at once")] = 4,
    tiles: Annotated[str, typer.Option(help="WIDTHxHEIGHT: also look in tiles of this size, for small things")] = "",
    topics: Annotated[list[str], typer.Option("--topic", help="Image topic of a bag; several times; none: all")] = [],  # noqa: B006 - Typer reads it and gives a new list
    every: Annotated[float, typer.Option(min=0.0, help="Least seconds between frames of a video or bag")] = 0.0,
    most: Annotated[int, typer.Option(min=0, help="Stop after so many pictures; 0: never")] = 0,
    overlays: Annotated[bool, typer.Option(help="Draw the labels over the pictures, as PNG")] = True,
    masks: Annotated[bool, typer.Option(help="Masks in labels.jsonl, as COCO run lengths")] = True,
    registry: Annotated[str, typer.Option(help="Registry to store the objects in: a folder or postgresql://")] = "",
    project: Annotated[str, typer.Option(help="Project of the registry")] = "default",
    licence: Annotated[
        str, typer.Option(help="Of what is labelled, such as CC-BY-4.0, for the cards of datasets made of the registry")
    ] = "",
    captured: Annotated[
        str, typer.Option(help="When it was taken, UTC (a video: began), such as 2026-11-20T14:30, for filters by time")
    ] = "",
    to_bag: Annotated[
        Path | None, typer.Option("--bag", help="New bag: all of the old one, and the labels beside the pictures")
    ] = None,
) -> None:
    """Find, outline and follow things in pictures, a video or a bag.

    It writes [bold]labels.jsonl[/bold] (a line a picture), [bold]tracks.json[/bold] (of videos and bags) and pictures
    with the labels drawn over them. A picture that cannot be read is named at the end; the others are labelled.
    It ends with 0 if all were, with 1 if some were not, with 2 if nothing could be done.

    [bold]Examples[/bold]

      flow_rag_vla label pictures/

      flow_rag_vla label drive.mp4 --every 0.5 -p "red cube" -p bin

      flow_rag_vla label runs/bags/episode_3 --bag runs/bags/episode_3_labelled --registry runs/registry

      flow_rag_vla label pictures/ --detector grounding_dino -p mug --synonyms "mug=cup,beaker" --device cuda
    """
    from flow_rag_vla.cli.progress import StageBars, progress_display
    from flow_rag_vla.labeling.backends import BackendSettings, make_pipeline
    from flow_rag_vla.labeling.pipeline import LabelingError, LabelRequest
    from flow_rag_vla.labeling.pipeline.request import parse_synonyms
    from flow_rag_vla.labeling.pipeline.tiles import parse_tiling
    from flow_rag_vla.labeling.runs import open_source, run_labeling
    from flow_rag_vla.labeling.sinks import BagSink, JsonLinesSink, OverlaySink, RegistrySink

    if (licence or captured) and not registry:
        raise typer.BadParameter(
            "--licence and --captured are kept with the source in a registry: name one, --registry"
        )
    taken_ns = nanoseconds(captured, "--captured")
    console = Console()
    try:
        request = LabelRequest(
            tuple(prompts), threshold, synonyms=parse_synonyms(synonyms), tiling=parse_tiling(tiles) if tiles else None
        )
        source = open_source(path, topics, every)
        pipeline = make_pipeline(
            BackendSettings(
                detector, segmenter, embedder, detector_model, segmenter_model, embedder_model, device, precision,
                batch, calibration,
            )
        )  # fmt: skip
        folder = output or Path("runs/labels") / (path.resolve().stem or "labels")
        sinks: list[Sink] = []
        stored = None
        if registry:
            from flow_rag_vla.labeling.registry.errors import DiskFullError, RegistryError, StorageError
            from flow_rag_vla.labeling.registry.registry import Registry

            try:
                files = folder / "registry" if "://" in registry else None
                stored = RegistrySink(
                    Registry(registry, files=files), source, pipeline, who="flow_rag_vla label", project=project,
                    request=request, licence=licence, captured_ns=taken_ns,
                )  # fmt: skip
            except RegistryError as error:
                of_the_place = isinstance(error, (DiskFullError, StorageError))
                elsewhere = "; or choose another place with --registry" if of_the_place else ""
                raise LabelingError(f"{error}{elsewhere}", error.code.value) from error
            sinks.append(stored)
        if to_bag is not None:
            sinks.append(BagSink(source, to_bag))
        # Last: what a run before this one wrote is written over only by one that can begin.
        sinks.append(JsonLinesSink(folder, masks=masks))
        if overlays:
            sinks.append(OverlaySink(folder))
        with progress_display(console) as display:
            bar = StageBars(display).bar(f"{source.kind} {path.name}"[:28])
            report = run_labeling(source, pipeline, request, sinks, batch=batch, most=most, progress=bar)
    except (LabelingError, OSError) as error:
        text = f"{error}; choose another place with --output" if isinstance(error, OSError) else str(error)
        complain(console, text)
        raise typer.Exit(2) from error
    _tell(console, report, folder, to_bag, registry if stored is not None else "", stored)
    if report.failed:
        raise typer.Exit(1)


def _tell(
    console: Console, report: RunReport, folder: Path, to_bag: Path | None, registry: str, stored: RegistrySink | None
) -> None:
    """What was done, and which pictures were not."""
    done = report.images - report.failed
    tracks = f", {len(report.tracks)} tracks" if report.tracks else ""
    console.print(f"{done} of {report.images} pictures labelled: {report.objects} objects{tracks}", highlight=False)
    if stored is not None:
        console.print(f"registry: {_stored(stored)}", highlight=False)
    if done:
        share = 1e3 / done
        times = report.times
        console.print(
            f"milliseconds a picture: detect {share * times.detect:.1f}, segment {share * times.segment:.1f}, "
            f"embed {share * times.embed:.1f}, pipeline {share * times.rest:.1f}",
            highlight=False,
        )
    places = [str(folder), *([f"bag {to_bag}"] if to_bag else []), *([f"registry {registry}"] if registry else [])]
    console.print(f"written to {', '.join(places)}", highlight=False, soft_wrap=True)
    for name, error in report.errors[:MOST_ERRORS_SHOWN]:
        console.print(f"[red]failed: {escape(name)}: {escape(str(error))}[/red]", highlight=False, soft_wrap=True)
    if report.failed > MOST_ERRORS_SHOWN:
        console.print(f"[red]and {report.failed - MOST_ERRORS_SHOWN} more; see {folder}/labels.jsonl")


def _stored(sink: RegistrySink) -> str:
    """What became of the objects in the registry."""
    known = sink.objects - sink.new - sink.labelled
    if sink.objects and known == sink.objects:
        return f"nothing new: all {known} objects were known"
    further = f", {sink.labelled} further labels of known ones" if sink.labelled else ""
    return f"{sink.new} new objects{further}, {known} known"
