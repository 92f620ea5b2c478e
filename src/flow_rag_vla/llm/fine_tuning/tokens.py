# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Conversations as tokens, with a mark on what is to be learned: the answers, not the questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from flow_rag_vla.llm.errors import BadRequestError
from flow_rag_vla.llm.fine_tuning.conversations import Conversation

IGNORED = -100
"""Label of a token that is read and not learned; the one that torch's cross entropy skips."""


@dataclass(frozen=True, slots=True)
class Example:
    """tokens, labels: (T,) each; a label is the token itself or ``IGNORED``."""

    tokens: tuple[int, ...]
    labels: tuple[int, ...]


def example(tokenizer: Any, conversation: Conversation) -> Example:
    """A conversation in the model's chat format.

    What was said before each answer is formatted by itself: the answer begins where the two differ in length.

    Raises:
        BadRequestError: for a tokenizer whose format is not of that kind, or without an end token.
    """
    messages = [{"role": turn.role, "content": turn.content} for turn in conversation.turns]
    whole = _formatted(tokenizer, messages, open_end=False)
    tokens = _tokens(tokenizer, whole)
    labels = [IGNORED] * len(tokens)
    for number, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        before = _formatted(tokenizer, messages[:number], open_end=True)
        after = _formatted(tokenizer, messages[: number + 1], open_end=False)
        if not (whole.startswith(before) and whole.startswith(after)):
            raise BadRequestError(
                "the model's chat format rewrites what was said before; give conversations of one question each"
            )
        start, end = len(_tokens(tokenizer, before)), len(_tokens(tokenizer, after))
        labels[start:end] = tokens[start:end]
    if all(label == IGNORED for label in labels):
        raise BadRequestError("no token of an answer is left to learn; look at the model's chat format")
    return Example(tuple(tokens), tuple(labels))


def padded(examples: Sequence[Example], padding: int, device: Any) -> dict[str, torch.Tensor]:
    """Inputs of a causal language model: input_ids, attention_mask and labels, each (examples, T) int64."""
    width = max(len(one.tokens) for one in examples)
    rows: dict[str, list[list[int]]] = {"input_ids": [], "attention_mask": [], "labels": []}
    for one in examples:
        free = width - len(one.tokens)
        rows["input_ids"].append([*one.tokens, *[padding] * free])
        rows["attention_mask"].append([1] * len(one.tokens) + [0] * free)
        rows["labels"].append([*one.labels, *[IGNORED] * free])
    return {name: torch.tensor(values, dtype=torch.int64, device=device) for name, values in rows.items()}


def _formatted(tokenizer: Any, messages: list[dict[str, str]], *, open_end: bool) -> str:
    if tokenizer.chat_template:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=open_end))
    # As the local provider asks a model without a chat format.
    text = "".join(
        f"{one['role']}: {one['content']}{tokenizer.eos_token if one['role'] == 'assistant' else ''}\n"
        for one in messages
    )
    return f"{text}assistant: " if open_end else text


def _tokens(tokenizer: Any, text: str) -> list[int]:
    return [int(token) for token in tokenizer(text, add_special_tokens=False).input_ids]
