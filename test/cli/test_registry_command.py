# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""``flow_rag_vla registry`` on a real registry."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from flow_rag_vla.cli.main import app
from flow_rag_vla.labeling.detections import Origin, ScoreKind
from flow_rag_vla.labeling.registry.queries import ObjectFilter
from flow_rag_vla.labeling.registry.registry import Registry
from flow_rag_vla.labeling.registry.values import (
    Embedder,
    ImageDraft,
    ObjectChange,
    ObjectDraft,
    ReviewState,
    SourceDraft,
    SourceKind,
)

RUNNER = CliRunner()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A registry of three objects, one of them relabelled by Anna."""
    with Registry(tmp_path / "labels") as registry:
        source = registry.add_source(SourceDraft(SourceKind.IMAGE, "/a.png"))
        (image,) = registry.add_images(source.source_id, [ImageDraft("a.png", 64, 48)])
        mask = np.zeros((48, 64), np.bool_)
        mask[4:9, 4:9] = True
        drafts = [
            ObjectDraft(
                image.image_id,
                name,
                (4, 4, 9, 9),
                score,
                ScoreKind.SIGMOID,
                Origin("detector"),
                mask=mask,
                embedding=np.eye(4, dtype=np.float32)[n],
                embedder=Embedder("tiny", "1", 4),
            )
            for n, (name, score) in enumerate((("cup", 0.9), ("cup", 0.2), ("tray", 0.5)))
        ]
        ids = registry.register(drafts, who="pipeline").object_ids
        registry.update(ids[1], ObjectChange(category="mug"), who="anna")
    return tmp_path / "labels"


def run(*arguments: str, code: int = 0) -> str:
    result = RUNNER.invoke(app, ["registry", *arguments])
    assert result.exit_code == code, result.output
    return result.output


def test_statistics_are_counted(folder):
    found = json.loads(run("stats", str(folder), "--json"))
    assert (found["objects"], found["by_category"]) == (3, {"cup": 1, "mug": 1, "tray": 1})
    assert "3 objects in 1 images of 1 sources" in run("stats", str(folder))


def test_objects_are_listed_page_by_page_and_by_likeness(folder):
    first = json.loads(run("search", str(folder), "--order", "lowest_score", "--limit", "2", "--json"))
    assert [item["category"] for item in first["objects"]] == ["mug", "tray"]
    rest = run("search", str(folder), "--order", "lowest_score", "--cursor", first["cursor"])
    assert "cup" in rest and "mug" not in rest
    like = first["objects"][0]["object_id"]
    similar = json.loads(run("search", str(folder), "--like", like, "--category", "cup", "--json"))
    assert [item["category"] for item in similar["objects"]] == ["cup"]
    assert similar["way"] == "exact_filtered"
    assert "exact_filtered" in run("search", str(folder), "--like", like, "--category", "cup")


def test_objects_of_a_look_or_a_size_are_listed(folder):
    with Registry(folder) as registry:
        (tray,) = registry.list_objects(ObjectFilter(categories=("tray",))).objects
        registry.update(tray.object_id, ObjectChange(attributes={"look": 2, "pose": "open"}), who="anna")

    def listed(*options: str) -> list[str]:
        found = json.loads(run("search", str(folder), "--json", *options))
        return [item["category"] for item in found["objects"]]

    assert listed("--attribute", "look=2", "--attribute", "pose=open") == ["tray"]
    assert listed("--attribute", "look=3") == listed("--attribute", 'look="2"') == []
    assert len(listed("--max-area", "25")) == 3 and listed("--min-area", "26") == []
    assert "[invalid_value]" in run("search", str(folder), "--attribute", "look", code=1)
    assert "no category 'plate'" in run("search", str(folder), "--category", "plate", code=1)
    run("search", str(folder), "--order", "sideways", code=2)


def test_a_change_is_shown_and_taken_back(folder):
    (mug,) = json.loads(run("search", str(folder), "--category", "mug", "--json"))["objects"]
    shown = run("history", mug["object_id"], str(folder))
    assert "anna" in shown and "updated" in shown
    assert "category: cup" in run("undo", str(folder), "--who", "anna")
    assert "nothing is to be undone [unknown_change]" in run("undo", str(folder), "--who", "anna", code=1)
    assert "taken" in run("history", mug["object_id"], str(folder))


def test_the_doctor_names_what_is_wrong_and_repairs_it(folder):
    assert "nothing is wrong" in run("doctor", str(folder))
    next((folder / "masks").rglob("*.png")).unlink()
    assert "missing_masks: 1" in run("doctor", str(folder), code=1)
    (found,) = json.loads(run("doctor", str(folder), "--repair", "--json"))
    assert (found["finding"], found["repaired"]) == ("missing_masks", True)
    assert json.loads(run("doctor", str(folder), "--json")) == []


def test_scores_are_calibrated_on_what_was_judged(folder, tmp_path):
    file = tmp_path / "calibration.json"
    assert "nobody has judged" in run("calibrate", str(folder), "-o", str(file), code=1) and not file.exists()
    with Registry(folder) as registry:
        image = registry.list_objects().objects[0].image_id
        drafts = [
            ObjectDraft(image, "cup", (4, 4, 9, 9), 0.02 * n, ScoreKind.SIGMOID, Origin("detector", "", "", 0.1))
            for n in range(5, 45)
        ]
        for n, object_id in enumerate(registry.register(drafts, who="pipeline").object_ids):
            state = ReviewState.ACCEPTED if n >= 20 else ReviewState.REJECTED
            registry.update(object_id, ObjectChange(state=state), who="anna")
    said = run("calibrate", str(folder), "-o", str(file))
    assert "40 judged of detector" in said and "20 right" in said and "95 % right: from a score of 0.500 on" in said
    assert json.loads(file.read_text())["samples"] == 40
    assert "cannot be written" in run("calibrate", str(folder), "-o", str(folder / "registry.db" / "x"), code=1)


def test_sources_are_listed_and_get_a_licence_when_it_is_known(folder):
    (source,) = json.loads(run("sources", str(folder), "--json"))
    assert (source["path"], source["kind"], source["licence"]) == ("/a.png", "image", "")
    assert "unknown" in run("sources", str(folder))
    said = run("licence", str(folder), "CC-BY-4.0", "--source", source["source_id"])
    assert "/a.png: CC-BY-4.0" in said
    assert json.loads(run("sources", str(folder), "--json")) == [{**source, "licence": "CC-BY-4.0"}]
    assert "CC-BY-4.0" in run("sources", str(folder))
    assert "[unknown_source]" in run("licence", str(folder), "MIT", "--source", "0" * 32, code=1)


def test_projects_are_listed_and_added_also_to_a_registry_that_is_not_there_yet(folder, tmp_path):
    assert "default" in run("projects", str(folder))
    said = run("projects", str(folder), "--add", "kitchen", "--closed", "--description", "cups")
    assert "kitchen" in said and "only its own" in said and "cups" in said
    told = {item["name"]: item for item in json.loads(run("projects", str(folder), "--json"))}
    assert {name: item["objects"] for name, item in told.items()} == {"default": 3, "kitchen": 0}
    assert told["kitchen"]["closed_vocabulary"] and not told["default"]["closed_vocabulary"]
    assert "[already_exists]" in run("projects", str(folder), "--add", "kitchen", code=1)
    assert "there is no registry" in run("projects", str(tmp_path / "new"), code=1)
    assert "kitchen" in run("projects", str(tmp_path / "new"), "--add", "kitchen")
    assert "--add" in run("projects", str(folder), "--closed", code=2)
    refused = run("sources", str(folder), "--project", "shed", code=1)
    assert "there is no project 'shed'" in refused and "registry projects --add" in refused


def test_a_category_is_renamed_and_merged(folder):
    assert "beaker: 1 objects; cup mean the same" in run("rename", str(folder), "cup", "beaker")
    assert "[already_exists]" in run("rename", str(folder), "mug", "beaker", code=1)
    said = run("rename", str(folder), "mug", "beaker", "--merge", "--who", "ben")
    assert "beaker: 2 objects; cup, mug mean the same" in said
    assert json.loads(run("stats", str(folder), "--json"))["by_category"] == {"beaker": 2, "tray": 1}
    assert "[unknown_category]" in run("rename", str(folder), "moon", "sun", code=1)


def test_an_index_is_built_and_saved(folder):
    assert "3 vectors indexed" in run("index", str(folder))
    assert len(list((folder / "index").glob("generation-*"))) == 1


def test_a_registry_that_is_not_there_is_not_made(tmp_path):
    assert "there is no registry" in run("stats", str(tmp_path / "none"), code=1)
    assert not (tmp_path / "none").exists()
