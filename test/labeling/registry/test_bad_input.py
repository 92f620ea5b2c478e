# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What makes no sense is refused with a code, and leaves nothing behind."""

from __future__ import annotations

import io
import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as PillowImage

from flow_rag_vla.labeling.detections import Origin
from flow_rag_vla.labeling.registry.checks import checked_box, checked_path
from flow_rag_vla.labeling.registry.errors import (
    BusyError,
    ConflictError,
    DiskFullError,
    ErrorCode,
    InvalidInputError,
    RegistryError,
    StorageError,
    UnknownError,
    disk_error,
)
from flow_rag_vla.labeling.registry.masks import mask_png
from flow_rag_vla.labeling.registry.queries import ObjectFilter, Order, parse_attributes
from flow_rag_vla.labeling.registry.registry import Registry
from flow_rag_vla.labeling.registry.values import (
    BoxConvention,
    Embedder,
    ImageDraft,
    ObjectChange,
    SourceDraft,
    SourceKind,
)

NAN = float("nan")


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"box": (5, 5, 5, 9)}, ErrorCode.BOX_WITHOUT_AREA),
        ({"box": (9, 5, 5, 9)}, ErrorCode.BOX_WITHOUT_AREA),
        ({"box": (5, 5, 4, 4), "convention": BoxConvention.LTRB_INCLUSIVE}, ErrorCode.BOX_WITHOUT_AREA),
        ({"box": (5, 5, 0, 4), "convention": BoxConvention.XYWH}, ErrorCode.BOX_WITHOUT_AREA),
        ({"box": (-1, 5, 9, 9)}, ErrorCode.BOX_OUTSIDE_IMAGE),
        ({"box": (5, 5, 65, 9)}, ErrorCode.BOX_OUTSIDE_IMAGE),
        ({"box": (0.9, 0.5, 0.4, 0.4), "convention": BoxConvention.CXCYWH_NORMALISED}, ErrorCode.BOX_OUTSIDE_IMAGE),
        ({"box": (5, 5, NAN, 9)}, ErrorCode.BOX_NOT_FINITE),
        ({"box": (5, 5, math.inf, 9)}, ErrorCode.BOX_NOT_FINITE),
        ({"score": NAN}, ErrorCode.INVALID_SCORE),
        ({"score": 1.01}, ErrorCode.INVALID_SCORE),
        ({"score": -0.1}, ErrorCode.INVALID_SCORE),
        ({"quality": NAN}, ErrorCode.INVALID_SCORE),
        ({"origin": Origin("m", threshold=NAN)}, ErrorCode.INVALID_SCORE),
        ({"origin": Origin("")}, ErrorCode.INVALID_VALUE),
        ({"category": "  "}, ErrorCode.INVALID_VALUE),
        ({"category": "cup\x00"}, ErrorCode.INVALID_VALUE),
        ({"category": "c" * 201}, ErrorCode.INVALID_VALUE),
        ({"category": "\ud800"}, ErrorCode.INVALID_VALUE),
        ({"mask": np.zeros((48, 64), np.bool_)}, ErrorCode.INVALID_MASK),
        ({"mask": np.ones((64, 48), np.bool_)}, ErrorCode.INVALID_MASK),
        ({"mask": np.ones((48, 64), np.uint8)}, ErrorCode.INVALID_MASK),
        ({"embedding": np.ones(8, np.float32)}, ErrorCode.INVALID_EMBEDDING),
        ({"embedding": np.full(8, np.nan, np.float32)}, ErrorCode.INVALID_EMBEDDING),
        ({"embedding": np.eye(8, dtype=np.float32)[0], "embedder": None}, ErrorCode.INVALID_EMBEDDING),
        ({"embedding": np.eye(7, dtype=np.float32)[0]}, ErrorCode.WRONG_DIMENSION),
        ({"embedding": np.eye(8, dtype=np.float32)[0], "embedder": Embedder("", "", 8)}, ErrorCode.INVALID_VALUE),
        ({"attributes": {"a b": 1}}, ErrorCode.INVALID_VALUE),
        ({"attributes": {"a": NAN}}, ErrorCode.INVALID_VALUE),
        ({"attributes": {"a": [1]}}, ErrorCode.INVALID_VALUE),
        ({"attributes": {"a": "\x00"}}, ErrorCode.INVALID_VALUE),
        ({"attributes": {f"a{n}": 1 for n in range(65)}}, ErrorCode.INVALID_VALUE),
    ],
)
def test_an_object_that_makes_no_sense_is_refused_by_its_number(registry, image, make, fields, code):
    with pytest.raises(InvalidInputError, match="object 1") as error:
        registry.register([make.draft(image, mask=make.mask()), make.draft(image, **fields)], who="a")
    assert error.value.code is code
    assert error.value.http_status == 422
    assert error.value.remedy
    assert registry.count() == 0
    assert list(registry.masks.names()) == []


