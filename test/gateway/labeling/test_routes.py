# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Every route below /api/labeling, by what may be done with it, with the real registry and the models that ship."""

from __future__ import annotations

import base64
import io
import json
import struct
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from flow_rag_vla.gateway.access import Access, Role, new_token
from flow_rag_vla.gateway.app import make_app
from flow_rag_vla.gateway.labeling.labels import Labels
from flow_rag_vla.gateway.labeling.models import Models
from flow_rag_vla.gateway.labeling.pictures import Pictures
from flow_rag_vla.gateway.labeling.section import labeling_section
from flow_rag_vla.gateway.labeling.uploads import MOST_BYTES
from flow_rag_vla.labeling import registration
from flow_rag_vla.labeling.backends import make_pipeline
from flow_rag_vla.labeling.compact.scenes import labelled_frames
from flow_rag_vla.labeling.registry.registry import Registry
from flow_rag_vla.labeling.registry.values import ObjectChange, ReviewState

from .conftest import HEIGHT, WIDTH, Server, other_project, png


def upload(data, **fields):
    return {"files": {"image": ("picture.png", data, "image/png")}, "data": fields}


def refused(answer, status, code):
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert body["code"] == code and body["message"] and body["remedy"]


@pytest.fixture(scope="module")
def pipeline():
    """The models that ship."""
    return make_pipeline()


@pytest.fixture(scope="module")
def seen():
    """A picture of the simulator, as PNG."""
    frame = next(iter(labelled_frames(900, 1, frames_a_scene=1, size=(320, 240))))
    return png(frame.image)


@pytest.fixture
def labelling(server, pipeline):
    """The server with models."""
    labels = Labels(server.registry, server.labels.pictures, Models(lambda: pipeline))
    return Server(labels, make_app(server.app.state.access, [labeling_section(labels)]), server.secrets)


ROUTES = [
    ("GET", "me", Role.VIEWER),
    ("GET", "models", Role.VIEWER),
    ("POST", "detect", Role.LABELLER),
    ("POST", "detect_and_segment", Role.LABELLER),
    ("POST", "segment", Role.LABELLER),
    ("POST", "auto_label", Role.LABELLER),
    ("POST", "videos", Role.LABELLER),
    ("GET", "videos", Role.VIEWER),
    ("GET", "videos/{id}", Role.VIEWER),
    ("POST", "videos/{id}/cancel", Role.LABELLER),
    ("POST", "sources", Role.LABELLER),
    ("POST", "sources/upload", Role.LABELLER),
    ("GET", "sources", Role.VIEWER),
    ("GET", "sources/{id}", Role.VIEWER),
    ("PATCH", "sources/{id}", Role.REVIEWER),
    ("POST", "sources/{id}/images", Role.LABELLER),
    ("GET", "sources/{id}/images", Role.VIEWER),
    ("GET", "sources/{id}/tracks", Role.VIEWER),
    ("GET", "images/{id}", Role.VIEWER),
    ("GET", "images/{id}/picture", Role.VIEWER),
    ("POST", "objects", Role.LABELLER),
    ("POST", "objects/batch", Role.LABELLER),
    ("GET", "objects", Role.VIEWER),
    ("PATCH", "objects", Role.LABELLER),
    ("POST", "objects/undo", Role.LABELLER),
    ("GET", "objects/{id}", Role.VIEWER),
    ("PATCH", "objects/{id}", Role.LABELLER),
    ("DELETE", "objects/{id}", Role.REVIEWER),
    ("GET", "objects/{id}/mask", Role.VIEWER),
    ("GET", "objects/{id}/crop", Role.VIEWER),
    ("GET", "objects/{id}/history", Role.VIEWER),
    ("GET", "objects/{id}/labels", Role.VIEWER),
    ("GET", "objects/{id}/similar", Role.VIEWER),
    ("POST", "objects/{id}/undo", Role.LABELLER),
    ("POST", "objects/search/embedding", Role.VIEWER),
    ("POST", "objects/search/image", Role.LABELLER),
    ("POST", "tracks", Role.LABELLER),
    ("GET", "tracks/{id}", Role.VIEWER),
    ("GET", "stats", Role.VIEWER),
    ("GET", "categories", Role.VIEWER),
    ("POST", "categories", Role.REVIEWER),
    ("PATCH", "categories/{id}", Role.REVIEWER),
    ("GET", "projects", Role.VIEWER),
    ("POST", "projects", Role.REVIEWER),
    ("PATCH", "projects/{id}", Role.REVIEWER),
    ("PUT", "objects/{id}/affordances", Role.LABELLER),
    ("GET", "objects/{id}/affordances", Role.VIEWER),
    ("GET", "affordances", Role.VIEWER),
    ("POST", "sequences", Role.LABELLER),
    ("GET", "sequences", Role.VIEWER),
    ("GET", "sequences/{id}", Role.VIEWER),
    ("GET", "curation/next", Role.VIEWER),
    ("GET", "curation/mistakes", Role.VIEWER),
    ("GET", "curation/unique", Role.VIEWER),
    ("GET", "curation/duplicates", Role.VIEWER),
    ("GET", "curation/groups", Role.VIEWER),
    ("GET", "curation/groups/{group}", Role.VIEWER),
    ("PUT", "objects/{id}/mask", Role.LABELLER),
    ("GET", "datasets", Role.VIEWER),
    ("POST", "datasets", Role.REVIEWER),
    ("GET", "datasets/{id}", Role.VIEWER),
    ("PUT", "datasets/{id}", Role.REVIEWER),
    ("POST", "datasets/{id}/build", Role.REVIEWER),
    ("DELETE", "datasets/{id}/build", Role.REVIEWER),
    ("GET", "datasets/{id}/diff", Role.VIEWER),
    ("POST", "datasets/{id}/export", Role.REVIEWER),
    ("GET", "datasets/{id}/versions", Role.VIEWER),
    ("GET", "datasets/{id}/versions/{version}", Role.VIEWER),
    ("GET", "datasets/{id}/versions/{version}/card", Role.VIEWER),
    ("GET", "datasets/{id}/versions/{version}/export/{kind}", Role.VIEWER),
    ("POST", "trainings", Role.OPERATOR),
    ("GET", "trainings", Role.VIEWER),
    ("GET", "trainings/{id}", Role.VIEWER),
    ("GET", "trainings/{id}/{page}", Role.VIEWER),
    ("POST", "trainings/{id}/cancel", Role.OPERATOR),
    ("POST", "evaluations", Role.OPERATOR),
]


