# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A version on disk: whole or absent, also when its process is killed or the disk is full; never changed unnoticed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from flow_rag_vla.labeling.datasets.card import card_text
from flow_rag_vla.labeling.datasets.dataset import Annotation, DatasetItem, LabelDataset
from flow_rag_vla.labeling.datasets.diff import Changed, diff, diff_text
from flow_rag_vla.labeling.datasets.errors import CanceledError, DatasetError
from flow_rag_vla.labeling.datasets.exchange import export_dataset
from flow_rag_vla.labeling.datasets.folders import read_dataset, write_dataset


def entries(folder):
    return sorted(path.name for path in folder.iterdir())


def code_of(call, *arguments, **options):
    with pytest.raises(DatasetError) as caught:
        call(*arguments, **options)
    assert len(str(caught.value)) > 20
    return caught.value.code


def test_a_dataset_is_read_as_it_was_written_and_nothing_is_overwritten(dataset, tmp_path):
    said = replace(dataset, version=2, created_ns=5, provenance={"filter": {"categories": ["red cup"]}, "seed": 3})
    stored = write_dataset(said, tmp_path / "v2")
    assert read_dataset(tmp_path / "v2", verify=True) == stored
    assert replace(stored, items=()) == replace(said, items=())
    assert [replace(item, sha256="") for item in stored.items] == list(said.items)
    assert code_of(write_dataset, said, tmp_path / "v2") == "dataset_exists"
    linked = write_dataset(said, tmp_path / "linked", link=True)
    assert linked.image_path(linked.items[0]).is_symlink() and read_dataset(tmp_path / "linked") == stored


def test_what_was_changed_or_lost_is_noticed(dataset, tmp_path):
    assert code_of(read_dataset, tmp_path / "nowhere") == "dataset_missing"
    write_dataset(dataset, tmp_path / "good")

    def spoiled(change):
        shutil.rmtree(tmp_path / "bad", ignore_errors=True)
        shutil.copytree(tmp_path / "good", tmp_path / "bad")
        change(tmp_path / "bad")
        return code_of(read_dataset, tmp_path / "bad", verify=True)

    def edit(path, **fields):
        path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))

    assert spoiled(lambda root: (root / "images/img1.png").unlink()) == "image_missing"
    assert spoiled(lambda root: (root / "images/img1.png").write_bytes(b"other")) == "image_mismatch"
    assert spoiled(lambda root: (root / "annotations/val.json").unlink()) == "dataset_corrupt"
    assert spoiled(lambda root: edit(root / "annotations/val.json", images=[])) == "dataset_corrupt"
    assert spoiled(lambda root: edit(root / "manifest.json", format=99)) == "dataset_corrupt"
    assert spoiled(lambda root: edit(root / "manifest.json", files={"../../x.json": ""})) == "dataset_corrupt"
    assert spoiled(lambda root: (root / "manifest.json").write_text("[" * 100_000)) == "dataset_corrupt"
    assert spoiled(lambda root: (root / "manifest.json").write_bytes(b"\xff{}")) == "dataset_corrupt"


def test_a_picture_that_is_gone_or_other_than_the_one_labelled_ends_it_and_leaves_nothing(dataset, tmp_path):
    digest = replace(dataset, items=(replace(dataset.items[0], sha256="0" * 64), *dataset.items[1:]))
    (tmp_path / "out").mkdir()
    assert code_of(write_dataset, digest, tmp_path / "out/x") == "image_mismatch"
    dataset.image_path(dataset.items[2]).unlink()
    assert code_of(write_dataset, dataset, tmp_path / "out/x") == "image_missing"
    assert code_of(export_dataset, dataset, "coco", tmp_path / "out/x") == "image_missing"
    assert code_of(export_dataset, dataset, "tfrecord", tmp_path / "out/x") == "unknown_format"

    def withdrawn(done, total, note=""):
        raise CanceledError("withdrawn; nothing of it is left")

    assert code_of(write_dataset, dataset, tmp_path / "out/x", progress=withdrawn) == "canceled"
    assert entries(tmp_path / "out") == []


CHILD = """
import sys
from flow_rag_vla.labeling.datasets.exchange import export_dataset
from flow_rag_vla.labeling.datasets.folders import read_dataset

def wait(done, total, note=""):
    if done == 2:
        print("half", flush=True)
        sys.stdin.read()

export_dataset(read_dataset(sys.argv[1]), "yolo", sys.argv[2], progress=wait)
"""


