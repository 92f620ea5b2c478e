# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Routes of the live page: a stream of what is new, and what a person may ask for."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, WebSocket
from fastapi import Path as InPath
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict, Field, StrictBool
from starlette.websockets import WebSocketDisconnect

from flow_rag_vla.core.failure import FailureType
from flow_rag_vla.core.goal import GOALS, UnknownTaskError, check_task
from flow_rag_vla.gateway.access import Access, Operator, Person, Reviewer, Role, Viewer
from flow_rag_vla.gateway.app import Section
from flow_rag_vla.gateway.errors import GatewayError, bad_request, conflict, not_found
from flow_rag_vla.gateway.live.board import Board, Cursor, plain
from flow_rag_vla.gateway.live.graph import CaseEdit, CaseQuery, Graph, Order
from flow_rag_vla.gateway.live.health import Readiness
from flow_rag_vla.gateway.live.pace import Audience, Pace
from flow_rag_vla.gateway.metrics import Metric, counter, gauge, labelled
from flow_rag_vla.gateway.sockets import admit, turn_away

PAGE = Path(__file__).parent / "page"

SECTION = "live"
BODY_LIMIT = 16_384
"""Bytes: an instruction or a note."""

_EXPORT = re.compile(r"cases_[0-9]{8}_[0-9]{6}_[0-9]{6}\.npz")

