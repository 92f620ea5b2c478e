# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Forms take the fields that they declare and no others, as bodies of JSON do by themselves."""

from __future__ import annotations

import copy
from collections.abc import Callable, Coroutine, Iterator, Mapping
from typing import Any

from fastapi import Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.params import Form
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from flow_rag_vla.gateway.errors import GatewayError

_FORMS = ("multipart/form-data", "application/x-www-form-urlencoded")


def closed_forms(document: Mapping[str, Any], section: str) -> dict[str, Any]:
    """An OpenAPI document that says of the forms of a section what ``FormRoute`` does: further fields are refused.

    Args:
        document: as FastAPI makes it; it describes what a form may hold, and not that nothing else may be in it.
        section: tag of the routes, all of which are of ``FormRoute``.
    """
    closed = copy.deepcopy(dict(document))
    schemas = closed.get("components", {}).get("schemas", {})
    for operations in closed["paths"].values():
        for operation in operations.values():
            if section not in operation.get("tags", ()):
                continue
            content = operation.get("requestBody", {}).get("content", {})
            for kind in _FORMS:
                place = content.get(kind, {}).get("schema", {})
                # A form's schema is its own: FastAPI makes one for each route.
                schema = schemas[place["$ref"].rpartition("/")[2]] if "$ref" in place else place
                if "properties" in schema:
                    schema["additionalProperties"] = False
    return closed


class FormRoute(APIRoute):
    """A route that refuses a field of a form that it does not declare: a misspelt threshold would be the usual one."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """As FastAPI, with a look at the names first."""
        answer = super().get_route_handler()
        if self.body_field is None or not isinstance(self.body_field.field_info, Form):
            return answer
        known = sorted(set(_fields(self.dependant)))

        async def checked(request: Request) -> Response:
            await _check_fields(request, known)
            return await answer(request)

        return checked


def _fields(dependant: Dependant) -> Iterator[str]:
    yield from (field.alias for field in dependant.body_params)
    for further in dependant.dependencies:
        yield from _fields(further)


async def _check_fields(request: Request, known: list[str]) -> None:
    try:
        # The request keeps it for FastAPI, which asks for it next.
        form = await request.form()
    except (GatewayError, HTTPException):
        raise
    except Exception:
        # No form at all: FastAPI reads it in its turn and says so.
        return
    strange = sorted(set(form) - set(known))
    if strange:
        # What came as a file lies on the disk.
        await form.close()
        raise GatewayError(
            422,
            "unknown_field",
            f"this form takes no field {strange[0][:80]!r}",
            f"leave it out; known: {', '.join(known)}",
        )
