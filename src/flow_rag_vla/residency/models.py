# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The registered models, and how they hang together: what one needs, who leaves with it, whether it can ever fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flow_rag_vla.residency.errors import DependencyCycleError, InUseError, ModelTooLargeError, UnknownModelError
from flow_rag_vla.residency.ledger import Ledger
from flow_rag_vla.residency.model import ModelSpec, Place, State, dependency_order
from flow_rag_vla.residency.records import Entry


class Models:
    """By name. Its owner has the lock."""

    def __init__(self, ledger: Ledger) -> None:
        self.entries: dict[str, Entry] = {}
        self._ledger = ledger

    def __getitem__(self, name: str) -> Entry:
        try:
            return self.entries[name]
        except KeyError:
            raise UnknownModelError(f"no model {name!r}; registered: {self._known(self.entries)}") from None

    def add(self, specs: Sequence[ModelSpec]) -> None:
        """Register all or none; see :meth:`~flow_rag_vla.residency.manager.ResidencyManager.register`."""
        needs = {name: entry.spec.needs for name, entry in self.entries.items()}
        for spec in specs:
            if spec.name in needs:
                raise ValueError(f"model {spec.name!r} is registered already; forget it first")
            needs[spec.name] = spec.needs
            self._check_places(spec)
        added = {spec.name: Entry(spec, dict(spec.declared)) for spec in specs}
        known = {**self.entries, **added}
        for spec in specs:
            self._check_sum(self._ordered((spec.name,), needs), known, pins=False)
        self.entries.update(added)

    def remove(self, name: str) -> None:
        """Take a model that is in no memory off the list.

        Raises:
            InUseError: when it is in one, asked for, or needed by another.
        """
        entry = self[name]
        users = [other for other, one in self.entries.items() if name in one.spec.needs]
        if users or entry.state not in (State.COLD, State.FAILED) or entry.claims:
            raise InUseError(f"model {name!r} is {entry.state.value}, needed by: {', '.join(users) or 'a request'}")
        del self.entries[name]

    def closure(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """The models and all that they need, a model after what it needs.

        Raises:
            UnknownModelError: for one that is not registered.
        """
        if len(names) == 1 and not self[names[0]].spec.needs:
            return names
        return self._ordered(names, {name: entry.spec.needs for name, entry in self.entries.items()})

    def group(self, name: str) -> tuple[str, ...] | None:
        """A model and all resident ones that need it, dependents first; None if one of them cannot leave."""
        group: dict[str, None] = {}
        todo = [name]
        while todo:
            one = todo.pop()
            entry = self.entries[one]
            if entry.state in (State.COLD, State.FAILED, State.EVICTING) or (
                one != name and entry.state is State.PARKED
            ):
                continue
            if not self.can_leave(entry):
                return None
            group[one] = None
            if entry.state is State.RESIDENT:
                todo.extend(other for other, user in self.entries.items() if one in user.spec.needs)
        return tuple(reversed(group))

    def can_leave(self, entry: Entry) -> bool:
        """Whether nobody holds or wants a model that is in a memory."""
        return entry.state in (State.RESIDENT, State.PARKED) and not entry.claims and not entry.pinned

    def check_fits(self, closure: tuple[str, ...]) -> None:
        """Return if models fit beside what is pinned.

        Raises:
            ModelTooLargeError: if not, however long one waits.
        """
        self._check_sum(closure, self.entries, pins=True)

    def _check_places(self, spec: ModelSpec) -> None:
        budgets = self._ledger.budgets
        for place, size in spec.declared.items():
            if place not in budgets and (place is spec.home or spec.staged):
                raise ModelTooLargeError(
                    f"model {spec.name!r} needs {place.value}, of which there is none; declare another place or give "
                    "the manager a device"
                )
            if place in budgets and size > budgets[place] and place is spec.home:
                raise ModelTooLargeError(
                    f"model {spec.name!r} declares {size} bytes in {place.value}, the budget is "
                    f"{budgets[place]}; raise the budget or use a smaller or quantized model"
                )

    def _check_sum(self, closure: tuple[str, ...], entries: Mapping[str, Entry], *, pins: bool) -> None:
        beside = [
            name
            for name, entry in entries.items()
            if pins and name not in closure and entry.pinned and entry.state is not State.COLD
        ]
        for place, budget in self._ledger.budgets.items():
            wanted = sum(
                entries[name].declared[place]
                for name in closure
                if entries[name].spec.home is place or (entries[name].spec.staged and place is Place.HOST)
            )
            taken = sum(self._ledger.of(name, place) for name in beside)
            if wanted + taken > budget:
                raise ModelTooLargeError(
                    f"{', '.join(closure)} take {wanted} bytes in {place.value} together, beside {taken} of what is "
                    f"pinned ({', '.join(beside) or 'none'}), the budget is {budget}; raise the budget, unpin, or use "
                    "smaller models"
                )

    def _ordered(self, names: tuple[str, ...], needs: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
        try:
            return dependency_order(names, needs)
        except KeyError as error:
            raise UnknownModelError(f"no model {error.args[0]!r}; registered: {self._known(needs)}") from None
        except ValueError as error:
            raise DependencyCycleError(f"models need each other in a circle: {error}; remove one of these") from None

    @staticmethod
    def _known(names: Mapping[str, object]) -> str:
        return ", ".join(sorted(names)) or "none"
