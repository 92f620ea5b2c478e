"""``flow_rag_vla calibrate``: what success looks like, learned from recorded or simulated episodes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from flow_rag_vla.cli.saying import complain

OUTPUT = Path("calibration.safetensors")


def calibrate(
    paths: Annotated[
        list[Path] | None, typer.Argument(help="Bags (.mcap or their folders), runs (runs/<time>), or folders of runs")
    ] = None,
    simulate: Annotated[
        bool, typer.Option("--simulate", help="Run episodes of the policy in this machine's simulator instead of bags")
    ] = False,
    episodes: Annotated[int, typer.Option(min=30, help="Simulated episodes without a fault")] = 560,
    faults: Annotated[
        int, typer.Option(min=0, help="Simulated episodes with a fault: 50 that fail teach the probe; 0: no probe")
    ] = 300,
    rate: Annotated[
        float, typer.Option(min=0.001, max=0.5, help="Share of success episodes that may raise an alarm")
    ] = 0.05,
    task: Annotated[list[str] | None, typer.Option(help="Task; repeat for several; default: all that occur")] = None,
    output: Annotated[Path, typer.Option(help="The calibration file")] = OUTPUT,
    work: Annotated[
        Path | None, typer.Option(help="Folder that keeps simulated episodes: a second call does not run them again")
    ] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="Policy folder; default: the one that ships")] = None,
    encoder: Annotated[str, typer.Option(help="Encoder that the policy was trained with")] = "compact",
    workers: Annotated[int, typer.Option(min=1, help="Processes that simulate")] = 2,
    seed: Annotated[int, typer.Option(min=0, help="Seed of splits and weights")] = 0,
) -> None:
    """Calibrate the failure monitor on success episodes: at least 30, and at least 20 held out per 5 % of false alarms.

    The calibration belongs to one encoder and one policy and is refused with any other. The failure detector loads it
    by its parameter [bold]calibration[/bold].

    [bold]Examples[/bold]

      flow_rag_vla calibrate runs                          every recorded run in runs/

      flow_rag_vla calibrate runs/2026-01-31_12-00-00 --rate 0.1

      flow_rag_vla calibrate --simulate --rate 0.02        the shipped one again, about 12 minutes of a processor

      flow_rag_vla calibrate --simulate --episodes 120 --faults 0 --output quick.safetensors

      ros2 run flow_rag_vla failure_detector --ros-args -p calibration:=/path/to/calibration.safetensors
    """
    from flow_rag_vla.cli.progress import StageBars, progress_display
    from flow_rag_vla.core.goal import UnknownTaskError, check_task
    from flow_rag_vla.failure.calibration import CalibrationError
    from flow_rag_vla.failure.calibration_file import save_calibration
    from flow_rag_vla.failure.trace import Origin, Trace, TraceError
    from flow_rag_vla.learn.bag_traces import BagTraces, BagTracesError, bag_folders, read_bag_traces
    from flow_rag_vla.learn.detection_data import Part, collect_part
    from flow_rag_vla.learn.train_probe import make_calibration
    from flow_rag_vla.policy.checkpoint import CheckpointError
    from flow_rag_vla.policy.encoders import EncoderError

    console = Console()
    if bool(paths) == simulate:
        console.print("[red]give bags or runs to calibrate on, or --simulate; see --help for examples")
        raise typer.Exit(2)
    successes: list[Trace] = []
    faulty: list[Trace] = []
    try:
        wanted = [check_task(name) for name in task or []]
        with progress_display(console) as display:
            bars = StageBars(display)
            if simulate:
                policy = None if checkpoint is None else str(checkpoint)
                bar = bars.bar("Episodes")
                part = Part("calibration", False, 40_000, episodes)
                origin, successes = collect_part(
                    part, work, checkpoint=policy, encoder=encoder, workers=workers, progress=bar
                )
                if faults:
                    bar = bars.bar("Episodes with a fault")
                    part = Part("training_faults", True, 30_000, faults)
                    _, faulty = collect_part(
                        part, work, checkpoint=policy, encoder=encoder, workers=workers, progress=bar
                    )
                source = f"simulated: {episodes} episodes from seed 40000, {faults} with a fault from seed 30000"
            else:
                folders = bag_folders(paths or [])
                bar, read = bars.bar("Bags"), BagTraces()
                for number, folder in enumerate(folders):
                    read_bag_traces(folder, read)
                    bar(number + 1, len(folders), f"{len(read.traces)} episodes")
                origin = read.origin or Origin("", "", "", "")
                successes, source = read.traces, f"{len(folders)} bags"
                for reason, count in sorted((read.skipped | read.refused).items()):
                    console.print(f"left out, {count} times: {reason}", highlight=False)
            if wanted:
                successes = [trace for trace in successes if trace.info.task in wanted]
                faulty = [trace for trace in faulty if trace.info.task in wanted]
            made = make_calibration(
                successes, faulty, origin, rate=rate, source=source, seed=seed, progress=bars.bar("Bands and probe")
            )
        revision = save_calibration(output, made)
    except (
        BagTracesError,
        CalibrationError,
        CheckpointError,
        EncoderError,
        TraceError,
        UnknownTaskError,
        ValueError,
    ) as error:
        complain(console, error)
        raise typer.Exit(2) from error
    table = Table("task", "success episodes")
    for name, count in made.episodes.items():
        table.add_row(name, str(count))
    console.print(table)
    probe = f"a probe taught by {made.failures} failures" if made.probe is not None else "no probe: too few failures"
    console.print(
        f"{output}: revision {revision}, encoder {origin.encoder} {origin.encoder_revision}, policy {origin.policy} "
        f"{origin.policy_revision}; {len(made.peaks)} episodes held out, {probe}",
        highlight=False,
    )
    if made.threshold == float("inf"):
        least = 1.0 / (len(made.peaks) + 1)
        console.print(
            f"[yellow]{len(made.peaks)} held-out episodes allow no rate below {least:.1%}: there will be scores, but "
            f"no alarm at {rate:.1%}; record more episodes or allow --rate {least:.2f}"
        )
