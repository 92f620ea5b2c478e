# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The HTTP surface tried from its own description: whatever comes, nothing is a 5xx and every refusal has its form.

Nor does any answer say where the server's files lie, and who has no token hears that alone, whatever the body.
"""

from __future__ import annotations

import hypothesis
import pytest
import schemathesis
from fastapi.testclient import TestClient

from flow_rag_vla.gateway.access import Access, Role, new_token
from flow_rag_vla.gateway.app import make_app
from flow_rag_vla.gateway.labeling.labels import Labels
from flow_rag_vla.gateway.labeling.models import Models
from flow_rag_vla.gateway.labeling.pictures import Pictures
from flow_rag_vla.gateway.labeling.section import labeling_section
from flow_rag_vla.labeling.backends import make_pipeline
from flow_rag_vla.labeling.registry.registry import Registry

from .conftest import fill

FOLDER = "where-files-lie"
EXAMPLES = {schemathesis.GenerationMode.POSITIVE: 12, schemathesis.GenerationMode.NEGATIVE: 4}
"""Requests to each route, of what it describes and of what it does not; raise them to look longer."""


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """One filled registry with the models that ship, asked as who may do everything."""
    folder = tmp_path_factory.mktemp(FOLDER)
    pipeline = make_pipeline()
    with Registry(folder / "labels") as registry:
        fill(registry, folder / "media")
        labels = Labels(registry, Pictures([folder / "media"]), Models(lambda: pipeline))
        token, secret = new_token("fuzzer", Role.OPERATOR)
        app = make_app(Access([token]), [labeling_section(labels)])
        headers = {"Authorization": f"Bearer {secret}"}
        # A bug must come out as the 500 that it is, not as an exception in the test.
        with TestClient(app, headers=headers, raise_server_exceptions=False) as made:
            yield made


@pytest.mark.parametrize("mode", EXAMPLES, ids=lambda mode: mode.value)
def test_no_request_is_a_5xx_and_every_refusal_has_a_code(client, mode):
    schema = schemathesis.openapi.from_dict(client.get("/api/labeling/openapi.json").json())
    operations = [made.ok() for made in schema.get_all_operations()]
    tried = [operation for operation in operations if operation.path.startswith("/api/labeling/")]
    assert len(tried) >= 30
    registry_ids = [item["object_id"] for item in client.get("/api/labeling/objects").json()["items"]]
    counts = {}
    for operation in tried:

        @hypothesis.settings(
            max_examples=EXAMPLES[mode],
            derandomize=True,
            database=None,
            deadline=None,
            suppress_health_check=list(hypothesis.HealthCheck),
            phases=[hypothesis.Phase.generate],
        )
        @hypothesis.given(case=operation.as_strategy(mode), pick=hypothesis.strategies.integers(0, 17))
        def attempt(case, pick):
            if pick < len(registry_ids) and "object_id" in (case.path_parameters or {}):
                case.path_parameters["object_id"] = registry_ids[pick]
            arguments = case.as_transport_kwargs()
            answer = client.request(
                case.method,
                case.formatted_path,
                params=arguments.get("params"),
                headers={k: v for k, v in (arguments.get("headers") or {}).items() if k.lower() != "authorization"},
                json=arguments.get("json"),
                data=arguments.get("data"),
                files=arguments.get("files"),
            )
            counts[answer.status_code] = counts.get(answer.status_code, 0) + 1
            assert answer.status_code < 500, (case.as_curl_command(), answer.text)
            assert FOLDER.encode() not in answer.content, case.as_curl_command()
            if answer.status_code >= 400:
                assert set(answer.json()) == {"code", "message", "remedy"}, answer.text
            if answer.status_code in (400, 413, 415, 422):
                # The same of a stranger is not judged by what it says.
                sent = {"params": arguments.get("params"), "json": arguments.get("json")}
                strange = {"authorization": ""}
                assert client.request(case.method, case.formatted_path, headers=strange, **sent).status_code == 401

        try:
            attempt()
        except hypothesis.errors.Unsatisfiable:
            # A route that takes nothing has nothing that could be wrong.
            assert mode is schemathesis.GenerationMode.NEGATIVE and operation.method == "get", operation.path
    if mode is schemathesis.GenerationMode.POSITIVE:
        # A fuzzer whose requests are all refused at the door tries nothing.
        assert counts.get(200, 0) > 50, counts
    else:
        assert counts.get(422, 0) > 50, counts
