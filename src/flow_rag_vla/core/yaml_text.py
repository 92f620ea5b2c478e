# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""YAML that others wrote, without what makes a small file a large one."""

from __future__ import annotations

from typing import Any

import yaml

MOST_VALUES = 1_000_000
"""Of a file, each counted as often as it is referred to: a kilobyte of aliases can stand for billions."""


def plain_yaml(text: str) -> Any:
    """What a YAML text says, if it can be walked through and printed whole.

    Tags that make objects are refused, as `yaml.safe_load` does.

    Raises:
        yaml.YAMLError: for text that is no YAML, is nested too deep, refers to itself, or stands for more than
            ``MOST_VALUES`` values.
    """
    try:
        found = yaml.safe_load(text)
        count = _count(found, {}, set())
    except RecursionError:
        raise yaml.YAMLError("it is nested too deep; write it flat") from None
    if count > MOST_VALUES:
        raise yaml.YAMLError(f"its aliases stand for more than {MOST_VALUES:,} values; write out what is meant")
    return found


def _count(value: Any, counted: dict[int, int], inside: set[int]) -> int:
    """How many values it is, walked through as a tree; each object is looked at once."""
    if not isinstance(value, (dict, list, set, tuple)):
        return 1
    key = id(value)
    if key in inside:
        raise yaml.YAMLError("an alias in it refers to what it is part of; write out what is meant")
    if key not in counted:
        inside.add(key)
        parts = [*value, *value.values()] if isinstance(value, dict) else value
        counted[key] = 1 + sum(_count(part, counted, inside) for part in parts)
        inside.discard(key)
    return counted[key]
