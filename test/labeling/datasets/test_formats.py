# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What is exported is read back equal: by our importers, and by readers that others wrote."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from xml.etree import ElementTree as Tree

import numpy as np
import pyarrow.parquet as pq
import pytest
import supervision
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow
from pycocotools.coco import COCO

from flow_rag_vla.labeling.datasets.dataset import Annotation, LabelDataset, Split
from flow_rag_vla.labeling.datasets.exchange import FORMATS, export_dataset, import_dataset, zip_folder
from flow_rag_vla.labeling.datasets.folders import file_digest, read_dataset, write_dataset
from flow_rag_vla.labeling.datasets.outlines import bounds, mask_of, rings_of, rle_of
from flow_rag_vla.labeling.detections import ScoreKind
from flow_rag_vla.labeling.run_lengths import mask_counts

FOREIGN = ("confidence", "score_kind", "validated", "validated_by", "track", "origin", "version")
"""What YOLO has no words for."""


def held_by(kind: str, dataset: LabelDataset) -> LabelDataset:
    """What of a dataset a format can hold."""
    return replace(dataset, items=tuple(held_item(kind, item) for item in dataset.items))


def held_item(kind, item):
    labels = []
    for number, one in enumerate(item.annotations, 1):
        if kind == "coco":
            one = replace(one, rle=rle_of(one, item), polygons=())
        elif kind == "coco-polygons":
            one = replace(one, rle=(), polygons=rings_of(one, item))
        elif kind == "cvat" and len(one.polygons) > 1:
            one = replace(one, rle=rle_of(one, item), polygons=())
        elif kind.startswith("yolo"):
            plain = Annotation(f"{item.image_id}_{number}", one.category, one.box)
            mask = mask_of(one, item)
            if kind == "yolo-seg" and mask is not None:
                plain = replace(plain, box=bounds(rings_of(one, item)), rle=tuple(mask_counts(mask)))
            one = plain
        labels.append(one)
    if kind == "label-studio":
        labels.sort(key=lambda one: not one.validated)  # Annotations come before predictions.
    item = replace(item, annotations=tuple(labels))
    if kind.startswith("yolo") or kind == "cvat":
        item = replace(item, source_id="", source="", episode="", frame=0, stamp_ns=0, licence="", sha256="")
    return item


def compared(kind, dataset):
    """Outlines of YOLO are compared by the pixels they cover; a box without a mask has become an outline."""
    if kind != "yolo-seg":
        return dataset
    items = []
    for item in dataset.items:
        labels = tuple(
            replace(one, rle=rle_of(one, item) if len(one.polygons) else one.rle, polygons=())
            for one in item.annotations
        )
        items.append(replace(item, annotations=labels))
    return replace(dataset, items=tuple(items))


@pytest.mark.parametrize("kind", FORMATS)
def test_an_export_is_read_back_equal_with_its_pictures(kind, dataset, tmp_path):
    stored = write_dataset(dataset, tmp_path / "stored")
    export_dataset(stored, kind, tmp_path / kind)
    assert (tmp_path / kind / "card.md").is_file()
    found = import_dataset(tmp_path / kind, kind, "cups")
    try:
        wanted = held_by(kind, stored)
        if kind == "yolo-seg":
            for item in found.dataset.items:
                box = next((one for one in item.annotations if one.annotation_id.endswith("_1")), None)
                assert box is None or box.polygons[0][:2] == (1.25, 2.0), "a box became its outline"
            wanted, found_items = without_boxes(wanted), without_boxes(compared(kind, found.dataset))
        else:
            found_items = found.dataset
        assert found_items.items == wanted.items
        assert found.dataset.categories == dataset.categories
        again = write_dataset(found.dataset, tmp_path / "again", files=found.files)
        assert [item.sha256 for item in again.items] == [item.sha256 for item in stored.items]
    finally:
        found.close()


def without_boxes(dataset):
    items = [
        replace(item, annotations=tuple(one for one in item.annotations if not one.annotation_id.endswith("_1")))
        for item in dataset.items
    ]
    return replace(dataset, items=tuple(items))


LABELS = st.lists(
    st.tuples(
        st.sampled_from(["red cup", "그릇"]),
        st.tuples(st.integers(0, 4799), st.integers(1, 4800), st.integers(0, 3599), st.integers(1, 3600)),
        st.sampled_from(["box", "mask", "outline", "outlines"]),
        st.integers(0, 2**32 - 1),
    ),
    max_size=4,
)