def test_every_route_asks_for_a_token_and_its_role(server):
    known = {
        (method.upper(), path.removeprefix("/api/labeling/"))
        for path, methods in server.app.openapi()["paths"].items()
        if path.startswith("/api/labeling/")
        for method in methods
    }
    names = {"object_id", "source_id", "image_id", "track_id", "sequence_id", "name"}
    for name in names:
        known = {(method, path.replace(f"{{{name}}}", "{id}")) for method, path in known}
    assert known == {(method, path) for method, path, _ in ROUTES}
    with server.client(Role.VIEWER) as client:
        for method, path, role in ROUTES:
            address = f"/api/labeling/{path.format(id='0' * 32, version=1, group=1, kind='coco', page='training.html')}"
            refused(client.request(method, address, headers={"Authorization": ""}), 401, "token_missing")
            refused(client.request(method, address, headers={"Authorization": "Bearer x"}), 401, "token_unknown")
            if role > Role.VIEWER:
                # Not what is wrong with the body, which is not even looked at.
                lower = server.secrets[Role(role - 1)]
                for body in ({}, {"content": b"\xff{"}, upload(b"no picture")):
                    answer = client.request(method, address, headers={"Authorization": f"Bearer {lower}"}, **body)
                    refused(answer, 403, "role_too_low")


def test_a_picture_is_found_cut_out_and_registered_once(labelling, seen):
    found = labelling.ask(Role.LABELLER, "POST", "detect", **upload(seen, confidence=0.4)).json()
    assert found["boxes"] and len(found["boxes"]) == len(found["labels"]) == len(found["scores"])
    assert found["model"] == "compact" and found["score_kind"] == "softmax"
    kind = found["labels"][0]
    one = labelling.ask(Role.LABELLER, "POST", "detect", **upload(seen, classes=kind, confidence=0.4)).json()
    assert set(one["labels"]) == {kind}
    both = found["labels"][:2]
    for words in (both, ",".join(both)):
        two = labelling.ask(Role.LABELLER, "POST", "detect", **upload(seen, classes=words, confidence=0.4)).json()
        assert set(two["labels"]) == set(both) and len(set(both)) == 2
    cut = labelling.ask(Role.LABELLER, "POST", "detect_and_segment", **upload(seen)).json()
    mask = np.asarray(Image.open(io.BytesIO(base64.b64decode(cut["masks"][0]))))
    assert mask.shape == (240, 320) and set(np.unique(mask)) == {0, 255}
    boxes = json.dumps([cut["boxes"][0], [0, 0, 3, 3]])
    segmented = labelling.ask(Role.LABELLER, "POST", "segment", **upload(seen, boxes=boxes)).json()
    assert segmented["masks"][0] and segmented["masks"][1] is None
    headers = {"Idempotency-Key": "first"}
    made = labelling.ask(Role.LABELLER, "POST", "auto_label", **upload(seen), headers=headers)
    assert made.status_code == 201, made.text
    made = made.json()
    assert made["masks_count"] == len(made["object_ids"]) == len(cut["boxes"]) and not made["repeated"]
    again = labelling.ask(Role.LABELLER, "POST", "auto_label", **upload(seen), headers=headers).json()
    assert again["repeated"] and again["object_ids"] == made["object_ids"]
    # Without a key, what is there already is told by its place. What somebody made of it stays.
    ids = made["object_ids"]
    labelling.ask(Role.LABELLER, "PATCH", f"objects/{ids[0]}", json={"category": "mug"})
    labelling.ask(Role.REVIEWER, "PATCH", f"objects/{ids[1]}", json={"state": "rejected"})
    labelling.ask(Role.REVIEWER, "DELETE", f"objects/{ids[2]}")
    third = labelling.ask(Role.REVIEWER, "POST", "auto_label", **upload(seen)).json()
    new = [place for place, (old, now) in enumerate(zip(ids, third["object_ids"], strict=True)) if old != now]
    assert (made["merged"], third["merged"]) == (0, len(ids) - 1) and new == [2]
    assert labelling.ask(Role.VIEWER, "GET", "stats").json()["objects"] == len(ids)
    shown = labelling.ask(Role.VIEWER, "GET", f"images/{made['image_id']}/picture")
    assert (np.asarray(Image.open(io.BytesIO(shown.content))) == np.asarray(Image.open(io.BytesIO(seen)))).all()
    item = labelling.ask(Role.VIEWER, "GET", f"objects/{made['object_ids'][3]}").json()
    assert (item["model"], item["has_mask"], item["is_validated"]) == ("compact", True, False)
    assert labelling.ask(Role.VIEWER, "GET", "models").json()["vocabulary"]
    refused(labelling.ask(Role.LABELLER, "POST", "detect", **upload(seen, classes="submarine")), 422, "prompt_unknown")
    nowhere = upload(seen, boxes="[[1, 2, 1, 2]]")
    refused(labelling.ask(Role.LABELLER, "POST", "segment", **nowhere), 422, "invalid_boxes")


