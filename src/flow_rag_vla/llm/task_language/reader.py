# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A command in either language to a plan."""

from __future__ import annotations

import re
import unicodedata

from flow_rag_vla.llm.schemas import TaskPlan
from flow_rag_vla.llm.task_language.english import read_english
from flow_rag_vla.llm.task_language.korean import read_korean
from flow_rag_vla.llm.task_language.meaning import Clause, Refused, plan, refusal

LONGEST = 600
"""Characters of a command. Whoever talks longer than this to a grammar does not mean a command."""

_HANGUL = re.compile(r"[\u1100-\u11ff\u3130-\u318f\uac00-\ud7a3]")


def read_command(text: str) -> TaskPlan:
    """The plan that a command means, or the refusal that says why there is none. Never raises."""
    try:
        return plan(_clauses(text))
    except Refused as refused:
        return refusal(refused)


def _clauses(text: str) -> list[Clause]:
    if len(text) > LONGEST:
        raise Refused("not_understood", f"a command of {len(text)} characters is too long; {LONGEST} are read")
    plain = unicodedata.normalize("NFKC", text).replace("\u2019", "'").lower().strip()
    hidden = next((mark for mark in plain if unicodedata.category(mark) in ("Cc", "Cf") and mark not in "\t\n\r"), None)
    if hidden is not None:
        raise Refused("not_understood", f"the text holds the invisible character U+{ord(hidden):04X}")
    if not plain:
        raise Refused("incomplete", "nothing is said")
    return read_korean(plain) if _HANGUL.search(plain) else read_english(plain)
