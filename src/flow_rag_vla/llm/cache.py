# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Answers kept for a while, by everything that the answer depends on."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from flow_rag_vla.llm.request import Request


def request_key(provider: str, model: str, request: Request, address: str = "") -> str:
    """SHA-256 of provider, model, server, messages, schema and sampling; deadline and cancellation do not matter."""
    schema = None if request.schema is None else [request.schema.__name__, request.schema.model_json_schema()]
    sampling = request.sampling
    whole = [
        provider,
        model,
        address,
        [
            [message.role, message.text, message.source]
            + [hashlib.sha256(picture.data).hexdigest() for picture in message.pictures]
            for message in request.messages
        ],
        schema,
        [sampling.max_tokens, sampling.temperature, sampling.top_p, sampling.seed],
    ]
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


def cacheable(request: Request) -> bool:
    """Whether an old answer is as good as a new one: not when the caller asked for chance."""
    return not request.sampling.temperature or request.sampling.seed is not None


class ResponseCache:
    """The last ``capacity`` answers, each for ``lifetime_s`` seconds. Safe between threads."""

    def __init__(self, capacity: int, lifetime_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._capacity, self._lifetime_s, self._clock = capacity, lifetime_s, clock
        self._entries: OrderedDict[str, tuple[float, str]] = OrderedDict()
        self._lock = threading.Lock()
        self.hits = self.misses = 0

    def get(self, key: str) -> str | None:
        """The text kept under a key; None if there is none or it is too old."""
        with self._lock:
            found = self._entries.get(key)
            if found is None or self._clock() - found[0] > self._lifetime_s:
                self._entries.pop(key, None)
                self.misses += 1
                return None
            self._entries.move_to_end(key)
            self.hits += 1
            return found[1]

    def put(self, key: str, text: str) -> None:
        """Keep a text that was valid."""
        if self._capacity <= 0:
            return
        with self._lock:
            self._entries[key] = self._clock(), text
            self._entries.move_to_end(key)
            while len(self._entries) > self._capacity:
                self._entries.popitem(last=False)

    def __len__(self) -> int:
        return len(self._entries)