def test_a_mask_of_noise_is_refused_and_a_large_plain_one_is_small(registry, make):
    source = registry.add_source(SourceDraft(SourceKind.IMAGE, "/big.png"))
    (big,) = registry.add_images(source.source_id, [ImageDraft("big.png", 2_000, 1_500)])
    noise = np.random.default_rng(0).random((1_500, 2_000)) < 0.5
    with pytest.raises(InvalidInputError) as error:
        registry.register([make.draft(big, mask=noise)], who="a")
    assert error.value.code is ErrorCode.MASK_TOO_LARGE
    disc = np.hypot(*np.mgrid[-750:750, -1_000:1_000]) < 700
    (object_id,) = registry.register([make.draft(big, mask=disc)], who="a").object_ids
    assert registry.mask_file(object_id).stat().st_size < 100_000
    assert np.array_equal(registry.mask(object_id), disc)


@pytest.mark.parametrize(
    "path", ["../secret", "a/../../b", "/data/../etc", "a\\..\\b", "a\x00b", "", "x" * 1_001, "file:///a/../b"]
)
def test_a_path_that_climbs_is_refused(registry, path):
    with pytest.raises(InvalidInputError) as error:
        registry.add_source(SourceDraft(SourceKind.FOLDER, path))
    assert error.value.code is ErrorCode.UNSAFE_PATH
    source = registry.add_source(SourceDraft(SourceKind.FOLDER, "/data"))
    for name in (path, "/etc/passwd", "~/x", "http://host/x"):
        with pytest.raises(InvalidInputError) as error:
            registry.add_images(source.source_id, [ImageDraft(name, 8, 8)])
        assert error.value.code is ErrorCode.UNSAFE_PATH


@given(st.text(max_size=30))
def test_no_allowed_image_name_leaves_its_folder(name):
    try:
        checked_path(name, "image name", relative=True)
    except InvalidInputError:
        return
    assert ".." not in name.split("/") and not name.startswith("/") and "\x00" not in name


@given(
    st.tuples(*[st.floats(allow_nan=True, allow_infinity=True, width=32)] * 4),
    st.sampled_from(list(BoxConvention)),
)
def test_a_box_is_refused_or_lies_inside_with_an_area(box, convention):
    try:
        left, top, right, bottom = checked_box(box, convention, 64, 48, "box")
    except InvalidInputError as error:
        assert error.code in (
            ErrorCode.BOX_NOT_FINITE,
            ErrorCode.BOX_OUTSIDE_IMAGE,
            ErrorCode.BOX_WITHOUT_AREA,
        )
        return
    assert 0 <= left < right <= 64 and 0 <= top < bottom <= 48


def test_a_mask_path_that_someone_put_into_the_database_leads_nowhere(registry, image, make):
    (object_id,) = registry.register([make.draft(image)], who="a").object_ids
    with registry.database.write() as connection:
        connection.exec_driver_sql("UPDATE objects SET mask_path = '../../../etc/passwd'")
    for act in (registry.mask, registry.mask_file):
        with pytest.raises(StorageError) as error:
            act(object_id)
        assert error.value.code is ErrorCode.UNSAFE_PATH


@pytest.mark.parametrize("cursor", ["x", "====", "WyJvbGRlc3QiLCAxXQ", "W10", "bnVsbA", "é", "W1siIl1d" * 50])
def test_a_cursor_of_something_else_is_refused(registry, cursor):
    with pytest.raises(InvalidInputError) as error:
        registry.list_objects(order=Order.NEWEST, cursor=cursor)
    assert error.value.code is ErrorCode.INVALID_CURSOR


def test_questions_out_of_range_are_refused(registry, image, make):
    registry.register([make.draft(image, embedding=make.unit(1))], who="a")
    for act in (
        lambda: registry.list_objects(limit=0),
        lambda: registry.list_objects(limit=1_001),
        lambda: registry.list_objects(ObjectFilter(min_score=NAN)),
        lambda: registry.list_objects(ObjectFilter(min_area=NAN)),
        lambda: registry.list_objects(ObjectFilter(max_area=-1.0)),
        lambda: parse_attributes(["pose"]),
        lambda: parse_attributes(["=open"]),
        lambda: parse_attributes(["pose=open", "pose=shut"]),
        lambda: registry.list_objects(ObjectFilter(attributes={"a b": 1})),
        lambda: registry.list_objects(ObjectFilter(source_ids=("0",) * 501)),
        lambda: registry.list_objects(ObjectFilter(created_from_ns=1 << 70)),
        lambda: registry.search(make.unit(1), make.embedder, k=0),
        lambda: registry.search(make.unit(1), make.embedder, k=1_001),
        lambda: registry.images(image.source_id, limit=0),
        lambda: registry.add_images(image.source_id, [ImageDraft("a", 0, 8)]),
        lambda: registry.add_source(SourceDraft(SourceKind.IMAGE, "/a", width=-1)),
        lambda: registry.add_track(image.source_id, [], who="a"),
        lambda: registry.register([make.draft(image)] * 10_001, who="a"),
        lambda: registry.register([make.draft(image)], who=" "),
    ):
        with pytest.raises(InvalidInputError) as error:
            act()
        assert error.value.http_status == 422


