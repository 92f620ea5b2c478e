# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Projects, classes, affordances and action sequences over HTTP."""

from __future__ import annotations

from flow_rag_vla.gateway.access import Role
from flow_rag_vla.labeling.registry.values import ImageDraft

from .conftest import HEIGHT, WIDTH, kitchen_of

RESTRICTED = {
    "affordances", "categories", "curation/duplicates", "curation/groups", "curation/groups/{group}",
    "curation/mistakes", "curation/next", "curation/unique", "datasets", "objects", "objects/{object_id}/similar",
    "sequences", "sources", "stats",
}  # fmt: skip
"""What can be asked of one project."""


def code(answer):
    return answer.status_code, answer.json()["code"]


def test_a_project_and_its_classes_are_made_before_anything_is_registered(filled):
    server, _, _ = filled
    made = server.ask(Role.REVIEWER, "POST", "projects", json={"name": "kitchen", "closed_vocabulary": True})
    assert made.status_code == 201 and made.json()["closed_vocabulary"]
    assert code(server.ask(Role.REVIEWER, "POST", "projects", json={"name": "kitchen"})) == (409, "already_exists")
    names = [item["name"] for item in server.ask(Role.VIEWER, "GET", "projects").json()["items"]]
    assert names == ["default", "kitchen"]
    sent = {"name": "cup", "project": "kitchen", "synonyms": ["mug", "beaker"]}
    cup = server.ask(Role.REVIEWER, "POST", "categories", json=sent)
    assert cup.status_code == 201 and cup.json()["synonyms"] == ["beaker", "mug"]
    taken = server.ask(Role.REVIEWER, "POST", "categories", json={"name": "mug", "project": "kitchen"})
    assert code(taken) == (409, "already_exists")
    assert code(server.ask(Role.REVIEWER, "POST", "categories", json={**sent, "project": "moon"})) == (
        404,
        "unknown_project",
    )

    place = {"source_type": "folder", "file_path": "shapes", "project": "kitchen"}
    kitchen = server.ask(Role.LABELLER, "POST", "sources", json=place).json()["source_id"]
    (image,) = server.registry.add_images(kitchen, [ImageDraft("0.png", WIDTH, HEIGHT)])
    thing = {"source_id": kitchen, "image_id": image.image_id, "bbox": [1, 1, 9, 9]}
    assert server.ask(Role.LABELLER, "POST", "objects", json={**thing, "category": "mug"}).json()["category"] == "cup"
    refused = server.ask(Role.LABELLER, "POST", "objects", json={**thing, "category": "spoon"})
    assert code(refused) == (422, "unknown_category")
    opened = server.ask(Role.REVIEWER, "PATCH", "projects/kitchen", json={"closed_vocabulary": False})
    assert opened.json()["closed_vocabulary"] is False
    assert server.ask(Role.LABELLER, "POST", "objects", json={**thing, "category": "spoon"}).status_code == 201
    unknown = server.ask(Role.REVIEWER, "PATCH", "projects/moon", json={"closed_vocabulary": False})
    assert code(unknown) == (404, "unknown_project")


def test_a_class_is_renamed_and_merged_and_its_old_words_still_find_it(filled):
    server, _, ids = filled

    def change(category, role=Role.REVIEWER, **body):
        return server.ask(role, "PATCH", f"categories/{category}", json=body)

    made = change("bin", name="tray/left").json()
    assert (made["name"], made["synonyms"], made["objects"]) == ("tray/left", ["bin"], 3)
    assert change("tray/left", name="drawer").json()["code"] == "already_exists"
    merged = change("tray/left", name="drawer", merge=True).json()
    assert (merged["name"], merged["synonyms"], merged["objects"]) == ("drawer", ["bin", "tray/left"], 6)
    assert len(server.ask(Role.VIEWER, "GET", "objects?category=bin").json()["items"]) == 6
    assert server.registry.history(ids[1])[-1].who == "reviewer"
    listed = server.ask(Role.VIEWER, "GET", "categories").json()["items"]
    assert [item["name"] for item in listed] == ["drawer", "red cube"]
    for name, body, status, code in (
        ("moon", {"name": "sun"}, 422, "unknown_category"),
        ("drawer", {"name": "drawer", "merge": True}, 422, "invalid_value"),
        ("drawer", {"name": "x", "project": "moon"}, 404, "unknown_project"),
    ):
        answer = change(name, **body)
        assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert change("drawer", Role.LABELLER, name="x").json()["code"] == "role_too_low"


