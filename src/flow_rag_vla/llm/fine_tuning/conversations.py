# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Conversations to learn from: a JSON object a line, ``{"conversations": [{"role": ..., "content": ...}, ...]}``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flow_rag_vla.core.files import replaced_file
from flow_rag_vla.llm.errors import BadRequestError

ROLES = ("system", "user", "assistant")
MAX_CHARACTERS = 100_000
"""Of one conversation; a longer one is a mistake in what made it."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What one side said. role: one of ``ROLES``."""

    role: str
    content: str

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise BadRequestError(f"a turn has the role {self.role!r}, expected one of {', '.join(ROLES)}")
        if not isinstance(self.content, str) or not self.content.strip():
            raise BadRequestError(f"a turn of {self.role} says {self.content!r:.40}, expected words")


@dataclass(frozen=True, slots=True)
class Conversation:
    """Turns that end with the answer to learn; a system turn only first, then user and assistant in turn.

    Raises:
        BadRequestError: for anything else.
    """

    turns: tuple[Turn, ...]

    def __post_init__(self) -> None:
        roles = [turn.role for turn in self.turns]
        spoken = roles[1:] if roles[:1] == ["system"] else roles
        expected = ["user", "assistant"] * (len(spoken) // 2)
        if not spoken or spoken != expected:
            raise BadRequestError(
                f"a conversation has the turns {', '.join(roles) or 'none'}; expected an optional system turn, then "
                "user and assistant in turn, the last of the assistant"
            )
        length = sum(len(turn.content) for turn in self.turns)
        if length > MAX_CHARACTERS:
            raise BadRequestError(f"a conversation has {length} characters, at most {MAX_CHARACTERS} are taken")

    @property
    def key(self) -> str:
        """12 hex digits that name what was said before the last answer."""
        asked = json.dumps([[turn.role, turn.content] for turn in self.turns[:-1]], ensure_ascii=False)
        return hashlib.sha256(asked.encode()).hexdigest()[:12]

    @property
    def answer(self) -> str:
        """The last turn, which is to be learned."""
        return self.turns[-1].content

    def to_json(self) -> str:
        """One line."""
        turns = [{"role": turn.role, "content": turn.content} for turn in self.turns]
        return json.dumps({"conversations": turns}, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Conversation:
        """Read what :meth:`to_json` wrote.

        Raises:
            BadRequestError: for anything else.
        """
        try:
            content: Any = json.loads(text)
            turns = tuple(Turn(item["role"], item["content"]) for item in content["conversations"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise BadRequestError(f"no conversation: {type(error).__name__}: {error}") from None
        return cls(turns)


def write_conversations(path: Path, conversations: Iterable[Conversation]) -> int:
    """Replace a file; return how many were written. Of those that ask the same, the last one counts."""
    unique = {conversation.key: conversation for conversation in conversations}
    with replaced_file(path) as temporary:
        temporary.write_text("".join(one.to_json() + "\n" for one in unique.values()), encoding="utf-8")
    return len(unique)


def read_conversations(path: Path) -> list[Conversation]:
    """All of a file.

    Raises:
        BadRequestError: naming the file and the line that is none.
    """
    try:
        # Not splitlines: text may hold other separators of lines.
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise BadRequestError(f"{path} cannot be read: {error}") from error
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            found.append(Conversation.from_json(line))
        except BadRequestError as error:
            raise BadRequestError(f"{path}:{number}: {error}") from None
    if not found:
        raise BadRequestError(f"{path} holds no conversation; prepare some first")
    return found


def split(conversations: Sequence[Conversation], held_out: float) -> tuple[list[Conversation], list[Conversation]]:
    """To train with, and the fixed sample to judge with: by what is asked, so that it stays the same as data grow."""
    limit = int(held_out * 16**12)
    train = [one for one in conversations if int(one.key, 16) >= limit]
    return train, [one for one in conversations if int(one.key, 16) < limit]


def digest(conversations: Sequence[Conversation]) -> str:
    """12 hex digits over all that is said, in order."""
    whole = "\n".join(conversation.to_json() for conversation in conversations)
    return hashlib.sha256(whole.encode()).hexdigest()[:12]
