# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Words for how carefully something is to be done, as a share of the speed. None of them makes anything faster."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from types import MappingProxyType

SLOWLY, CAREFULLY = 0.5, 0.7
"""Shares of the speed. At both the tasks were done as often as at full speed (``flow_rag_vla bench pace``)."""

_ADVERBS = {"slowly": SLOWLY, "carefully": CAREFULLY, "gently": CAREFULLY}

ENGLISH: Mapping[str, float] = MappingProxyType(
    {
        **_ADVERBS,
        **{f"very {word}": speed for word, speed in _ADVERBS.items()},
        **{
            f"{one} and {other}": min(_ADVERBS[one], _ADVERBS[other])
            for one in _ADVERBS
            for other in _ADVERBS
            if one != other
        },
        "at half speed": SLOWLY,
        "at half the speed": SLOWLY,
        "with care": CAREFULLY,
    }
)
"""Words and phrases that the grammar takes, in lower case."""

KOREAN: Mapping[str, float] = MappingProxyType(
    {
        **dict.fromkeys(("천천히", "느리게", "느릿느릿"), SLOWLY),
        **dict.fromkeys(
            ("조심히", "조심조심", "조심스럽게", "조심해서", "살살", "부드럽게", "신중히", "신중하게"), CAREFULLY
        ),
    }
)
"""Words that the grammar takes."""

_SAID = (
    (re.compile(r"(?<![a-z])(?:slow(?:ly|er)?|half (?:the )?speed)(?![a-z])"), SLOWLY),
    (re.compile(r"(?<![a-z])(?:careful(?:ly)?|gent(?:le|ly)|with care)(?![a-z])"), CAREFULLY),
    (re.compile(r"천천히|느리게|느릿느릿"), SLOWLY),
    (re.compile(r"조심|살살|부드럽게|신중"), CAREFULLY),
)


def asked_speed(text: str) -> float:
    """The least share of the speed that any word of a text asks for, whatever else it says; 1 if none does."""
    plain = unicodedata.normalize("NFKC", text).lower()
    return min((speed for pattern, speed in _SAID if pattern.search(plain)), default=1.0)
