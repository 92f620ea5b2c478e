# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Demonstration episodes, and the shards in which they are kept.

A shard is an ``.npz``: arrays and text only, nothing that could run code when loaded.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.core.action import ACTION_DIM, TICK_NS
from flow_rag_vla.core.files import replaced_file
from flow_rag_vla.core.goal import Goal
from flow_rag_vla.core.state import RobotState

STATE_DIM = 9
"""Tool position (3, metres), orientation (4, quaternion x y z w), gripper width (metres), gripper effort (newtons)."""

POSE_DIM = 4
"""x, y, z (metres, base frame), yaw (radians)."""

_FORMAT = "flow_rag_vla.demonstrations/1"


class DemonstrationError(ValueError):
    """A demonstration or a shard is malformed; the message names what and where."""


@dataclass(frozen=True, slots=True)
class Demonstration:
    """One episode of T ticks with F camera frames.

    states: (T, STATE_DIM) float32, before the action of the same row
    actions: (T, 7) float32, metres and radians per tick, gripper 0 to 1
    usable: (T,) bool, False where an action is a disturbance that nobody should learn
    frame_ticks: (F,) int32, the tick at which each frame was taken, rising
    images: camera to (F, H, W, 3) uint8
    poses: (F, E, POSE_DIM) float32, true poses of ``entities``; NaN where one is not in the scene
    """

    goal: Goal
    variant: str
    seed: int
    success: bool
    states: NDArray[np.float32]
    actions: NDArray[np.float32]
    usable: NDArray[np.bool_]
    frame_ticks: NDArray[np.int32]
    images: Mapping[str, NDArray[np.uint8]]
    entities: tuple[str, ...]
    poses: NDArray[np.float32]

    def __post_init__(self) -> None:
        """Check that the parts fit together.

        Raises:
            DemonstrationError: naming the part that does not.
        """
        ticks, frames = self.states.shape[0], self.frame_ticks.shape[0]
        expected: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
            "states": (self.states.shape, (ticks, STATE_DIM)),
            "actions": (self.actions.shape, (ticks, ACTION_DIM)),
            "usable": (self.usable.shape, (ticks,)),
            "poses": (self.poses.shape, (frames, len(self.entities), POSE_DIM)),
        }
        for camera, pictures in self.images.items():
            expected[f"images[{camera}]"] = (pictures.shape, (frames, *pictures.shape[1:3], 3))
        for name, (found, wanted) in expected.items():
            if found != wanted:
                raise DemonstrationError(f"demonstration {self.label}: {name} has shape {found}, expected {wanted}")
        if not (np.isfinite(self.states).all() and np.isfinite(self.actions).all()):
            raise DemonstrationError(f"demonstration {self.label}: states or actions are not finite")
        if frames and not (int(self.frame_ticks[0]) >= 0 and int(self.frame_ticks[-1]) < ticks):
            raise DemonstrationError(f"demonstration {self.label}: frames lie outside its {ticks} ticks")

    @property
    def label(self) -> str:
        """Task, target, variant and seed."""
        return f"{self.goal.task}/{self.goal.target}/{self.variant}/{self.seed}"

    def state(self, tick: int) -> RobotState:
        """The robot at a tick of this episode; joints and wrench are not kept."""
        return state_from_row(self.states[tick], tick * TICK_NS)

    def chunk(self, tick: int, horizon: int) -> NDArray[np.float32] | None:
        """(horizon, 7) float32: the actions from ``tick`` on, or None where one of them is not usable.

        Past the end of the episode the robot stands still with the gripper as it was.
        """
        end = min(tick + horizon, self.actions.shape[0])
        if not self.usable[tick:end].all():
            return None
        rows = self.actions[tick:end]
        missing = horizon - rows.shape[0]
        if missing == 0:
            return rows
        rest = np.zeros((missing, ACTION_DIM), dtype=np.float32)
        rest[:, -1] = rows[-1, -1]
        return np.concatenate([rows, rest])


def state_row(state: RobotState) -> NDArray[np.float32]:
    """(STATE_DIM,) float32 of a robot state."""
    return np.array([*state.position, *state.orientation, state.gripper_width, state.gripper_effort], dtype=np.float32)