MALFORMED, FULL = 4400, 4429
"""Close codes of a stream."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class StartBody(_Strict):
    """What to do: an instruction, or a task by name."""

    instruction: str = Field("", max_length=500)
    task: str = Field("", max_length=100)
    variant: str = Field("", max_length=100)
    seed: int = Field(0, ge=0, le=2**31 - 1)
    timeout: float = Field(0.0, ge=0.0, le=3600.0, allow_inf_nan=False)


class AnswerBody(_Strict):
    """Yes or no to a plan, and why."""

    approved: StrictBool
    reason: str = Field("", max_length=400)


class ScoreBody(_Strict):
    """Whether an episode succeeded; which one is meant."""

    success: StrictBool
    episode: int = Field(ge=1, le=2**63 - 1)


class EditBody(_Strict):
    """What changes about a case; what is left out stays."""

    note: str | None = Field(None, max_length=2000)
    failure_type: str | None = Field(None, max_length=40)
    forget_correction: bool = False


class RetireBody(_Strict):
    """Out of every search, or back in, and why."""

    retired: bool
    reason: str = Field("", max_length=500)


class ExportBody(_Strict):
    """Which cases go into the file."""

    include_retired: bool = False


CaseId = Annotated[int, "id of a case"]
PlanName = Annotated[str, InPath(max_length=64)]


class _Live:
    """What the routes share."""

    def __init__(
        self, board: Board, graph: Graph, pace: Pace, audience: Audience, readiness: Readiness, exports: Path
    ) -> None:
        self.board, self.graph, self.pace = board, graph, pace
        self.audience, self.readiness, self.exports = audience, readiness, exports
        self.frames = 0


def live_section(
    board: Board, graph: Graph, pace: Pace, audience: Audience, readiness: Readiness, exports: Path
) -> Section:
    """The live page as a section of the gateway.

    Args:
        board: what the node fills.
        graph: the running graph.
        pace: how often pages are fed.
        audience: who looks; the node subscribes by it.
        readiness: which nodes are expected, and how they are.
        exports: folder for exported cases.
    """
    live = _Live(board, graph, pace, audience, readiness, exports)
    router = APIRouter()
    _add_stream(router, live)
    _add_motion(router, live)
    _add_person(router, live)
    _add_memory(router, live)
    return Section(
        SECTION,
        router,
        page=PAGE,
        body_limit=BODY_LIMIT,
        metrics=lambda: _metrics(live),
        missing=lambda: readiness.missing(board.nodes(), time.monotonic()),
    )


def _add_stream(router: APIRouter, live: _Live) -> None:
    @router.get("/person")
    async def person(request: Request, person: Viewer) -> dict[str, str | float | None]:
        access: Access = request.app.state.access
        return {"name": person.name, "role": person.role.word, "left_s": plain(access.left_s(person))}

    @router.get("/vocabulary")
    async def vocabulary(_person: Viewer) -> dict[str, list[str]]:
        return {
            "instructions": [goal.instruction for goal in GOALS],
            "failure_types": [kind.name.lower() for kind in FailureType],
        }

    @router.websocket("/stream")
    async def stream(socket: WebSocket) -> None:
        person = await admit(socket, Role.VIEWER)
        if person is None:
            return
        viewer = live.audience.enter()
        if viewer is None:
            await socket.close(FULL, "too many pages are open; close one")
            return
        try:
            await _feed(socket, live, viewer, person)
        except WebSocketDisconnect:
            pass
        finally:
            live.audience.leave(viewer)


async def _feed(socket: WebSocket, live: _Live, viewer: int, person: Person) -> None:
    """One frame for each request: a page that is slow, hidden or gone asks for none, and nothing waits for it."""
    access: Access = socket.app.state.access
    cursor, sent_s = Cursor(), 0.0
    pictures_s = 0.0
    while True:
        wants_images = _request(await _text(socket))
        if wants_images is None:
            await socket.close(MALFORMED, 'send {"next": true, "images": true or false}')
            return
        now_s = time.monotonic()
        live.audience.looked(viewer, wants_images, now_s)
        rates = live.pace.rates(now_s)
        await asyncio.sleep(max(sent_s + 1.0 / rates.data_hz - now_s, 0.0))
        try:
            access.still(person)
        except GatewayError as error:
            await turn_away(socket, error)
            return
        now_s = sent_s = time.monotonic()
        with_images = wants_images and now_s >= pictures_s + 0.9 / rates.image_hz
        if with_images:
            pictures_s = now_s
        frame = live.board.frame(cursor, with_images)
        frame["now"] = time.time() * 1000.0
        frame["pace"] = {"level": rates.level, "image_hz": rates.image_hz, "data_hz": rates.data_hz}
        await socket.send_text(json.dumps(frame, allow_nan=False, separators=(",", ":")))
        live.frames += 1


async def _text(socket: WebSocket) -> str | None:
    message = await socket.receive()
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(int(message.get("code") or 1000))
    text = message.get("text")
    return text if isinstance(text, str) else None


def _request(text: str | None) -> bool | None:
    """Whether a request wants pictures, or None if it is none."""
    try:
        message = json.loads(text or "")
    except (ValueError, RecursionError):
        return None
    if not isinstance(message, dict) or message.get("next") is not True:
        return None
    images = message.get("images", True)
    return images if isinstance(images, bool) else None


def _add_motion(router: APIRouter, live: _Live) -> None:
    @router.post("/emergency_stop")
    async def emergency_stop(_person: Operator) -> dict[str, Any]:
        # First it is latched, by a publication that waits for nobody; only then is anything asked.
        live.graph.publish_stop()
        try:
            return {"latched": True, "confirmed": True, "message": await live.graph.confirm_stop()}
        except GatewayError as error:
            return {"latched": True, "confirmed": False, "message": f"{error.message}; {error.remedy}"}

    @router.post("/release")
    async def release(_person: Operator) -> dict[str, str]:
        return {"message": await live.graph.release()}

    @router.post("/start")
    async def start(body: StartBody, _person: Operator) -> dict[str, str]:
        try:
            if body.task:
                check_task(body.task)
            elif not body.instruction.strip():
                raise bad_request("nothing_asked", "instruction and task are empty", "say what to do")
            # What words mean the episode manager finds out, with a language model where there is one. What it makes
            # of them, or why it does not, is on the page.
        except UnknownTaskError as error:
            raise bad_request("not_understood", str(error), "use one of the words that are understood") from None
        order = Order(body.instruction, body.task, body.variant, body.seed, body.timeout)
        return {"message": await live.graph.start(order)}

    @router.post("/stop")
    async def stop(_person: Operator) -> dict[str, str]:
        return {"message": await live.graph.stop()}


def _add_person(router: APIRouter, live: _Live) -> None:
    @router.post("/plans/{plan}/answer")
    async def answer(plan: PlanName, body: AnswerBody, person: Operator) -> dict[str, str]:
        return {"message": await live.graph.answer(plan, body.approved, person.name, body.reason)}

    @router.post("/score")
    async def score(body: ScoreBody, _person: Operator) -> dict[str, str]:
        episode = live.board.part("episode") or {}
        running = episode.get("id") if episode.get("state") == "running" else None
        if running != body.episode:
            now = "none runs" if running is None else f"episode {running} runs"
            raise conflict("another_episode", f"episode {body.episode} does not run; {now}", "judge the one that runs")
        return {"message": await live.graph.score(body.success)}


def _add_memory(router: APIRouter, live: _Live) -> None:
    @router.get("/memory/cases")
    async def cases(
        _person: Viewer,
        task: Annotated[str, Query(max_length=100)] = "",
        phase: Annotated[str, Query(max_length=100)] = "",
        failure_type: Annotated[list[str], Query(max_length=16)] = [],  # noqa: B006 - FastAPI copies it
        retired: bool = False,
        offset: Annotated[int, Query(ge=0, le=2**31 - 1)] = 0,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
    ) -> Any:
        kinds = tuple(_failure_type(word) for word in failure_type)
        return plain(await live.graph.cases(CaseQuery(task, phase, kinds, retired, offset, limit)))

    @router.get("/memory/cases/{case_id}")
    async def case(case_id: CaseId, _person: Viewer) -> Any:
        return plain(await live.graph.case(_checked(case_id)))

    @router.post("/memory/cases/{case_id}/edit")
    async def edit(case_id: CaseId, body: EditBody, _person: Reviewer) -> Any:
        kind = None if body.failure_type is None else _failure_type(body.failure_type)
        if body.note is None and kind is None and not body.forget_correction:
            raise bad_request("nothing_changes", "no field of the case is named", "name note or failure_type")
        await live.graph.edit(_checked(case_id), CaseEdit(body.note, kind, body.forget_correction))
        return plain(await live.graph.case(case_id))

    @router.post("/memory/cases/{case_id}/retire")
    async def retire(case_id: CaseId, body: RetireBody, person: Reviewer) -> Any:
        reason = body.reason or f"{'retired' if body.retired else 'restored'} by {person.name} on the live page"
        await live.graph.retire(_checked(case_id), body.retired, reason)
        return plain(await live.graph.case(case_id))

    @router.post("/memory/export")
    async def export(body: ExportBody, _person: Reviewer) -> dict[str, Any]:
        name = datetime.now().strftime("cases_%Y%m%d_%H%M%S_%f.npz")
        try:
            live.exports.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise GatewayError(
                503,
                "no_export_folder",
                f"the folder {live.exports} cannot be made: {error.strerror}",
                "set export_folder",
            ) from None
        exported = await live.graph.export(live.exports.resolve() / name, body.include_retired)
        return {"file": name, "folder": str(live.exports), "exported": exported}

    @router.get("/memory/exports/{name}")
    async def exported(name: str, _person: Reviewer) -> FileResponse:
        path = live.exports / name
        if not _EXPORT.fullmatch(name) or not path.is_file():
            raise not_found("no_export", f"there is no export {name!r} on this machine", "export the cases again")
        return FileResponse(path, media_type="application/octet-stream", filename=name)


def _checked(case_id: int) -> int:
    if not 0 < case_id < 2**63:
        raise not_found("no_case", f"there is no case {case_id}", "list the cases; their ids are positive")
    return case_id


def _failure_type(word: str) -> int:
    try:
        return int(FailureType[word.upper()])
    except KeyError:
        known = ", ".join(kind.name.lower() for kind in FailureType)
        raise bad_request("failure_type", f"failure type {word!r} is not known", f"use one of {known}") from None


def _metrics(live: _Live) -> Sequence[Metric]:
    now_s = time.monotonic()
    loop, memory = live.board.part("loop") or {}, live.board.part("memory") or {}
    nodes = live.board.nodes()
    metrics = [
        gauge("flow_rag_vla_live_viewers", "Pages that are open.", live.audience.size),
        gauge("flow_rag_vla_live_pace_level", "0: full rates; each level halves them.", live.pace.rates(now_s).level),
        counter("flow_rag_vla_live_frames_total", "Frames sent to pages.", live.frames),
        labelled("flow_rag_vla_node_up", "gauge", "1 while a node reports on /diagnostics and is not in error.", "node",
                 {name: float(up) for name, up in live.readiness.up(nodes, now_s).items()}),
        labelled("flow_rag_vla_node_memory_bytes", "gauge", "Resident memory of a node's process.", "node",
                 {name: float(values["figures"]["memory_mb"]) * 1e6 for name, values in nodes.items()
                  if _is_number(values.get("figures", {}).get("memory_mb"))}),
    ]  # fmt: skip
    for source, names in ((loop, _LOOP), (memory, _MEMORY)):
        metrics += [
            Metric(f"flow_rag_vla_{key}", kind, text, gauge("", "", float(source[field]) * scale).samples)
            for field, key, kind, text, scale in names
            if _is_number(source.get(field))
        ]
    return metrics


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


_LOOP = (
    ("rate_hz", "loop_rate_hertz", "gauge", "Commands a second.", 1.0),
    ("tick_error_p99_ms", "loop_tick_error_p99_seconds", "gauge", "99th percentile of |interval - 25 ms|.", 1e-3),
    ("late_ticks", "loop_late_ticks_total", "counter", "Ticks that began more than half a period late.", 1.0),
    ("skipped_ticks", "loop_skipped_ticks_total", "counter", "Periods without a command.", 1.0),
    ("starved_ticks", "loop_starved_ticks_total", "counter", "Ticks without a chunk to follow.", 1.0),
)
_MEMORY = (
    ("cases", "memory_cases", "gauge", "Active failure cases.", 1.0),
    ("retired", "memory_retired_cases", "gauge", "Retired failure cases.", 1.0),
    ("corrections", "memory_corrections_total", "counter", "Searches that led to a correction.", 1.0),
    ("search_p99_ms", "memory_search_p99_seconds", "gauge", "99th percentile of a search.", 1e-3),
)
