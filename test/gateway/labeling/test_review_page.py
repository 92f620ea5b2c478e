# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The review page in a real browser: what a person does on it is what the registry holds."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

from flow_rag_vla.gateway.access import Role
from flow_rag_vla.gateway.app import make_app
from flow_rag_vla.gateway.labeling.labels import Labels
from flow_rag_vla.gateway.labeling.models import Models
from flow_rag_vla.gateway.labeling.section import labeling_section
from flow_rag_vla.gateway.server import Server
from flow_rag_vla.labeling.compact.baseline import ColourDetector
from flow_rag_vla.labeling.detections import Origin, ScoreKind
from flow_rag_vla.labeling.pipeline import LabelingPipeline
from flow_rag_vla.labeling.registry.queries import ObjectFilter
from flow_rag_vla.labeling.registry.values import Embedder, LabelDraft, ObjectChange, ObjectDraft, ReviewState

from .conftest import COLOURS, kitchen_of, other_project, png

EMBEDDER = Embedder("shapes", "1", 8)
"""Of the objects that the registry is filled with."""


@pytest.fixture
def review(filled, page):
    """``review(Role.REVIEWER)`` opens the page with that person's token; (page, registry, ids)."""
    served, _, ids = filled
    with Server(served.app, port=0) as server:

        def open_page(role):
            page.goto(f"{server.url}labeling/#token={served.secrets[role]}")
            page.wait_for_function(
                "role => document.getElementById('person').textContent.endsWith(role)", arg=role.word
            )
            showing(page, ids[0])
            return page, served.registry, ids

        yield open_page


def showing(page, object_id):
    """Wait until the picture of an object is drawn."""
    page.wait_for_selector(f"#picture[data-object='{object_id}']")


def said(page, text):
    page.wait_for_function("text => document.getElementById('notice').textContent.includes(text)", arg=text)


def settled(page, judged):
    """Wait until the statistics count so many judged objects."""
    page.wait_for_function(
        "text => document.getElementById('progress-text').textContent.startsWith(text)", arg=f"{judged} of"
    )


def drag(page, image_box, size=(320, 240)):
    """Drag over a box given in pixels of the picture, which is drawn whole with a margin of 12."""
    bounds = page.locator("#picture").bounding_box()
    scale = min((bounds["width"] - 24) / size[0], (bounds["height"] - 24) / size[1])
    left = bounds["x"] + (bounds["width"] - scale * size[0]) / 2
    top = bounds["y"] + (bounds["height"] - scale * size[1]) / 2
    page.mouse.move(left + scale * image_box[0], top + scale * image_box[1])
    page.mouse.down()
    page.mouse.move(left + scale * image_box[2], top + scale * image_box[3], steps=4)
    page.mouse.up()


def test_a_reviewer_accepts_rejects_relabels_redraws_and_undoes(review):
    page, registry, ids = review(Role.REVIEWER)
    assert "token" not in page.url

    page.keyboard.press("a")
    showing(page, ids[1])
    page.keyboard.press("r")
    showing(page, ids[2])
    names = page.locator("#classes button").all_inner_texts()
    page.keyboard.press(next(text.split()[0] for text in names if "red cube" in text))
    showing(page, ids[3])
    settled(page, 3)

    page.keyboard.press("t")
    page.keyboard.type("cup")
    page.keyboard.press("Enter")
    showing(page, ids[4])
    settled(page, 4)

    drag(page, (40, 50, 140, 150))
    said(page, "corrected")
    settled(page, 5)
    page.keyboard.press("a")
    showing(page, ids[5])
    # The next one is shown at once, the answer to the change comes behind it.
    page.wait_for_selector("#queue button:nth-child(5).accepted")

    states = [registry.get(name) for name in ids]
    assert [item.state.value for item in states[:4]] == ["accepted", "rejected", "relabelled", "relabelled"]
    assert [item.category for item in states[:4]] == ["red cube", "bin", "red cube", "cup"]
    assert {item.validated_by for item in states[:5]} == {"reviewer"}
    # One pixel of the screen is a third of one of the picture.
    assert states[4].box == pytest.approx((40, 50, 140, 150), abs=1.0)
    assert states[4].state is ReviewState.ACCEPTED
    assert [item.version for item in states[5:]] == [1] * 4

    for undone in (4, 4, 3, 2):
        page.keyboard.press("z")
        showing(page, ids[undone])
    settled(page, 2)
    after = [registry.get(name) for name in ids]
    assert [item.state.value for item in after[:5]] == ["accepted", "rejected"] + ["unreviewed"] * 3
    assert [item.category for item in after[2:4]] == ["drawer", "red cube"]
    assert after[4].box == registry.get(ids[4]).box == (120, 80, 190, 150)
    assert after[4].mask_path, "the mask of the old box is back"


def test_two_quick_keys_judge_two_objects(review):
    page, registry, ids = review(Role.REVIEWER)
    for key in "arar":
        page.keyboard.press(key)
    settled(page, 4)
    states = [registry.get(name).state.value for name in ids]
    assert states[:5] == ["accepted", "rejected", "accepted", "rejected", "unreviewed"]


def queue_of(page, count):
    """Wait until the queue holds so many objects."""
    page.wait_for_function("count => document.querySelectorAll('#queue button').length === count", arg=count)


