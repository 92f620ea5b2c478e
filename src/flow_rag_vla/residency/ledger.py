# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The bytes of each place: who has been charged how many. The one place that can say "over budget"."""

from __future__ import annotations

from collections.abc import Iterable

from flow_rag_vla.residency.model import Device, Place


class Ledger:
    """Charges by place and model. A charge that would pass the budget is refused, so the sum never does.

    Not safe between threads: its owner has the lock.
    """

    def __init__(self, devices: Iterable[Device]) -> None:
        self.budgets: dict[Place, int] = {}
        for device in devices:
            if device.place is Place.DISK or device.place in self.budgets:
                raise ValueError(
                    f"device {device.place.value!r} twice, or disk, which has no budget; give gpu and host"
                )
            if device.budget <= 0:
                raise ValueError(f"{device.place.value} has a budget of {device.budget} bytes; expected above 0")
            self.budgets[device.place] = device.budget
        if not self.budgets:
            raise ValueError("no devices; give at least one memory with a budget")
        self.peaks = dict.fromkeys(self.budgets, 0)
        self.foreign = dict.fromkeys(self.budgets, 0)
        self._charges: dict[Place, dict[str, int]] = {place: {} for place in self.budgets}
        self._sums = dict.fromkeys(self.budgets, 0)

    def limit(self, place: Place) -> int:
        """The budget less what was measured there beside the charges."""
        return self.budgets.get(place, 0) - self.foreign.get(place, 0)

    def charged(self, place: Place) -> int:
        """Bytes charged in a place."""
        return self._sums.get(place, 0)

    def free(self, place: Place) -> int:
        """Bytes that can still be charged; below 0 when measured pressure took them."""
        return self.limit(place) - self.charged(place)

    def of(self, name: str, place: Place) -> int:
        """Bytes charged to a model in a place."""
        return self._charges[place].get(name, 0) if place in self._charges else 0

    def charge(self, name: str, place: Place, size: int) -> None:
        """Set a model's charge in a place.

        Raises:
            RuntimeError: when it would pass the budget; that is a fault of the caller.
        """
        total = self._sums[place] - self.of(name, place) + size
        if total > self.budgets[place]:
            raise RuntimeError(
                f"{name!r} with {size} bytes would bring {place.value} to {total} of {self.budgets[place]}; evict first"
            )
        self._charges[place][name] = size
        self._sums[place] = total
        self.peaks[place] = max(self.peaks[place], total)

    def release(self, name: str, place: Place) -> int:
        """Take a model's charge back; return the bytes."""
        size = self._charges[place].pop(name, 0) if place in self._charges else 0
        if size:
            self._sums[place] -= size
        return size
