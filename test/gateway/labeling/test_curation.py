# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What is worth a look over HTTP, and masks that are drawn, with the real registry."""

from __future__ import annotations

import base64
import dataclasses
import itertools

import numpy as np
import pytest

from flow_rag_vla.gateway.access import Role
from flow_rag_vla.labeling.detections import Origin, ScoreKind
from flow_rag_vla.labeling.registry.values import Embedder, ObjectChange, ObjectDraft, ReviewState

from .conftest import EMBEDDER, HEIGHT, WIDTH, kitchen_of, other_project, png


def sent(mask, **fields):
    data = np.where(mask[..., None], np.uint8(255), np.uint8(0)).repeat(3, axis=2)
    return {"json": {"mask": base64.b64encode(png(data)).decode(), **fields}}


def rectangle(left, top, right, bottom):
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[top:bottom, left:right] = True
    return mask


def refused(answer, status, code):
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text


def test_the_queue_is_paged_in_one_order_and_begins_anew_after_a_change(filled):
    server, source, ids = filled
    first = server.ask(Role.VIEWER, "GET", "curation/next", params={"limit": 4}).json()
    assert (first["waiting"], first["judged"], first["near_failures"]) == (9, 0, 0)
    judged = first["items"][0]["object"]["object_id"]
    server.registry.update(judged, ObjectChange(state=ReviewState.ACCEPTED), who="anna")
    # The order that the cursor counts in stands; what was judged since is left out.
    again = server.ask(Role.VIEWER, "GET", "curation/next", params={"limit": 4, "cursor": "1-0"}).json()
    assert judged not in {item["object"]["object_id"] for item in again["items"]}
    seen = [item["object"]["object_id"] for item in first["items"]]
    cursor = first["next_cursor"]
    while cursor:
        page = server.ask(Role.VIEWER, "GET", "curation/next", params={"limit": 4, "cursor": cursor}).json()
        seen += [item["object"]["object_id"] for item in page["items"]]
        cursor = page["next_cursor"]
    assert sorted(seen) == sorted(ids)
    anew = server.ask(Role.VIEWER, "GET", "curation/next").json()
    assert (anew["waiting"], anew["judged"], anew["next_cursor"]) == (8, 1, "")
    bins = server.ask(Role.VIEWER, "GET", "curation/next", params={"category": "bin", "source_id": source.source_id})
    assert {item["object"]["category"] for item in bins.json()["items"]} == {"bin"}
    refused(server.ask(Role.VIEWER, "GET", "curation/next", params={"category": "mug"}), 422, "unknown_category")
    refused(server.ask(Role.VIEWER, "GET", "curation/next", params={"project": "mug"}), 404, "unknown_project")
    refused(server.ask(Role.VIEWER, "GET", "curation/next", params={"cursor": "x"}), 422, "invalid_request")


def test_a_label_that_disagrees_is_first_among_the_mistakes_until_it_is_put_right(filled):
    server, _, ids = filled
    server.registry.update(ids[8], ObjectChange(category="bin", state=ReviewState.RELABELLED), who="ben")
    found = server.ask(Role.VIEWER, "GET", "curation/mistakes", params={"limit": 2}).json()
    assert found["compared"] == 9
    worst = found["items"][0]
    assert (worst["object"]["object_id"], worst["object"]["category"]) == (ids[8], "bin")
    assert worst["suggested"] == "drawer" and worst["score"] > 0.7 > found["items"][1]["score"]
    only = server.ask(Role.VIEWER, "GET", "curation/mistakes", params={"state": "relabelled"}).json()
    assert [item["object"]["object_id"] for item in only["items"]] == [ids[8]]
    server.registry.undo(who="ben")
    found = server.ask(Role.VIEWER, "GET", "curation/mistakes", params={"category": "drawer"}).json()
    assert all(item["suggested"] == "drawer" and item["score"] < 0.5 for item in found["items"])


