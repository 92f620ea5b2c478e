# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""``flow_rag_vla calibrate``: what success looks like, learned from recorded or simulated episodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from flow_rag_vla.cli.calibration_check import check_calibration, check_origin
from flow_rag_vla.cli.saying import complain, warn

if TYPE_CHECKING:
    from flow_rag_vla.cli.progress import StageBars
    from flow_rag_vla.failure.before_after import BeforeAfter
    from flow_rag_vla.failure.calibration import Calibration
    from flow_rag_vla.failure.trace import Origin, Trace

OUTPUT = Path("calibration.safetensors")
SHIPPED = "shipped"
KEPT = "; scores and probe: "
"""Between where bands come from and where what was learned does, in a calibration's own words."""


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
    before_after: Annotated[
        Path | None,
        typer.Option(help="Also teach the before/after classifier, by 50 failures, and write it here with its band"),
    ] = None,
    keep: Annotated[
        str | None,
        typer.Option(
            help="Keep what this calibration has learned: the runs set bands and threshold only; or 'shipped'"
        ),
    ] = None,
    check: Annotated[
        str | None,
        typer.Option(help="Make nothing: count alarms of this calibration on the bags; 'shipped': the one that ships"),
    ] = None,
    work: Annotated[
        Path | None, typer.Option(help="Folder that keeps simulated episodes: a second call does not run them again")
    ] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="Policy folder; default: the one that ships")] = None,
    encoder: Annotated[str, typer.Option(help="Encoder that the policy was trained with")] = "compact",
    workers: Annotated[int, typer.Option(min=1, help="Processes that simulate")] = 2,
    seed: Annotated[int, typer.Option(min=0, help="Seed of splits and weights")] = 0,
) -> None:
    """Calibrate the failure monitor on success episodes: at least 30; for 5 % of false alarms 19 are held out.

    The calibration belongs to one encoder and one policy and is refused with any other. The failure detector loads it
    by its parameter [bold]calibration[/bold]. With [bold]--keep[/bold] all recorded successes set bands and threshold,
    and what scores and probe have learned stays: it takes seconds, and needs no recorded failure for a probe.

    [bold]Examples[/bold]

      flow_rag_vla calibrate runs                          every recorded run in runs/

      flow_rag_vla calibrate runs --keep shipped           bands and threshold of these runs, the shipped probe

      flow_rag_vla calibrate runs/2026-01-31_12-00-00 --rate 0.1

      flow_rag_vla calibrate runs --check shipped          how often it would have raised an alarm there

      flow_rag_vla calibrate --simulate                    without recordings, about 12 minutes of a processor

      flow_rag_vla calibrate --simulate --episodes 120 --faults 0 --output quick.safetensors

      flow_rag_vla calibrate --simulate --before-after before_after.safetensors

      python -m flow_rag_vla.nodes.failure_detector --ros-args -p calibration:=/path/to/calibration.safetensors
    """
    from flow_rag_vla.cli.progress import StageBars, progress_display
    from flow_rag_vla.core.goal import UnknownTaskError, check_task
    from flow_rag_vla.failure.before_after_file import save_before_after
    from flow_rag_vla.failure.calibration import CalibrationError
    from flow_rag_vla.failure.calibration_file import save_calibration
    from flow_rag_vla.failure.trace import TraceError
    from flow_rag_vla.learn.bag_traces import BagTracesError
    from flow_rag_vla.learn.before_after import make_before_after
    from flow_rag_vla.learn.train_probe import make_calibration
    from flow_rag_vla.policy.checkpoint import CheckpointError
    from flow_rag_vla.policy.encoders import EncoderError

    console = Console()
    if bool(paths) == simulate:
        console.print("[red]give bags or runs to calibrate on, or --simulate; see --help for examples")
        raise typer.Exit(2)
    if simulate and (check is not None or keep is not None):
        console.print("[red]--check and --keep are for recorded runs: name them instead of --simulate")
        raise typer.Exit(2)
    if keep not in (None, SHIPPED) and before_after is not None:
        console.print("[red]--before-after gives the shipped classifier a new band beside --keep shipped only")
        raise typer.Exit(2)
    try:
        wanted = [check_task(name) for name in task or []]
        with progress_display(console) as display:
            bars = StageBars(display)
            if simulate:
                policy = None if checkpoint is None else str(checkpoint)
                found = _simulated(bars, episodes, faults, work, policy, encoder, workers)
            else:
                found = _recorded(console, bars, paths or [])
            successes = [trace for trace in found.successes if not wanted or trace.info.task in wanted]
            faulty = [trace for trace in found.faulty if not wanted or trace.info.task in wanted]
            if check is not None:
                check_calibration(console, _known(check), found.origin, successes)
                return
            classifier = None
            if keep is not None:
                made, classifier = _kept(keep, found, successes, rate, seed, before_after is not None)
            else:
                if before_after is not None:
                    _check_failures([*successes, *faulty])
                made = make_calibration(
                    successes,
                    faulty,
                    found.origin,
                    rate=rate,
                    source=found.source,
                    seed=seed,
                    progress=bars.bar("Bands and probe"),
                )
                if before_after is not None:
                    classifier = make_before_after(
                        successes, faulty, made, source=found.source, seed=seed, progress=bars.bar("Before and after")
                    )
        revision = save_calibration(output, made)
        if before_after is not None and classifier is not None:
            classifier = replace(classifier, calibration=revision)
            classifier = replace(classifier, revision=save_before_after(before_after, classifier))
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
    _tell(console, made, output, revision, rate)
    if classifier is not None:
        console.print(
            f"{before_after}: before/after classifier, revision {classifier.revision}, taught by "
            f"{classifier.successes} success episodes and {classifier.failures} failures; with calibration {revision}",
            highlight=False,
        )