def counted(page, text):
    """Wait until the progress reads so."""
    page.wait_for_function("text => document.getElementById('progress-text').textContent === text", arg=text)


def test_a_project_is_chosen_and_everything_follows_it_and_its_address_leads_to_it(filled, review, tmp_path):
    cups = kitchen_of(filled[0].registry, tmp_path / "media" / "kitchen")
    page, registry, ids = review(Role.REVIEWER)
    queue_of(page, 12)
    counted(page, "0 of 12")
    assert page.locator("#project option").all_inner_texts() == ["all projects", "default", "kitchen"]
    assert page.input_value("#project") == "" and "project" not in page.url

    page.select_option("#project", label="kitchen")
    queue_of(page, 3)
    showing(page, cups[0])
    counted(page, "0 of 3")
    assert page.url.endswith("/labeling/?project=kitchen")
    assert "1 pictures, 3 objects: 3 not reviewed" in page.locator("#statistics").inner_text()
    assert page.locator("#distribution > span:not(.count)").all_inner_texts() == ["cup", "drawer", "red cube"]
    assert page.locator("#classes button").count() == 3
    assert page.locator("#category option").all_inner_texts() == ["every class", "cup", "drawer", "red cube"]
    page.wait_for_function("() => document.querySelectorAll('#similar figure').length === 2")
    for order in ("next", "mistakes", "newest"):
        with page.expect_response(lambda answer: "limit=50" in answer.url and "project=kitchen" in answer.url):
            page.select_option("#order", order)
        queue_of(page, 3)
    page.keyboard.press("g")
    page.wait_for_selector("#groups-note:has-text('3 objects')")
    page.keyboard.press("Escape")

    page.reload()
    showing(page, cups[0])
    queue_of(page, 3)
    assert page.input_value("#project") == "kitchen"
    page.keyboard.press("a")
    settled(page, 1)
    counted(page, "1 of 3")
    page.select_option("#project", label="default")
    queue_of(page, 9)
    counted(page, "0 of 9")
    showing(page, ids[0])
    assert page.locator("#distribution > span:not(.count)").all_inner_texts() == ["bin", "drawer", "red cube"]
    # The last change is taken back wherever it was made; the queue stays that of this project.
    page.keyboard.press("z")
    said(page, "taken back in the project kitchen: red cube, not reviewed")
    assert registry.get(cups[0]).state is ReviewState.UNREVIEWED
    queue_of(page, 9)
    page.go_back()
    queue_of(page, 3)
    page.go_back()
    queue_of(page, 12)
    counted(page, "0 of 12")
    assert page.input_value("#project") == "" and "project" not in page.url


def test_a_project_that_there_is_not_is_said_to_be_unknown_and_nothing_is_shown_instead(filled, page):
    served, _, ids = filled
    with Server(served.app, port=0) as server:
        secret = served.secrets[Role.VIEWER]
        with page.expect_response(lambda answer: "/objects?" in answer.url) as refused:
            page.goto(f"{server.url}labeling/?project=moon#token={secret}")
        assert (refused.value.status, refused.value.json()["code"]) == (404, "unknown_project")
        said(page, "there is no project 'moon'")
        assert "(unknown_project)" in page.locator("#notice.problem").inner_text()
        assert page.locator("#project option:checked").inner_text() == "moon (unknown)"
        assert page.locator("#queue button").count() == 0 and page.is_visible("#empty")
        assert page.locator("#progress-text").inner_text() == page.locator("#distribution").inner_text() == ""
        page.select_option("#project", label="default")
        showing(page, ids[0])
        counted(page, "0 of 9")
        page.go_back()
        said(page, "unknown_project")
        queue_of(page, 0)
        page.wait_for_function("() => document.getElementById('progress-text').textContent === ''")
        assert page.locator("#classes button").count() == 0 and page.locator("#statistics").inner_text() == ""


def test_a_queue_of_another_project_that_comes_late_is_not_shown(filled, review, tmp_path):
    cups = kitchen_of(filled[0].registry, tmp_path / "media" / "kitchen")
    page, _, _ = review(Role.VIEWER)
    held = []
    page.route("**/objects?project=default**", lambda route: held.append(route))
    with page.expect_request("**/objects?project=default**"):
        page.select_option("#project", label="default")
    page.select_option("#project", label="kitchen")
    queue_of(page, 3)
    showing(page, cups[0])
    with page.expect_response("**/objects?project=default**"):
        held[0].continue_()
    page.evaluate("() => fetch('/health').then((answer) => answer.json())")
    assert page.locator("#queue button").count() == 3
    showing(page, cups[0])


def test_the_likeliest_mistakes_go_on_behind_the_first_page(filled, review):
    served, _, ids = filled
    image = served.registry.get(ids[0]).image_id
    rng = np.random.default_rng(5)
    drafts = [
        ObjectDraft(
            image, "nut", (2 + number, 2, 12 + number, 12), 0.9, ScoreKind.SOFTMAX, Origin("shapes", "1", "", 0.2),
            embedding=(vector / np.linalg.norm(vector)).astype(np.float32), embedder=EMBEDDER,
        )
        for number, vector in enumerate(np.eye(8)[7] + 0.05 * rng.normal(size=(60, 8)))
    ]  # fmt: skip
    served.registry.register(drafts, who="shapes")
    page, _, _ = review(Role.VIEWER)
    with page.expect_response(lambda answer: "curation/mistakes" in answer.url) as first:
        page.select_option("#order", "mistakes")
    showing(page, first.value.json()["items"][0]["object"]["object_id"])
    queue_of(page, 50)
    page.locator("#queue button").last.click()
    queue_of(page, 69)
    keys = page.eval_on_selector_all("#queue img", "all => all.map((image) => image.dataset.key)")
    assert len({*keys}) == 69


