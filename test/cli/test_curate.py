# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""``flow_rag_vla curate`` on a real registry."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from flow_rag_vla.cli.main import app
from flow_rag_vla.labeling.detections import Origin, ScoreKind
from flow_rag_vla.labeling.registry.registry import Registry
from flow_rag_vla.labeling.registry.values import (
    Embedder,
    ImageDraft,
    ObjectChange,
    ObjectDraft,
    SourceDraft,
    SourceKind,
)

RUNNER = CliRunner()
NAMES = ("cup", "bowl")


@pytest.fixture
def folder(tmp_path):
    """Four pictures of a cup and a bowl; the third shows the same as the first."""
    media = tmp_path / "media"
    media.mkdir()
    rng = np.random.default_rng(0)
    noise = 0.05 * rng.normal(size=(4, 2, 8))
    noise[2] = noise[0] + 1e-4
    with Registry(tmp_path / "labels") as registry:
        source = registry.add_source(SourceDraft(SourceKind.FOLDER, str(media.resolve())))
        for number in range(4):
            pixels = np.random.default_rng(number % 2 + (number == 3)).integers(0, 255, (6, 8, 3), np.uint8)
            Image.fromarray(pixels.repeat(8, axis=0).repeat(8, axis=1)).save(media / f"{number}.png")
            (image,) = registry.add_images(source.source_id, [ImageDraft(f"{number}.png", 64, 48, number)])
            drafts = []
            for place, name in enumerate(NAMES):
                vector = np.eye(8)[place] + noise[number, place]
                drafts.append(
                    ObjectDraft(
                        image.image_id,
                        name,
                        (4 + 20 * place, 4, 20 + 20 * place, 30),
                        0.9 - 0.01 * number,
                        ScoreKind.SIGMOID,
                        Origin("detector"),
                        embedding=(vector / np.linalg.norm(vector)).astype(np.float32),
                        embedder=Embedder("tiny", "1", 8),
                    )
                )
            registry.register(drafts, who="detector")
    return tmp_path / "labels"