def test_an_export_that_is_killed_leaves_nothing_that_looks_like_one_and_the_next_one_clears_up(dataset, tmp_path):
    write_dataset(dataset, tmp_path / "stored")
    out = tmp_path / "out"
    command = [sys.executable, "-c", CHILD, str(tmp_path / "stored"), str(out / "yolo")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout.readline() == b"half\n"
        export_dataset(dataset, "coco", out / "coco")
        (unfinished,) = [name for name in entries(out) if name != "coco"]
        assert unfinished.startswith(".unfinished-"), "what is still being written is left alone"
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    assert not (out / "yolo").exists()
    export_dataset(dataset, "yolo", out / "yolo")
    assert entries(out) == ["coco", "yolo"]


FULL = """
import resource, signal, sys
from flow_rag_vla.labeling.datasets.errors import DatasetError
from flow_rag_vla.labeling.datasets.folders import read_dataset, write_dataset

dataset = read_dataset(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, 2_000))
try:
    write_dataset(dataset, sys.argv[2])
except DatasetError as error:
    print(error.code)
"""


def test_a_full_disk_is_told_and_leaves_nothing(dataset, tmp_path):
    write_dataset(dataset, tmp_path / "stored")
    (tmp_path / "out").mkdir()
    command = [sys.executable, "-c", FULL, str(tmp_path / "stored"), str(tmp_path / "out/x")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "disk_full\n" and entries(tmp_path / "out") == []


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"box": (0.0, 0.0, 49.0, 5.0)}, "box_outside_image"),
        ({"box": (0.0, float("nan"), 4.0, 5.0)}, "box_outside_image"),
        ({"box": (4.0, 4.0, 4.0, 5.0)}, "box_without_area"),
        ({"confidence": 1.5}, "dataset_invalid"),
        ({"confidence": float("nan")}, "dataset_invalid"),
        ({"category": "ghost"}, "unknown_category"),
        ({"category": " "}, "dataset_invalid"),
        ({"rle": (5, 5)}, "mask_invalid"),
        ({"rle": (48 * 36,)}, "mask_invalid"),
        ({"polygons": ((0.0, 0.0, 1.0, 1.0),)}, "mask_invalid"),
        ({"polygons": ((0.0, 0.0, 99.0, 1.0, 5.0, 5.0),)}, "mask_invalid"),
        ({"annotation_id": "mask0"}, "dataset_invalid"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused_when_it_is_made(dataset, changes, code):
    first = dataset.items[0]

    def made():
        changed = replace(first, annotations=(replace(first.annotations[0], **changes), *first.annotations[1:]))
        return replace(dataset, items=(changed,))

    assert code_of(made) == code


def test_names_that_could_lead_elsewhere_are_refused():
    for file in ("../a.png", "/etc/passwd", "a/b.png", ".hidden", "a\\b.png", "", "a\0.png", "x" * 300):
        assert code_of(DatasetItem, "a", file, 4, 4) == "unsafe_path", file
    for name in ("", "..", "a/b", "-x", "x" * 200, "a b"):
        assert code_of(LabelDataset, name, (), ()) == "dataset_invalid"
    twice = DatasetItem("a", "A.png", 4, 4), DatasetItem("b", "a.PNG", 4, 4)
    assert code_of(LabelDataset, "x", (), twice) == "dataset_invalid"


def test_the_card_tells_counts_origins_and_licences_and_its_plot_is_sound(dataset, tmp_path):
    strange = replace(dataset.items[0], licence="", source="<script>|x")
    made = replace(dataset, items=(strange, *dataset.items[1:]), provenance={"made by": "anna", "seed": 7})
    write_dataset(made, tmp_path / "v1")
    text = (tmp_path / "v1/card.md").read_text()
    assert "4 pictures, 9 annotations, 3 categories" in text and "| red cup | 4 | 2 | 0 | 6 |" in text
    assert "6 (67 %) of the annotations have a mask" in text and "made by: anna" in text and "detector@r1: 9" in text
    assert "CC-BY-4.0" in text and "The licence of 1 pictures is unknown" in text and "<script>" not in text
    drawn = ElementTree.parse(tmp_path / "v1/classes.svg").getroot()
    words = [one.text for one in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert {"red cup", "그릇", "nothing", "train", "6", "3", "0"} <= set(words)
    assert "0 pictures" in card_text(LabelDataset("none", (), ()))


def test_a_diff_names_what_was_added_removed_and_changed(dataset):
    first, second, third, fourth = dataset.items
    label = first.annotations[0]
    after = replace(
        dataset,
        version=2,
        categories=("red cup", "그릇", "spoon"),
        items=(
            replace(
                first, annotations=(replace(label, box=(1.0, 1.0, 9.0, 9.0), validated=True), *first.annotations[1:])
            ),
            replace(third, split=second.split),
            replace(fourth, annotations=(Annotation("new", "spoon", (0.0, 0.0, 2.0, 2.0)),)),
            replace(fourth, image_id="extra", file="extra.png"),
        ),
    )
    found = diff(replace(dataset, version=1), after)
    assert (found.added_images, found.removed_images) == (("extra",), ("img1",))
    assert found.changed_images == (Changed("img2", ("split",)),)
    assert (found.added_labels, found.removed_labels) == (("new",), ("box1", "mask1", "ring1"))
    assert found.changed_labels == (Changed("box0", ("box", "validated")),)
    assert (found.added_categories, found.removed_categories) == (("spoon",), ("nothing",))
    assert "labels: 1 added, 3 removed, 1 changed (box 1, validated 1)" in diff_text(found) and not found.empty
    assert diff(dataset, dataset).empty