def test_what_is_unlike_all_others_is_first_until_another_one_like_it_comes(filled):
    server, source, ids = filled

    def asked(**params):
        return server.ask(Role.VIEWER, "GET", "curation/unique", params=params).json()

    odd = ObjectDraft(
        server.registry.images(source.source_id)[0].image_id,
        "bin",
        (1, 1, 30, 30),
        0.9,
        ScoreKind.SOFTMAX,
        Origin("shapes", "1"),
        embedding=np.eye(8, dtype=np.float32)[7],
        embedder=EMBEDDER,
    )
    (strange,) = server.registry.register([odd], who="shapes").object_ids
    found = asked()
    scores = [item["score"] for item in found["items"]]
    assert found["compared"] == len(scores) == 10 and scores == sorted(scores, reverse=True)
    assert found["items"][0]["object"]["object_id"] == strange and scores[0] == 1.0 and 0.0 < scores[1] < 0.8
    assert [item["object"]["object_id"] for item in asked(limit=1)["items"]] == [strange]
    cubes = asked(category="red cube")
    assert {item["object"]["category"] for item in cubes["items"]} == {"red cube"} and cubes["compared"] == 10
    copies = [dataclasses.replace(odd, box=(place, 2, place + 30, 32)) for place in (2, 3, 4)]
    server.registry.register(copies, who="shapes")
    again = asked(category="bin")
    assert {item["score"] for item in again["items"] if item["object"]["confidence"] == 0.9} == {0.0}
    assert again["items"][0]["object"]["object_id"] in ids and again["compared"] == 13
    server.registry.update(strange, ObjectChange(state=ReviewState.REJECTED), who="anna")
    assert strange not in {item["object"]["object_id"] for item in asked(limit=100)["items"]}
    assert [item["object"]["object_id"] for item in asked(state="rejected")["items"]] == [strange]
    refused(server.ask(Role.VIEWER, "GET", "curation/unique", params={"project": "mug"}), 404, "unknown_project")
    refused(server.ask(Role.VIEWER, "GET", "curation/unique", params={"limit": 0}), 422, "invalid_request")
    other = Embedder("other", "1", 4)
    server.registry.set_embeddings({ids[0]: np.eye(4, dtype=np.float32)[0]}, other, who="anna")
    refused(server.ask(Role.VIEWER, "GET", "curation/unique"), 409, "embedder_mismatch")


def pages_of(server, path, **params):
    """The ids of each page."""
    pages, cursor = [], ""
    while cursor or not pages:
        found = server.ask(Role.VIEWER, "GET", path, params={**params, "cursor": cursor}).json()
        pages.append([item["object"]["object_id"] for item in found["items"]])
        cursor = found["next_cursor"]
    return pages


@pytest.mark.parametrize("path", ["curation/mistakes", "curation/unique"])
def test_rankings_of_labels_and_looks_come_in_pages_in_the_order_of_one(filled, path):
    server, _, ids = filled
    (whole,) = pages_of(server, path)
    assert sorted(whole) == sorted(ids)
    assert pages_of(server, path, limit=4) == [whole[:4], whole[4:8], whole[8:]]
    assert pages_of(server, path, limit=3) == [whole[:3], whole[3:6], whole[6:]], "a full last page has no next"
    only = [name for name in whole if server.registry.get(name).category == "bin"]
    assert pages_of(server, path, limit=2, category="bin") == [only[:2], only[2:]]
    for wrong in ({"limit": 0}, {"limit": 501}, {"cursor": "x"}, {"cursor": "1"}, {"cursor": "-1-0"}):
        refused(server.ask(Role.VIEWER, "GET", path, params=wrong), 422, "invalid_request")
    refused(server.ask(Role.VIEWER, "GET", path, params={"project": "moon", "cursor": "1-0"}), 404, "unknown_project")


@pytest.mark.parametrize("path", ["curation/mistakes", "curation/unique"])
def test_a_page_goes_on_in_the_order_that_it_began_in_without_what_was_judged_since(filled, path):
    server, _, _ = filled

    def asked(**params):
        found = server.ask(Role.VIEWER, "GET", path, params={"state": "unreviewed", **params}).json()
        return [item["object"]["object_id"] for item in found["items"]], found["next_cursor"]

    whole, _ = asked()
    first, cursor = asked(limit=4)
    accepted, deleted = whole[5], whole[7]
    server.registry.update(accepted, ObjectChange(state=ReviewState.ACCEPTED), who="anna")
    server.registry.delete(deleted, who="anna")
    left = [name for name in whole if name not in (accepted, deleted)]
    # Somebody else asks for what is true now, and another one changes something again.
    now, _ = asked()
    assert sorted(now) == sorted(left)
    rest, end = asked(limit=500, cursor=cursor)
    assert first + rest == left and end == ""
    # What it counted in is gone once enough has happened: it begins anew, and nothing is missed.
    for _ in range(5):
        server.registry.update(whole[0], ObjectChange(quality=0.5), who="anna")
        server.registry.update(whole[0], ObjectChange(quality=0.6), who="anna")
        asked()
    assert sorted(asked(limit=500, cursor=cursor)[0]) == sorted(left)


