# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Versions of datasets that are made while the server answers others: one at a time, watched and withdrawn."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field
from enum import Enum

from flow_rag_vla.labeling.datasets.errors import CanceledError, DatasetError
from flow_rag_vla.labeling.datasets.store import DatasetOrder, DatasetStore
from flow_rag_vla.labeling.pipeline.errors import LabelingError
from flow_rag_vla.labeling.registry.errors import RegistryError
from flow_rag_vla.labeling.registry.registry import Registry

LOGGER = logging.getLogger("flow_rag_vla.gateway")


class BuildState(str, Enum):
    """How far a build is."""

    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELED = "canceled"


@dataclass
class Build:
    """One build. The thread that makes it writes, others read; code and message say why it failed."""

    name: str
    state: BuildState = BuildState.RUNNING
    done: int = 0
    total: int = 0
    version: int = 0
    code: str = ""
    message: str = ""
    ended: threading.Event = field(default_factory=threading.Event)

    def progress(self, done: int, total: int, note: str = "") -> None:
        """Note how far it is.

        Raises:
            CanceledError: it was withdrawn.
        """
        self.done, self.total, self.message = done, total, note
        if self.ended.is_set():
            raise CanceledError("the build was withdrawn: nothing of it is left")


class Builds:
    """The builds of one server since it started: of each dataset the last one."""

    def __init__(self, registry: Registry, store: DatasetStore) -> None:
        """Build from ``registry`` into ``store``."""
        self._registry, self._store = registry, store
        self._builds: dict[str, Build] = {}
        self._lock = threading.Lock()

    def start(self, order: DatasetOrder, who: str) -> Build:
        """Begin a build.

        Raises:
            DatasetError: ``dataset_busy`` while one is under way.
        """
        with self._lock:
            for other in self._builds.values():
                if other.state is BuildState.RUNNING:
                    raise DatasetError(
                        f"a version of dataset {other.name} is being made: wait for it, or cancel it", "dataset_busy"
                    )
            build = self._builds[order.name] = Build(order.name)
        # A daemon: a server that stops does not wait for it, and what is unfinished is never taken for a version.
        threading.Thread(target=self._run, args=(build, order, who), name="dataset build", daemon=True).start()
        return build

    def _run(self, build: Build, order: DatasetOrder, who: str) -> None:
        try:
            made = self._store.build(self._registry, order, who=who, progress=build.progress)
        except CanceledError as error:
            build.code, build.message = error.code, str(error)
            build.state = BuildState.CANCELED
        except (LabelingError, RegistryError) as error:
            build.code = error.code.value if isinstance(error, RegistryError) else error.code
            build.message, build.state = str(error), BuildState.FAILED
        except Exception:
            LOGGER.exception("building dataset %s failed", order.name)
            build.code, build.message = "internal", "the server failed on this build; its log says where"
            build.state = BuildState.FAILED
        else:
            build.version, build.message = made.version, ""
            build.state = BuildState.FINISHED

    def last(self, name: str) -> Build | None:
        """The last build of a dataset, or None."""
        return self._builds.get(name)

    def cancel(self, name: str) -> Build | None:
        """Withdraw the build of a dataset; None if there was none."""
        build = self._builds.get(name)
        if build is not None:
            build.ended.set()
        return build
