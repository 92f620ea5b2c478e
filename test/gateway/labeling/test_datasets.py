# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Datasets over HTTP: from the definition to the downloaded file, by role, with every refusal."""

from __future__ import annotations

import io
import itertools
import shutil
import threading
import zipfile

import pytest

from flow_rag_vla.gateway.access import Role
from flow_rag_vla.gateway.labeling import dataset_routes
from flow_rag_vla.labeling.datasets import store as stored
from flow_rag_vla.labeling.datasets.exchange import import_dataset
from flow_rag_vla.labeling.detections import Origin, ScoreKind
from flow_rag_vla.labeling.registry.queries import ObjectFilter
from flow_rag_vla.labeling.registry.values import ImageDraft, ObjectDraft, SourceDraft, SourceKind

from .conftest import HEIGHT, WIDTH, kitchen_of

ALL_TRAIN = {"train": 1, "val": 0, "test": 0}


@pytest.fixture
def ask(filled):
    server, _, _ = filled

    def asked(method, path, role=Role.REVIEWER, **body):
        answer = server.ask(role, method, path, **({"json": body} if body else {}))
        return answer.status_code, answer

    asked.server = server
    return asked


def built(ask, name):
    """The last build of a dataset when it is over."""
    for _ in range(6000):
        build = ask("GET", f"datasets/{name}", Role.VIEWER)[1].json()["build"]
        if build["state"] != "running":
            return build
        threading.Event().wait(0.01)
    raise AssertionError("the build does not end")


def test_a_dataset_is_defined_built_exported_downloaded_and_compared(ask, tmp_path):
    sent = {"name": "cups", "split_config": ALL_TRAIN, "filter_config": {"categories": ["red cube", "bin"]}}
    status, answer = ask("POST", "datasets", **sent)
    assert status == 201 and answer.json()["versions"] == [] and answer.json()["build"] is None
    assert ask("POST", "datasets/cups/build")[0] == 202
    build = built(ask, "cups")
    assert (build["state"], build["version"], build["done"]) == ("finished", 1, 3), build
    version = ask("GET", "datasets/cups/versions/1", Role.VIEWER)[1].json()
    assert version["images"] == {"train": 3, "val": 0, "test": 0} and version["annotations"] == 6
    assert version["categories"] == ["bin", "red cube"] and version["provenance"]["made by"] == "reviewer"
    status, card = ask("GET", "datasets/cups/versions/1/card", Role.VIEWER)
    assert card.headers["content-type"].startswith("text/markdown") and "# cups@v1" in card.text

    status, export = ask("POST", "datasets/cups/export", format="coco")
    assert status == 201 and export.json() == ask("POST", "datasets/cups/export", format="coco", version=1)[1].json()
    status, file = ask("GET", export.json()["download"], Role.VIEWER)
    assert file.headers["content-type"] == "application/zip" and len(file.content) == export.json()["bytes"]
    with zipfile.ZipFile(io.BytesIO(file.content)) as archive:
        archive.extractall(tmp_path / "got")
    found = import_dataset(tmp_path / "got", "coco", "cups").dataset
    assert len(found.items) == 3 and found.annotation_count == 6

    first = ask("GET", "objects?category=bin", Role.VIEWER)[1].json()["items"][0]["object_id"]
    assert ask("PATCH", f"objects/{first}", category="red cube")[0] == 200
    assert ask("POST", "datasets/cups/build")[0] == 202 and built(ask, "cups")["version"] == 2
    diff = ask("GET", "datasets/cups/diff?old=1&new=2", Role.VIEWER)[1].json()
    assert diff["labels"]["changed"] == [{"identity": first, "fields": ["category"]}]
    assert diff["images"]["counts"] == {"added": 0, "removed": 0, "changed": 0}
    listed = ask("GET", "datasets", Role.VIEWER)[1].json()
    assert [one["version"] for one in listed["items"]] == [1, 2] and listed["defined"] == ["cups"]
    assert "lerobot" in listed["formats"]