def test_mistakes_are_looked_for_within_the_project_that_is_named(filled, tmp_path):
    server, _, ids = filled
    cups = kitchen_of(server.registry, tmp_path / "media" / "kitchen")
    for project, wanted in (("default", ids), ("kitchen", cups), ("", [*ids, *cups])):
        found = pages_of(server, "curation/mistakes", project=project, limit=2)
        assert sorted(itertools.chain(*found)) == sorted(wanted)
    # A cursor counts in its own project.
    page = server.ask(Role.VIEWER, "GET", "curation/mistakes", params={"project": "default", "limit": 8}).json()
    other = {"project": "kitchen", "limit": 8, "cursor": page["next_cursor"]}
    objects = [
        item["object"] for item in server.ask(Role.VIEWER, "GET", "curation/mistakes", params=other).json()["items"]
    ]
    assert {item["project"] for item in objects} <= {"kitchen"}


def test_projects_whose_vectors_do_not_compare_are_each_looked_at_alone(filled):
    server, _, ids = filled
    cups = other_project(server.registry)
    refused(server.ask(Role.VIEWER, "GET", "curation/mistakes"), 409, "embedder_mismatch")
    for project, wanted in (("default", ids), ("kitchen", cups)):
        assert sorted(itertools.chain(*pages_of(server, "curation/mistakes", project=project))) == sorted(wanted)


def test_groups_that_look_alike_are_listed_with_their_ends_and_paged_until_the_registry_changes(filled):
    server, _, ids = filled

    def asked(path="curation/groups", **params):
        return server.ask(Role.VIEWER, "GET", path, params=params).json()

    found = asked(groups=3, members=2)
    assert (found["groups"], found["compared"]) == (3, 9)
    assert [item["objects"] for item in found["items"]] == [3, 3, 3] and found["silhouette"] > 0.5
    assert {(item["mostly"], item["mostly_share"]) for item in found["items"]} == {
        ("red cube", 1.0),
        ("bin", 1.0),
        ("drawer", 1.0),
    }
    assert all(len(item["typical"]) == len(item["unusual"]) == 2 for item in found["items"])
    assert len(asked(groups=3, limit=1)["items"]) == 1 and asked(groups=3, members=0)["items"][0]["typical"] == []
    assert len(asked()["items"]) == asked()["groups"]

    page = asked("curation/groups/1", groups=1, limit=4)
    assert page["objects"] == 9
    seen = [item["object"]["object_id"] for item in page["items"]]
    cursor = page["next_cursor"]
    # A page goes on in the order that it began in, whatever is judged meanwhile; what is deleted is left out.
    server.registry.delete(ids[0], who="anna")
    left = {*ids} - {ids[0]} | {*seen}
    while cursor:
        page = asked("curation/groups/1", groups=1, limit=4, cursor=cursor)
        seen += [item["object"]["object_id"] for item in page["items"]]
        cursor = page["next_cursor"]
    assert sorted(seen) == sorted(left)
    assert asked("curation/groups/1", groups=1)["objects"] == 8
    (bins,) = asked(category="bin", groups=1)["items"]
    assert (bins["objects"], {item["category"] for item in bins["typical"]}) == (3, {"bin"})
    server.registry.update(ids[1], ObjectChange(state=ReviewState.REJECTED), who="anna")
    assert asked(groups=1)["compared"] == 7 and asked(groups=1, state=["rejected", "unreviewed"])["compared"] == 8


def test_groups_that_make_no_sense_are_refused_and_the_request_is_bounded(filled):
    server, _, ids = filled

    def ask(path="curation/groups", **params):
        return server.ask(Role.VIEWER, "GET", path, params=params)

    refused(ask(project="mug"), 404, "unknown_project")
    refused(ask(category="mug"), 422, "unknown_category")
    refused(ask(groups=10), 422, "invalid_value")
    refused(ask(state="accepted"), 422, "invalid_value")
    for wrong in ({"groups": 0}, {"groups": 101}, {"limit": 501}, {"members": 21}):
        refused(ask(**wrong), 422, "invalid_request")
    refused(ask("curation/groups/0"), 422, "invalid_request")
    refused(ask("curation/groups/4", groups=3), 404, "unknown_group")
    refused(ask("curation/groups/1", cursor="x"), 422, "invalid_request")
    other = Embedder("other", "1", 4)
    server.registry.set_embeddings({ids[0]: np.eye(4, dtype=np.float32)[0]}, other, who="anna")
    refused(ask(), 409, "embedder_mismatch")