def run(*arguments, code=0):
    result = RUNNER.invoke(app, ["curate", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result


def test_what_is_useful_next_is_listed(folder):
    found = json.loads(run("next", folder, "--limit", 3, "--json").stdout)
    assert (found["waiting"], found["judged"], len(found["items"])) == (8, 0, 3)
    shown = run("next", folder, "--category", "cup").stdout
    assert found["items"][0]["object_id"] in shown or "cup" in shown
    assert "bowl" not in shown and "8 objects wait" not in shown
    assert "no category 'mug'" in run("next", folder, "--category", "mug", code=1).stderr


def test_mistakes_and_odd_ones_are_listed(folder):
    with Registry(folder) as registry:
        wrong = registry.list_objects().objects[0].object_id
        registry.update(wrong, ObjectChange(category="cup"), who="ben")
    found = json.loads(run("mistakes", folder, "--json").stdout)
    assert (found[0]["object_id"], found[0]["suggested"]) == (wrong, "bowl")
    assert wrong in run("mistakes", folder, "--limit", 1).stdout
    assert json.loads(run("mistakes", folder, "--validated", "--json").stdout) == []
    unique = json.loads(run("unique", folder, "--json").stdout)
    assert unique[0]["uniqueness"] == 1.0 and len(unique) == 8


def test_duplicates_are_named_and_deleted_only_when_asked_and_an_undo_brings_them_back(folder):
    found = json.loads(run("duplicates", folder, "--json").stdout)
    assert found["pictures"] == 4 and found["deleted"] == 0
    ((kept, (double,)),) = [(group["kept"], group["duplicates"]) for group in found["groups"]]
    with Registry(folder) as registry:
        assert (registry.image(kept).name, registry.image(double).name) == ("0.png", "2.png")
    shown = run("duplicates", folder, "--delete", "--who", "anna").stdout
    assert "1 of 4 pictures" in shown and "2 objects deleted by anna" in shown
    with Registry(folder) as registry:
        assert registry.count() == 6
        registry.undo(who="anna")
        assert registry.count() == 7
    run("next", folder.parent / "nothing", code=1)


@pytest.fixture
def looks(tmp_path):
    """Twelve pictures with a cup each, of two looks: red ones and blue ones; a bowl in the first."""
    media = tmp_path / "cups"
    media.mkdir()
    rng = np.random.default_rng(5)
    with Registry(tmp_path / "cup_labels") as registry:
        source = registry.add_source(SourceDraft(SourceKind.FOLDER, str(media.resolve())))
        for number in range(12):
            pixels = np.zeros((48, 64, 3), np.uint8)
            pixels[..., 2 * (number % 3 == 0)] = 200
            Image.fromarray(pixels).save(media / f"{number}.png")
            (image,) = registry.add_images(source.source_id, [ImageDraft(f"{number}.png", 64, 48, number)])
            drafts = []
            for name, axis in [("cup", number % 3 == 0), *([("bowl", 4)] if number == 0 else [])]:
                vector = np.eye(8)[int(axis)] + 0.05 * rng.normal(size=8)
                drafts.append(
                    ObjectDraft(
                        image.image_id,
                        name,
                        (8, 8, 40, 40),
                        0.9,
                        ScoreKind.SIGMOID,
                        Origin("detector"),
                        embedding=(vector / np.linalg.norm(vector)).astype(np.float32),
                        embedder=Embedder("tiny", "1", 8),
                        attributes={"size": "tall"},
                    )
                )
            registry.register(drafts, who="detector")
    return tmp_path / "cup_labels"


def test_objects_are_sorted_into_looks_and_drawn(looks, tmp_path):
    sheet = tmp_path / "new" / "cups.png"
    words = ("groups", looks, "--category", "cup", "--groups", 2)
    found = json.loads(run(*words, "--members", 0, "--picture", sheet, "--json").stdout)
    assert (found["objects"], found["groups"], found["named"]) == (12, 2, 0)
    assert [item["objects"] for item in found["items"]] == [8, 4]
    first, second = ({*item["members"]} for item in found["items"])
    assert len(first) == 8 and len(second) == 4 and not first & second
    assert found["items"][0]["members"][0] == found["items"][0]["medoid"]
    assert found["silhouette"] > 0.8 and found["tried"] == {"2": found["silhouette"]}
    # A row a group, the things of the first red, of the second blue.
    pixels = np.asarray(Image.open(sheet).convert("RGB"))
    middle = pixels[pixels.shape[0] // 4, 190], pixels[3 * pixels.shape[0] // 4, 190]
    assert [np.argmax(colour) for colour in middle] == [0, 2]
    shown = run(*words).stdout
    assert found["items"][0]["medoid"] in shown and "cup (100 %)" in shown and "12 objects: 2 groups" in shown
    with Registry(looks) as registry:
        assert all("look" not in item.attributes for item in registry.list_objects().objects)


def test_the_group_is_written_to_an_attribute_only_when_asked_beside_the_others(looks):
    run("groups", looks, "--category", "cup", "--groups", 2, "--name", "look", "--who", "anna")
    with Registry(looks) as registry:
        items = registry.list_objects().objects
        assert sorted(item.attributes.get("look", 0) for item in items) == [0, *[1] * 8, *[2] * 4]
        assert {item.attributes["size"] for item in items} == {"tall"}
        registry.undo(who="anna")
        assert sum("look" in item.attributes for item in registry.list_objects().objects) == 11


def test_the_best_quality_is_listed_first_where_it_is_asked_for(looks):
    with Registry(looks) as registry:
        best = registry.list_objects(limit=5).objects[4].object_id
        registry.update(best, ObjectChange(quality=0.7), who="anna")
    found = json.loads(run("groups", looks, "--groups", 1, "--order", "quality", "--members", 1, "--json").stdout)
    assert found["items"][0]["members"] == [best] and found["strength"] == "none"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--category", "mug"], 1, "no category 'mug'"),
        (["--state", "accepted"], 1, "0 objects with a vector are too few to group"),
        (["--category", "bowl"], 1, "1 objects with a vector are too few to group"),
        (["--groups", 14], 1, "14 groups of 13 objects; ask for 1 to 13"),
        (["--order", "size"], 2, "expected one of typical, quality"),
        (["--state", "fine"], 2, "expected one of unreviewed"),
        (["--picture", "/proc/nope/a.png"], 2, "name another place with --picture"),
        (["--name", ""], 0, ""),
    ],
)
def test_what_cannot_be_grouped_is_said_in_a_line_and_nothing_is_written(looks, words, code, said):
    result = run("groups", looks, *words, code=code)
    assert said in " ".join(result.stderr.replace("│", " ").split())
    with Registry(looks) as registry:
        assert all(item.version == 1 for item in registry.list_objects().objects)