def test_what_somebody_else_changed_meanwhile_is_shown_not_overwritten(review):
    page, registry, ids = review(Role.REVIEWER)
    registry.update(ids[0], ObjectChange(category="cup", state=ReviewState.RELABELLED), who="grace")
    page.keyboard.press("r")
    said(page, "somebody else")
    showing(page, ids[0])
    assert page.locator("#title").inner_text() == "cup"
    assert (registry.get(ids[0]).state, registry.get(ids[0]).validated_by) == (ReviewState.RELABELLED, "grace")


def test_similar_objects_are_those_of_the_own_project_whatever_vectors_another_has(filled, review):
    other_project(filled[0].registry)
    page, _, _ = review(Role.VIEWER)
    page.wait_for_selector("#similar img[src^=blob]")
    assert "cup" not in page.locator("#similar").inner_text() and page.locator("#similar-note").inner_text() == ""


def test_similar_objects_statistics_and_classes_stand_beside_the_picture(review):
    page, _, _ = review(Role.REVIEWER)
    page.wait_for_selector("#similar img[src^=blob]")
    figures = page.locator("#similar figcaption")
    assert figures.count() == 8
    assert figures.nth(0).inner_text().endswith("red cube")
    assert page.locator("#distribution .count").all_inner_texts() == ["3", "3", "3"]
    assert "9 objects: 9 not reviewed" in page.locator("#statistics").inner_text()
    page.select_option("#category", label="bin")
    page.wait_for_function("() => document.querySelectorAll('#queue button').length === 3")
    page.select_option("#order", "highest_score")
    page.wait_for_function("() => document.querySelector('#queue .detail').textContent.startsWith('0.65')")


def test_a_labeller_corrects_but_cannot_accept_and_a_viewer_only_looks(review):
    page, registry, ids = review(Role.LABELLER)
    assert page.locator("#accept").is_disabled()
    page.keyboard.press("a")
    page.keyboard.press("1")
    said(page, "not reviewed")
    item = registry.get(ids[0])
    assert (item.category, item.state, item.version) == ("bin", ReviewState.UNREVIEWED, 2)
    page, registry, ids = review(Role.VIEWER)
    assert page.locator("#classes button").first.is_disabled()
    page.keyboard.press("2")
    page.keyboard.press("ArrowRight")
    showing(page, ids[1])
    assert registry.get(ids[0]).version == 2


def test_a_wrong_token_is_refused_with_the_reason_and_a_right_one_opens(filled, page):
    served, _, ids = filled
    with Server(served.app, port=0) as server:
        page.goto(f"{server.url}labeling/#token=wrong")
        page.wait_for_selector("#sign-in:not([hidden])")
        page.wait_for_function("() => document.getElementById('sign-in-problem').textContent.includes('not known')")
        page.fill("#token", served.secrets[Role.VIEWER])
        page.keyboard.press("Enter")
        showing(page, ids[0])
        kept = json.loads(page.evaluate("JSON.stringify(localStorage)"))
        assert not kept


def place(page, x, y, size=(320, 240)):
    """Where a pixel of the picture is on the screen."""
    bounds = page.locator("#picture").bounding_box()
    scale = min((bounds["width"] - 24) / size[0], (bounds["height"] - 24) / size[1])
    left = bounds["x"] + (bounds["width"] - scale * size[0]) / 2
    top = bounds["y"] + (bounds["height"] - scale * size[1]) / 2
    return left + scale * x, top + scale * y


def drawing(page):
    """Begin to draw the mask of the object that is shown."""
    page.keyboard.press("d")
    page.wait_for_selector("#drawing:not([hidden])")


def press_and_store(page, key, method):
    """Press a key, and wait for the answer to the change that it sends."""
    with page.expect_response(lambda answer: answer.request.method == method) as answered:
        page.keyboard.press(key)
    assert answered.value.ok, answered.value.text()