def test_pictures_that_show_the_same_are_grouped_and_those_that_cannot_be_read_are_named(filled, tmp_path):
    server, source, _ = filled
    found = server.ask(Role.VIEWER, "GET", "curation/duplicates").json()
    assert (found["items"], found["pictures"], found["unread"]) == ([], 3, [])
    image = server.registry.images(source.source_id)[0]
    path = tmp_path / "media" / "shapes" / image.name
    copied = server.ask(
        Role.LABELLER, "POST", "sources/upload", files={"image": ("copy.png", path.read_bytes(), "image/png")}
    ).json()
    originals = server.ask(Role.VIEWER, "GET", "objects", params={"image_id": image.image_id}).json()["items"]
    for item in originals:
        vector, embedder = server.registry.embedding(item["object_id"])
        body = {
            "source_id": copied["source_id"],
            "category": item["category"],
            "bbox": item["bbox"],
            "confidence": item["confidence"],
            "score_kind": "softmax",
            "model": "shapes",
            "embedding": vector.tolist(),
            "embedder": f"{embedder.name}@{embedder.revision}",
        }
        assert server.ask(Role.LABELLER, "POST", "objects", json=body).status_code == 201
    found = server.ask(Role.VIEWER, "GET", "curation/duplicates").json()
    assert [(item["kept_image_id"], item["image_ids"]) for item in found["items"]] == [
        (image.image_id, [copied["image_id"]])
    ]
    path.unlink()
    server.labels.pictures._kept.clear()
    server.registry.update(originals[0]["object_id"], ObjectChange(quality=0.5), who="anna")
    found = server.ask(Role.VIEWER, "GET", "curation/duplicates").json()
    assert (found["items"], found["unread"]) == ([], [image.image_id])


def test_a_drawn_mask_brings_its_box_waits_for_a_reviewer_and_is_taken_back(filled):
    server, _, ids = filled
    before = server.registry.mask(ids[0])
    server.registry.update(ids[0], ObjectChange(state=ReviewState.ACCEPTED), who="anna")
    drawn = rectangle(10, 20, 61, 99)
    answer = server.ask(Role.LABELLER, "PUT", f"objects/{ids[0]}/mask", **sent(drawn))
    assert answer.status_code == 200, answer.text
    given = answer.json()
    assert (given["bbox"], given["state"], given["has_mask"]) == ([10.0, 20.0, 61.0, 99.0], "unreviewed", True)
    assert answer.headers["etag"] == f'"{given["version"]}"'
    assert (server.registry.mask(ids[0]) == drawn).all()
    shown = server.ask(Role.VIEWER, "GET", f"objects/{ids[0]}/history").json()["items"][-1]
    assert shown["who"] == "labeller" and {"mask_path", "box"} <= set(shown["after"])
    undone = server.ask(Role.LABELLER, "POST", f"objects/{ids[0]}/undo").json()
    assert undone["state"] == "accepted" and (server.registry.mask(ids[0]) == before).all()
    reviewed = server.ask(Role.REVIEWER, "PUT", f"objects/{ids[0]}/mask", **sent(drawn, state="relabelled")).json()
    assert (reviewed["state"], reviewed["validated_by"]) == ("relabelled", "reviewer")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (sent(rectangle(1, 1, 9, 9)[:100]), 422, "invalid_mask"),
        (sent(np.zeros((HEIGHT, WIDTH), bool)), 422, "invalid_mask"),
        ({"json": {"mask": "not base64!"}}, 422, "invalid_mask"),
        ({"json": {"mask": ""}}, 422, "invalid_request"),
        (sent(rectangle(1, 1, 9, 9), validated_by="me"), 422, "invalid_request"),
        (sent(rectangle(1, 1, 9, 9), state="accepted"), 403, "role_too_low"),
        ({**sent(rectangle(1, 1, 9, 9)), "headers": {"If-Match": '"7"'}}, 412, "stale_version"),
    ],
)
def test_a_mask_that_makes_no_sense_is_refused_and_nothing_is_changed(filled, body, status, code):
    server, _, ids = filled
    with server.client(Role.LABELLER) as client:
        refused(client.put(f"/api/labeling/objects/{ids[0]}/mask", **body), status, code)
    assert server.registry.get(ids[0]).version == 1