def test_an_object_without_mask_or_vector_says_so(registry, image, make):
    (object_id,) = registry.register([make.draft(image)], who="a").object_ids
    for act, code in (
        (registry.mask, ErrorCode.NO_MASK),
        (registry.mask_file, ErrorCode.NO_MASK),
        (registry.embedding, ErrorCode.NO_EMBEDDING),
        (registry.similar, ErrorCode.NO_EMBEDDING),
    ):
        with pytest.raises(UnknownError) as error:
            act(object_id)
        assert error.value.code is code


def test_a_refused_change_leaves_no_mask_behind(registry, image, make):
    (object_id,) = registry.register([make.draft(image)], who="a").object_ids
    with pytest.raises(ConflictError):
        registry.update(object_id, ObjectChange(mask=make.mask()), who="b", expected_version=9)
    assert list(registry.masks.names()) == []
    registry.update(object_id, ObjectChange(mask=make.mask()), who="b", expected_version=1)
    assert np.array_equal(registry.mask(object_id), make.mask())


def test_every_error_reaches_another_process_whole():
    for kind in (InvalidInputError, UnknownError, ConflictError, BusyError, DiskFullError, StorageError):
        error = kind(ErrorCode.BUSY, "what", "do this")
        back = pickle.loads(pickle.dumps(error))
        assert (type(back), back.code, back.message, back.remedy) == (kind, ErrorCode.BUSY, "what", "do this")
        assert str(back) == "what; do this"
        assert 400 <= kind.http_status < 600
        assert isinstance(back, RegistryError)


def test_errors_of_the_disk_say_whether_it_is_full():
    assert disk_error(OSError(28, "No space left on device"), "x").code is ErrorCode.DISK_FULL
    assert disk_error(OSError(27, "File too large"), "x").code is ErrorCode.DISK_FULL
    assert disk_error(PermissionError(13, "denied"), "x").code is ErrorCode.STORAGE_FAILED


def test_a_place_that_is_no_registry_is_refused(tmp_path):
    with pytest.raises(StorageError, match="there is no registry"):
        Registry(tmp_path / "none", create=False)
    with pytest.raises(InvalidInputError, match="needs a folder for masks"):
        Registry("postgresql://127.0.0.1/none")
    with pytest.raises(InvalidInputError, match="no database of the registry"):
        Registry("mysql://127.0.0.1/none", files=tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError):
        Registry(tmp_path / "file")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "registry.db").write_bytes(b"no database" * 1_000)
    with pytest.raises(StorageError) as error:
        Registry(tmp_path / "broken")
    assert error.value.code is ErrorCode.CORRUPT


def test_a_server_that_does_not_answer_is_named_without_its_password(tmp_path):
    pytest.importorskip("psycopg")
    with pytest.raises(BusyError, match="the server does not answer") as error:
        Registry("postgresql://robot:secret@127.0.0.1:1/none", files=tmp_path)
    assert error.value.code is ErrorCode.UNAVAILABLE
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 9), (7, 8), (33, 17), (48, 64)])
def test_a_mask_of_any_size_is_a_png_that_others_read(height, width):
    mask = np.random.default_rng(height * width).random((height, width)) < 0.5
    with PillowImage.open(io.BytesIO(mask_png(mask))) as image:
        assert (image.format, image.mode, image.size) == ("PNG", "1", (width, height))
        assert np.array_equal(np.asarray(image), mask)


def test_masks_of_one_batch_share_a_folder_and_those_of_others_do_not(registry, image, make):
    batches = [[make.draft(image, mask=make.mask(right=20 + n)) for n in range(4)] for _ in range(3)]
    found = [registry.register(drafts, who="a").object_ids for drafts in batches]
    folders = [{registry.mask_file(object_id).parent for object_id in ids} for ids in found]
    assert [len(items) for items in folders] == [1, 1, 1]
    # 65,536 folders: two batches may meet in one, not all three.
    assert len(set().union(*folders)) > 1
