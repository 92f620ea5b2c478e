# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A hold on loaded models."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from flow_rag_vla.residency.errors import ClosedError

Note = tuple[tuple[str, ...], threading.Thread]
"""What a lease holds, and the thread that it was granted to. Not its number, which is given anew once it has ended."""


class Lease:
    """While it is open none of its models is evicted.

    A context manager. Releasing twice does nothing. One that is forgotten is released when it is collected.
    """

    __slots__ = ("__weakref__", "_finalizer", "_note", "_release", "_values", "names")

    def __init__(
        self,
        names: tuple[str, ...],
        values: Mapping[str, Any],
        note: Note,
        release: Callable[[Note], None],
        orphans: deque[Note],
    ) -> None:
        self.names = names
        self._values: Mapping[str, Any] | None = values
        self._note, self._release = note, release
        # The collector runs at any moment, also under the manager's lock: it only leaves a note.
        self._finalizer = weakref.finalize(self, orphans.append, note)
        self._finalizer.atexit = False

    @property
    def value(self) -> Any:
        """The model that was named first."""
        return self[self.names[0]]

    def __getitem__(self, name: str) -> Any:
        if self._values is None:
            raise ClosedError(f"the lease on {', '.join(self.names)} was released; take a new one")
        return self._values[name]

    def release(self) -> None:
        """Let the models go."""
        first = self._finalizer.detach() is not None
        self._values = None
        if first:
            self._release(self._note)

    def __enter__(self) -> Lease:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