def state_from_row(row: NDArray[np.float32], stamp_ns: int) -> RobotState:
    """The robot state that ``state_row`` kept."""
    values = row.astype(np.float64)
    return RobotState(
        stamp_ns=stamp_ns,
        position=values[:3],
        orientation=values[3:7],
        gripper_width=float(values[7]),
        gripper_effort=float(values[8]),
    )


def write_shard(path: str | Path, demonstrations: Sequence[Demonstration]) -> None:
    """Write demonstrations to one file, whole or not at all.

    Raises:
        DemonstrationError: when there are none, or their cameras or entities differ.
    """
    if not demonstrations:
        raise DemonstrationError(f"no demonstrations to write to {path}")
    first = demonstrations[0]
    cameras = tuple(first.images)
    for item in demonstrations:
        if tuple(item.images) != cameras or item.entities != first.entities:
            raise DemonstrationError(
                f"demonstration {item.label} has cameras {tuple(item.images)} and entities {item.entities}, "
                f"the first of the shard {cameras} and {first.entities}"
            )
    header = {
        "format": _FORMAT,
        "cameras": cameras,
        "entities": first.entities,
        "episodes": [
            {
                "task": item.goal.task,
                "target": item.goal.target,
                "variant": item.variant,
                "seed": item.seed,
                "success": item.success,
                "ticks": int(item.states.shape[0]),
                "frames": int(item.frame_ticks.shape[0]),
            }
            for item in demonstrations
        ],
    }
    arrays: dict[str, NDArray[Any]] = {
        "header": np.frombuffer(json.dumps(header).encode(), dtype=np.uint8),
        "states": np.concatenate([item.states for item in demonstrations]),
        "actions": np.concatenate([item.actions for item in demonstrations]),
        "usable": np.concatenate([item.usable for item in demonstrations]),
        "frame_ticks": np.concatenate([item.frame_ticks for item in demonstrations]),
        "poses": np.concatenate([item.poses for item in demonstrations]),
    }
    for camera in cameras:
        arrays[f"images_{camera}"] = np.concatenate([item.images[camera] for item in demonstrations])
    # Level 1: rendered pictures shrink far more than tenfold, and a higher level costs more time than it saves.
    with (
        replaced_file(path) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
    ):
        for name, values in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, np.ascontiguousarray(values), allow_pickle=False)


def read_shard(path: str | Path) -> list[Demonstration]:
    """The demonstrations of one shard.

    Raises:
        DemonstrationError: when the file is missing, damaged or of another format.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            header = json.loads(archive["header"].tobytes())
            if header.get("format") != _FORMAT:
                raise DemonstrationError(f"{path} is of format {header.get('format')!r}, expected {_FORMAT!r}")
            arrays = {name: archive[name] for name in archive.files if name != "header"}
        return list(_episodes(header, arrays))
    except DemonstrationError:
        raise
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile, zipfile.LargeZipFile) as error:
        raise DemonstrationError(f"shard {path} cannot be read ({error}); collect the demonstrations again") from error


def read_shards(folder: str | Path) -> Iterator[Demonstration]:
    """Every demonstration of every shard of a folder, in order of file names."""
    for path in shard_paths(folder):
        yield from read_shard(path)


def shard_paths(folder: str | Path) -> list[Path]:
    """The shards of a folder, by name.

    Raises:
        DemonstrationError: when there are none.
    """
    paths = sorted(Path(folder).glob("*.npz"))
    if not paths:
        raise DemonstrationError(f"no demonstration shards (*.npz) in {folder}; collect some: flow_rag_vla train")
    return paths


def _episodes(header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Iterable[Demonstration]:
    tick = frame = 0
    for entry in header["episodes"]:
        ticks = slice(tick, tick + entry["ticks"])
        frames = slice(frame, frame + entry["frames"])
        tick, frame = ticks.stop, frames.stop
        yield Demonstration(
            goal=Goal(entry["task"], entry["target"]),
            variant=entry["variant"],
            seed=entry["seed"],
            success=entry["success"],
            states=arrays["states"][ticks],
            actions=arrays["actions"][ticks],
            usable=arrays["usable"][ticks],
            frame_ticks=arrays["frame_ticks"][frames],
            images={camera: arrays[f"images_{camera}"][frames] for camera in header["cameras"]},
            entities=tuple(header["entities"]),
            poses=arrays["poses"][frames],
        )
