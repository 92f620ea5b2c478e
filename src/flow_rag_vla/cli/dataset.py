# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""``flow_rag_vla dataset``: bags become LeRobot data sets and back, and training data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from flow_rag_vla.cli.saying import warn

if TYPE_CHECKING:
    from flow_rag_vla.data.recorded_episode import RecordedEpisode

app = typer.Typer(
    help="Bags as LeRobot v3 data sets and back, and as demonstrations to train from.", no_args_is_help=True
)


@app.command()
def export(
    bags: list[Path] = typer.Argument(..., help="Bag folders, run folders or files."),
    folder: Path = typer.Option(..., "--to", help="Folder of the data set; must not exist."),
    video: bool = typer.Option(False, "--video", help="MP4 videos (small, lossy) instead of PNG pictures (exact)."),
    robot: str = typer.Option("panda", help="What the data set calls the robot."),
    successes: bool = typer.Option(False, "--successes", help="Only episodes that succeeded."),
) -> None:
    """Write the episodes of bags as one data set, with task text, success, failure events and interventions.

    [bold]Examples[/bold]

      flow_rag_vla dataset export runs/A runs/B --to my_set          PNG pictures, exact

      flow_rag_vla dataset export runs/A --video --successes --to my_set   small, lossy; successes only
    """
    from flow_rag_vla.data.lerobot.layout import DatasetError
    from flow_rag_vla.data.lerobot.writing import write_dataset

    console = Console(soft_wrap=True, highlight=False)
    episodes = recorded_episodes(bags)
    if successes:
        episodes = [episode for episode in episodes if episode.success]
    try:
        made = write_dataset(folder, episodes, video=video, robot=robot)
    except (DatasetError, OSError) as error:
        raise typer.BadParameter(str(error)) from None
    console.print(
        f"{made.folder}: {made.episodes} episodes, {made.frames} frames, {len(made.tasks)} tasks, cameras "
        f"{', '.join(made.cameras) or 'none'}, {made.bytes / 1e6:.1f} MB"
    )
    for sentence in made.left_out:
        warn(console, sentence)


@app.command("import")
def import_(
    folder: Path = typer.Argument(..., help="Folder of a LeRobot v3 data set of this robot."),
    bag: Path = typer.Option(..., "--to", help="Folder of the bag; must not exist."),
) -> None:
    """Write the episodes of a data set as a bag of the graph's topics, to be played, looked at and explained.

    [bold]Examples[/bold]

      flow_rag_vla dataset import my_set --to my_bag
    """
    from flow_rag_vla.data.definitions import installed_definitions
    from flow_rag_vla.data.lerobot.layout import DatasetError
    from flow_rag_vla.data.lerobot.reading import read_dataset
    from flow_rag_vla.data.recorded_episode import write_episodes

    try:
        episodes = list(read_dataset(folder))
        count = write_episodes(bag, episodes, installed_definitions())
    except (DatasetError, OSError, ValueError) as error:
        raise typer.BadParameter(str(error)) from None
    Console(soft_wrap=True, highlight=False).print(f"{bag}: {len(episodes)} episodes, {count} messages")


@app.command()
def shards(
    sources: list[Path] = typer.Argument(..., help="Bags, run folders or LeRobot v3 data sets."),
    folder: Path = typer.Option(..., "--to", help="Folder for the shard that `flow_rag_vla train --from` reads."),
    failed: bool = typer.Option(False, "--failed", help="Take episodes that failed, too."),
) -> None:
    """Write demonstrations to train from. Stretches around failures are marked as not to be learned.

    [bold]Examples[/bold]

      flow_rag_vla dataset shards runs/A my_set --to shards
    """
    from flow_rag_vla.data.demonstrations import DemonstrationError, write_shard
    from flow_rag_vla.learn.bag_demonstrations import demonstrations

    found = list(demonstrations(recorded_episodes(sources), only_successes=not failed))
    path = folder / "recorded.npz"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_shard(path, found)
    except (DemonstrationError, OSError) as error:
        raise typer.BadParameter(str(error)) from None
    Console(soft_wrap=True, highlight=False).print(f"{path}: {len(found)} demonstrations")


def recorded_episodes(sources: list[Path]) -> list[RecordedEpisode]:
    """The episodes of bags, run folders and data sets.

    Raises:
        typer.BadParameter: for one that cannot be read.
    """
    from flow_rag_vla.data.bag import BagError
    from flow_rag_vla.data.lerobot.layout import DatasetError
    from flow_rag_vla.data.lerobot.reading import read_dataset
    from flow_rag_vla.data.recorded_episode import episodes_of_bag
    from flow_rag_vla.evaluate.decisions.reading import bag_of

    episodes: list[RecordedEpisode] = []
    for source in sources:
        try:
            if (source / "meta" / "info.json").is_file():
                episodes.extend(read_dataset(source))
            else:
                episodes.extend(episodes_of_bag(bag_of(source)))
        except (BagError, DatasetError, OSError) as error:
            raise typer.BadParameter(str(error)) from None
    return episodes
