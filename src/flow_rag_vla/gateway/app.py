# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The application: sections side by side behind one set of tokens, one error format and one page of figures.

A section is a router, perhaps a folder with a page, and what it has to say about its state. The gateway knows nothing
of what a section does; see docs/live.md for how to add one.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse, RedirectResponse
from starlette.staticfiles import StaticFiles

from flow_rag_vla import __version__
from flow_rag_vla.gateway.access import Access, Door, Viewer
from flow_rag_vla.gateway.errors import install_handlers
from flow_rag_vla.gateway.limits import DEFAULT_BODY, BodyLimit, RequestLimit
from flow_rag_vla.gateway.metrics import CONTENT_TYPE, Metric, labelled, prometheus_text
from flow_rag_vla.gateway.patience import PATIENCE, Patience

_HEADERS: Mapping[str, str] = {
    # Everything comes from this server: no foreign script, style, picture or connection, and no page around this one.
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def _no_metrics() -> Iterable[Metric]:
    return ()


def _nothing_missing() -> Sequence[str]:
    return ()


def _nothing_to_close() -> None:
    return None


@dataclass(frozen=True, slots=True)
class Section:
    """One part of the application. Its router appears below ``/api/<name>``, its page at ``/<name>/``."""

    name: str
    router: APIRouter
    page: Path | None = None
    """Folder with an index.html, served as it is, to anybody: it may hold no data."""
    body_limit: int = DEFAULT_BODY
    """Bytes that a request below ``/api/<name>`` may send."""
    metrics: Callable[[], Iterable[Metric]] = field(default=_no_metrics)
    missing: Callable[[], Sequence[str]] = field(default=_nothing_missing)
    """What keeps it from being ready, a sentence each; none: it is ready."""
    body_limits: Mapping[str, int] = field(default_factory=dict)
    """Other limits, of the routes below ``/api/<name>`` that begin with these words."""
    close: Callable[[], None] = field(default=_nothing_to_close)
    """Ends what it has under way; called when the server ends."""


def make_app(access: Access, sections: Sequence[Section], patience: Patience = PATIENCE) -> FastAPI:
    """The application over these sections. ``/`` leads to the first page.

    Args:
        access: whose tokens are taken.
        sections: what there is.
        patience: how long a client may keep it waiting; the ``Server`` that it runs in takes it from here.

    ``/health`` (it answers), ``/ready`` (503 and reasons while a section misses something) and the pages are open;
    ``/metrics`` and everything below ``/api`` ask for a token.
    """

    @asynccontextmanager
    async def served(_app: FastAPI) -> AsyncIterator[None]:
        yield
        for section in sections:
            await asyncio.to_thread(section.close)

    # The pages of FastAPI itself load scripts from elsewhere.
    app = FastAPI(
        title="Flow-RAG-VLA", version=__version__, docs_url=None, redoc_url=None, openapi_url=None, lifespan=served
    )
    app.state.access, app.state.patience = access, patience
    install_handlers(app)
    answered: Counter[str] = Counter()

    # The last one that is added meets a request first.
    limits = {f"/api/{section.name}/": section.body_limit for section in sections}
    for section in sections:
        limits |= {f"/api/{section.name}/{path}": limit for path, limit in section.body_limits.items()}
    app.add_middleware(BodyLimit, limits=limits, default=DEFAULT_BODY, patience=patience)
    app.add_middleware(RequestLimit, patience=patience)
    # Who has no token holds no place.
    app.add_middleware(Door, access=access, prefix="/api/")

    @app.middleware("http")
    async def _dress(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        response = await call_next(request)
        answered[f"{response.status_code // 100}xx"] += 1
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "alive", "version": __version__}

    @app.get("/ready")
    async def ready() -> JSONResponse:
        missing = {section.name: list(section.missing()) for section in sections}
        whole = not any(missing.values())
        return JSONResponse({"ready": whole, "missing": missing}, status_code=200 if whole else 503)

    @app.get("/metrics")
    async def metrics(_person: Viewer) -> PlainTextResponse:
        figures = [
            labelled("flow_rag_vla_http_responses_total", "counter", "Responses by class of status.", "status",
                     {name: float(count) for name, count in sorted(answered.items())}),
        ]  # fmt: skip
        for section in sections:
            figures += section.metrics()
        return PlainTextResponse(prometheus_text(figures), media_type=CONTENT_TYPE)

    for section in sections:
        app.include_router(section.router, prefix=f"/api/{section.name}", tags=[section.name])
    pages = [section for section in sections if section.page is not None]
    for section in pages:
        app.mount(f"/{section.name}", StaticFiles(directory=section.page, html=True), name=section.name)
    if pages:
        first = f"/{pages[0].name}/"

        @app.get("/")
        async def root() -> RedirectResponse:
            return RedirectResponse(first)

    return app