def test_a_mask_is_drawn_with_a_polygon_a_brush_and_keys_and_undo_brings_the_old_one_back(review):
    page, registry, ids = review(Role.REVIEWER)
    old = registry.mask(ids[0])
    drawing(page)
    page.keyboard.press("c")
    page.keyboard.press("p")
    for corner in ((40, 40), (140, 40), (140, 120), (40, 120), (10, 10)):
        page.mouse.click(*place(page, *corner))
    page.keyboard.press("Backspace")  # the last corner
    page.keyboard.press("Enter")
    page.keyboard.press("b")
    page.mouse.move(*place(page, 90, 80))
    page.mouse.down(button="right")  # erases
    page.mouse.move(*place(page, 90, 100), steps=3)
    page.mouse.up(button="right")
    press_and_store(page, "Enter", "PUT")
    item, mask = registry.get(ids[0]), registry.mask(ids[0])
    assert (item.state, item.validated_by) == (ReviewState.RELABELLED, "reviewer")
    assert item.box == pytest.approx((40, 40, 140, 120), abs=1.0)
    assert mask[45:60, 45:135].all() and not mask[82:98, 88:92].any() and not mask[130:].any()

    drawing(page)
    page.keyboard.press("e")  # and by keys alone: a dab taken away in the middle of what is there
    page.keyboard.press("Shift+ArrowLeft")
    page.keyboard.down("Space")
    page.keyboard.press("Shift+ArrowLeft")
    page.keyboard.up("Space")
    page.keyboard.press("Space")
    page.keyboard.press("z")
    press_and_store(page, "Enter", "PUT")
    changed = registry.mask(ids[0])
    assert not changed[78:82, 70:80].any() and mask[78:82, 70:80].all()

    for _ in range(2):
        page.wait_for_selector("#undo:not(:disabled)")
        press_and_store(page, "z", "POST")
    assert (registry.mask(ids[0]) == old).all()
    assert registry.get(ids[0]).state is ReviewState.UNREVIEWED


def test_leaving_the_drawing_changes_nothing_and_an_empty_mask_is_not_saved(review):
    page, registry, ids = review(Role.LABELLER)
    drawing(page)
    page.keyboard.press("c")
    page.keyboard.press("Enter")
    said(page, "nothing is drawn")
    page.mouse.click(*place(page, 200, 200))
    page.keyboard.press("a")  # the bench's keys rest meanwhile
    page.keyboard.press("Escape")
    page.wait_for_selector("#judging:not([hidden])")
    assert registry.get(ids[0]).version == 1


def test_the_most_useful_come_first_and_are_ranked_again_while_somebody_judges(review):
    page, registry, ids = review(Role.REVIEWER)
    with page.expect_response(lambda answer: "curation/next" in answer.url) as first:
        page.select_option("#order", "next")
    order = [item["object"]["object_id"] for item in first.value.json()["items"]]
    assert sorted(order) == sorted(ids)
    showing(page, order[0])
    assert "unsure 100 %" in page.locator("#facts").inner_text()
    assert page.locator("#state").is_disabled()
    # One of each class comes before a second of any.
    assert len({registry.get(name).category for name in order[:3]}) == 3
    with page.expect_response(lambda answer: "curation/next" in answer.url) as again:
        for name in order[:5]:
            showing(page, name)
            page.keyboard.press("a")
        for _ in range(5):
            page.keyboard.press("z")
            said(page, "taken back")
    left = [item["object"]["object_id"] for item in again.value.json()["items"]]
    assert left
    with page.expect_response(lambda answer: "curation/mistakes" in answer.url):
        page.select_option("#order", "mistakes")
    page.wait_for_function("() => document.getElementById('facts').textContent.includes('look-alikes')")


def test_what_models_said_of_an_object_is_shown_taken_taken_off_and_brought_back(filled, review):
    newer = Origin("newer", "2f5a", "cup. bin", 0.3)
    older = Origin("older", "", "", 0.3)
    _, registry, ids = filled[0], filled[0].registry, filled[2]
    said_of_first = [
        LabelDraft(ids[0], "cup", (22, 62, 92, 132), 0.81, ScoreKind.SIGMOID, newer),
        LabelDraft(ids[0], "red cube", (20, 60, 90, 130), 0.44, ScoreKind.TOKEN_PROBABILITY, older),
        LabelDraft(ids[1], "drawer", (122, 62, 192, 130), 0.7, ScoreKind.SIGMOID, newer),
    ]
    registry.add_labels(said_of_first, who="run")
    page, registry, ids = review(Role.REVIEWER)
    rows = page.locator("#said .said")
    page.wait_for_selector("#said:not([hidden])")
    assert rows.locator(".word").all_inner_texts() == ["red cube 0.30", "cup 0.81", "red cube 0.44"]
    assert rows.locator(".origin").all_inner_texts() == [
        "first: shapes 1, softmax",
        "newer 2f5a, sigmoid",
        "older, token probability",
    ]
    assert page.locator(".said.agrees").count() == 2

    page.keyboard.press("s")
    page.keyboard.press("s")
    press_and_store(page, "Enter", "PATCH")
    showing(page, ids[1])
    item = registry.get(ids[0])
    assert (item.category, item.box, item.state) == ("cup", (20, 60, 90, 130), ReviewState.RELABELLED)
    assert item.mask_path, "the box is the same, and so is the mask"
    page.wait_for_function("() => document.querySelectorAll('#said .said').length === 2")
    page.locator("#said .box").nth(1).click()
    showing(page, ids[2])
    settled(page, 2)
    assert (registry.get(ids[1]).category, registry.get(ids[1]).box) == ("drawer", (122, 62, 192, 130))
    assert page.locator("#said").is_hidden(), "of this one, one model has spoken"

    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    showing(page, ids[0])
    page.wait_for_function("() => document.querySelectorAll('#said .said').length === 3")
    assert page.locator(".said.agrees .word").all_inner_texts() == ["cup 0.81"]
    page.keyboard.press("s")
    page.keyboard.press("s")
    page.keyboard.press("Delete")
    said(page, "taken off: cup by newer")
    assert [label.origin.model for label in registry.labels([ids[0]])[ids[0]]] == ["older"]
    assert registry.get(ids[0]).category == "cup", "what a person took stays"

    page.keyboard.press("z")
    page.wait_for_function("() => document.querySelectorAll('#said .said').length === 3")
    for undone in (1, 0):
        page.keyboard.press("z")
        showing(page, ids[undone])
        said(page, "not reviewed")
    settled(page, 0)
    assert [registry.get(name).category for name in ids[:2]] == ["red cube", "bin"]
    assert len(registry.labels([ids[0]])[ids[0]]) == 2
    assert registry.get(ids[1]).mask_path