def drawn(number, label):
    category, (left, right, top, bottom), kind, seed = label
    left, right, top, bottom = min(left, right - 1), max(left + 1, right), min(top, bottom - 1), max(top + 1, bottom)
    box = (left / 100, top / 100, right / 100, bottom / 100)
    rle, rings = (), ()
    random = np.random.default_rng(seed)
    if kind == "mask":
        mask = random.random((36, 48)) < random.random()
        rle = tuple(mask_counts(mask)) if mask.any() else ()
    elif kind != "box":
        count = 1 if kind == "outline" else 2
        shapes = random.integers(0, [4800, 3600], (count, 5, 2)) / 100
        rings = tuple(tuple(float(value) for value in shape.ravel()) for shape in shapes)
    return Annotation(f"label{number}", category, box, rle, rings, confidence=round(float(random.random()), 6))


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(LABELS, min_size=1, max_size=2))
def test_any_labels_survive_every_format_that_loses_nothing_and_the_folder(tmp_path, dataset, rows):
    numbers = iter(range(100))
    items = tuple(
        replace(item, annotations=tuple(drawn(next(numbers), label) for label in labels))
        for item, labels in zip(dataset.items, rows, strict=False)
    )
    folder = tmp_path / "out"
    shutil.rmtree(folder, ignore_errors=True)
    stored = write_dataset(replace(dataset, items=items), folder / "stored")
    assert read_dataset(folder / "stored", verify=True) == stored
    for kind in ("label-studio", "lerobot", "cvat", "coco"):
        export_dataset(stored, kind, folder / kind)
        found = import_dataset(folder / kind, kind, "cups")
        assert found.dataset.items == held_by(kind, stored).items, kind
        found.close()


def test_pycocotools_reads_the_same_boxes_areas_and_masks(dataset, tmp_path):
    for kind in ("coco", "coco-polygons"):
        folder = export_dataset(dataset, kind, tmp_path / kind)
        for split in Split:
            read = COCO(str(folder / f"annotations/instances_{split.value}.json"))
            by_file = {row["file_name"]: row for row in read.loadImgs(read.getImgIds())}
            assert set(by_file) == {item.file for item in dataset.of_split(split)}
            for item in dataset.of_split(split):
                rows = read.loadAnns(read.getAnnIds(imgIds=by_file[item.file]["id"]))
                assert len(rows) == len(item.annotations)
                for row, one in zip(rows, item.annotations, strict=True):
                    left, top, right, bottom = one.box
                    assert row["bbox"] == [left, top, right - left, bottom - top]
                    assert read.loadCats(row["category_id"])[0]["name"] == one.category
                    mask = mask_of(one, item)
                    if mask is not None:
                        assert row["area"] == mask.sum()
                    if one.rle and kind == "coco":
                        assert (read.annToMask(row).astype(bool) == mask).all()


def test_supervision_reads_the_same_boxes_masks_and_classes(dataset, tmp_path):
    yolo = export_dataset(dataset, "yolo", tmp_path / "yolo")
    read = supervision.DetectionDataset.from_yolo(
        str(yolo / "images/train"), str(yolo / "labels/train"), str(yolo / "data.yaml")
    )
    assert read.classes == list(dataset.categories)
    for path, _, found in read:
        item = next(one for one in dataset.items if path.endswith(f"/{one.file}"))
        assert np.allclose(found.xyxy, [one.box for one in item.annotations], atol=1e-3)
        assert [read.classes[number] for number in found.class_id] == [one.category for one in item.annotations]
    coco = export_dataset(dataset, "coco", tmp_path / "coco")
    read = supervision.DetectionDataset.from_coco(
        str(coco / "images"), str(coco / "annotations/instances_train.json"), force_masks=True
    )
    for path, _, found in read:
        item = next(one for one in dataset.items if path.endswith(f"/{one.file}"))
        assert np.allclose(found.xyxy, [one.box for one in item.annotations], atol=1e-3)
        assert (found.mask[1] == mask_of(item.annotations[1], item)).all()