def _check_failures(traces: Sequence[Trace]) -> None:
    from flow_rag_vla.failure.probe import FEWEST_FAILURES

    failures = sum(not trace.info.success for trace in traces)
    if failures < FEWEST_FAILURES:
        raise ValueError(
            f"--before-after: {failures} episodes failed, the classifier needs {FEWEST_FAILURES} of them; record more, "
            "simulate more --faults, or leave it out"
        )


@dataclass(frozen=True, slots=True)
class _Episodes:
    """What a calibration is made from. faulty: episodes with a fault, for the probe; source: in words."""

    origin: Origin
    successes: Sequence[Trace]
    faulty: Sequence[Trace]
    source: str


def _known(name: str) -> Calibration:
    from flow_rag_vla.failure.calibration_file import load_calibration

    return load_calibration(None if name == SHIPPED else name)


def _kept(
    name: str, found: _Episodes, successes: Sequence[Trace], rate: float, seed: int, with_classifier: bool
) -> tuple[Calibration, BeforeAfter | None]:
    """A calibration that keeps what another learned, and the shipped classifier with its band beside the new one."""
    from flow_rag_vla.failure.before_after import calibrate_before_after
    from flow_rag_vla.failure.before_after_file import load_before_after
    from flow_rag_vla.failure.calibration import recalibrated

    known = _known(name)
    if found.successes:
        check_origin(known, found.origin)
    source = f"{found.source}{KEPT}{known.source.rpartition(KEPT)[2]}"
    made, split = recalibrated(known, successes, rate=rate, source=source, seed=seed)
    if not with_classifier:
        return made, None
    old = load_before_after()
    old.check(made)
    return made, calibrate_before_after(
        old.network, made, split, successes=old.successes, failures=old.failures, source=source, seed=seed
    )


def _simulated(
    bars: StageBars, episodes: int, faults: int, work: Path | None, policy: str | None, encoder: str, workers: int
) -> _Episodes:
    from flow_rag_vla.learn.detection_data import CALIBRATION, TRAINING_FAULTS, collect_part

    calm, disturbed = replace(CALIBRATION, episodes=episodes), replace(TRAINING_FAULTS, episodes=faults)
    bar = bars.bar("Episodes")
    origin, successes = collect_part(calm, work, checkpoint=policy, encoder=encoder, workers=workers, progress=bar)
    faulty: Sequence[Trace] = ()
    if faults:
        bar = bars.bar("Episodes with a fault")
        _, faulty = collect_part(disturbed, work, checkpoint=policy, encoder=encoder, workers=workers, progress=bar)
    source = (
        f"simulated: {episodes} episodes from seed {calm.first_seed}, {faults} with a fault from seed "
        f"{disturbed.first_seed}"
    )
    return _Episodes(origin, successes, faulty, source)


def _recorded(console: Console, bars: StageBars, paths: Sequence[Path]) -> _Episodes:
    from flow_rag_vla.failure.trace import Origin
    from flow_rag_vla.learn.bag_traces import BagTraces, UnusableBagError, bag_folders, read_bag_traces

    folders = bag_folders(paths)
    bar, read = bars.bar("Bags"), BagTraces()
    for number, folder in enumerate(folders):
        try:
            read_bag_traces(folder, read)
        except UnusableBagError as error:
            if len(folders) == 1:
                raise
            warn(console, f"left out: {error}")
        bar(number + 1, len(folders), f"{len(read.traces)} episodes")
    for reason, count in sorted((read.skipped | read.refused).items()):
        console.print(f"left out, {count} times: {reason}", highlight=False)
    return _Episodes(read.origin or Origin("", "", "", ""), read.traces, (), f"{len(folders)} bags")


def _tell(console: Console, made: Calibration, output: Path, revision: str, rate: float) -> None:
    """Print what was calibrated, and whether there can be an alarm at the rate that was asked for."""
    origin = made.origin
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
    console.print(
        f"The failure_detector loads it by its parameter calibration: {output.resolve()}",
        highlight=False,
        soft_wrap=True,
    )
    if made.threshold == float("inf"):
        least = 1.0 / (len(made.peaks) + 1)
        console.print(
            f"[yellow]{len(made.peaks)} held-out episodes allow no rate below {least:.1%}: there will be scores, but "
            f"no alarm at {rate:.1%}; record more episodes or allow --rate {least:.2f}"
        )