def test_the_next_version_is_made_of_what_was_said_last_and_the_ones_before_stay(ask, tmp_path):
    sent = {"name": "cups", "split_config": ALL_TRAIN, "filter_config": {"categories": ["red cube", "bin"]}}
    ask("POST", "datasets", **sent)
    ask("POST", "datasets/cups/build")
    assert built(ask, "cups")["version"] == 1
    sent["filter_config"] = {"categories": ["drawer"], "max_area": 4900, "attributes": {}}
    status, answer = ask("PUT", "datasets/cups", **sent)
    assert status == 200 and answer.json()["definition"]["filter_config"]["categories"] == ["drawer"]
    ask("POST", "datasets/cups/build")
    assert built(ask, "cups")["version"] == 2
    versions = ask("GET", "datasets/cups", Role.VIEWER)[1].json()["versions"]
    assert [one["categories"] for one in versions] == [["bin", "red cube"], ["drawer"]]
    # One that the command line made goes on over HTTP, and its newest version is what an export is of.
    store = stored.DatasetStore.of(ask.server.registry)
    store.build(ask.server.registry, stored.DatasetOrder("other", ratios=stored.SplitRatios(1, 0, 0)), who="anna")
    assert ask("POST", "datasets/other/build")[1].json()["code"] == "dataset_exists"
    assert ask("PUT", "datasets/other", name="other", split_config=ALL_TRAIN)[0] == 200
    ask("POST", "datasets/other/build")
    assert built(ask, "other")["version"] == 2
    status, export = ask("POST", "datasets/other/export")
    assert status == 201 and (export.json()["version"], export.json()["format"]) == (2, "yolo")
    for name, body, code in (
        ("cups", {"name": "other"}, "contradiction"),
        ("none", {"name": "none"}, "dataset_missing"),
        ("cups", {"name": "cups", "format": "tfrecord"}, "unknown_format"),
        ("cups", {"name": "cups", "split_config": {"train": 0.5}}, "dataset_invalid"),
    ):
        assert ask("PUT", f"datasets/{name}", **body)[1].json()["code"] == code
    assert ask("GET", "datasets/none", Role.VIEWER)[0] == 404
    assert ask("GET", "datasets/cups", Role.VIEWER)[1].json()["definition"]["filter_config"]["max_area"] == 4900


def test_what_cannot_be_done_is_refused_with_a_code_and_leaves_nothing(ask):
    def code(method, path, role=Role.REVIEWER, **body):
        status, answer = ask(method, path, role, **body)
        assert 400 <= status < 500 and answer.json()["remedy"]
        return status, answer.json()["code"]

    assert code("POST", "datasets", Role.LABELLER, name="x") == (403, "role_too_low")
    assert code("POST", "datasets", name="../x") == (422, "invalid_request")
    assert code("POST", "datasets", name="x", output_dir="/etc") == (422, "invalid_request")
    assert code("POST", "datasets", name="x", format="tfrecord") == (422, "unknown_format")
    assert code("POST", "datasets", name="x", split_config={"train": 0.5})[1] == "dataset_invalid"
    for method, path in (
        ("GET", "datasets/none"),
        ("POST", "datasets/none/build"),
        ("GET", "datasets/none/versions/1"),
        ("GET", "datasets/none/versions/1/card"),
        ("GET", "datasets/none/versions/1/export/yolo"),
        ("GET", "datasets/none/diff?old=1&new=2"),
    ):
        assert code(method, path) == (404, "dataset_missing"), path
    assert code("DELETE", "datasets/none/build") == (404, "no_build")
    assert code("POST", "datasets/none/export", format="yolo") == (404, "dataset_missing")
    nothing = {"filter_config": {"min_confidence": 0.99}}
    assert ask("POST", "datasets", name="x", **nothing)[0] == 201
    assert code("POST", "datasets", name="x") == (409, "dataset_exists")
    assert code("POST", "datasets/x/build", Role.LABELLER) == (403, "role_too_low")
    assert ask("POST", "datasets/x/build")[0] == 202
    build = built(ask, "x")
    assert (build["state"], build["code"]) == ("failed", "dataset_empty") and "min_score 0.99" in build["message"]
    assert ask("POST", "datasets", name="y")[0] == 201 and ask("POST", "datasets/y/build")[0] == 202
    assert built(ask, "y")["code"] == "split_impossible"
    thirds = {"train": 0.5, "val": 0.25, "test": 0.25, "apart": True}
    assert (
        ask("POST", "datasets", name="z", split_config=thirds)[0] == 201 and ask("POST", "datasets/z/build")[0] == 202
    )
    assert built(ask, "z")["state"] == "finished"
    assert ask("GET", "datasets/z")[1].json()["versions"][0]["images"] == {"train": 1, "val": 1, "test": 1}
    assert [one["name"] for one in ask("GET", "datasets")[1].json()["items"]] == ["z"]


