# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What a loader says it will take, before it takes it."""

from __future__ import annotations

from flow_rag_vla.residency.books import Books
from flow_rag_vla.residency.errors import CanceledError, ResidencyError
from flow_rag_vla.residency.records import Transfer
from flow_rag_vla.residency.room import Room


class OutgrownError(ResidencyError):
    """There is no room for what a loader really needs; more is evicted and it is called again."""

    kind = "outgrown"


class Claims:
    """Called by loaders through their transfer; see :class:`~flow_rag_vla.residency.model.Ticket`."""

    def __init__(self, books: Books, room: Room) -> None:
        self._books, self._room = books, room

    def __call__(self, transfer: Transfer, size: int) -> None:
        """Charge ``size`` bytes in the transfer's target, and remember them as declared. Not under the lock.

        Raises:
            OutgrownError: when there is no room for them.
            CanceledError: when the transfer was given up.
        """
        books = self._books
        with books.lock:
            entry = books.models.entries[transfer.name]
            if entry.transfer is not transfer or transfer.abandoned:
                raise CanceledError(f"the transfer of {transfer.name!r} was given up")
            extra = size - books.ledger.of(transfer.name, transfer.target)
            if extra <= 0:
                return
            entry.declared[transfer.target] = max(size, entry.declared.get(transfer.target, 0))
            if not self._room.fits(transfer.target, extra):
                raise OutgrownError(f"model {transfer.name!r} needs {size} bytes in {transfer.target.value}")
            books.ledger.charge(transfer.name, transfer.target, size)
