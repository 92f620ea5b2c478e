# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The gate of a memory's searches: which calibration is in force, and the situations that it is made from.

How a threshold follows from them is told in :mod:`calibration`. Both lie in the store, so that a restart, and another
program with the same file, have the same gate.
"""

from __future__ import annotations

from collections.abc import Sequence

from flow_rag_vla.memory.calibration import SITUATIONS_KEPT, Calibration, calibrate
from flow_rag_vla.memory.case import Array, CaseError, unit_embedding
from flow_rag_vla.memory.index import CaseIndex
from flow_rag_vla.memory.results import MemorySettings
from flow_rag_vla.memory.store import FailureStore


class Gate:
    """The gate of one store.

    Threads: any may look at ``calibration``, which is replaced as a whole: that needs no lock. One at a time may call
    the methods; the memory does while it keeps other changes out, and lets searches know afterwards.
    """

    def __init__(self, store: FailureStore) -> None:
        self._store = store
        self.calibration: Calibration | None = None
        """In force; None while the default threshold is."""

    def reload(self, settings: MemorySettings) -> None:
        """Take the calibration that is stored, if it is of the encoder whose cases are.

        Raises:
            StoreError: if it cannot be read.
        """
        stamp = self._store.stamp
        found = Calibration.from_settings(self._store.settings()) if settings.calibrate else None
        self.calibration = found if found is not None and found.stamp == stamp else None

    def observe(self, situations: Sequence[tuple[str, str, Array]]) -> None:
        """Remember situations (task, phase, (D,) float32 embedding) without a failure; the newest stay.

        Raises:
            CaseError: if an embedding is no unit vector of the dimension of the cases.
            StoreError: if it cannot be written.
        """
        checked = [(task, phase, unit_embedding(vector)) for task, phase, vector in situations]
        stamp = self._store.stamp
        for _, _, vector in checked:
            if stamp is not None and vector.shape[0] != stamp.dimension:
                raise CaseError(f"embedding has {vector.shape[0]} numbers, but the cases are of {stamp}")
        self._store.add_situations(checked, SITUATIONS_KEPT)

    def recalibrate(self, index: CaseIndex, settings: MemorySettings) -> Calibration | None:
        """Put the calibration in force that follows from the cases of an index; None if there is too little to tell.

        Raises:
            StoreError: if it cannot be read or written; the one before stays in force then.
        """
        situations = self._store.situations(index.stamp.dimension)
        found = calibrate(index, situations, settings.false_retrieval_rate, settings.threshold)
        if found is not None:
            self._store.write_settings(found.to_settings())
        self.calibration = found
        return found