def test_pictures_that_show_the_same_are_taken_once_where_it_is_asked(ask, tmp_path):
    registry = ask.server.registry
    media = tmp_path / "media" / "again"
    media.mkdir()
    shutil.copy(tmp_path / "media/shapes/0.png", media / "0.png")
    source = registry.add_source(SourceDraft(SourceKind.FOLDER, str(media)))
    (image,) = registry.add_images(source.source_id, [ImageDraft("0.png", WIDTH, HEIGHT)])
    first = min(registry.list_objects().objects, key=lambda item: item.score).image_id
    drafts = []
    for item in registry.list_objects(ObjectFilter(image_ids=(first,))).objects:
        vector, embedder = registry.embedding(item.object_id)
        about = {"embedding": vector, "embedder": embedder}
        drafts.append(ObjectDraft(image.image_id, item.category, item.box, 0.9, item.score_kind, item.origin, **about))
    registry.register(drafts, who="shapes")
    asked = {"split_config": ALL_TRAIN, "without_duplicates": True}
    assert ask("POST", "datasets", name="once", **asked)[1].json()["definition"]["without_duplicates"] is True
    assert ask("POST", "datasets/once/build")[0] == 202 and built(ask, "once")["state"] == "finished"
    version = ask("GET", "datasets/once/versions/1", Role.VIEWER)[1].json()
    assert version["images"]["train"] == 3 and version["provenance"]["near duplicates left out"] == 1
    bare = ObjectDraft(image.image_id, "mug", (1, 1, 9, 9), 0.9, ScoreKind.SOFTMAX, Origin("shapes"))
    registry.register([bare], who="shapes")
    assert ask("POST", "datasets", name="bare", filter_config={"categories": ["mug"]}, **asked)[0] == 201
    assert ask("POST", "datasets/bare/build")[0] == 202
    build = built(ask, "bare")
    assert (build["state"], build["code"]) == ("failed", "vectors_missing"), build


def test_a_build_that_is_withdrawn_leaves_nothing_and_another_one_waits_for_its_end(ask, monkeypatch):
    begun, go = threading.Event(), threading.Event()
    real = stored.place_pictures

    def slow(*arguments, **options):
        begun.set()
        assert go.wait(60)
        return real(*arguments, **options)

    monkeypatch.setattr(stored, "place_pictures", slow)
    for name in ("one", "two"):
        assert ask("POST", "datasets", name=name, split_config=ALL_TRAIN)[0] == 201
    assert ask("POST", "datasets/one/build")[0] == 202 and begun.wait(60)
    status, answer = ask("POST", "datasets/two/build")
    assert (status, answer.json()["code"]) == (409, "dataset_busy")
    assert ask("DELETE", "datasets/one/build")[0] == 202
    go.set()
    build = built(ask, "one")
    assert (build["state"], build["code"]) == ("canceled", "canceled")
    assert ask("GET", "datasets")[1].json()["items"] == []
    assert ask.server.registry.datasets.list_versions() == ()
    assert ask("POST", "datasets/two/build")[0] == 202 and built(ask, "two")["state"] == "finished"


@pytest.fixture
def shelf(ask, tmp_path):
    """Datasets ``bins`` (2 versions), ``cups`` (12) and ``plates`` of the kitchen (1); ``apples`` is defined only."""
    registry = ask.server.registry
    kitchen_of(registry, tmp_path / "media" / "kitchen")
    store, ratios = stored.DatasetStore.of(registry), stored.SplitRatios(1, 0, 0)
    default, kitchen = ObjectFilter(project="default"), ObjectFilter(project="kitchen")
    for name, where, count in (("bins", default, 2), ("plates", kitchen, 1), ("cups", default, 12)):
        for _ in range(count):
            store.build(registry, stored.DatasetOrder(name, where, ratios), who="anna")
    assert ask("POST", "datasets", name="apples")[0] == 201
    for name, project in (("bins", ""), ("plates", "kitchen")):
        body = {"name": name, "filter_config": {"project": project}, "split_config": ALL_TRAIN}
        assert ask("PUT", f"datasets/{name}", **body)[0] == 200
    return store


