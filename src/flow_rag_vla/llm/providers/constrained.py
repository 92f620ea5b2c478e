# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Decoding that can only give JSON of one schema: a mask over the vocabulary at every token, from llguidance.

llguidance enforces numeric bounds, lengths and counts while decoding, and writes no optional white space, so an
answer's length is bounded by its schema. It is the engine that Outlines and vLLM also offer; used directly it is one
wheel without dependencies.
"""

from __future__ import annotations

import json
from typing import Any

import llguidance
import llguidance.hf
import numpy as np
import torch
from pydantic import BaseModel

from flow_rag_vla.llm.errors import BadRequestError, ProtocolError
from flow_rag_vla.llm.structured import json_schema


class Vocabulary:
    """A tokenizer as llguidance sees it. Built once a model: it takes about a second for a large one."""

    def __init__(self, tokenizer: Any) -> None:
        if tokenizer.eos_token_id is None:
            raise BadRequestError("the model's tokenizer has no end token, so an answer could not end")
        self.end: int = int(tokenizer.eos_token_id)
        self._tokenizer = llguidance.hf.from_tokenizer(tokenizer)

    def constraint(self, schema: type[BaseModel]) -> SchemaConstraint:
        """A constraint for one answer.

        Raises:
            BadRequestError: for a schema that llguidance does not take.
        """
        grammar = llguidance.LLMatcher.grammar_from_json_schema(
            json.dumps(json_schema(schema)), overrides={"whitespace_flexible": False}
        )
        matcher = llguidance.LLMatcher(self._tokenizer, grammar)
        if matcher.is_error():
            raise BadRequestError(f"{schema.__name__} cannot be decoded: {matcher.get_error()}")
        return SchemaConstraint(matcher, self.end)


class SchemaConstraint:
    """A logits processor of transformers, for one answer of batch size 1."""

    def __init__(self, matcher: llguidance.LLMatcher, end: int) -> None:
        self._matcher = matcher
        self._end = end
        self._prompt = -1

    @property
    def complete(self) -> bool:
        """Whether what was decoded is a whole answer."""
        return bool(self._matcher.is_accepting() or self._matcher.is_stopped())

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Mask ``scores`` (1, vocabulary) after ``input_ids`` (1, tokens), prompt included."""
        length = int(input_ids.shape[1])
        if self._prompt < 0:
            self._prompt = length
        elif not self._matcher.is_stopped() and not self._matcher.consume_token(int(input_ids[0, -1])):
            raise ProtocolError(f"decoding left the schema: {self._matcher.get_error()}")
        masked = torch.full_like(scores, float("-inf"))
        if self._matcher.is_stopped():
            masked[0, self._end] = 0.0
            return masked
        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        allowed = np.flatnonzero(np.unpackbits(bits, bitorder="little"))
        # A model may have more rows than its tokenizer has tokens.
        chosen = torch.from_numpy(allowed[allowed < scores.shape[1]]).to(scores.device)
        masked[0, chosen] = scores[0, chosen]
        return masked
