# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Many people at once over real connections: everybody is answered, and nothing of anybody is lost."""

from __future__ import annotations

import json
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from flow_rag_vla.gateway.access import Role
from flow_rag_vla.gateway.app import make_app
from flow_rag_vla.gateway.labeling.benchmark import measure_service, service_lines
from flow_rag_vla.gateway.labeling.labels import Labels
from flow_rag_vla.gateway.labeling.models import Models
from flow_rag_vla.gateway.labeling.section import labeling_section
from flow_rag_vla.gateway.server import Server
from flow_rag_vla.labeling.backends import make_pipeline
from flow_rag_vla.labeling.compact.scenes import labelled_frames

from .conftest import API, HEIGHT, WIDTH, png

PEOPLE = 12
WAIT_S = 120.0


@pytest.fixture
def ask(server):
    """``ask(role, method, path, body, kind)`` over a socket of its own; the answer's JSON."""
    pipeline = make_pipeline()
    labels = Labels(server.registry, server.labels.pictures, Models(lambda: pipeline))
    app = make_app(server.app.state.access, [labeling_section(labels)])
    with Server(app, port=0) as running:

        def asked(role, method, path, body=None, kind="application/json", **headers):
            data = json.dumps(body).encode() if isinstance(body, dict) else body
            headers |= {"Authorization": f"Bearer {server.secrets[role]}", "Content-Type": kind}
            address = f"http://127.0.0.1:{running.port}{API}/{path}"
            request = urllib.request.Request(address, data, headers, method=method)
            with urllib.request.urlopen(request, timeout=WAIT_S) as answer:
                return json.load(answer)

        yield asked


def form(picture):
    """A picture as multipart/form-data, and its media type."""
    head = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'
    return head + picture + b"\r\n--x--\r\n", "multipart/form-data; boundary=x"


def test_a_dozen_people_label_correct_and_look_at_the_same_time(ask, server):
    begin = threading.Barrier(PEOPLE)

    def person(number):
        picture = png(np.full((HEIGHT, WIDTH, 3), 10 * number, np.uint8))
        begin.wait(WAIT_S)
        ask(Role.LABELLER, "POST", "detect", *form(picture))
        made = ask(Role.LABELLER, "POST", "sources/upload", *form(picture))
        thing = {"category": f"thing {number}", "bbox": [1, 1, 9 + number, 9]}
        batch = {"source_id": made["source_id"], "objects": [thing, {**thing, "category": "cup"}]}
        ids = ask(Role.LABELLER, "POST", "objects/batch", batch)["object_ids"]
        for object_id in ids:
            item = ask(Role.REVIEWER, "PATCH", f"objects/{object_id}", {"is_validated": True}, **{"If-Match": '"1"'})
            assert item["is_validated"] and item["version"] == 2
        assert ask(Role.VIEWER, "GET", "objects?category=cup&limit=100")["items"]
        return ids

    with ThreadPoolExecutor(PEOPLE) as pool:
        made = [object_id for ids in pool.map(person, range(PEOPLE)) for object_id in ids]
    counts = ask(Role.VIEWER, "GET", "stats")
    assert len(set(made)) == counts["objects"] == 2 * PEOPLE and counts["sources"] == PEOPLE
    assert counts["by_category"]["cup"] == PEOPLE and counts["validated_share"] == 1.0


def test_the_benchmark_of_the_service_labels_every_picture_and_counts_what_fails():
    pictures = [np.full((48, 64, 3), 40 * number, np.uint8) for number in range(3)]
    figures = measure_service(make_pipeline(), pictures, clients=2)
    assert (figures.failed, figures.pictures, figures.clients) == (0, 3, 2)
    assert f"ratio {figures.rate / figures.direct:.2f}" in service_lines(figures)
    seen = next(labelled_frames(900, 1, frames_a_scene=1, size=(320, 240))).image
    shown = measure_service(make_pipeline(), [seen], clients=1)
    assert shown.searches == 1 and shown.search_mean == shown.search_p95 > 0.0
    assert "over HTTP, 1 of 1 pictures" in service_lines(shown)
    unreadable = measure_service(make_pipeline(), [np.zeros((8, 16_500, 3), np.uint8)], clients=1)
    assert (unreadable.failed, unreadable.searches, unreadable.search_p95) == (1, 0, 0.0)