def walked(ask, path, limit, **more):
    """Pages of versions as labels, and the names that can be built of all pages."""
    pages, defined, cursor = [], [], ""
    while cursor or not pages:
        params = {"limit": limit, "cursor": cursor, **more}
        page = ask.server.ask(Role.VIEWER, "GET", path, params=params).json()
        pages.append([f"{one['name']}@v{one['version']}" for one in page["items"]])
        defined.append(page.get("defined", []))
        assert len(pages[-1]) <= limit and len(defined[-1]) <= limit
        cursor = page["next_cursor"]
    return pages, [*itertools.chain(*defined)]


def test_versions_and_what_can_be_built_come_in_pages_each_once(ask, shelf):
    cups = [f"cups@v{number}" for number in range(1, 13)]
    labels = ["bins@v1", "bins@v2", *cups, "plates@v1"]
    for limit in (1, 2, 4, 15, 50, 500):
        pages, defined = walked(ask, "datasets", limit)
        assert [*itertools.chain(*pages)] == labels and defined == ["apples", "bins", "plates"], limit
    assert walked(ask, "datasets", 5)[0] == [labels[:5], labels[5:10], labels[10:]], "pages are full"
    assert walked(ask, "datasets/cups/versions", 5)[0] == [cups[:5], cups[5:10], cups[10:]]
    assert walked(ask, "datasets/cups/versions", 12)[0] == [cups]
    assert walked(ask, "datasets/apples/versions", 5)[0] == [[]]


def test_many_datasets_that_were_only_defined_fill_pages_of_their_own(ask, shelf):
    for number in range(5):
        assert ask("POST", "datasets", name=f"c{number}")[0] == 201
    for limit in (1, 2, 3):
        pages, defined = walked(ask, "datasets", limit)
        assert len([*itertools.chain(*pages)]) == len({*itertools.chain(*pages)}) == 15, limit
        assert defined == ["apples", "bins", *(f"c{number}" for number in range(5)), "plates"]


def test_datasets_are_those_of_the_project_that_is_named(ask, shelf):
    pages, defined = walked(ask, "datasets", 3, project="kitchen")
    assert (pages, defined) == ([["plates@v1"]], ["plates"])
    pages, defined = walked(ask, "datasets", 3, project="default")
    # Nobody said of which project bins is, but its versions are of this one; of apples nothing says it.
    assert (
        len([*itertools.chain(*pages)]) == 14 and "plates@v1" not in [*itertools.chain(*pages)] and defined == ["bins"]
    )


def test_pages_of_datasets_that_make_no_sense_are_refused(ask, shelf):
    def code(path, **params):
        answer = ask.server.ask(Role.VIEWER, "GET", path, params=params)
        return answer.status_code, answer.json()["code"]

    for path in ("datasets", "datasets/cups/versions"):
        for wrong in ({"limit": 0}, {"limit": 501}, {"cursor": "x" * 1001}):
            assert code(path, **wrong) == (422, "invalid_request"), wrong
        for cursor in ("cups", "cups@", "cups@3", "cups@v", "cups@v-1", "cups@v\u0663", "@v1", "cups@v9999999999"):
            assert code(path, cursor=cursor) == (422, "invalid_cursor"), cursor
    assert code("datasets/cups/versions", cursor="bins@v1") == (422, "invalid_cursor")
    assert code("datasets/none/versions") == (404, "dataset_missing")
    assert code("datasets", project="moon") == (404, "unknown_project")
    # A version that was removed meanwhile does not end a listing.
    shutil.rmtree(shelf.root / "cups" / "v3")
    page = ask.server.ask(Role.VIEWER, "GET", "datasets", params={"cursor": "cups@v3", "limit": 1}).json()
    assert [one["version"] for one in page["items"]] == [4]


def test_one_dataset_is_told_with_its_newest_versions_and_how_many_there_are(ask, shelf, monkeypatch):
    monkeypatch.setattr(dataset_routes, "USUAL_PAGE", 5)
    told = ask("GET", "datasets/cups", Role.VIEWER)[1].json()
    assert [one["version"] for one in told["versions"]] == [8, 9, 10, 11, 12] and told["versions_count"] == 12
    told = ask("GET", "datasets/apples", Role.VIEWER)[1].json()
    assert (told["versions"], told["versions_count"]) == ([], 0)
