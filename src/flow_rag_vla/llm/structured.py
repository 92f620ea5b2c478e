# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""From a pydantic model to the schema that a provider is given, and from text back to a validated instance."""

from __future__ import annotations

import json
import re
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from flow_rag_vla.llm.errors import BadRequestError, StructureError

T = TypeVar("T", bound=BaseModel)

_BOUNDS = (
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "pattern",
    "format",
    "minItems",
    "maxItems",
)
_ORNAMENT = ("title", "default", "examples")
_FENCE = re.compile(r"\A\s*```(?:json)?\s*\n(?P<inside>.*)\n\s*```\s*\Z", re.DOTALL)


def json_schema(schema: type[BaseModel]) -> dict[str, Any]:
    """The model's JSON schema with all bounds, for constrained decoding.

    Raises:
        BadRequestError: for a model that has none (a field of a type that JSON does not know).
    """
    try:
        closed: dict[str, Any] = _closed(schema.model_json_schema())
    except Exception as error:
        raise BadRequestError(f"{schema.__name__} has no JSON schema: {error}") from error
    return closed


def hosted_schema(schema: type[BaseModel]) -> dict[str, Any]:
    """The dialect that hosted providers take in their strict modes.

    Every object is closed and all its fields are required. Bounds on numbers, lengths and counts are not accepted
    there: they move into the description, where the model reads them, and are checked when the answer comes back.
    """
    told: dict[str, Any] = _bounds_told(json_schema(schema))
    return told


def parse(text: str, schema: type[T]) -> T:
    """The instance that a text is.

    Strict: a number in quotes is no number. One Markdown fence around the whole is tolerated, since servers without a
    schema mode add it; anything else around the object is a miss.

    Raises:
        StructureError: naming each field that is wrong.
    """
    fenced = _FENCE.match(text)
    inside = fenced["inside"] if fenced else text
    if not inside.strip():
        raise StructureError(f"the answer is empty, expected a JSON object of {schema.__name__}")
    try:
        return schema.model_validate_json(inside, strict=True)
    except ValidationError as error:
        places = "; ".join(
            f"{'.'.join(str(part) for part in item['loc']) or 'the whole'}: {item['msg']}"
            for item in error.errors()[:5]
        )
        raise StructureError(f"no {schema.__name__}: {places}") from None


def complaint(miss: StructureError, schema: type[BaseModel]) -> str:
    """What a model is told after a miss."""
    return (
        f"That was not valid ({miss}). Answer again with one JSON object of {schema.__name__} and nothing else, inside "
        "all bounds."
    )


def schema_instruction(schema: type[BaseModel]) -> str:
    """The schema in words, for models that have no schema mode or follow it better when they are told."""
    shape = json.dumps(json_schema(schema), ensure_ascii=False)
    return f"Answer with one JSON object and nothing else. Its schema: {shape}"


def _closed(node: Any) -> Any:
    if isinstance(node, list):
        return [_closed(item) for item in node]
    if not isinstance(node, dict):
        return node
    closed: dict[str, Any] = {}
    for key, value in node.items():
        if key in ("properties", "$defs"):
            closed[key] = {name: _closed(item) for name, item in value.items()}
        elif key in ("enum", "const", "required"):
            closed[key] = value
        elif key not in _ORNAMENT:
            closed[key] = _closed(value)
    if closed.get("type") == "object" and "properties" in closed:
        closed["additionalProperties"] = False
        closed["required"] = list(closed["properties"])
    return closed


def _bounds_told(node: Any) -> Any:
    if isinstance(node, list):
        return [_bounds_told(item) for item in node]
    if not isinstance(node, dict):
        return node
    bounds = [f"{key} {node[key]}" for key in _BOUNDS if key in node and not isinstance(node[key], dict)]
    told: dict[str, Any] = {}
    for key, value in node.items():
        if key in ("properties", "$defs"):
            told[key] = {name: _bounds_told(item) for name, item in value.items()}
        elif key in ("enum", "const", "required"):
            told[key] = value
        elif key not in _BOUNDS:
            told[key] = _bounds_told(value)
    if bounds:
        told["description"] = f"{told.get('description', '')} ({', '.join(bounds)})".strip()
    return told
