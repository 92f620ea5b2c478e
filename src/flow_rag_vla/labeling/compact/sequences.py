# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Episodes of the scripted expert as videos with true identities: what tracks are judged on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from flow_rag_vla.control.integrator import TargetIntegrator
from flow_rag_vla.core.action import TICK_NS
from flow_rag_vla.labeling.compact.truth import TruthFrame, TruthRenderer
from flow_rag_vla.sim.camera import FRONT
from flow_rag_vla.sim.expert import ScriptedExpert
from flow_rag_vla.sim.ground import CameraModel
from flow_rag_vla.sim.scene import sample_scene
from flow_rag_vla.sim.world import World

TICKS = 240
"""Length of an episode."""


@dataclass(frozen=True, slots=True)
class TrueVideo:
    """Frames of one episode and their times in nanoseconds; identities stay the same throughout."""

    name: str
    stamps_ns: tuple[int, ...]
    frames: tuple[TruthFrame, ...]


def true_video(
    task: str,
    seed: int,
    *,
    camera: CameraModel = FRONT,
    size: tuple[int, int] = (320, 240),
    every_ticks: int = 4,
    ticks: int = TICKS,
) -> TrueVideo:
    """An episode in which the expert does its task, seen by one camera: things move, are held and are hidden.

    Args:
        task: one of ``core.goal.TASKS``.
        seed: of the scene and the expert.
        camera: which looks.
        size: (width, height) of the pictures.
        every_ticks: ticks of 25 ms between frames.
        ticks: length of the episode.
    """
    spec = sample_scene(task, "plain", seed)
    viewer = replace(camera, width=size[0], height=size[1])
    stamps, frames = [], []
    with World() as world, TruthRenderer() as renderer:
        state = world.reset(spec)
        renderer.reset(spec)
        expert = ScriptedExpert(world, spec.goal, np.random.default_rng([seed, 5]))
        integrator = TargetIntegrator()
        for tick in range(ticks):
            if tick % every_ticks == 0:
                renderer.update(world.scene_state())
                stamps.append(tick * TICK_NS)
                frames.append(renderer.render(viewer))
            target, _, _ = integrator.advance(expert.action(), state)
            state = world.step(target)
    return TrueVideo(f"{task} {seed}", tuple(stamps), tuple(frames))


def true_videos(first_seed: int, count: int, tasks: tuple[str, ...], *, ticks: int = TICKS) -> Iterator[TrueVideo]:
    """``count`` episodes of ``ticks`` ticks, the tasks in turn, of seeds from ``first_seed`` on."""
    for index in range(count):
        yield true_video(tasks[index % len(tasks)], first_seed + index, ticks=ticks)
