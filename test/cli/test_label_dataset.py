# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""``flow_rag_vla label-dataset`` on a real registry."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow
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


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    """A registry of three sources with a cup (0.9) and a tray (0.4) each."""
    with Registry(tmp_path / "labels") as registry:
        for number in range(3):
            media = tmp_path / "media" / str(number)
            media.mkdir(parents=True)
            Pillow.fromarray(np.full((48, 64, 3), 50 * number, np.uint8)).save(media / "a.png")
            source = registry.add_source(SourceDraft(SourceKind.FOLDER, str(media), licence="MIT"))
            (image,) = registry.add_images(source.source_id, [ImageDraft("a.png", 64, 48, stamp_ns=10**18)])
            drafts = [
                ObjectDraft(image.image_id, name, (4, 4, 9 + number, 9), score, ScoreKind.SIGMOID, Origin("detector"))
                for name, score in (("cup", 0.9), ("tray", 0.4))
            ]
            registry.register(drafts, who="pipeline")
    return tmp_path / "labels"


def run(*arguments: object, code: int = 0) -> str:
    result = RUNNER.invoke(app, ["label-dataset", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result.output


def test_a_dataset_goes_from_the_registry_to_others_and_back(labels, tmp_path):
    store = labels / "datasets"
    said = run("build", "cups", "-r", labels, "--split", "1,1,1", "--seed", "3", "--who", "anna")
    assert "cups@v1: 3 pictures (train 1, val 1, test 1), 6 annotations" in said
    run("export", store / "cups/v1", "--format", "yolo", "--to", tmp_path / "yolo")
    assert (tmp_path / "yolo/data.yaml").is_file()
    run("export", "cups@v1", "--store", store, "-f", "coco", "--to", tmp_path / "cups.zip")
    assert (tmp_path / "cups.zip").is_file() and not list(tmp_path.glob(".export*"))
    said = run("import", tmp_path / "yolo", "-f", "yolo", "--name", "back", "-s", store, "-r", tmp_path / "others")
    assert "back@v1: 3 pictures" in said and "registered: 3 sources, 3 pictures, 6 objects" in said
    with Registry(labels) as registry:
        first = registry.list_objects().objects[0]
        registry.update(first.object_id, ObjectChange(category="mug"), who="anna")
    assert "cups@v2" in run("build", "cups", "-r", labels)
    assert "labels: 0 added, 0 removed, 1 changed (category 1)" in run("diff", "cups@v1", "cups@v2", "-s", store)
    assert json.loads(run("diff", "cups@v1", "cups@v1", "-s", store, "--json"))["changed_labels"] == []
    listed = json.loads(run("list", "-s", store, "--json"))
    assert [(one["name"], one["version"]) for one in listed] == [("back", 1), ("cups", 1), ("cups", 2)]
    assert "cups@v2" in run("list", "-s", store)
    assert "made by: anna" in run("card", store / "cups/v1") and "# cups@v2" in run("card", "cups", "-s", store)
    assert "is sound" in run("check", "cups@v1", "-s", store)
    assert "label-studio" in run("formats")


def test_filters_and_refusals(labels, tmp_path):
    store = labels / "datasets"
    one_split = ("--split", "1,0,0", "-r", labels)
    assert "3 annotations" in run("build", "sure", *one_split, "--min-score", "0.5")
    assert "3 annotations" in run("build", "trays", *one_split, "-c", "tray")
    assert "6 annotations" in run("build", "large", *one_split, "--min-area", "1")
    assert "6 annotations" in run("build", "dated", *one_split, "--since", "2001-09-09", "--until", "2001-09-09T02:00")
    for arguments, code in (
        (("build", "x", *one_split, "--since", "2001-09-10"), "dataset_empty"),
        (("build", "x", *one_split, "--validated"), "dataset_empty"),
        (("build", "x", *one_split, "--max-area", "1"), "dataset_empty"),
        (("build", "x", *one_split, "--attribute", "look=2"), "dataset_empty"),
        (("build", "x", *one_split, "--attribute", "look"), "invalid_value"),
        (("build", "x", *one_split, "-c", "spoon"), "unknown_category"),
        (("build", "../x", *one_split), "dataset_invalid"),
        (("build", "x", "-r", labels, "--split", "1,2"), "dataset_invalid"),
        (("build", "x", "-r", tmp_path / "nowhere"), "storage_failed"),
        (("export", "sure@v9", "-s", store, "--to", tmp_path / "x"), "dataset_missing"),
        (("export", "sure", "-s", store, "--to", tmp_path), "dataset_exists"),
        (("export", "sure", "-s", store, "-f", "tfrecord", "--to", tmp_path / "x"), "unknown_format"),
        (("import", tmp_path, "-f", "coco", "--name", "y", "-s", store), "dataset_missing"),
        (("card", tmp_path), "dataset_missing"),
    ):
        said = run(*arguments, code=1)
        assert f"[{code}]" in said and len(said) > 30, said
    assert not (tmp_path / "x").exists() and not (store / "y").exists()
    assert "UTC time" in run("build", "x", *one_split, "--since", "yesterday", code=2)


def test_a_folder_of_photographs_is_split_where_somebody_says_that_they_are_apart(tmp_path):
    media = tmp_path / "media"
    media.mkdir()
    with Registry(tmp_path / "labels") as registry:
        source = registry.add_source(SourceDraft(SourceKind.FOLDER, str(media)))
        for number in range(10):
            Pillow.fromarray(np.full((48, 64, 3), 20 * number, np.uint8)).save(media / f"{number}.png")
            (image,) = registry.add_images(source.source_id, [ImageDraft(f"{number}.png", 64, 48)])
            drafts = [ObjectDraft(image.image_id, "cup", (4, 4, 9, 9), 0.9, ScoreKind.SIGMOID, Origin("detector"))]
            registry.register(drafts, who="pipeline")
    assert "--apart" in run("build", "cups", "-r", tmp_path / "labels", code=1)
    assert "(train 8, val 1, test 1)" in run("build", "cups", "-r", tmp_path / "labels", "--apart")
    assert "pictures of a folder: in different splits" in run("card", tmp_path / "labels" / "datasets" / "cups" / "v1")


def test_pictures_that_show_the_same_are_taken_once_where_it_is_asked(labels):
    arguments = ("build", "x", "--split", "1,0,0", "-r", labels, "--without-duplicates")
    assert "[vectors_missing]" in run(*arguments, code=1)
    with Registry(labels) as registry:
        vectors = {"cup": np.eye(4, dtype=np.float32)[0], "tray": np.eye(4, dtype=np.float32)[1]}
        objects = registry.list_objects().objects
        registry.set_embeddings(
            {item.object_id: vectors[item.category] for item in objects}, Embedder("tiny", "1", 4), who="tiny"
        )
    # One picture is black; the other two are of one grey, twice as bright in one of them.
    said = run(*arguments)
    assert "x@v1: 2 pictures" in said and "left out: 1 pictures that show what another one shows" in said
    assert "near duplicates left out: 1" in run("card", "x", "-s", labels / "datasets")


def test_ctrl_c_leaves_nothing(labels, tmp_path, monkeypatch):
    from flow_rag_vla.labeling.datasets import store as stored

    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(stored, "place_pictures", interrupted)
    assert "stopped" in run("build", "x", "-r", labels, code=130)
    assert not list((labels / "datasets/x").glob("[!.]*")) and not list((labels / "datasets/x").glob(".unfinished*"))
