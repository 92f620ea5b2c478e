# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Every refusal over HTTP: a code for programs, a sentence for people, and what to do about it.

The body is always ``{"code": ..., "message": ..., "remedy": ...}``. What a client did wrong is a 4xx. A 503 says that
somebody else is missing (a node that is down), and a 500 is a bug of ours: its text tells nothing of the inside.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

LOGGER = logging.getLogger("flow_rag_vla.gateway")


class GatewayError(Exception):
    """A refusal, raised anywhere below a route.

    Args:
        status: HTTP status, 400 to 499, or 503 when another process is missing.
        code: one word in snake_case that does not change between versions.
        message: what was wrong, with the value and the place.
        remedy: what to do.
        retry_after_s: when the same request may succeed, for the header Retry-After; 0: nobody knows.
    """

    def __init__(self, status: int, code: str, message: str, remedy: str, *, retry_after_s: int = 0) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.remedy = status, code, message, remedy
        self.retry_after_s = retry_after_s

    def body(self) -> dict[str, str]:
        """The JSON body."""
        return {"code": self.code, "message": self.message, "remedy": self.remedy}


def bad_request(code: str, message: str, remedy: str) -> GatewayError:
    """A request that makes no sense: 400."""
    return GatewayError(400, code, message, remedy)


def not_found(code: str, message: str, remedy: str) -> GatewayError:
    """A thing that is not there: 404."""
    return GatewayError(404, code, message, remedy)


def conflict(code: str, message: str, remedy: str) -> GatewayError:
    """A request that the present state forbids: 409."""
    return GatewayError(409, code, message, remedy)


def unavailable(code: str, message: str, remedy: str, *, retry_after_s: int = 0) -> GatewayError:
    """Another process is missing or does not answer, or too much is under way: 503."""
    return GatewayError(503, code, message, remedy, retry_after_s=retry_after_s)


def respond(error: GatewayError) -> JSONResponse:
    """The response of a refusal."""
    headers = {"WWW-Authenticate": "Bearer"} if error.status == HTTPStatus.UNAUTHORIZED else {}
    if error.retry_after_s:
        headers["Retry-After"] = str(error.retry_after_s)
    return JSONResponse(error.body(), status_code=error.status, headers=headers)


def install_handlers(app: FastAPI) -> None:
    """Give every error of an application the one format."""
    app.add_exception_handler(GatewayError, _on_refusal)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(Exception, _on_bug)


async def _on_refusal(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, GatewayError)
    return respond(error)


async def _on_invalid(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return respond(
        GatewayError(
            422, "invalid_request", "; ".join(_problem(item) for item in error.errors()), "correct the named fields"
        )
    )


def _problem(item: Any) -> str:
    place: Sequence[Any] = item.get("loc", ())
    return f"{'.'.join(str(part) for part in place) or 'request'}: {item.get('msg', 'invalid')}"


_HTTP = {
    404: ("not_found", "there is nothing at {path}", "see the pages and routes in docs/live.md"),
    405: ("method_not_allowed", "{path} does not take {method}", "use the method that the documentation names"),
}


async def _on_http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    code, message, remedy = _HTTP.get(error.status_code, ("refused", str(error.detail), "see the message"))
    text = message.format(path=request.url.path, method=request.method)
    response = respond(GatewayError(error.status_code, code, text, remedy))
    for name, value in (error.headers or {}).items():
        response.headers[name] = value
    return response


async def _on_bug(request: Request, error: Exception) -> JSONResponse:
    LOGGER.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return respond(
        GatewayError(500, "internal", "the server failed on this request; its log says where", "report it with the log")
    )
