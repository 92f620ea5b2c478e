# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Where files lie on the server is nobody's business over HTTP: every answer is looked through for it."""

from __future__ import annotations

import io
import threading
import zipfile
from pathlib import Path

import pytest

from flow_rag_vla.gateway.access import Role
from flow_rag_vla.gateway.labeling.places import Places, without_folders

from .conftest import fill
from .test_routes import ROUTES

ALL_TRAIN = {"train": 1, "val": 0, "test": 0}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("there is no cups in /srv/my labels/datasets; known: a", "there is no cups in datasets; known: a"),
        ("/a/b/c.png cannot be read (gone)", "c.png cannot be read (gone)"),
        ("[Errno 13] Permission denied: '/srv/x y/z.png'", "[Errno 13] Permission denied: 'z.png'"),
        ("sqlite:////srv/labels/registry.db", "sqlite:///registry.db"),
        ("copy /a/b/c and also /d/e/f", "copy c and also f"),
        ("| /srv/my\\_labels/x y/shapes |", "| shapes |"),
        ("/data: there is no registry", "data: there is no registry"),
        ("see https://x.org/a/b, /api/labeling/trainings, and/or 3/4", None),
        ("a / b, ../x/y, ~/labels/z, images/a.png", None),
    ],
)
def test_a_sentence_keeps_names_and_loses_folders(text, told):
    assert without_folders(text) == (text if told is None else told)


def test_a_path_is_told_relative_to_the_innermost_folder_that_is_shown(tmp_path):
    places = Places([tmp_path, tmp_path / "labels"])
    for path, told in (
        (tmp_path / "labels/images/ab/c.png", "images/ab/c.png"),
        (tmp_path / "run 7/a.png", "run 7/a.png"),
        (tmp_path, "."),
        (Path("/elsewhere/of/somebody/a.png"), "a.png"),
        ("http://camera/frame", "http://camera/frame"),
    ):
        assert places.shown(str(path)) == told


def test_no_answer_tells_where_files_lie(filled, tmp_path):
    server, source, ids = filled
    registry = server.registry
    other, _ = fill(registry, tmp_path / "some where", 1)
    heard = []

    def ask(method, path, role=Role.VIEWER, **options):
        answer = server.ask(role, method, path, **options)
        heard.append((path, answer.headers, answer.content))
        if answer.headers.get("content-type") == "application/zip":
            with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
                heard.extend((f"{path} {name}", {}, archive.read(name)) for name in archive.namelist())
        return answer

    def built(name):
        assert ask("POST", f"datasets/{name}/build", Role.REVIEWER).status_code == 202
        while (build := ask("GET", f"datasets/{name}").json()["build"])["state"] == "running":
            threading.Event().wait(0.01)
        return build

    ask("POST", "datasets", Role.REVIEWER, json={"name": "cups", "split_config": ALL_TRAIN})
    assert built("cups")["state"] == "finished"
    for kind in ("coco", "label-studio"):
        ask("POST", "datasets/cups/export", Role.REVIEWER, json={"format": kind})
        assert ask("GET", f"datasets/cups/versions/1/export/{kind}").status_code == 200
    track = registry.add_track(source.source_id, [ids[0]], who="anna")
    known = {
        "sources": source.source_id, "images": registry.get(ids[0]).image_id, "objects": ids[0],
        "tracks": track.track_id, "datasets": "cups",
    }  # fmt: skip
    for _, path, _ in (route for route in ROUTES if route[0] == "GET"):
        name = known.get(path.split("/")[0], "none")
        ask("GET", path.format(id=name, version=1, kind="coco", page="training.html", group=0))
    listed = {item["source_id"]: item["file_path"] for item in ask("GET", "sources").json()["items"]}
    assert listed == {source.source_id: "shapes", other.source_id: "some where"}

    # What went wrong is told as far. These have not been read before.
    for folder in (tmp_path / "media/lost", tmp_path / "lost things"):
        _, lost = fill(registry, folder, 2)
        (folder / "0.png").unlink()
        (folder / "1.png").write_bytes(b"no picture")
        for item, code in ((lost[0], "no_picture"), (lost[3], "image_corrupt")):
            image = registry.get(item).image_id
            assert ask("GET", f"images/{image}/picture").json()["code"] == code
    for mask in (registry.folder / "masks").rglob("*.png"):
        mask.write_bytes(b"no mask")
    assert ask("GET", f"objects/{ids[0]}/mask").json()["code"] == "mask_lost"
    assert built("cups")["state"] == "failed"
    ask("GET", "datasets/none")
    for path in ("/etc/passwd", str(tmp_path / "some where/0.png"), "gone.png"):
        ask("POST", "sources", Role.LABELLER, json={"source_type": "image", "file_path": path})
    (tmp_path / "labels/datasets/cups/v1/manifest.json").write_text("{")
    assert ask("GET", "datasets/cups/versions/1").json()["code"] == "dataset_corrupt"

    said = [path for path, headers, body in heard if tmp_path.name.encode() in body or tmp_path.name in str(headers)]
    assert len(heard) > 50 and not said
