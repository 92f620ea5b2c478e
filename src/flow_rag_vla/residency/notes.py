# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Structured logs: one line of JSON an event."""

from __future__ import annotations

import json
import logging
from typing import Any


def note(log: logging.Logger, event: str, level: int = logging.DEBUG, **fields: Any) -> None:
    """Log an event with its fields. What JSON does not know is written as its text."""
    if log.isEnabledFor(level):
        log.log(level, "%s", json.dumps({"event": event, **fields}, default=str, ensure_ascii=False))
