# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What no route declares is refused by name, in forms as in bodies of JSON: nothing that is misspelt is passed over."""

from __future__ import annotations

import re

import numpy as np
import pytest

from flow_rag_vla.gateway.access import Role
from flow_rag_vla.gateway.app import make_app
from flow_rag_vla.gateway.labeling.labels import Labels
from flow_rag_vla.gateway.labeling.models import Models
from flow_rag_vla.gateway.labeling.section import labeling_section
from flow_rag_vla.labeling.compact.baseline import ColourDetector
from flow_rag_vla.labeling.pipeline import LabelingPipeline

from .conftest import Server, png

FORM, JSON = "multipart/form-data", "application/json"


@pytest.fixture
def looking(server):
    """The server with a detector that costs nothing."""
    labels = Labels(server.registry, server.labels.pictures, Models(lambda: LabelingPipeline(ColourDetector())))
    return Server(labels, make_app(server.app.state.access, [labeling_section(labels)]), server.secrets)


@pytest.fixture(scope="module")
def seen():
    """A picture with a red thing in it, as PNG."""
    pixels = np.full((48, 64, 3), 210, np.uint8)
    pixels[8:24, 8:24] = (217, 33, 31)
    return png(pixels)


def bodies(document, kind):
    """(method, address below /api/labeling) of every route of an OpenAPI document there that takes such a body."""
    for path, methods in document["paths"].items():
        for method, said in methods.items():
            if path.startswith("/api/labeling/") and kind in said.get("requestBody", {}).get("content", {}):
                yield method.upper(), asked(path)


def asked(path):
    """A path of an OpenAPI document as an address below /api/labeling."""
    address = re.sub(r"{(\w+)}", lambda part: "x" if part[1] == "name" else "0" * 32, path)
    return address.removeprefix("/api/labeling/")


def operation(document, method, address):
    """What the document says of a route."""
    return next(said[method.lower()] for path, said in document["paths"].items() if asked(path) == address)


def refused(answer, status, code):
    assert answer.status_code == status, answer.text
    said = answer.json()
    assert said["code"] == code and said["message"] and said["remedy"]
    return said


def test_a_field_that_a_form_does_not_declare_is_refused_and_not_passed_over(looking, seen):
    forms = [address for _, address in bodies(looking.app.openapi(), FORM)]
    assert {"detect", "auto_label", "segment", "objects/search/image", "sources/upload", "videos"} <= set(forms)
    for address in forms:
        file = {"video" if address == "videos" else "image": ("picture.png", seen, "image/png")}
        form = {"boxes": "[[0, 0, 9, 9]]"} if address == "segment" else {}
        for strange in ({"data": {**form, "confidenc": "0.9"}}, {"data": form, "files": {**file, "confidenc": b"x"}}):
            said = refused(
                looking.ask(Role.LABELLER, "POST", address, **{"files": file, **strange}), 422, "unknown_field"
            )
            assert "'confidenc'" in said["message"] and next(iter(file)) in said["remedy"]
    assert looking.registry.statistics().images == 0


def test_the_description_says_that_forms_and_bodies_take_nothing_else(looking):
    """As the server does: a client that is made from it leaves out what it would be refused for."""
    said = looking.ask(Role.VIEWER, "GET", "openapi.json").json()
    schemas = said["components"]["schemas"]
    for kind in (FORM, JSON):
        routes = list(bodies(said, kind))
        assert len(routes) >= 6
        for method, address in routes:
            body = operation(said, method, address)["requestBody"]["content"][kind]["schema"]
            for place in body.get("anyOf", [body]):  # one of JSON may be null
                if "$ref" in place:
                    assert schemas[place["$ref"].rpartition("/")[2]]["additionalProperties"] is False, address
                else:
                    assert place == {"type": "null"}, address
    # Nothing else is different from what the application says of itself.
    plain = looking.app.openapi()
    assert said != plain
    for name, schema in schemas.items():
        if name.startswith("Body_"):
            assert schema.pop("additionalProperties") is False
    assert said == plain


def test_a_form_with_the_fields_that_it_declares_is_taken(looking, seen):
    file = {"image": ("picture.png", seen, "image/png")}
    known = {"classes": ["red cube"], "confidence": 0.4, "synonyms": [], "tiles": ""}
    found = looking.ask(Role.LABELLER, "POST", "detect", files=file, data=known)
    assert found.status_code == 200 and found.json()["boxes"] == [[8, 8, 24, 24]], found.text
    assert looking.ask(Role.LABELLER, "POST", "sources/upload", files=file).status_code == 201


def test_what_is_wrong_with_a_form_otherwise_is_told_as_before(looking, seen):
    # Without a file it is the other kind of form.
    refused(looking.ask(Role.LABELLER, "POST", "detect", data={"confidenc": "0.9"}), 422, "unknown_field")
    refused(looking.ask(Role.LABELLER, "POST", "detect", data={"confidence": "0.9"}), 422, "invalid_request")
    refused(looking.ask(Role.LABELLER, "POST", "detect", json={"confidence": "0.9"}), 422, "invalid_request")
    broken = {"content": b"no form", "headers": {"content-type": "multipart/form-data; boundary=x"}}
    refused(looking.ask(Role.LABELLER, "POST", "detect", **broken), 400, "refused")
    # Who may not ask at all is not told what could be asked.
    file = {"image": ("picture.png", seen, "image/png")}
    answer = looking.ask(Role.VIEWER, "POST", "detect", files=file, data={"confidenc": "0.9"})
    refused(answer, 403, "role_too_low")


def test_a_field_that_a_body_does_not_declare_is_refused(server):
    routes = list(bodies(server.app.openapi(), JSON))
    assert len(routes) >= 18
    for method, address in routes:
        said = refused(server.ask(Role.OPERATOR, method, address, json={"strange": 1}), 422, "invalid_request")
        assert "body.strange: Extra inputs" in said["message"], (address, said)