def test_groups_are_listed_with_pictures_and_a_picture_leads_to_its_object_with_its_group_behind_it(review):
    page, registry, ids = review(Role.REVIEWER)
    odd = ids[3]  # a red cube that somebody calls otherwise looks like red cubes all the same
    registry.update(odd, ObjectChange(category="cup"), who="grace")
    page.keyboard.press("g")
    page.wait_for_selector("#groups-note:has-text('9 objects')")
    page.select_option("#groups-count", "3")
    page.wait_for_function("() => document.querySelectorAll('#groups article').length === 3")
    page.wait_for_selector("#groups .members img[src^=blob]")
    titles = page.locator("#groups h3").all_inner_texts()
    assert sorted(text.split(maxsplit=1)[1].split("\n")[0].rstrip(" 0167%").strip() for text in titles) == [
        "bin", "drawer", "red cube",
    ]  # fmt: skip
    cubes = page.locator("#groups article").filter(has=page.locator("h3", has_text="red cube"))
    assert "3 objects, silhouette" in cubes.locator("p").inner_text()
    assert sorted(cubes.locator(".detail").all_inner_texts()) == ["cup", "red cube", "red cube"]

    page.keyboard.press("a")  # the bench's keys rest meanwhile
    page.keyboard.press("Escape")
    page.wait_for_selector("#groups", state="hidden")
    assert registry.get(ids[0]).version == 1
    page.click("#groups-button")
    cubes.locator(".odd").click()
    showing(page, odd)
    assert page.is_hidden("#groups") and page.input_value("#order") == "list"
    names = page.locator("#queue .name").all_inner_texts()
    assert sorted(text.split("\n")[0].split("0.")[0].strip() for text in names) == ["cup", "red cube", "red cube"]
    assert "of its group" in page.locator("#facts").inner_text()
    said_red = page.locator("#classes button", has_text="red cube").inner_text().split()[0]
    page.keyboard.press(said_red)
    settled(page, 1)
    assert registry.get(odd).category == "red cube"

    page.select_option("#category", label="bin")
    page.wait_for_function("() => document.querySelector('#queue .name')?.textContent.startsWith('bin')")
    assert page.input_value("#order") == "lowest_score", "of other objects there are other groups"


def test_a_long_group_is_shown_in_pages_and_one_that_cannot_be_made_says_why(filled, review):
    served = filled[0]
    image = next(iter(served.registry.get_many([filled[2][0]]))).image_id
    rng = np.random.default_rng(5)
    many = []
    for number in range(60):
        vector = np.eye(8)[7] + 0.05 * rng.normal(size=8)
        many.append(
            ObjectDraft(
                image, "nut", (2 + number, 2, 12 + number, 12), 0.9, ScoreKind.SOFTMAX, Origin("shapes", "1", "", 0.2),
                embedding=(vector / np.linalg.norm(vector)).astype(np.float32), embedder=EMBEDDER,
            )
        )  # fmt: skip
    served.registry.register(many, who="shapes")
    page, _, _ = review(Role.VIEWER)
    page.select_option("#category", label="nut")
    page.click("#groups-button")
    page.wait_for_selector("#groups-note:has-text('60 objects: one group')")
    page.click("#groups article > button:has-text('all of it')")
    page.wait_for_selector("#groups article > button:has-text('more (48 of 60)')")
    page.click("#groups article > button:has-text('more')")
    page.wait_for_function("() => document.querySelectorAll('#groups .members button').length === 60")
    assert page.locator("#groups article > button").count() == 0
    keys = page.eval_on_selector_all("#groups .members img", "all => all.map((image) => image.dataset.key)")
    assert len(set(keys)) == 60
    page.locator("#groups .members button").last.click()
    showing(page, keys[-1].split("@")[0])
    assert page.locator("#queue button").count() >= 51, "one of a later page stands before the first of them"

    page.click("#groups-button")
    page.select_option("#state", "accepted")
    page.wait_for_selector("#groups-note.problem:has-text('too few to group')")


def on_track(server, source, ids, name="cube"):
    """Put the red cube of each picture on one track."""
    return server.registry.add_track(source.source_id, ids, who="shapes", name=name)