def test_the_yolo_folder_is_laid_out_as_training_programs_expect_it(dataset, tmp_path):
    folder = export_dataset(dataset, "yolo", tmp_path / "yolo")
    config = yaml.safe_load((folder / "data.yaml").read_text())
    assert config["names"] == {0: "red cup", 1: "그릇", 2: "nothing"} and config["nc"] == 3
    for split in Split:
        images = sorted(path.stem for path in (folder / config[split.value]).iterdir())
        labels = sorted(path.stem for path in (folder / "labels" / split.value).iterdir())
        assert images == labels == [item.image_id for item in dataset.of_split(split)]
    line = (folder / "labels/train/img0.txt").read_text().splitlines()[0].split()
    assert line[0] == "0" and all(0 <= float(value) <= 1 for value in line[1:]) and len(line) == 5


def test_a_label_that_somebody_redrew_is_taken_as_it_was_redrawn(dataset, tmp_path):
    folder = export_dataset(dataset, "label-studio", tmp_path / "ls")
    tasks = json.loads((folder / "tasks.json").read_text())
    box = tasks[0]["predictions"][0]["result"][0]
    box["value"]["x"], box["value"]["rectanglelabels"] = 50.0, ["그릇"]
    outline = tasks[0]["annotations"][0]["result"][0]
    outline["value"]["points"] = [[0, 0], [50, 0], [50, 50]]
    (folder / "tasks.json").write_text(json.dumps(tasks))
    labels = {
        one.annotation_id: one for one in import_dataset(folder, "label-studio", "x").dataset.items[0].annotations
    }
    assert labels["box0"].box[0] == 24.0 and labels["box0"].category == "그릇"
    assert labels["mask0"].polygons == ((0.0, 0.0, 24.0, 0.0, 24.0, 18.0),) and not labels["mask0"].rle
    assert labels["mask0"].box == (0.0, 0.0, 24.0, 18.0)
    folder = export_dataset(dataset, "cvat", tmp_path / "cvat")
    text = (folder / "annotations.xml").read_text()
    (folder / "annotations.xml").write_text(text.replace('points="2.0,3.5;', 'points="1.0,3.5;', 1))
    labels = {one.annotation_id: one for one in import_dataset(folder, "cvat", "x").dataset.items[0].annotations}
    assert labels["ring0"].box == (1.0, 3.5, 30.25, 20.0)


def test_label_studio_gives_predictions_by_their_numbers_alone_and_new_labels_without_our_fields(dataset, tmp_path):
    folder = export_dataset(dataset, "label-studio", tmp_path / "ls")
    tasks = json.loads((folder / "tasks.json").read_text(encoding="utf-8"))
    for number, task in enumerate(tasks):
        # As Label Studio 1.23.2 exports JSON.
        task |= {
            "predictions": [number] if task.get("predictions") else [],
            "drafts": [],
            "meta": {},
            "inner_id": number,
        }
        task.setdefault("annotations", [])
    value = {"x": 25.0, "y": 50.0, "width": 25.0, "height": 25.0, "rotation": 0, "rectanglelabels": ["nothing"]}
    region = {"id": "hYc8", "type": "rectanglelabels", "from_name": "box", "to_name": "image", "origin": "manual",
              "original_width": 48, "original_height": 36, "image_rotation": 0, "value": value}  # fmt: skip
    tasks[3]["annotations"] = [{"id": 9, "completed_by": 1, "was_cancelled": False, "result": [region]}]
    (folder / "tasks.json").write_text(json.dumps(tasks), encoding="utf-8")
    items = import_dataset(folder, "label-studio", "cups").dataset.items
    for item, whole in zip(items[:3], dataset.items[:3], strict=True):
        assert item == replace(whole, annotations=tuple(one for one in whole.annotations if one.validated))
    (drawn,) = items[3].annotations
    assert (drawn.annotation_id, drawn.category, drawn.box) == ("hYc8", "nothing", (12.0, 18.0, 24.0, 27.0))
    assert drawn.validated and drawn.score_kind is ScoreKind.HUMAN