def test_a_key_merges_with_what_is_there_as_no_key_does_and_the_same_again_is_the_same_answer(labelling, seen):
    def label(key="", data=seen, role=Role.LABELLER, **fields):
        headers = {"Idempotency-Key": key} if key else {}
        return labelling.ask(role, "POST", "auto_label", **upload(data, **fields), headers=headers)

    def told(answer):
        said = answer.json()
        return said["object_ids"], said["merged"], said["repeated"]

    registry, words = labelling.registry, label().json()["labels"]
    for item in registry.list_objects().objects:
        registry.delete(item.object_id, who="ada")
    first = label("first", classes=words[0]).json()
    count = len(first["object_ids"])
    assert first["merged"] == 0 and 0 < count < len(words)
    ids, merged, repeated = told(label("second"))
    assert (len(ids), merged, repeated) == (len(words), count, False)
    assert set(first["object_ids"]) < set(ids)
    assert registry.statistics().objects == len(words)
    for _ in range(2):
        assert told(label("second")) == (ids, merged, True)
    # Nothing of it was new, and that is an answer as well.
    assert told(label("third")) == (ids, len(words), False)
    assert told(label("third")) == (ids, len(words), True)
    # What was deleted meanwhile is told as it was, and does not come again.
    gone = next(one for one in ids if one not in first["object_ids"])
    registry.delete(gone, who="ada")
    assert told(label("second")) == (ids, merged, True)
    other = png(np.full((240, 320, 3), 120, np.uint8))
    for key in ("second", "third"):
        refused(label(key, classes=words[0]), 409, "batch_key_reused")
        refused(label(key, confidence=0.4), 409, "batch_key_reused")
        refused(label(key, other), 409, "batch_key_reused")
    assert not label("second", role=Role.REVIEWER).json()["repeated"]
    assert registry.statistics().objects == len(words)


@pytest.mark.parametrize("key", [None, "one"])
def test_the_same_picture_sent_twice_at_once_is_registered_once(labelling, seen, monkeypatch, key):
    """As by two people, or a client whose patience ended: each would take for new what the other one stores."""
    together, real = threading.Barrier(2), registration.matched_objects

    def matched(*given):
        found = real(*given)
        with suppress(threading.BrokenBarrierError):
            together.wait(0.5)
        return found

    monkeypatch.setattr(registration, "matched_objects", matched)
    headers = {} if key is None else {"Idempotency-Key": key}

    def label(_):
        return labelling.ask(Role.LABELLER, "POST", "auto_label", **upload(seen), headers=headers).json()

    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(label, range(2))
    assert one["object_ids"] == other["object_ids"]
    assert labelling.registry.statistics().objects == len(one["object_ids"]) > 0
    assert sorted((one["repeated"], other["repeated"])) == [False, key is not None]


def test_other_words_and_tiles_are_asked_for_as_on_the_command_line(labelling, seen):
    def detect(data=seen, **fields):
        return labelling.ask(Role.LABELLER, "POST", "detect", **upload(data, confidence=0.4, **fields))

    first, other = detect().json()["labels"][:2]
    said = detect(classes=first, synonyms=f"{first}={other}").json()
    alone = [detect(classes=word).json()["boxes"] for word in (first, other)]
    assert set(said["labels"]) == {first} and len(said["boxes"]) == sum(map(len, alone)) > len(alone[0])
    tiled = detect(tiles="200x160").json()
    assert (
        tiled["seconds"] > 0
        and set(tiled["labels"])
        and labelling.ask(
            Role.LABELLER, "POST", "auto_label", **upload(seen, synonyms=[f"{first}={other}"], tiles="200x160")
        ).json()["masks_count"]
    )
    for fields, code in (
        ({"synonyms": "cup"}, "prompt_empty"),
        ({"tiles": "640"}, "setting_out_of_range"),
        ({"tiles": "8x8"}, "setting_out_of_range"),
        ({"tiles": "32x32"}, "too_many_tiles"),
    ):
        refused(detect(**fields), 422, code)


def test_objects_are_searched_with_a_picture_of_a_thing(labelling, seen):
    made = labelling.ask(Role.LABELLER, "POST", "auto_label", **upload(seen)).json()
    for box, kind, object_id in zip(made["boxes"], made["labels"], made["object_ids"], strict=True):
        asked = upload(seen, bbox=json.dumps(box), top_k=1, category=kind)
        (hit,) = labelling.ask(Role.LABELLER, "POST", "objects/search/image", **asked).json()["items"]
        assert hit["object"]["object_id"] == object_id and hit["similarity"] == pytest.approx(1.0, abs=1e-3)
    whole = labelling.ask(Role.LABELLER, "POST", "objects/search/image", **upload(seen, top_k=2)).json()["items"]
    areas = [(right - left) * (bottom - top) for left, top, right, bottom in made["boxes"]]
    assert len(whole) == 2 and whole[0]["object"]["object_id"] == made["object_ids"][int(np.argmax(areas))]
    for box, code in (
        ("[0, 0, 3, 3]", "nothing_there"),
        ("[1, 2]", "invalid_boxes"),
        ("x", "invalid_boxes"),
        ("[0, 0, 9, 9], [0, 0, 9, 9]", "invalid_boxes"),
        ("[0, 0, 999, 9]", "invalid_boxes"),
    ):
        asked = upload(seen, bbox=box)
        refused(labelling.ask(Role.LABELLER, "POST", "objects/search/image", **asked), 422, code)