def test_a_track_is_shown_in_the_order_of_time_and_walked_through(filled, review):
    served, source, ids = filled
    on_track(served, source, [ids[6], ids[0], ids[3]])
    page, _, _ = review(Role.VIEWER)
    page.wait_for_selector("#track-strip img[src^=blob]")
    strip = page.locator("#track-strip button")
    assert strip.locator(".detail").all_inner_texts() == ["0.00 s", "0.04 s", "0.08 s"]
    assert strip.evaluate_all("all => all.map((one) => one.getAttribute('aria-current'))") == ["true", "false", "false"]
    facts = page.locator("#track-facts").inner_text()
    for said_of_it in ("3 red cube", "0.00 s to 0.08 s, 0.08 s", "0 to 2", "0.450", "3 not reviewed"):
        assert said_of_it in facts
    assert page.locator("#track-name").inner_text() == "cube"
    assert page.locator("#track-accept").is_disabled() and page.locator("#track-word").is_disabled()

    page.keyboard.press("k")
    page.wait_for_function("() => document.querySelectorAll('#queue button').length === 3")
    for name in (ids[3], ids[6]):
        page.keyboard.press("ArrowRight")
        showing(page, name)
    page.wait_for_selector("#track-strip button:nth-child(3)[aria-current=true]")
    strip.first.click()
    showing(page, ids[0])
    page.keyboard.press("Escape")
    page.wait_for_function("() => document.querySelectorAll('#queue button').length === 9")
    assert page.input_value("#order") == "lowest_score"
    showing(page, ids[0])
    strip.nth(1).click()
    showing(page, ids[3])
    page.keyboard.press("k")
    page.wait_for_function("() => document.querySelectorAll('#queue button').length === 9")
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("#track", state="hidden")
    page.keyboard.press("k")
    said(page, "on no track")


def test_all_of_a_track_is_accepted_rejected_and_renamed_in_one_step_which_one_undo_takes_back(filled, review):
    served, source, ids = filled
    cubes = [ids[0], ids[3], ids[6]]
    on_track(served, source, cubes)
    page, registry, _ = review(Role.REVIEWER)

    def states():
        return [item.state.value for item in registry.get_many(cubes)]

    page.keyboard.press("k")
    page.wait_for_function("() => document.querySelectorAll('#queue button').length === 3")
    page.keyboard.press("r")  # this one alone
    showing(page, cubes[1])
    settled(page, 1)
    page.keyboard.press("Shift+A")
    settled(page, 3)
    said(page, "2 accepted; 1 stays as it is")
    assert states() == ["rejected", "accepted", "accepted"]
    page.wait_for_function(
        "() => document.getElementById('track-facts').textContent.includes('2 accepted, 1 rejected')"
    )
    page.keyboard.press("z")
    said(page, "taken back: 2 objects")
    settled(page, 1)
    assert states() == ["rejected", "unreviewed", "unreviewed"]
    page.keyboard.press("z")
    settled(page, 0)

    page.keyboard.press("Shift+T")
    page.keyboard.type("drawer")
    page.keyboard.press("Enter")
    settled(page, 3)
    assert [(item.category, item.state.value) for item in registry.get_many(cubes)] == [("drawer", "relabelled")] * 3
    page.keyboard.press("Shift+R")
    said(page, "3 rejected")
    assert states() == ["rejected"] * 3
    for _ in range(2):
        page.wait_for_selector("#undo:not(:disabled)")
        press_and_store(page, "z", "POST")
    settled(page, 0)
    assert [(item.category, item.state.value) for item in registry.get_many(cubes)] == [("red cube", "unreviewed")] * 3

    # What is not of the track is gone on with.
    page.keyboard.press("Escape")
    page.wait_for_function("() => document.querySelectorAll('#queue button').length === 9")
    while page.locator("#picture").get_attribute("data-object") != ids[0]:
        page.keyboard.press("ArrowLeft")
        page.wait_for_selector("#picture[data-object]")
    page.click("#track-accept")
    showing(page, ids[1])
    assert states() == ["accepted"] * 3


def test_a_track_that_somebody_else_changed_meanwhile_is_looked_at_again_and_a_labeller_renames_only(filled, review):
    served, source, ids = filled
    cubes = [ids[0], ids[3], ids[6]]
    on_track(served, source, cubes)
    page, registry, _ = review(Role.LABELLER)
    page.wait_for_selector("#track:not([hidden])")
    registry.update(cubes[2], ObjectChange(category="cup", state=ReviewState.RELABELLED), who="grace")
    assert page.locator("#track-accept").is_disabled() and page.locator("#track-reject").is_disabled()
    page.keyboard.press("Shift+A")
    page.fill("#track-word", "nut")
    page.keyboard.press("Enter")
    said(page, "somebody else")
    assert [item.category for item in registry.get_many(cubes)] == ["red cube", "red cube", "cup"]
    page.wait_for_function("() => document.getElementById('track-facts').textContent.includes('1 cup')")
    page.fill("#track-word", "nut")
    page.keyboard.press("Enter")
    said(page, "3 called nut")
    assert {(item.category, item.state.value) for item in registry.get_many(cubes)} == {("nut", "unreviewed")}
    page.keyboard.press("z")
    said(page, "taken back: 3")
    assert [item.category for item in registry.get_many(cubes)] == ["red cube", "red cube", "cup"]
    assert registry.get(cubes[2]).validated_by == "grace"