def test_what_can_be_done_with_an_object_is_said_once_and_found_by_name(filled):
    server, _, ids = filled
    said = {"name": "graspable", "score": 0.4, "parameters": {"gripper_width": 0.05}}
    first = server.ask(Role.LABELLER, "PUT", f"objects/{ids[0]}/affordances", json=said)
    assert first.status_code == 200 and first.json()["who"] == "labeller"
    server.ask(Role.LABELLER, "PUT", f"objects/{ids[0]}/affordances", json={**said, "score": 0.7})
    server.ask(Role.LABELLER, "PUT", f"objects/{ids[1]}/affordances", json={**said, "score": 0.9})
    of_one = server.ask(Role.VIEWER, "GET", f"objects/{ids[0]}/affordances").json()["items"]
    assert [(item["name"], item["score"], item["parameters"]) for item in of_one] == [
        ("graspable", 0.7, {"gripper_width": 0.05})
    ]
    found = server.ask(Role.VIEWER, "GET", "affordances?name=graspable").json()["items"]
    assert [item["object_id"] for item in found] == [ids[1], ids[0]]
    sure = server.ask(Role.VIEWER, "GET", "affordances?name=graspable&min_score=0.8").json()["items"]
    assert [item["object_id"] for item in sure] == [ids[1]]
    nobody = server.ask(Role.LABELLER, "PUT", f"objects/{'0' * 32}/affordances", json=said)
    assert code(nobody) == (404, "unknown_object")


def test_what_a_robot_did_is_kept_with_the_objects_that_it_was_about(filled):
    server, source, ids = filled
    sent = {
        "source_id": source.source_id, "instruction": "put the cube into the bin", "episode": "run_7",
        "actions": [[0.01, 0.0, 1.0], [0.02, 0.0, 0.0]], "start_ns": 5, "succeeded": True,
        "objects": [{"object_id": ids[0], "role": "target"}, {"object_id": ids[1], "role": "destination"}],
    }  # fmt: skip
    made = server.ask(Role.LABELLER, "POST", "sequences", json=sent)
    assert made.status_code == 201, made.text
    made = made.json()
    assert (made["steps"], made["width"], made["who"], made["period_ns"]) == (2, 3, "labeller", 25_000_000)
    server.ask(Role.LABELLER, "PATCH", f"objects/{ids[0]}", json={"category": "cup"})
    whole = server.ask(Role.VIEWER, "GET", f"sequences/{made['sequence_id']}").json()
    assert whole["actions"][1][0] == 0.019999999552965164  # float32
    told = [(part["object_id"], part["role"], part["category"]) for part in whole["objects"]]
    assert told == [(ids[0], "target", "cup"), (ids[1], "destination", "bin")]
    for query in ("episode=run_7", f"object_id={ids[1]}"):
        items = server.ask(Role.VIEWER, "GET", f"sequences?{query}").json()["items"]
        assert [item["sequence_id"] for item in items] == [made["sequence_id"]] and "actions" not in items[0]
    assert server.ask(Role.VIEWER, "GET", f"sequences?object_id={ids[2]}").json()["items"] == []
    for body, status, said in (
        ({**sent, "actions": [[1.0], [1.0, 2.0]]}, 400, "invalid_value"),
        ({**sent, "actions": []}, 422, "invalid_request"),
        ({**sent, "source_id": "0" * 32}, 404, "unknown_source"),
        ({**sent, "objects": [{"object_id": "0" * 32}]}, 404, "unknown_object"),
    ):
        assert code(server.ask(Role.LABELLER, "POST", "sequences", json=body)) == (status, said)
    assert code(server.ask(Role.VIEWER, "GET", "sequences")) == (400, "invalid_value")
    assert code(server.ask(Role.VIEWER, "GET", f"sequences/{'0' * 32}")) == (404, "unknown_sequence")


