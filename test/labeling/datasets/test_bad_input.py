# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What others wrote is not believed: every damage is a refusal with a code, and nothing is read that must not be."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flow_rag_vla.labeling.datasets.dataset import Split
from flow_rag_vla.labeling.datasets.errors import DatasetError
from flow_rag_vla.labeling.datasets.exchange import FORMATS, export_dataset, import_dataset

FILES = {
    "yolo": "data.yaml",
    "yolo-seg": "labels/train/img0.txt",
    "coco": "annotations/instances_train.json",
    "coco-polygons": "annotations/instances_val.json",
    "label-studio": "tasks.json",
    "cvat": "annotations.xml",
    "lerobot": "meta/info.json",
}


def code_of(path, kind):
    with pytest.raises(DatasetError) as caught:
        import_dataset(path, kind, "cups").close()
    assert len(str(caught.value)) > 20
    return caught.value.code


@pytest.fixture
def exported(dataset, tmp_path):
    """``exported(kind)``: a fresh export."""

    def make(kind):
        shutil.rmtree(tmp_path / kind, ignore_errors=True)
        return export_dataset(dataset, kind, tmp_path / kind)

    return make


@pytest.mark.parametrize("kind", FORMATS)
def test_a_file_that_is_missing_cut_or_of_other_bytes_is_refused(kind, exported, tmp_path):
    folder = exported(kind)
    file = folder / FILES[kind]
    whole = file.read_bytes()
    for broken in (whole[: len(whole) // 2], b"\x00\xff\xfe" * 9, b"<[{", b""):
        file.write_bytes(broken)
        if kind == "yolo-seg" and not broken:
            continue  # A picture without labels.
        assert code_of(folder, kind) in ("dataset_corrupt", "dataset_empty", "mask_invalid"), broken[:20]
    file.unlink()
    if kind not in ("yolo-seg", "coco", "coco-polygons"):  # A picture without labels, one split of three.
        assert code_of(folder, kind) == "dataset_missing"
    assert code_of(tmp_path / "nowhere", kind) == "dataset_missing"
    with pytest.raises(DatasetError):
        import_dataset(folder, kind, "../x")


@pytest.mark.parametrize("kind", ["coco", "label-studio", "cvat", "lerobot"])
def test_a_picture_that_is_gone_spoiled_or_of_another_size_is_refused(kind, exported):
    from PIL import Image as Pillow

    if kind == "lerobot":
        file = exported(kind) / "meta/info.json"
        info = json.loads(file.read_text())
        info["features"]["observation.images.camera"]["shape"] = [20, 20, 3]
        file.write_text(json.dumps(info))
        assert code_of(file.parent.parent, kind) == "image_mismatch"
        table = next((file.parent.parent / "data").glob("*/*.parquet"))
        table.write_bytes(table.read_bytes()[:-50])
        assert code_of(file.parent.parent, kind) == "dataset_corrupt"
        return
    folder = exported(kind)
    picture = next((folder / "images").rglob("img1.png"))
    Pillow.new("RGB", (20, 20)).save(picture)
    assert code_of(folder, kind) == "image_mismatch"
    picture.write_bytes(b"\x89PNG no picture")
    assert code_of(folder, kind) == "image_corrupt"
    picture.unlink()
    assert code_of(folder, kind) == "image_missing"


OUTSIDE = ("../../etc/passwd", "/etc/passwd", "..\\x.png", "a/../../x.png", "~/x.png", "images/link.png")
NAMED = {
    "coco": ('"file_name": "%s"', "img0.png"),
    "cvat": ('name="%s"', "img0.png"),
    "label-studio": ('"image": "%s"', "/data/local-files/?d=images/img0.png"),
}


def test_a_name_that_leads_elsewhere_is_refused_before_anything_is_read(exported, tmp_path):
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"secret")
    for kind, (field, old) in NAMED.items():
        folder = exported(kind)
        (folder / "images/link.png").symlink_to(secret)
        file = folder / FILES[kind]
        text = file.read_text()
        assert field % old in text
        for name in OUTSIDE:
            written = name if kind == "cvat" else name.replace("\\", "\\\\")
            file.write_text(text.replace(field % old, field % written))
            assert code_of(folder, kind) == "unsafe_path", (kind, name)
    folder = exported("yolo")
    config = yaml.safe_load((folder / "data.yaml").read_text())
    (folder / "outside").symlink_to(tmp_path)
    for path in ("../..", "/etc", "outside"):
        (folder / "data.yaml").write_text(yaml.safe_dump({**config, "train": path}))
        assert code_of(folder, "yolo") == "unsafe_path"
    folder = exported("yolo")
    labels = next((folder / "labels").rglob("*.txt"))
    labels.unlink()
    labels.symlink_to(secret)
    assert code_of(folder, "yolo") == "unsafe_path"


def test_xml_that_grows_or_reads_other_files_is_refused(exported, tmp_path):
    folder = exported("cvat")
    (tmp_path / "secret").write_text("secret")
    bomb = '<!DOCTYPE a [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]><annotations>&b;</annotations>'
    reader = f'<!DOCTYPE a [<!ENTITY x SYSTEM "file://{tmp_path}/secret">]><annotations>&x;</annotations>'
    for text in (bomb, reader, "<!DOCTYPE annotations><annotations/>", "<other/>"):
        (folder / "annotations.xml").write_text(text)
        assert code_of(folder, "cvat") == "dataset_corrupt"


def test_yaml_that_makes_objects_or_grows_is_refused(exported):
    folder = exported("yolo")
    for text in (
        "names: !!python/object/apply:os.system ['true']\ntrain: images/train\n",
        "a: &a [x, x]\nb: &b [*a, *a]\nnames: [*b, *b]\ntrain: images/train\n",
        "- 1\n- 2\n",
        "names: {0: a, 2: b}\ntrain: images/train\n",
    ):
        (folder / "data.yaml").write_text(text)
        assert code_of(folder, "yolo") == "dataset_corrupt"


def test_labels_that_make_no_sense_are_refused_with_their_place(exported):
    folder = exported("yolo")
    labels = folder / "labels/train/img0.txt"
    for line, code in (
        ("9 0.5 0.5 0.1 0.1", "unknown_category"),
        ("-1 0.5 0.5 0.1 0.1", "dataset_corrupt"),
        ("0 0.5 0.5 0.1", "mask_invalid"),
        ("0 0.5 x 0.1 0.1", "dataset_corrupt"),
        ("0 nan 0.5 0.1 0.1", "dataset_corrupt"),
        ("0 0.9 0.5 0.4 0.1", "box_outside_image"),
        ("0 0.5 0.5 0 0.1", "box_without_area"),
        ("0 0.1 0.1 1.4 0.1 0.5 0.5", "box_outside_image"),
    ):
        labels.write_text(line + "\n")
        assert code_of(folder, "yolo") == code, line
    folder = exported("coco")
    file = folder / FILES["coco"]
    sound = json.loads(file.read_text())

    def spoiled(**fields):
        file.write_text(json.dumps({**sound, "annotations": [{**sound["annotations"][0], **fields}]}))
        return code_of(folder, "coco")

    assert spoiled(category_id=77) == "unknown_category"
    assert spoiled(image_id=77) == spoiled(bbox=[1, 2, 3]) == spoiled(bbox="x") == "dataset_corrupt"
    assert spoiled(bbox=[40, 2, 30, 4]) == "box_outside_image"
    assert spoiled(bbox=[4, 2, 0, 4]) == "box_without_area"
    assert spoiled(segmentation={"size": [9, 9], "counts": "11"}) == "mask_invalid"
    assert spoiled(segmentation={"size": [36, 48], "counts": "~~"}) == "mask_invalid"
    assert spoiled(segmentation={"size": [36, 48], "counts": [5, 5]}) == "mask_invalid"
    assert spoiled(segmentation=[[1, 2, 3]]) == "mask_invalid"
    assert spoiled(score=7) == "dataset_invalid"
    assert spoiled(score_kind="guess") == spoiled(origin=3) == spoiled(track=["x"]) == "dataset_corrupt"


def test_a_name_may_be_of_any_kind_as_long_as_it_stays_inside(dataset, exported):
    folder = exported("coco")
    (folder / "images/sub dir").mkdir()
    (folder / "images/img0.png").rename(folder / "images/sub dir/사진 (1).PNG")
    file = folder / FILES["coco"]
    text = file.read_text().replace('"file_name": "img0.png"', '"file_name": "sub dir/사진 (1).PNG"')
    file.write_text(text)
    found = import_dataset(folder, "coco", "cups")
    item = next(one for one in found.dataset.items if one.image_id == "img0")
    assert item.file == "1.png" and found.files["img0"].name == "사진 (1).PNG"
    assert item.annotations == replace(dataset.of_split(Split.TRAIN)[0], annotations=item.annotations).annotations


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 60) | st.floats(width=32) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["coco", "label-studio"]), st.data())
def test_any_value_anywhere_is_taken_or_refused_never_a_crash(tmp_path, dataset, kind, data):
    folder = tmp_path / kind
    if not folder.exists():
        export_dataset(dataset, kind, folder)
        shutil.copy(folder / FILES[kind], tmp_path / f"{kind}.json")
    document = json.loads((tmp_path / f"{kind}.json").read_text())
    here = document
    while isinstance(here, (dict, list)) and here:
        key = data.draw(st.sampled_from(sorted(here) if isinstance(here, dict) else range(len(here))))
        if not isinstance(here[key], (dict, list)) or not here[key] or data.draw(st.booleans()):
            here[key] = data.draw(JSON)
            break
        here = here[key]
    (folder / FILES[kind]).write_text(json.dumps(document))
    try:
        import_dataset(folder, kind, "cups")
    except DatasetError as error:
        assert error.code and len(str(error)) > 15