def test_cvat_finds_each_picture_by_its_plain_name_or_by_its_number_in_its_task(dataset, tmp_path):
    folder = export_dataset(dataset, "cvat", tmp_path / "cvat")
    root = Tree.parse(folder / "annotations.xml").getroot()
    assert root.findtext("meta/project/subsets").split("\n") == [split.value for split in Split]
    assert [task.findtext("subset") for task in root.findall("meta/project/tasks/task")] == ["train", "val", "test"]
    for split in Split:
        names = sorted(item.file for item in dataset.of_split(split))
        found = {one.get("id"): one.get("name") for one in root.findall("image") if one.get("subset") == split.value}
        assert found == {str(number): name for number, name in enumerate(names)}
        assert sorted(path.name for path in (folder / "images" / split.value).iterdir()) == names
    labels = json.loads((folder / "labels.json").read_text(encoding="utf-8"))
    assert [one["name"] for one in labels] == list(dataset.categories)
    assert {attribute["name"] for one in labels for attribute in one["attributes"]} == {"details"}


def test_cvat_tasks_may_have_pictures_of_one_name_and_a_single_task_has_no_subset(dataset, tmp_path):
    folder = export_dataset(dataset, "cvat", tmp_path / "cvat")
    text = (folder / "annotations.xml").read_text(encoding="utf-8")
    for split, name in (("train", "img0.png"), ("val", "img2.png")):
        (folder / "images" / split / name).rename(folder / "images" / split / "a.png")
        text = text.replace(f'name="{name}"', 'name="a.png"')
    (folder / "annotations.xml").write_text(text, encoding="utf-8")
    items = import_dataset(folder, "cvat", "cups").dataset.items
    assert {(item.file, item.split) for item in items} >= {("a.png", Split.TRAIN), ("a_000003.png", Split.VAL)}
    assert [item.annotations for item in items] == [item.annotations for item in dataset.items]
    flat = export_dataset(dataset, "cvat", tmp_path / "flat")
    for path in list((flat / "images").rglob("*.png")):
        path.rename(flat / "images" / path.name)
    text = re.sub(r' (subset|task_id)="\w+"', "", (flat / "annotations.xml").read_text(encoding="utf-8"))
    (flat / "annotations.xml").write_text(text, encoding="utf-8")
    items = import_dataset(flat, "cvat", "cups").dataset.items
    assert [item.annotations for item in items] == [item.annotations for item in dataset.items]
    assert {item.split for item in items} == {Split.TRAIN}


def test_lerobot_looks_a_task_up_by_its_text_as_pandas_writes_an_index(dataset, tmp_path):
    folder = export_dataset(dataset, "lerobot", tmp_path / "lerobot")
    tasks = pq.read_table(folder / "meta/tasks.parquet")
    assert json.loads(tasks.schema.metadata[b"pandas"])["index_columns"] == ["task"]
    assert tasks.to_pylist() == [{"task_index": 0, "task": "What is where in the picture?"}]


def test_lerobot_is_told_the_colours_of_the_pictures_without_which_it_merges_nothing(dataset, tmp_path):
    folder = export_dataset(dataset, "lerobot", tmp_path / "lerobot")
    (stats,) = json.loads((folder / "meta/stats.json").read_text()).values()
    pixels = np.stack([np.asarray(Pillow.open(dataset.image_path(item))) for item in dataset.items]) / 255.0
    assert np.shape(stats["mean"]) == (3, 1, 1) and stats["count"] == [len(dataset.items)]
    assert np.allclose(np.ravel(stats["mean"]), pixels.mean(axis=(0, 1, 2)))
    assert np.allclose(np.ravel(stats["max"]), pixels.max(axis=(0, 1, 2)))


def test_lerobot_refuses_pictures_of_two_sizes(dataset, tmp_path):
    from flow_rag_vla.labeling.datasets.errors import DatasetError

    odd = replace(dataset.items[0], width=40, annotations=())
    with pytest.raises(DatasetError, match="one size"):
        export_dataset(replace(dataset, items=(odd, *dataset.items[1:])), "lerobot", tmp_path / "out")
    assert not list(tmp_path.glob("*out*")) and not list(tmp_path.glob(".*"))


def test_a_zip_holds_every_file_of_an_export(dataset, tmp_path):
    import zipfile

    folder = export_dataset(dataset, "yolo", tmp_path / "yolo")
    with zipfile.ZipFile(zip_folder(folder, tmp_path / "yolo.zip")) as archive:
        archive.extractall(tmp_path / "unpacked")
    files = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    assert {
        path.relative_to(tmp_path / "unpacked") for path in (tmp_path / "unpacked").rglob("*") if path.is_file()
    } == files
    assert all(file_digest(folder / path) == file_digest(tmp_path / "unpacked" / path) for path in files)
