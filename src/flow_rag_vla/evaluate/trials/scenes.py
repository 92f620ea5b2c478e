# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Which scene a start of a trial is."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from flow_rag_vla.evaluate.trials.protocol import Start, TrialError
from flow_rag_vla.sim.scene import VARIANTS, SceneSpec, sample_scene

DISPLACED_BY, DISPLACED_TURN = 0.010, 0.10
"""Metres and radians by which a nearby start moves what the task is about, at most."""


def check_scene(name: str) -> str:
    """The name of a scene variant.

    Raises:
        TrialError: if there is no such scene.
    """
    if name not in VARIANTS:
        raise TrialError(f"scene {name!r} is not known; known: {', '.join(VARIANTS)}")
    return name


def scene_of(task: str, scene: str, start: Start) -> SceneSpec:
    """What a start looks like.

    The n-th displacement of a seed's scene moves what the task is about by up to 10 mm in any direction and turns it by
    up to 0.1 rad, drawn from seed and n; everything else stays.
    """
    spec = sample_scene(task, scene, start.seed)
    if start.displaced == 0:
        return spec
    rng = np.random.default_rng((start.seed, start.displaced, 23))
    distance, heading = DISPLACED_BY * math.sqrt(rng.random()), rng.uniform(-math.pi, math.pi)
    turn = rng.uniform(-DISPLACED_TURN, DISPLACED_TURN)

    def moved(position: tuple[float, float, float]) -> tuple[float, float, float]:
        return (position[0] + distance * math.cos(heading), position[1] + distance * math.sin(heading), position[2])

    if spec.drawer is not None:
        drawer = replace(spec.drawer, position=moved(spec.drawer.position), yaw=spec.drawer.yaw + turn)
        return replace(spec, drawer=drawer)
    objects = tuple(
        replace(thing, position=moved(thing.position), yaw=thing.yaw + turn)
        if thing.name == spec.goal.target
        else thing
        for thing in spec.objects
    )
    return replace(spec, objects=objects)