def test_a_long_track_is_told_by_some_of_its_pictures_and_changed_whole(filled, review):
    served, source, ids = filled
    image = served.registry.get(ids[0]).image_id
    drafts = [
        ObjectDraft(image, "nut", (2, 2, 12, 12), 0.9, ScoreKind.SOFTMAX, Origin("shapes", "1", "", 0.2))
        for _ in range(600)
    ]
    nuts = served.registry.register(drafts, who="shapes").object_ids
    on_track(served, source, [ids[0], *nuts], "nuts")
    page, registry, _ = review(Role.REVIEWER)
    page.wait_for_function("() => document.querySelectorAll('#track-strip button').length === 12")
    page.keyboard.press("k")
    page.wait_for_function("() => document.querySelectorAll('#queue button').length === 601")
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    showing(page, nuts[2])
    page.wait_for_selector("#track-strip button[aria-current=true]")
    assert page.locator("#track-strip button").count() == 12
    page.keyboard.press("Shift+A")
    settled(page, 601)
    assert registry.count(ObjectFilter(states=(ReviewState.ACCEPTED,))) == 601
    page.keyboard.press("z")
    settled(page, 0)
    assert registry.count(ObjectFilter(states=(ReviewState.ACCEPTED,))) == 0


def busy(route):
    """What a server answers that has too much to do."""
    route.fulfill(status=503, json={"code": "busy", "message": "others wrote", "remedy": "send it again"})


def test_a_long_track_of_which_a_part_was_refused_is_as_it_was_and_can_be_judged(filled, review):
    served, source, ids = filled
    image = served.registry.get(ids[0]).image_id
    nut = ObjectDraft(image, "nut", (2, 2, 12, 12), 0.9, ScoreKind.SOFTMAX, Origin("shapes", "1", "", 0.2))
    nuts = served.registry.register([nut] * 600, who="shapes").object_ids
    on_track(served, source, [ids[0], *nuts], "nuts")
    page, registry, _ = review(Role.REVIEWER)
    page.wait_for_selector("#track:not([hidden])")
    sent = itertools.count(1)
    page.route(
        "**/api/labeling/objects",
        lambda route: busy(route) if route.request.method == "PATCH" and next(sent) == 2 else route.continue_(),
    )
    page.keyboard.press("Shift+A")
    said(page, "others wrote")
    assert registry.count(ObjectFilter(states=(ReviewState.ACCEPTED,))) == 0
    assert {item.version for item in registry.get_many([ids[0], *nuts])} == {2, 4}, "the first part came and went"
    page.unroute("**/api/labeling/objects")
    page.keyboard.press("a")
    settled(page, 1)
    assert registry.get(ids[0]).state is ReviewState.ACCEPTED


def test_an_undo_that_the_server_had_no_time_for_is_asked_for_again(review):
    page, registry, ids = review(Role.REVIEWER)
    page.keyboard.press("a")
    settled(page, 1)
    page.route("**/undo", busy)
    page.wait_for_selector("#undo:not(:disabled)")
    with page.expect_response("**/undo") as answered:
        page.click("#undo")
    assert answered.value.status == 503
    said(page, "others wrote")
    assert page.is_enabled("#undo")
    page.unroute("**/undo")
    page.click("#undo")
    settled(page, 0)
    assert registry.get(ids[0]).state is ReviewState.UNREVIEWED


class ByColour:
    """Embeds a box as the registry's things are embedded: by which of their colours it is nearest to."""

    name, revision, dimension = "shapes", "1", 8

    def embed(self, images, found):
        colours = np.asarray(list(COLOURS.values()), np.float32)
        rows = [image.reshape(-1, 3).mean(axis=0) for image in images]
        return [np.eye(8, dtype=np.float32)[[int(np.abs(colours - row).sum(axis=1).argmin())]] for row in rows]


@pytest.fixture
def searching(filled, page):
    """``searching(Role.LABELLER)`` opens the page of a server with models; (page, ids)."""
    served, _, ids = filled
    pipeline = LabelingPipeline(ColourDetector(), None, ByColour())
    labels = Labels(served.registry, served.labels.pictures, Models(lambda: pipeline))
    with Server(make_app(served.app.state.access, [labeling_section(labels)]), port=0) as server:

        def open_page(role):
            page.goto(f"{server.url}labeling/#token={served.secrets[role]}")
            showing(page, ids[0])
            return page, ids

        yield open_page


def shade(name):
    """A picture of one colour, as a file that a page is given."""
    return {
        "name": f"{name}.png",
        "mimeType": "image/png",
        "buffer": png(np.full((32, 32, 3), COLOURS[name], np.uint8)),
    }


def paste(page, name, data, kind):
    """Paste a file, or where there is no name a text."""
    page.evaluate(
        """([name, data, kind]) => {
            const pasted = new DataTransfer();
            if (name) pasted.items.add(new File([Uint8Array.from(data)], name, { type: kind }));
            else pasted.setData("text/plain", "hello");
            const how = { clipboardData: pasted, bubbles: true, cancelable: true };
            document.body.dispatchEvent(new ClipboardEvent("paste", how));
        }""",
        [name, list(data), kind],
    )


def test_what_looks_like_a_picture_that_is_chosen_or_pasted_becomes_the_queue(searching):
    page, _ = searching(Role.LABELLER)
    page.on("filechooser", lambda _: None)  # from now on, so that the first is not missed
    page.set_input_files("#ask-file", shade("bin"))
    said(page, "9 that look most like bin.png")
    names = page.locator("#queue .name").all_inner_texts()
    assert [text.split("\n")[0].split("0.")[0].strip() for text in names[:3]] == ["bin"] * 3
    assert "alike" in names[0] and "to the picture" in page.locator("#facts").inner_text()
    assert page.input_value("#order") == "list"
    page.wait_for_selector("#asked img[src^=blob]")
    page.keyboard.press("Escape")
    page.wait_for_function("() => document.getElementById('order').value === 'lowest_score'")
    assert page.is_hidden("#asked")

    page.select_option("#category", label="drawer")
    page.wait_for_function("() => document.querySelectorAll('#queue button').length === 3")
    paste(page, "image.png", shade("drawer")["buffer"], "image/png")
    said(page, "3 that look most like image.png")
    page.wait_for_selector("#asked img[src^=blob]")
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("p")
    chooser.value.set_files(shade("red cube"))
    said(page, "3 that look most like red cube.png")


