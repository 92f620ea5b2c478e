# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Refusals of the registry and of the pipeline as refusals of the gateway: same code, same words."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from fastapi import Request, Response
from fastapi.dependencies.models import Dependant

from flow_rag_vla.gateway.access import admitted, required
from flow_rag_vla.gateway.errors import GatewayError
from flow_rag_vla.gateway.labeling.forms import FormRoute
from flow_rag_vla.gateway.labeling.places import without_folders
from flow_rag_vla.gateway.labeling.schemas import Refusal
from flow_rag_vla.labeling.pipeline.errors import LabelingError, ModelError
from flow_rag_vla.labeling.registry.errors import BusyError, ErrorCode, RegistryError

_DATASETS = {
    "dataset_missing": 404,
    "dataset_exists": 409,
    "dataset_busy": 409,
    "dataset_corrupt": 409,
    "image_mismatch": 409,
    "disk_full": 507,
    "storage_failed": 500,
}
_VIDEOS = {"video_type": 415, "video_too_large": 413, "video_too_long": 413}
_STATUS = {**_VIDEOS, "image_too_large": 413, "image_missing": 404, "source_missing": 404, **_DATASETS}
_NOT_ACCEPTABLE_NOW = 412
RETRY_AFTER_S = 5
"""Of a registry that others write to, or a memory that others fill: who hears it has waited for a while already."""

RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"model": Refusal, "description": text}
    for status, text in (
        (400, "The request makes no sense."),
        (401, "No token came with it, or not a valid one."),
        (403, "The role is too low."),
        (404, "It is not there."),
        (409, "The present state forbids it."),
        (412, "It was changed since the version that If-Match names."),
        (413, "It is too large."),
        (415, "It is of a kind that is not taken."),
        (422, "A value makes no sense."),
        (503, "Too much is under way, or what it needs is missing: send it again later, as Retry-After says."),
    )
}
"""What any route here may answer besides its own."""


def refusal_of(error: RegistryError | LabelingError) -> GatewayError:
    """The same refusal over HTTP."""
    if isinstance(error, RegistryError):
        status = _NOT_ACCEPTABLE_NOW if error.code is ErrorCode.STALE_VERSION else error.http_status
        retry_after_s = RETRY_AFTER_S if isinstance(error, BusyError) else 0
        return GatewayError(status, error.code.value, error.message, error.remedy, retry_after_s=retry_after_s)
    message, _, remedy = str(error).rpartition(": ")
    status = 503 if isinstance(error, ModelError) else _STATUS.get(error.code, 422)
    retry_after_s = RETRY_AFTER_S if error.code == "model_busy" else 0
    remedy = remedy if message else "see the message"
    return GatewayError(status, error.code, message or str(error), remedy, retry_after_s=retry_after_s)


def outward(error: GatewayError) -> GatewayError:
    """The same refusal without the folders of this machine."""
    message, remedy = without_folders(error.message), without_folders(error.remedy)
    return GatewayError(error.status, error.code, message, remedy, retry_after_s=error.retry_after_s)


class LabelRoute(FormRoute):
    """A route that asks for its role before it reads a body, and whose refusals keep their codes.

    A parameter of the address that it does not know is refused: a misspelt filter would let everything pass. So is a
    field of a form (see ``FormRoute``) or of JSON (see ``schemas.Sent``).
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """As FastAPI, with the domain's errors translated."""
        answer = super().get_route_handler()
        role = required(dependency.call for dependency in self.dependant.dependencies)
        known = sorted(set(_parameters(self.dependant)))

        async def translated(request: Request) -> Response:
            try:
                if role is not None:
                    # FastAPI would parse an upload of megabytes first.
                    admitted(request, role)
                _check_parameters(request, known)
                return await answer(request)
            except (RegistryError, LabelingError) as error:
                raise outward(refusal_of(error)) from error
            except GatewayError as error:
                raise outward(error) from error

        return translated


def _parameters(dependant: Dependant) -> Iterator[str]:
    """Names that a route takes behind the ``?`` of its address."""
    yield from (field.alias for field in dependant.query_params)
    for further in dependant.dependencies:
        yield from _parameters(further)


def _check_parameters(request: Request, known: list[str]) -> None:
    strange = sorted(set(request.query_params) - set(known))
    if strange:
        raise GatewayError(
            422,
            "unknown_parameter",
            f"this address takes no parameter {strange[0][:80]!r}",
            f"leave it out; known: {', '.join(known) or 'none'}",
        )
