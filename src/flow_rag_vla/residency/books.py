# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What the one lock guards, and the order of all locks.

Lock order, outermost first; whoever has one may take only those below it:

1. ``Phases.turn``: one barrier at a time. Held while leases drain and devices are synchronized.
2. ``Books.lock`` (``Books.idle`` waits on it): models, bytes, requests, plans. Held for decisions only. No loader and
   no device runs under it, an eviction policy does: it only computes.
3. The workers' own condition, and the events that wake a waiting thread. Leaves: under them nothing else is taken.

A collected lease takes no lock at all: it leaves a note in ``Books.orphans``, and whoever looks next reads it.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from flow_rag_vla.residency.errors import ClosedError
from flow_rag_vla.residency.lease import Note
from flow_rag_vla.residency.ledger import Ledger
from flow_rag_vla.residency.model import Device
from flow_rag_vla.residency.models import Models
from flow_rag_vla.residency.notes import note
from flow_rag_vla.residency.records import Plan, Request
from flow_rag_vla.residency.workers import Workers

_LOG = logging.getLogger("flow_rag_vla.residency")

LOOK_S = 0.5
"""Longest sleep of anybody who waits: a lease that was forgotten wakes nobody."""


class Books:
    """Shared by the parts of one manager.

    Attributes:
        gate: name of the barrier that drains; empty: none.
        look: called under the lock after anything changed; :mod:`~flow_rag_vla.residency.admission` sets it.
    """

    def __init__(self, devices: Sequence[Device], clock: Callable[[], float]) -> None:
        self.lock = threading.Lock()
        self.idle = threading.Condition(self.lock)
        self.clock = clock
        self.ledger = Ledger(devices)
        self.devices = {device.place: device for device in devices}
        self.models = Models(self.ledger)
        self.queue: list[Request] = []
        self.plans: list[Plan] = []
        self.orphans: deque[Note] = deque()
        self.workers = Workers("residency")
        self.gate = ""
        self.closed = False
        self.look: Callable[[], None] = lambda: None
        self.counts = dict.fromkeys(
            ("leases", "hits", "loads", "parks", "evictions", "failures", "outgrown", "timeouts", "orphans"), 0
        )

    def check_open(self) -> None:
        """Raise ClosedError after the end."""
        if self.closed:
            raise ClosedError("the manager was closed; make a new one")

    def sleep(self, until: float) -> None:
        """Wait on ``idle`` until something changed, at the latest until ``until`` or for :data:`LOOK_S`."""
        self.idle.wait(max(0.001, min(LOOK_S, until - self.clock())))

    def note(self, event: str, level: int = logging.DEBUG, **fields: Any) -> None:
        """One line of JSON a transfer; leases that find their model are not told."""
        note(_LOG, event, level, **fields)