def test_what_looks_like_a_picture_is_looked_for_in_the_project_that_is_chosen(filled, searching, tmp_path):
    cups = kitchen_of(filled[0].registry, tmp_path / "media" / "kitchen")
    page, _ = searching(Role.LABELLER)
    page.set_input_files("#ask-file", shade("bin"))
    said(page, "12 that look most like bin.png")
    page.select_option("#project", label="kitchen")
    queue_of(page, 3)
    assert page.input_value("#order") == "lowest_score" and page.is_hidden("#asked")
    page.set_input_files("#ask-file", shade("bin"))
    said(page, "3 that look most like bin.png")
    showing(page, cups[1])


def test_a_queue_that_was_chosen_meanwhile_is_not_taken_away_by_a_late_answer(searching):
    page, ids = searching(Role.LABELLER)
    held = []
    page.route("**/objects/search/image", lambda route: held.append(route))
    with page.expect_request("**/objects/search/image"):
        page.set_input_files("#ask-file", shade("bin"))
    page.select_option("#order", "highest_score")
    showing(page, ids[8])
    with page.expect_response("**/objects/search/image"):
        held[0].continue_()
    # What the page does with an answer, it has done before it hears another one.
    page.evaluate("() => fetch('/health').then((answer) => answer.json())")
    assert page.input_value("#order") == "highest_score" and page.is_hidden("#asked")
    showing(page, ids[8])


def test_what_is_no_picture_is_refused_with_the_reason_and_nothing_else_changes(searching):
    page, ids = searching(Role.LABELLER)
    large = b"\x89PNG\r\n\x1a\n" + bytes(21 << 20)
    for name, data, reason in (
        ("notes.txt", b"no picture", "notes.txt: image decodes as none of JPEG, PNG, WEBP, BMP: send one of"),
        ("empty.png", b"", "empty.png: image has no bytes"),
        ("cut.png", shade("bin")["buffer"][:50], "cut.png: image cannot be decoded"),
        ("large.png", large, "large.png has 21.0 MiB, at most 20 are taken"),
    ):
        page.set_input_files("#ask-file", {"name": name, "mimeType": "image/png", "buffer": data})
        said(page, reason)
        assert page.locator("#notice.problem").count() == 1
    paste(page, "", b"", "")
    said(page, "what was pasted is no picture")
    assert page.input_value("#order") == "lowest_score" and page.is_hidden("#asked")
    showing(page, ids[0])


def test_who_may_not_run_models_and_a_server_without_any_say_so(searching, review):
    page, _ = searching(Role.VIEWER)
    paste(page, "image.png", shade("bin")["buffer"], "image/png")
    said(page, "ask for the role labeller")
    page, _, _ = review(Role.LABELLER)
    page.set_input_files("#ask-file", shade("bin"))
    said(page, "without models: start it without --no-models")


def test_on_a_phone_nothing_lies_over_another_and_a_finger_redraws_the_box(filled, review):
    filled[0].registry.add_project("the kitchen of the second floor, with all of its drawers")
    page, _, _ = review(Role.REVIEWER)
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_function("() => document.documentElement.scrollWidth === 390")
    parts = [page.locator(name).bounding_box() for name in ("header", "#queue", "#picture", "footer", "aside")]
    for above, below in itertools.pairwise(parts):
        assert above["y"] + above["height"] <= below["y"] + 1
    assert parts[2]["height"] > 240 and parts[3]["y"] + parts[3]["height"] <= 845
    assert page.evaluate("getComputedStyle(document.getElementById('picture')).touchAction") == "none"
    page.click("#groups-button")
    page.wait_for_selector("#groups article")
    assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_on_a_narrow_screen_all_of_the_buttons_above_can_be_seen(review):
    page, _, _ = review(Role.REVIEWER)
    for width in (1366, 1024, 830):
        page.set_viewport_size({"width": width, "height": 700})
        page.wait_for_function("width => document.documentElement.scrollWidth === width", arg=width)
        help_button, footer = page.locator("#help-button").bounding_box(), page.locator("footer").bounding_box()
        assert help_button["x"] + help_button["width"] <= width
        assert footer["y"] + footer["height"] <= 701


def test_where_a_picture_is_gone_that_is_said_and_the_one_before_does_not_stand_in_its_place(filled, review, tmp_path):
    (tmp_path / "media" / "shapes" / "1.png").unlink()
    page, _, ids = review(Role.VIEWER)
    for name in ids[1:3]:
        page.keyboard.press("ArrowRight")
        showing(page, name)
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("#notice.problem")
    assert page.evaluate("""() => {
        const canvas = document.getElementById('picture');
        return canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.every((value) => !value);
    }""")
