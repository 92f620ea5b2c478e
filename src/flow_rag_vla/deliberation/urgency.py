# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""How an operator sounds, as a tag that can only make the robot more careful.

Words are looked up in a small list of our own with valence, arousal and dominance (Mehrabian and Russell 1974, "An
Approach to Environmental Psychology"), each from -1 to 1; what is not in the list says nothing. The tag is about the
words, never about a person's state, and never about the robot. Its whole effect is a lower speed and a question: no
text makes anything faster, wider or less asked for. Somebody in a hurry is answered with more care, not more speed.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

LONGEST = 2000
"""Characters that are looked at."""

SLOWEST = 0.5
"""Share of the speed that is left at the highest tension."""

ASK_FROM = 0.5
"""Tension from which a person is asked."""

_ENGLISH = {
    # valence, arousal, dominance
    "asap": (-0.1, 0.8, 0.3),
    "immediately": (-0.1, 0.7, 0.4),
    "urgent": (-0.4, 0.9, 0.1),
    "urgently": (-0.4, 0.9, 0.1),
    "hurry": (-0.3, 0.9, 0.1),
    "quick": (0.0, 0.6, 0.2),
    "quickly": (0.0, 0.6, 0.2),
    "fast": (0.0, 0.6, 0.2),
    "faster": (-0.1, 0.7, 0.2),
    "rush": (-0.4, 0.8, -0.1),
    "now": (0.0, 0.4, 0.3),
    "emergency": (-0.8, 1.0, -0.5),
    "help": (-0.5, 0.7, -0.6),
    "danger": (-0.9, 0.9, -0.5),
    "dangerous": (-0.8, 0.8, -0.5),
    "careful": (-0.2, 0.4, -0.1),
    "afraid": (-0.8, 0.6, -0.7),
    "scared": (-0.8, 0.7, -0.7),
    "worried": (-0.6, 0.5, -0.5),
    "nervous": (-0.5, 0.6, -0.5),
    "panic": (-0.9, 1.0, -0.8),
    "hurt": (-0.9, 0.7, -0.6),
    "broken": (-0.7, 0.3, -0.4),
    "fire": (-0.8, 0.9, -0.5),
    "damn": (-0.7, 0.7, 0.1),
    "angry": (-0.8, 0.8, 0.2),
    "annoyed": (-0.6, 0.5, 0.1),
    "stupid": (-0.7, 0.5, 0.3),
    "again": (-0.2, 0.1, 0.0),
    "please": (0.3, -0.1, 0.0),
    "thanks": (0.7, 0.0, 0.1),
    "gently": (0.4, -0.4, 0.0),
    "slowly": (0.1, -0.5, 0.0),
    "calm": (0.6, -0.7, 0.2),
    "relax": (0.6, -0.7, 0.2),
    "good": (0.7, 0.1, 0.2),
}

_KOREAN = {
    # Stems: endings and particles follow them.
    "빨리": (-0.2, 0.8, 0.2),
    "당장": (-0.3, 0.8, 0.4),
    "급해": (-0.4, 0.9, -0.1),
    "급하": (-0.4, 0.9, -0.1),
    "서둘": (-0.3, 0.9, 0.1),
    "얼른": (-0.1, 0.7, 0.1),
    "어서": (-0.1, 0.6, 0.1),
    "긴급": (-0.6, 0.9, -0.2),
    "응급": (-0.8, 1.0, -0.5),
    "비상": (-0.8, 1.0, -0.4),
    "위험": (-0.9, 0.9, -0.5),
    "조심": (-0.2, 0.4, -0.1),
    "도와": (-0.4, 0.6, -0.6),
    "무서": (-0.8, 0.7, -0.7),
    "무섭": (-0.8, 0.7, -0.7),
    "걱정": (-0.6, 0.5, -0.5),
    "불안": (-0.6, 0.6, -0.6),
    "다쳤": (-0.9, 0.8, -0.6),
    "다칠": (-0.9, 0.8, -0.6),
    "큰일": (-0.8, 0.9, -0.6),
    "짜증": (-0.7, 0.7, 0.1),
    "화나": (-0.8, 0.8, 0.2),
    "젠장": (-0.8, 0.8, 0.1),
    "천천히": (0.1, -0.5, 0.0),
    "살살": (0.3, -0.4, 0.0),
    "고마": (0.7, 0.0, 0.1),
    "감사": (0.7, 0.0, 0.1),
    "부탁": (0.3, -0.1, 0.0),
    "괜찮": (0.5, -0.3, 0.1),
}

LEXICON: Mapping[str, tuple[float, float, float]] = MappingProxyType({**_ENGLISH, **_KOREAN})
"""Valence, arousal and dominance of words, each -1 to 1. Korean ones are stems."""

_LOUD = 0.15
"""Arousal that an exclamation mark adds, and a word in capitals; three of them at most."""


@dataclass(frozen=True, slots=True)
class Urgency:
    """How a text sounds.

    valence, arousal, dominance: -1 to 1; 0 where no word says so
    tension: 0 to 1, from them; words: that were found
    """

    valence: float = 0.0
    arousal: float = 0.0
    dominance: float = 0.0
    tension: float = 0.0
    words: tuple[str, ...] = ()

    @property
    def speed_scale(self) -> float:
        """Share of the speed that is left, ``SLOWEST`` to 1."""
        return 1.0 - (1.0 - SLOWEST) * self.tension

    @property
    def asks(self) -> bool:
        """Whether a person is asked before anything is done."""
        return self.tension >= ASK_FROM

    def slowed(self, speed_scale: float) -> float:
        """A speed scale under this tag: never more than it was."""
        return min(speed_scale, self.speed_scale)


def urgency_of(text: str) -> Urgency:
    """How a text sounds. Never raises; what it says is not done."""
    plain = unicodedata.normalize("NFKC", text[:LONGEST])
    words = re.findall(r"[^\W\d_]+", plain)
    found: list[tuple[str, tuple[float, float, float]]] = []
    for word in words:
        low = word.lower()
        if low in _ENGLISH:
            found.append((low, _ENGLISH[low]))
        else:
            found += [(stem, values) for stem, values in _KOREAN.items() if low.startswith(stem)]
    loud = min(plain.count("!") + sum(len(word) > 2 and word.isascii() and word.isupper() for word in words), 3) * _LOUD
    if not found and not loud:
        return Urgency()
    # The extremes count, not the mean: a kind word beside an alarming one does not take the alarm away.
    valence = min((values[0] for _, values in found), default=0.0)
    arousal = min(1.0, max((values[1] for _, values in found), default=0.0) + loud)
    dominance = min((values[2] for _, values in found), default=0.0)
    tension = 0.5 * max(arousal, 0.0) + 0.3 * max(-valence, 0.0) + 0.2 * max(-dominance, 0.0)
    return Urgency(valence, arousal, dominance, min(tension, 1.0), tuple(dict.fromkeys(word for word, _ in found)))
