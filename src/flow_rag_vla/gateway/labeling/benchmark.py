# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The labelling service when several ask at once, beside its pipeline called directly with the same pictures."""

from __future__ import annotations

import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from flow_rag_vla.gateway.access import Access, Role, new_token
from flow_rag_vla.gateway.app import make_app
from flow_rag_vla.gateway.labeling.labels import Labels
from flow_rag_vla.gateway.labeling.models import Models
from flow_rag_vla.gateway.labeling.pictures import Pictures
from flow_rag_vla.gateway.labeling.section import NAME, labeling_section
from flow_rag_vla.gateway.labeling.uploads import upload_of
from flow_rag_vla.gateway.server import Server
from flow_rag_vla.labeling.pipeline import Image, LabelingPipeline
from flow_rag_vla.labeling.registry.registry import Registry

CLIENTS = 10
_WAIT_S = 300.0
_BOUNDARY = "picture"


@dataclass(frozen=True, slots=True)
class ServiceFigures:
    """What was measured.

    rate: pictures a minute that were sent, labelled and registered over HTTP by ``clients`` at once; direct: that the
    pipeline alone labels, one after the other
    mean, p95: seconds from a request to its answer; failed: requests that were not answered with 201
    search_mean, search_p95: seconds from a picture that is sent alone to the objects that look most like what it shows;
    0 where ``searches``, those that were answered, is 0: the detector knows nothing in them
    """

    rate: float
    direct: float
    mean: float
    p95: float
    failed: int
    clients: int
    pictures: int
    search_mean: float
    search_p95: float
    searches: int


def measure_service(pipeline: LabelingPipeline, images: Sequence[Image], clients: int = CLIENTS) -> ServiceFigures:
    """Send each picture to ``auto_label`` of a server with a registry of its own, several at once; then search with it.

    Args:
        pipeline: labels.
        images: each (H, W, 3) uint8 RGB.
        clients: who ask at once.
    """
    pipeline.label(images[:1])
    begin = time.perf_counter()
    for image in images:
        pipeline.label([image])
    direct = time.perf_counter() - begin
    files = [upload_of(image).data for image in images]
    token, secret = new_token("benchmark", Role.LABELLER)
    with tempfile.TemporaryDirectory(prefix="flow_rag_vla_bench_") as folder, Registry(folder) as registry:
        section = labeling_section(Labels(registry, Pictures(), Models(lambda: pipeline)))
        with Server(make_app(Access([token]), [section]), port=0) as server, ThreadPoolExecutor(clients) as pool:
            address = f"{server.url}api/{NAME}/auto_label"
            begin = time.perf_counter()
            done = list(pool.map(lambda data: _sent(address, secret, data), files))
            whole = time.perf_counter() - begin
            place = f"{server.url}api/{NAME}/objects/search/image"
            tried = [_sent(place, secret, data, 200) for data in files]
    found = np.asarray([taken for taken, answered in tried if answered])
    seconds = np.asarray([taken for taken, _ in done])
    return ServiceFigures(
        rate=60.0 * len(images) / whole,
        direct=60.0 * len(images) / direct,
        mean=float(seconds.mean()),
        p95=float(np.quantile(seconds, 0.95)),
        failed=sum(not answered for _, answered in done),
        clients=clients,
        pictures=len(images),
        search_mean=float(found.mean()) if len(found) else 0.0,
        search_p95=float(np.quantile(found, 0.95)) if len(found) else 0.0,
        searches=len(found),
    )


def service_lines(figures: ServiceFigures) -> str:
    """The figures for people, beside the baseline and the targets."""
    return (
        f"auto_label over HTTP, {figures.clients} at once, {figures.pictures} pictures: {figures.rate:.0f} pictures a "
        f"minute (target 100; the pipeline alone, one after the other: {figures.direct:.0f}, ratio "
        f"{figures.rate / figures.direct:.2f}),\n  an answer after {figures.mean:.2f} s, p95 {figures.p95:.2f} s "
        f"(target 5), {figures.failed} failed (target 0)\n"
        f"what looks most like a picture, over HTTP, {figures.searches} of {figures.pictures} pictures: "
        f"{1e3 * figures.search_mean:.0f} ms, p95 {1e3 * figures.search_p95:.0f} (target 100; the pipeline alone: "
        f"{60e3 / figures.direct:.0f})"
    )


def _sent(address: str, secret: str, data: bytes, wanted: int = 201) -> tuple[float, bool]:
    """Seconds to the answer, and whether it was the one that was wanted."""
    head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'.encode()
    body = head + data + f"\r\n--{_BOUNDARY}--\r\n".encode()
    headers = {"Authorization": f"Bearer {secret}", "Content-Type": f"multipart/form-data; boundary={_BOUNDARY}"}
    begin = time.perf_counter()
    try:
        with urllib.request.urlopen(urllib.request.Request(address, body, headers), timeout=_WAIT_S) as answer:
            answer.read()
            answered = answer.status == wanted
    except (urllib.error.URLError, OSError):
        answered = False
    return time.perf_counter() - begin, answered