def bomb():
    """A PNG of a few bytes that says that it has 20000 x 20000 pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    rows = chunk(b"IDAT", zlib.compress(b"\0" * 1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + rows + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (b"", 400, "image_empty"),
        (b"GIF89a no picture", 415, "image_type"),
        (b"%PDF-1.7", 415, "image_type"),
        (bomb(), 413, "image_too_large"),
        (png(np.zeros((64, 64, 3), np.uint8))[:60], 422, "image_corrupt"),
        (png(np.zeros((2, 2, 3), np.uint8)), 422, "image_empty"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * (MOST_BYTES + 1), 413, "image_too_large"),
        (b"\0" * (MOST_BYTES + (2 << 20)), 413, "too_large"),
    ],
    ids=["empty", "gif", "pdf", "bomb", "cut off", "tiny", "large", "larger"],
)
def test_an_upload_is_taken_for_what_it_decodes_to(server, data, status, code):
    refused(server.ask(Role.LABELLER, "POST", "sources/upload", **upload(data)), status, code)
    assert server.registry.statistics().sources == 0


def test_a_turned_photograph_is_kept_as_it_is_shown(server):
    picture = Image.new("RGB", (60, 40), "white")
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", exif=exif)
    made = server.ask(Role.LABELLER, "POST", "sources/upload", **upload(buffer.getvalue())).json()
    assert (made["width"], made["height"], made["source_type"]) == (40, 60, "upload")
    again = server.ask(Role.LABELLER, "POST", "sources/upload", **upload(buffer.getvalue())).json()
    assert again["source_id"] == made["source_id"]


def test_a_licence_is_said_once_it_is_known_and_nothing_else_of_a_source_changes(filled):
    server, source, _ = filled
    path = f"sources/{source.source_id}"
    before = server.ask(Role.VIEWER, "GET", path).json()
    assert before["licence"] == ""
    made = server.ask(Role.REVIEWER, "PATCH", path, json={"licence": "CC-BY-4.0"})
    assert made.status_code == 200 and made.json() == {**before, "licence": "CC-BY-4.0"}
    later = server.ask(Role.REVIEWER, "PATCH", path, json={"captured_ns": 5}).json()
    assert later == {**before, "licence": "CC-BY-4.0", "captured_ns": 5}
    refused(server.ask(Role.REVIEWER, "PATCH", path, json={}), 422, "invalid_value")
    refused(server.ask(Role.REVIEWER, "PATCH", path, json={"episode": "one"}), 422, "invalid_request")
    refused(server.ask(Role.REVIEWER, "PATCH", f"sources/{'0' * 32}", json={"licence": "x"}), 404, "unknown_source")
    assert server.ask(Role.VIEWER, "GET", path).json() == later


def test_a_path_is_taken_below_the_shown_folders_only(server, tmp_path):
    media = tmp_path / "media"
    media.mkdir(exist_ok=True)
    (media / "a.png").write_bytes(png(np.zeros((HEIGHT, WIDTH, 3), np.uint8)))
    (tmp_path / "secret.png").write_bytes(png(np.zeros((HEIGHT, WIDTH, 3), np.uint8)))
    (media / "link.png").symlink_to(tmp_path / "secret.png")
    (media / "text.png").write_text("no picture")
    body = {"source_type": "image", "file_path": "a.png"}
    made = server.ask(Role.LABELLER, "POST", "sources", json=body)
    assert made.status_code == 201 and (made.json()["width"], made.json()["height"]) == (WIDTH, HEIGHT)
    assert server.ask(Role.VIEWER, "GET", f"images/{made.json()['image_id']}/picture").status_code == 200
    for path in ("../secret.png", str(tmp_path / "secret.png"), "link.png", "/etc/passwd", "a\0.png", "http://x/a.png"):
        answer = server.ask(Role.LABELLER, "POST", "sources", json={"source_type": "image", "file_path": path})
        refused(answer, 422, "unsafe_path")
    for path, code in (("text.png", "image_corrupt"), ("none.png", "image_missing")):
        answer = server.ask(Role.LABELLER, "POST", "sources", json={"source_type": "image", "file_path": path})
        assert answer.json()["code"] == code and answer.status_code in (404, 422)
    for kind, path in (("folder", "a.png"), ("video", "none.mp4"), ("bag", "none")):
        answer = server.ask(Role.LABELLER, "POST", "sources", json={"source_type": kind, "file_path": path})
        refused(answer, 404, "source_missing")
    assert server.registry.statistics().sources == 1


def test_what_another_detector_saw_in_a_video_is_registered_frame_by_frame_and_followed(server, tmp_path):
    media = tmp_path / "media"
    media.mkdir()
    (media / "drive.mp4").write_bytes(b"not looked at")
    body = {"source_type": "video", "file_path": "drive.mp4", "width": 640, "height": 480}
    source = server.ask(Role.LABELLER, "POST", "sources", json=body).json()
    thing = {"category": "cup", "bbox": [10, 10, 60, 60], "confidence": 0.8, "model": "mine", "score_kind": "sigmoid"}
    alone = {"source_id": source["source_id"], "objects": [thing]}
    refused(server.ask(Role.LABELLER, "POST", "objects/batch", json=alone), 422, "image_needed")
    path = f"sources/{source['source_id']}/images"
    sent = {"images": [{"frame": frame, "stamp_ns": frame * 40_000_000} for frame in (2, 0, 1)]}
    made = server.ask(Role.LABELLER, "POST", path, json=sent)
    assert made.status_code == 201, made.text
    frames = made.json()["items"]
    assert [(item["frame"], item["width"], item["name"]) for item in frames] == [
        (2, 640, "drive.mp4"),
        (0, 640, "drive.mp4"),
        (1, 640, "drive.mp4"),
    ]
    assert server.ask(Role.LABELLER, "POST", path, json=sent).json()["items"] == frames
    listed = server.ask(Role.VIEWER, "GET", path).json()["items"]
    assert [item["frame"] for item in listed] == [0, 1, 2]
    objects = [{**thing, "image_id": item["image_id"]} for item in frames]
    batch = {"source_id": source["source_id"], "objects": objects}
    ids = server.ask(Role.LABELLER, "POST", "objects/batch", json=batch).json()["object_ids"]
    body = {"source_id": source["source_id"], "object_ids": ids}
    track = server.ask(Role.LABELLER, "POST", "tracks", json=body).json()
    assert [item["object_id"] for item in track["objects"]] == [ids[1], ids[2], ids[0]]
    assert (track["start_frame"], track["end_frame"], track["end_ns"]) == (0, 2, 80_000_000)


def test_pictures_of_a_folder_are_measured_and_stay_below_it(server, tmp_path):
    media = tmp_path / "media"
    (media / "run").mkdir(parents=True)
    (media / "run" / "1.png").write_bytes(png(np.zeros((HEIGHT, WIDTH, 3), np.uint8)))
    (media / "run" / "text.png").write_text("no picture")
    (tmp_path / "secret.png").write_bytes(png(np.zeros((HEIGHT, WIDTH, 3), np.uint8)))
    (media / "run" / "link.png").symlink_to(tmp_path / "secret.png")

    def add(kind, path, **picture):
        body = {"source_type": kind, "file_path": path}
        source = server.ask(Role.LABELLER, "POST", "sources", json=body).json()["source_id"]
        return server.ask(Role.LABELLER, "POST", f"sources/{source}/images", json={"images": [picture]})

    (made,) = add("folder", "run", name="1.png", width=5, height=5).json()["items"]
    assert (made["width"], made["height"]) == (WIDTH, HEIGHT)
    assert server.ask(Role.VIEWER, "GET", f"images/{made['image_id']}/picture").status_code == 200
    (media / "v.mp4").write_bytes(b"not looked at")
    for kind, path, picture, status, code in (
        ("folder", "run", {"name": "link.png"}, 422, "unsafe_path"),
        ("folder", "run", {"name": "../../secret.png"}, 422, "unsafe_path"),
        ("folder", "run", {"name": "text.png"}, 422, "image_corrupt"),
        ("folder", "run", {"name": "none.png"}, 404, "image_missing"),
        ("folder", "run", {}, 422, "name_needed"),
        ("bag", "run", {"width": 5, "height": 5}, 422, "name_needed"),
        ("video", "v.mp4", {"frame": 1}, 422, "size_needed"),
        ("video", "v.mp4", {"name": "../x", "width": 5, "height": 5}, 422, "unsafe_path"),
        ("image", "run/1.png", {"name": "1.png"}, 422, "one_picture"),
    ):
        refused(add(kind, path, **picture), status, code)
    nowhere = server.ask(Role.LABELLER, "POST", f"sources/{'0' * 32}/images", json={"images": [{"frame": 1}]})
    refused(nowhere, 404, "unknown_source")


def test_a_parameter_that_is_misspelt_is_refused_and_not_passed_over(filled):
    server = filled[0]
    answer = server.ask(Role.VIEWER, "GET", "objects?min_confidnce=0.9")
    refused(answer, 422, "unknown_parameter")
    assert "min_confidnce" in answer.json()["message"] and "min_confidence" in answer.json()["remedy"]
    refused(server.ask(Role.VIEWER, "GET", "stats?limit=3"), 422, "unknown_parameter")
    # Who may not ask at all is not told what could be asked.
    refused(server.ask(Role.VIEWER, "POST", "sources?x=1", json={}), 403, "role_too_low")


def test_tracks_and_classes_come_in_pages(filled):
    server, source, ids = filled
    for place in range(3):
        body = {"source_id": source.source_id, "object_ids": ids[place::3], "name": f"thing {place}"}
        server.ask(Role.LABELLER, "POST", "tracks", json=body)
    for path, key, count in ((f"sources/{source.source_id}/tracks", "track_id", 3), ("categories", "name", 3)):
        whole = server.ask(Role.VIEWER, "GET", path).json()
        assert len(whole["items"]) == count and not whole["next_cursor"]
        first = server.ask(Role.VIEWER, "GET", f"{path}?limit=2").json()
        rest = server.ask(Role.VIEWER, "GET", f"{path}?limit=2&cursor={first['next_cursor']}").json()
        assert [item[key] for item in first["items"] + rest["items"]] == [item[key] for item in whole["items"]]
        assert len(first["items"]) == 2 and not rest["next_cursor"]
        refused(server.ask(Role.VIEWER, "GET", f"{path}?cursor=nothing"), 422, "invalid_cursor")


def test_objects_are_found_page_by_page_and_by_every_condition(filled):
    server, source, ids = filled
    collected, cursor = [], ""
    while True:
        page = server.ask(Role.VIEWER, "GET", f"objects?order=lowest_score&limit=4&cursor={cursor}").json()
        collected += [item["object_id"] for item in page["items"]]
        cursor = page["next_cursor"]
        if not cursor:
            break
    assert collected == ids
    server.ask(Role.REVIEWER, "PATCH", f"objects/{ids[0]}", json={"is_validated": True})
    server.ask(Role.LABELLER, "PATCH", f"objects/{ids[1]}", json={"attributes": {"look": 2, "pose": "open"}})
    for query, count in (
        ("category=bin", 3),
        ("category=bin&category=drawer", 6),
        ("is_validated=true", 1),
        ("state=unreviewed", 8),
        ("validated_by=reviewer", 1),
        ("min_confidence=0.5", 5),
        ("max_confidence=0.34", 1),
        (f"source_id={source.source_id}", 9),
        (f"image_id={server.registry.get(ids[0]).image_id}", 3),
        ("captured_from_ns=40000000&captured_until_ns=80000000", 3),
        ("model=shapes&has_mask=true&has_embedding=true", 9),
        ("model=other", 0),
        ("min_area=4900&max_area=4900", 9),
        ("min_area=4901", 0),
        ("attribute=look%3D2", 1),
        ("attribute=look%3D2&attribute=pose%3Dopen", 1),
        ("attribute=look%3D2&attribute=pose%3Dshut", 0),
        ("attribute=look%3D%222%22", 0),
    ):
        assert len(server.ask(Role.VIEWER, "GET", f"objects?{query}").json()["items"]) == count, query
    for query, status, code in (
        ("cursor=x", 422, "invalid_cursor"),
        ("limit=0", 422, "invalid_request"),
        ("min_confidence=nan", 422, "invalid_request"),
        ("project=moon", 404, "unknown_project"),
        ("source_id=1", 422, "invalid_request"),
        ("min_area=-1", 422, "invalid_request"),
        ("attribute=look", 422, "invalid_value"),
        ("attribute=a%20b%3D1", 422, "invalid_value"),
    ):
        refused(server.ask(Role.VIEWER, "GET", f"objects?{query}"), status, code)
    sources = server.ask(Role.VIEWER, "GET", "sources?limit=1").json()
    assert sources["items"][0]["source_id"] == source.source_id and not sources["next_cursor"]
    images = server.ask(Role.VIEWER, "GET", f"sources/{source.source_id}/images?limit=2").json()
    rest = server.ask(
        Role.VIEWER, "GET", f"sources/{source.source_id}/images?limit=2&cursor={images['next_cursor']}"
    ).json()
    assert [item["frame"] for item in images["items"] + rest["items"]] == [0, 1, 2]


def test_a_batch_is_stored_once_whole_or_not_at_all(filled):
    server, source, ids = filled
    image = server.registry.get(ids[0]).image_id
    good = {"category": "cup", "bbox": [10, 10, 20, 30], "convention": "xywh", "image_id": image}
    body = {"source_id": source.source_id, "objects": [good, {**good, "category": "mug"}]}
    made = server.ask(Role.LABELLER, "POST", "objects/batch", json=body, headers={"Idempotency-Key": "k"})
    assert made.status_code == 201, made.text
    again = server.ask(Role.LABELLER, "POST", "objects/batch", json=body, headers={"Idempotency-Key": "k"}).json()
    assert again["repeated"] and again["object_ids"] == made.json()["object_ids"]
    other = {**body, "objects": [{**good, "bbox": [1, 1, 5, 5]}]}
    answer = server.ask(Role.LABELLER, "POST", "objects/batch", json=other, headers={"Idempotency-Key": "k"})
    refused(answer, 409, "batch_key_reused")
    # The same word is another key in the hand of another person.
    theirs = server.ask(Role.REVIEWER, "POST", "objects/batch", json=other, headers={"Idempotency-Key": "k"})
    assert theirs.status_code == 201
    item = server.registry.get(made.json()["object_ids"][0])
    assert (item.box, item.origin.model, item.score_kind.value) == ((10, 10, 30, 40), "labeller", "human")
    before = server.registry.statistics().objects
    for bad, code in (
        ({"bbox": [5, 5, 0, 9]}, "box_without_area"),
        ({"bbox": [0, 0, 4000, 9]}, "box_outside_image"),
        ({"mask": "no base64!"}, "invalid_mask"),
        ({"mask": base64.b64encode(png(np.ones((9, 9), np.uint8) * 255)).decode()}, "invalid_mask"),
        ({"embedding": [1.0, 0.0]}, "invalid_embedding"),
        ({"embedding": [0.0, 0.0], "embedder": "a@b"}, "invalid_embedding"),
        ({"image_id": "0" * 32}, "unknown_image"),
        ({"image_id": None}, "image_needed"),
        ({"confidence": 2.0}, "invalid_request"),
        ({"validated_by": "somebody"}, "invalid_request"),
    ):
        sent = {"source_id": source.source_id, "objects": [good, {**good, **bad}]}
        answer = server.ask(Role.LABELLER, "POST", "objects/batch", json=sent)
        assert (answer.json()["code"], answer.status_code // 100) == (code, 4), answer.text
    nan = json.dumps({"source_id": source.source_id, "objects": [good]}).replace("10", "NaN", 1)
    refused(server.ask(Role.LABELLER, "POST", "objects/batch", content=nan), 422, "invalid_request")
    assert server.registry.statistics().objects == before
    one = {**good, "source_id": source.source_id}
    single = server.ask(Role.LABELLER, "POST", "objects", json=one)
    assert single.status_code == 201 and single.headers["etag"] == '"1"'


def test_a_change_names_the_person_of_the_token_and_the_version_that_was_read(filled):
    server, _, ids = filled
    path = f"objects/{ids[0]}"
    read = server.ask(Role.VIEWER, "GET", path)
    tag = read.headers["etag"]
    assert server.ask(Role.VIEWER, "GET", path, headers={"If-None-Match": tag}).status_code == 304
    done = server.ask(Role.REVIEWER, "PATCH", path, json={"state": "accepted"}, headers={"If-Match": tag})
    assert (done.json()["validated_by"], done.headers["etag"]) == ("reviewer", '"2"')
    refused(
        server.ask(Role.REVIEWER, "PATCH", path, json={"category": "cup"}, headers={"If-Match": tag}),
        412,
        "stale_version",
    )
    for body, status, code in (
        ({"validated_by": "me"}, 422, "invalid_request"),
        ({}, 400, "nothing_to_change"),
        ({"state": "accepted", "is_validated": False}, 400, "contradiction"),
        ({"bbox": [0, 0, 9999, 9]}, 422, "box_outside_image"),
        ({"track_id": "0" * 32}, 404, "unknown_track"),
    ):
        refused(server.ask(Role.REVIEWER, "PATCH", path, json=body), status, code)
    bad_tag = server.ask(Role.REVIEWER, "PATCH", path, json={"category": "cup"}, headers={"If-Match": "x"})
    refused(bad_tag, 400, "invalid_if_match")
    refused(server.ask(Role.LABELLER, "PATCH", path, json={"is_validated": True}), 403, "role_too_low")
    # What a labeller changes waits for a reviewer again.
    changed = server.ask(Role.LABELLER, "PATCH", path, json={"category": "cup"}).json()
    assert (changed["category"], changed["state"], changed["validated_by"]) == ("cup", "unreviewed", "")
    history = server.ask(Role.VIEWER, "GET", f"{path}/history").json()["items"]
    assert [(item["kind"], item["who"]) for item in history] == [
        ("created", "shapes"),
        ("updated", "reviewer"),
        ("updated", "labeller"),
    ]


def test_what_is_accepted_while_a_labeller_changes_it_waits_for_a_review_again(filled, monkeypatch):
    """Whoever accepted it saw something else, however little before that was."""
    server, _, ids = filled
    real = Registry.update

    def accepted_first(self, object_id, change, **options):
        real(self, object_id, ObjectChange(state=ReviewState.ACCEPTED), who="grace")
        return real(self, object_id, change, **options)

    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[4:20, 4:20] = 255
    monkeypatch.setattr(Registry, "update", accepted_first)
    for object_id, method, tail, body in (
        (ids[0], "PATCH", "", {"category": "cup"}),
        (ids[1], "PATCH", "", {"bbox": [0, 0, 9, 9]}),
        (ids[2], "PUT", "/mask", {"mask": base64.b64encode(png(mask)).decode()}),
    ):
        made = server.ask(Role.LABELLER, method, f"objects/{object_id}{tail}", json=body).json()
        assert (made["state"], made["validated_by"], made["version"]) == ("unreviewed", "", 3), body


def test_a_labeller_does_not_undo_what_a_reviewer_accepted(filled):
    """Neither to another word under the acceptance, nor an object of their own that was accepted."""
    server, source, ids = filled
    image = server.registry.get(ids[0]).image_id
    sent = {"source_id": source.source_id, "image_id": image, "category": "nut", "bbox": [0, 0, 9, 9]}
    own = server.ask(Role.LABELLER, "POST", "objects", json={**sent, "confidence": 0.5}).json()["object_id"]
    server.ask(Role.LABELLER, "PATCH", f"objects/{ids[0]}", json={"category": "cup"})
    for object_id in (own, ids[0]):
        server.ask(Role.REVIEWER, "PATCH", f"objects/{object_id}", json={"state": "accepted"})
        change_id = server.registry.history(object_id)[-2].change_id
        assert server.registry.history(object_id)[-2].who == "labeller"
        alone = server.ask(Role.LABELLER, "POST", f"objects/{object_id}/undo?change_id={change_id}")
        refused(alone, 409, "undo_conflict")
        several = server.ask(Role.LABELLER, "POST", "objects/undo", json={"change_ids": [change_id]})
        refused(several, 409, "undo_conflict")
        item = server.registry.get(object_id)
        assert (item.deleted, item.state, item.version) == (False, ReviewState.ACCEPTED, 2 if object_id == own else 3)


def test_a_labeller_takes_back_their_own_change_and_a_reviewer_any(filled):
    server, _, ids = filled
    path = f"objects/{ids[0]}"
    server.ask(Role.LABELLER, "PATCH", path, json={"category": "cup"})
    assert server.ask(Role.LABELLER, "POST", f"{path}/undo").json()["category"] == "red cube"
    server.ask(Role.REVIEWER, "PATCH", path, json={"state": "rejected"})
    refused(server.ask(Role.LABELLER, "POST", f"{path}/undo"), 403, "not_your_change")
    assert server.registry.get(ids[0]).state is ReviewState.REJECTED
    assert server.ask(Role.REVIEWER, "POST", f"{path}/undo").json()["state"] == "unreviewed"
    assert server.ask(Role.REVIEWER, "DELETE", path).status_code == 204
    refused(server.ask(Role.REVIEWER, "PATCH", path, json={"category": "cup"}), 409, "object_deleted")
    assert len(server.ask(Role.VIEWER, "GET", "objects").json()["items"]) == 8
    assert not server.ask(Role.REVIEWER, "POST", f"{path}/undo").json()["deleted"]


def test_several_objects_are_changed_in_one_step_and_taken_back_in_one(filled):
    server, _, ids = filled
    cubes = [ids[0], ids[3], ids[6]]

    def named(versions):
        return [{"object_id": one, "version": version} for one, version in zip(cubes, versions, strict=True)]

    body = {"objects": named([1, 1, 1]), "state": "accepted"}
    refused(server.ask(Role.LABELLER, "PATCH", "objects", json=body), 403, "role_too_low")
    done = server.ask(Role.REVIEWER, "PATCH", "objects", json=body).json()
    assert [(item["object_id"], item["validated_by"]) for item in done["objects"]] == [
        (one, "reviewer") for one in cubes
    ]
    assert len(done["change_ids"]) == 3
    # What a labeller calls otherwise waits for a reviewer again.
    body = {"objects": named([2, 2, 2]), "category": "cup"}
    cups = server.ask(Role.LABELLER, "PATCH", "objects", json=body).json()
    assert {(item["category"], item["state"], item["validated_by"]) for item in cups["objects"]} == {
        ("cup", "unreviewed", "")
    }
    for objects, asked, status, code in (
        (named([3, 3, 2]), {"category": "bin"}, 412, "stale_version"),
        (named([3, 3, 3])[:1] * 2, {"category": "bin"}, 400, "invalid_value"),
        (named([3, 3, 3]), {}, 400, "nothing_to_change"),
        (named([3, 3, 3]), {"bbox": [0, 0, 9, 9]}, 422, "invalid_request"),
        ([], {"category": "bin"}, 422, "invalid_request"),
        ([*named([3, 3, 3]), {"object_id": "0" * 32, "version": 1}], {"category": "bin"}, 404, "unknown_object"),
    ):
        refused(server.ask(Role.REVIEWER, "PATCH", "objects", json={"objects": objects, **asked}), status, code)
    assert {item.version for item in server.registry.get_many(cubes)} == {3}

    for change_ids, status, code in (
        (done["change_ids"], 403, "not_your_change"),
        ([*cups["change_ids"], 10**9], 404, "unknown_change"),
        ([], 422, "invalid_request"),
    ):
        refused(server.ask(Role.LABELLER, "POST", "objects/undo", json={"change_ids": change_ids}), status, code)
    both = {"change_ids": [*done["change_ids"], *cups["change_ids"]]}
    back = server.ask(Role.REVIEWER, "POST", "objects/undo", json=both).json()
    assert [(item["category"], item["state"]) for item in back["objects"]] == [("red cube", "unreviewed")] * 3
    assert len(back["change_ids"]) == 6
    refused(server.ask(Role.REVIEWER, "POST", "objects/undo", json=both), 409, "undo_conflict")


def test_a_registry_that_others_write_to_says_when_to_come_again(tmp_path):
    with Registry(tmp_path / "labels") as holder, Registry(tmp_path / "labels", busy_timeout_s=0.1) as registry:
        labels = Labels(registry, Pictures(), Models(None))
        token, secret = new_token("ada", Role.REVIEWER)
        app = make_app(Access([token]), [labeling_section(labels)])
        with TestClient(app, headers={"Authorization": f"Bearer {secret}"}) as client:
            with holder.database.write():
                answer = client.post("/api/labeling/projects", json={"name": "cups"})
                assert client.get("/api/labeling/projects").status_code == 200
            refused(answer, 503, "busy")
            assert 1 <= int(answer.headers["retry-after"]) <= 60
            assert answer.json()["remedy"].startswith("send the request again")
            assert client.post("/api/labeling/projects", json={"name": "cups"}).status_code == 201


def test_likeness_is_asked_by_object_and_by_vector(filled):
    server, _, ids = filled
    found = server.ask(Role.VIEWER, "GET", f"objects/{ids[0]}/similar?top_k=2").json()
    assert [item["object"]["category"] for item in found["items"]] == ["red cube"] * 2 and found["way"]
    vector = np.eye(8)[1].tolist()
    body = {"embedding": vector, "top_k": 3}
    found = server.ask(Role.VIEWER, "POST", "objects/search/embedding", json=body).json()
    assert [item["object"]["category"] for item in found["items"]] == ["bin"] * 3
    only = server.ask(Role.VIEWER, "POST", "objects/search/embedding", json={**body, "category": "drawer"}).json()
    assert {item["object"]["category"] for item in only["items"]} == {"drawer"}
    for bad, status, code in (
        ({"embedding": [1.0]}, 422, "wrong_dimension"),
        ({"embedding": [0.0] * 8}, 422, "invalid_embedding"),
        ({"embedding": vector, "embedder": "other@1"}, 409, "embedder_mismatch"),
        ({"embedding": []}, 422, "invalid_request"),
    ):
        refused(server.ask(Role.VIEWER, "POST", "objects/search/embedding", json=bad), status, code)


def test_projects_with_other_embedders_do_not_stand_in_each_others_way(filled):
    server, _, ids = filled
    cups = other_project(server.registry)
    for object_id, project, kind in ((ids[0], "default", "red cube"), (cups[0], "kitchen", "cup")):
        refused(server.ask(Role.VIEWER, "GET", f"objects/{object_id}/similar"), 409, "embedder_mismatch")
        found = server.ask(Role.VIEWER, "GET", f"objects/{object_id}/similar?project={project}&top_k=1").json()
        assert [item["object"]["category"] for item in found["items"]] == [kind]
    for vector, project, object_id in ((np.eye(8)[1], "default", None), (np.eye(4)[1], "kitchen", cups[1])):
        body = {"embedding": vector.tolist(), "top_k": 1, "project": project}
        (hit,) = server.ask(Role.VIEWER, "POST", "objects/search/embedding", json=body).json()["items"]
        assert hit["object"]["project"] == project and object_id in (None, hit["object"]["object_id"])


def test_a_track_comes_in_the_order_of_time(filled):
    server, source, ids = filled
    cubes = [ids[6], ids[0], ids[3]]
    body = {"source_id": source.source_id, "object_ids": cubes, "name": "cube"}
    made = server.ask(Role.LABELLER, "POST", "tracks", json=body).json()
    assert [item["object_id"] for item in made["objects"]] == [ids[0], ids[3], ids[6]]
    assert (made["start_frame"], made["end_frame"], made["length"]) == (0, 2, 3)
    read = server.ask(Role.VIEWER, "GET", f"tracks/{made['track_id']}").json()
    assert read["avg_confidence"] == pytest.approx(np.mean([item["confidence"] for item in read["objects"]]))
    listed = server.ask(Role.VIEWER, "GET", f"sources/{source.source_id}/tracks").json()["items"]
    assert [item["name"] for item in listed] == ["cube"]
    refused(server.ask(Role.VIEWER, "GET", f"tracks/{'0' * 32}"), 404, "unknown_track")


def test_masks_crops_and_figures_are_served_and_lost_pictures_named(filled, tmp_path):
    server, _, ids = filled
    mask = np.asarray(Image.open(io.BytesIO(server.ask(Role.VIEWER, "GET", f"objects/{ids[0]}/mask").content)))
    assert mask.shape == (HEIGHT, WIDTH) and (mask > 0).sum() == 70 * 70
    crop = Image.open(io.BytesIO(server.ask(Role.VIEWER, "GET", f"objects/{ids[0]}/crop?side=64").content))
    assert crop.size == (64, 64) and crop.getpixel((32, 32)) == (200, 40, 40)
    server.ask(Role.REVIEWER, "PATCH", f"objects/{ids[0]}", json={"bbox": [30, 30, 60, 60]})
    refused(server.ask(Role.VIEWER, "GET", f"objects/{ids[0]}/mask"), 404, "no_mask")
    counts = server.ask(Role.VIEWER, "GET", "stats").json()
    assert (counts["objects"], counts["with_mask"], counts["by_category"]["bin"]) == (9, 8, 3)
    with server.client(Role.VIEWER) as client:
        assert 'flow_rag_vla_label_objects{state="unreviewed"} 9' in client.get("/metrics").text
        assert client.get("/ready").json()["ready"]
    (tmp_path / "media" / "shapes" / "1.png").unlink()
    refused(server.ask(Role.VIEWER, "GET", f"objects/{ids[3]}/crop"), 404, "no_picture")
    refused(
        server.ask(Role.LABELLER, "POST", "detect", **upload(png(np.zeros((64, 64, 3), np.uint8)))), 503, "no_models"
    )
