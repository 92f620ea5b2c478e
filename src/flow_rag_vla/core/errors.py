# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The base of errors that travel: in messages, records and logs, from where they arise to who must act."""

from __future__ import annotations

from typing import ClassVar


class TypedError(Exception):
    """Has a ``kind``, carried instead of a class name, and a text with the value, the place and the remedy."""

    kind: ClassVar[str] = "error"
    retryable: ClassVar[bool] = False
    """Whether the same request may succeed a moment later."""