def test_a_project_that_there_is_not_is_the_same_refusal_wherever_one_can_be_named(filled):
    server, _, ids = filled
    paths = server.app.openapi()["paths"]
    asked = {
        path.removeprefix("/api/labeling/")
        for path, methods in paths.items()
        if any(one["name"] == "project" for one in methods.get("get", {}).get("parameters", ()))
    }
    assert asked == RESTRICTED
    needed = {"affordances": {"name": "graspable"}, "sequences": {"episode": "run_7"}}
    for path in sorted(asked):
        place = path.format(object_id=ids[0], group=1)
        answer = server.ask(Role.VIEWER, "GET", place, params={"project": "moon", **needed.get(path, {})})
        assert code(answer) == (404, "unknown_project"), path
        assert "moon" in answer.json()["message"] and "default" in answer.json()["remedy"]
        too_long = server.ask(Role.VIEWER, "GET", place, params={"project": "m" * 201, **needed.get(path, {})})
        assert code(too_long) == (422, "invalid_request"), path


def test_counts_objects_and_affordances_are_those_of_the_project_that_is_named(filled, tmp_path):
    server, _, ids = filled
    cups = kitchen_of(server.registry, tmp_path / "media" / "kitchen")
    for object_id in (ids[0], cups[0]):
        said = {"name": "graspable", "score": 0.4}
        assert server.ask(Role.LABELLER, "PUT", f"objects/{object_id}/affordances", json=said).status_code == 200

    def asked(path, **params):
        return server.ask(Role.VIEWER, "GET", path, params=params).json()

    for project, count, of_it in (("", 12, {*ids, *cups}), ("default", 9, {*ids}), ("kitchen", 3, {*cups})):
        assert {item["object_id"] for item in asked("objects", project=project)["items"]} == of_it
        assert asked("stats", project=project)["objects"] == count
        ranked = asked("curation/next", project=project)["items"]
        assert {item["object"]["object_id"] for item in ranked} == of_it
        graspable = asked("affordances", name="graspable", project=project)["items"]
        assert {item["object_id"] for item in graspable} == of_it & {ids[0], cups[0]}
    assert asked("stats", project="kitchen")["by_category"] == {"cup": 1, "drawer": 1, "red cube": 1}
    alike = asked(f"objects/{cups[0]}/similar", project="kitchen")["items"]
    assert {item["object"]["object_id"] for item in alike} == {*cups[1:]}


def test_action_sequences_come_in_pages_each_once_and_of_one_project(filled, tmp_path):
    server, source, ids = filled
    cups = kitchen_of(server.registry, tmp_path / "media" / "kitchen")
    kitchen = server.registry.get(cups[0]).source_id

    def record(source_id, start_ns, **more):
        sent = {"source_id": source_id, "actions": [[0.0]], "start_ns": start_ns, "episode": "run_7", **more}
        return server.ask(Role.LABELLER, "POST", "sequences", json=sent).json()["sequence_id"]

    def asked(**params):
        return server.ask(Role.VIEWER, "GET", "sequences", params=params)

    about = {"objects": [{"object_id": ids[0]}]}
    # Those of the same start stay in the order in which they were recorded.
    made = {start: record(source.source_id, start, **about) for start in (40, 10, 30)}
    twin = record(source.source_id, 10, **about)
    elsewhere = record(kitchen, 20)
    in_time = [made[10], twin, elsewhere, made[30], made[40]]
    for params, wanted in (
        ({"episode": "run_7"}, in_time),
        ({"episode": "run_7", "project": "kitchen"}, [elsewhere]),
        ({"episode": "run_7", "project": "default"}, [made[10], twin, made[30], made[40]]),
        ({"object_id": ids[0]}, [made[10], twin, made[30], made[40]]),
        ({"object_id": ids[0], "project": "kitchen"}, []),
    ):
        for limit in (1, 2, 500):
            seen, cursor, pages = [], "", 0
            while cursor or not pages:
                page = asked(**params, limit=limit, cursor=cursor).json()
                assert len(page["items"]) <= limit
                seen += [item["sequence_id"] for item in page["items"]]
                cursor, pages = page["next_cursor"], pages + 1
            assert seen == wanted and pages == max(1, -(-len(wanted) // limit)), (params, limit)
    for limit in (0, 501, "x"):
        assert code(asked(episode="run_7", limit=limit)) == (422, "invalid_request")
    for cursor in ("x", ids[0], elsewhere):  # the last one is of an episode, but not about this object
        assert code(asked(object_id=ids[0], cursor=cursor)) == (422, "invalid_cursor")
    for start in range(100, 160):
        record(source.source_id, start)
    assert len(asked(episode="run_7").json()["items"]) == 50, "as many as of any listing where no limit is named"
