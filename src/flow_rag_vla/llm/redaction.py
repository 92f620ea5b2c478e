# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Keeps secrets out of logs and error texts."""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Mapping

from flow_rag_vla.llm.errors import BadRequestError

HIDDEN = "[hidden]"

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

_SHAPES = re.compile(
    r"""(?xi)
    (?P<lead> \b(?:authorization|x-api-key|api[-_]?key|token|password|secret)["']?\s*[:=]\s*["']?(?:bearer\s+)?
            | \bbearer\s+ )
    (?P<value> [^\s"',;@}]{6,} )
    | (?P<user> ://[^/\s:@]+: ) [^/\s@]+ (?=@)
    | (?P<key> \b(?:sk|pk|hf|ghp|gho|xox[abp])[-_][A-Za-z0-9_\-]{8,} )
    """
)
_known: set[str] = set()
_lock = threading.Lock()


def remember_secret(value: str) -> None:
    """Hide this value from now on, wherever it turns up."""
    if len(value) >= 4:
        with _lock:
            _known.add(value)


def redact(text: str) -> str:
    """The text without known secrets and without what has a secret's shape."""
    with _lock:
        known = sorted(_known, key=len, reverse=True)
    for value in known:
        text = text.replace(value, HIDDEN)
    return _SHAPES.sub(lambda found: (found["lead"] or found["user"] or "") + HIDDEN, text)


class RedactingFilter(logging.Filter):
    """Put on a handler: what it writes is redacted, arguments and tracebacks included."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite the record; never drop it."""
        record.msg = redact(record.getMessage())
        record.args = None
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        if record.exc_text:
            record.exc_text = redact(record.exc_text)
        return True


def read_key(variable: str, environment: Mapping[str, str] | None = None) -> str:
    """The key in an environment variable, remembered as a secret; empty if it is not set.

    Raises:
        BadRequestError: for what cannot be a variable's name. It is not shown: most likely it is the key itself.
    """
    if not _NAME.fullmatch(variable):
        raise BadRequestError(
            "key_variable is not the name of an environment variable (letters, digits and _; it is not shown here, in "
            "case it is the key itself); put the key into a variable, and name that"
        )
    value = (os.environ if environment is None else environment).get(variable, "").strip()
    if value:
        remember_secret(value)
    return value
