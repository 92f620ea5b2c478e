# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from flow_rag_vla.residency.manager import ResidencyManager
from flow_rag_vla.residency.model import ModelSpec, Place
from flow_rag_vla.residency.simulated import SimulatedDevice, SimulatedLoader

GPU, HOST, DISK = Place.GPU, Place.HOST, Place.DISK


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Bench:
    """A manager over simulated memories, and its loaders by name."""

    def __init__(self, gpu: int, host: int = 0, **settings: object) -> None:
        self.gpu = SimulatedDevice(GPU, gpu)
        self.devices = {GPU: self.gpu}
        if host:
            self.devices[HOST] = SimulatedDevice(HOST, host)
        self.manager = ResidencyManager(list(self.devices.values()), **settings)
        self.loaders: dict[str, SimulatedLoader] = {}

    def spec(
        self, name: str, size: int, *, really: int | None = None, parks: bool = False, **more: object
    ) -> ModelSpec:
        loader = {key: more.pop(key) for key in ("fail", "work", "announces") if key in more}
        self.loaders[name] = SimulatedLoader(self.devices, really or size, staged=bool(more.get("staged")), **loader)
        declared = {GPU: size, HOST: size} if parks else {GPU: size}
        return ModelSpec(name, self.loaders[name], declared, **more)

    def add(self, name: str, size: int, **more: object) -> SimulatedLoader:
        self.manager.register(self.spec(name, size, **more))
        return self.loaders[name]

    def state(self, name: str) -> str:
        return self.manager.snapshot().models[name].state.value


@pytest.fixture
def bench() -> Callable[..., Bench]:
    return Bench


@pytest.fixture
def clock() -> Clock:
    return Clock()


class Background:
    """A call on a thread of its own, its result or error kept."""

    def __init__(self, call: Callable[[], object]) -> None:
        self.result: object = None
        self.error: BaseException | None = None

        def run() -> None:
            try:
                self.result = call()
            except BaseException as error:
                self.error = error

        self.thread = threading.Thread(target=run, daemon=True)
        self.thread.start()

    def join(self) -> object:
        self.thread.join(60.0)
        assert not self.thread.is_alive(), "still waiting"
        if self.error is not None:
            raise self.error
        return self.result


@pytest.fixture
def background() -> type[Background]:
    return Background
