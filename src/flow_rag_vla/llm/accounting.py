# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Who was asked how often, how many tokens that took, and what it cost."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace

from flow_rag_vla.llm.request import NO_USAGE, Usage


@dataclass(frozen=True, slots=True)
class Price:
    """Of a million tokens, in a currency of the user's choice."""

    input: float
    output: float

    def of(self, usage: Usage) -> float:
        """What a usage costs."""
        return (usage.input_tokens * self.input + usage.output_tokens * self.output) / 1e6


def parse_prices(entries: tuple[str, ...]) -> dict[str, Price]:
    """Prices from ``model=input/output`` entries, each for a million tokens. None ship: they change.

    Raises:
        ValueError: naming the entry that is none.
    """
    prices = {}
    for entry in entries:
        model, _, pair = entry.rpartition("=")
        try:
            given, taken = (float(value) for value in pair.split("/"))
        except ValueError:
            raise ValueError(f"price {entry!r} is not of the form model=input/output, as 'a-model=1.5/6'") from None
        if not model or not (0.0 <= given < float("inf") and 0.0 <= taken < float("inf")):
            raise ValueError(f"price {entry!r} names no model, or is below 0 or not finite")
        prices[model] = Price(given, taken)
    return prices


@dataclass(frozen=True, slots=True)
class Account:
    """Totals of one provider and model. ``cost`` leaves out calls whose model has no price (``unpriced``)."""

    calls: int = 0
    failures: int = 0
    usage: Usage = NO_USAGE
    cost: float = 0.0
    unpriced: int = 0


class Ledger:
    """Totals by provider and model. Failed and retried calls count too: they are paid for. Safe between threads."""

    def __init__(self, prices: Mapping[str, Price] | None = None) -> None:
        self._prices = dict(prices or {})
        self._accounts: dict[tuple[str, str], Account] = {}
        self._lock = threading.Lock()

    def cost(self, model: str, usage: Usage) -> float | None:
        """What a usage costs; None if the model has no price and tokens were used."""
        price = self._prices.get(model)
        if price is None:
            return None if usage != Usage() else 0.0
        return price.of(usage)

    def record(self, provider: str, model: str, usage: Usage, failed: bool) -> None:
        """Add one call."""
        cost = self.cost(model, usage)
        with self._lock:
            account = self._accounts.get((provider, model), Account())
            self._accounts[provider, model] = replace(
                account,
                calls=account.calls + 1,
                failures=account.failures + failed,
                usage=account.usage + usage,
                cost=account.cost + (cost or 0.0),
                unpriced=account.unpriced + (cost is None),
            )

    @property
    def accounts(self) -> dict[tuple[str, str], Account]:
        """By provider and model."""
        with self._lock:
            return dict(self._accounts)
