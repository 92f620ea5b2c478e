# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""From the registry to versions and back."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image as Pillow

from flow_rag_vla.data.bag_writer import BagWriter
from flow_rag_vla.data.definitions import Definitions
from flow_rag_vla.labeling.datasets.dataset import Split
from flow_rag_vla.labeling.datasets.errors import CanceledError, DatasetError
from flow_rag_vla.labeling.datasets.exchange import export_dataset, import_dataset
from flow_rag_vla.labeling.datasets.outlines import mask_of
from flow_rag_vla.labeling.datasets.registering import register_dataset
from flow_rag_vla.labeling.datasets.splits import SplitRatios
from flow_rag_vla.labeling.datasets.store import DatasetOrder, DatasetStore
from flow_rag_vla.labeling.datasets.summaries import parse_label
from flow_rag_vla.labeling.detections import Origin, ScoreKind
from flow_rag_vla.labeling.registry.errors import InvalidInputError, UnknownError
from flow_rag_vla.labeling.registry.queries import ObjectFilter
from flow_rag_vla.labeling.registry.values import (
    ImageDraft,
    ObjectChange,
    ObjectDraft,
    ReviewState,
    SourceDraft,
    SourceKind,
)

HALVES = SplitRatios(0.5, 0.25, 0.25)


def code_of(call, *arguments, **options):
    with pytest.raises(DatasetError) as caught:
        call(*arguments, **options)
    return caught.value.code


def build(registry, name="cups", where=None, **options):
    order = DatasetOrder(name, where or ObjectFilter(), options.pop("ratios", HALVES), **options)
    return DatasetStore.of(registry).build(registry, order, who="anna")


def test_a_version_holds_what_passes_the_filter_and_the_registry_knows_its_members(registry, tmp_path):
    told = []
    made = DatasetStore.of(registry).build(
        registry, DatasetOrder("cups", ratios=HALVES, seed=4), who="anna", progress=lambda *step: told.append(step)
    )
    assert made == DatasetStore.of(registry).get("cups", 1) and made.label == "cups@v1" and told[-1][:2] == (8, 8)
    assert made.categories == ("bowl", "red cup") and len(made.items) == 8 and made.annotation_count == 16
    assert Counter(item.split for item in made.items) == {Split.TRAIN: 4, Split.VAL: 2, Split.TEST: 2}
    item = made.items[0]
    registered = registry.image(item.image_id)
    assert (item.width, item.height, item.frame, item.stamp_ns) == (48, 36, registered.frame, registered.stamp_ns)
    assert item.licence == "MIT" and item.episode.startswith("episode") and item.file == f"{item.image_id}.png"
    original = np.asarray(Pillow.open(f"{item.source}/{registered.name}"))
    assert (np.asarray(Pillow.open(made.image_path(item))) == original).all()
    by_id = {one.annotation_id: (one, item) for item in made.items for one in item.annotations}
    for object_id, (one, item) in by_id.items():
        kept = registry.get(object_id)
        assert (one.category, one.confidence, one.validated) == (kept.category, kept.score, kept.state.validated)
        assert (one.track, one.origin, one.version) == (kept.track_id, kept.origin, kept.version)
        assert np.allclose(one.box, kept.box, atol=1e-4) and kept.state is not ReviewState.REJECTED
        assert (mask_of(one, item) is None) == (not kept.mask_path)
        if kept.mask_path:
            assert (mask_of(one, item) == registry.mask(object_id)).all()
    assert sum(one.validated for one, _ in by_id.values()) == 4
    (version,) = registry.datasets.list_versions(name="cups")
    assert (version.version, version.who, version.members) == (1, "anna", 16)
    splits = {member.object_id: member.split for member in registry.datasets.members(version.dataset_id)}
    assert splits == {object_id: item.split.value for object_id, (_, item) in by_id.items()}
    assert made.provenance["made by"] == "anna" and made.provenance["seed"] == 4


def test_filters_choose(registry):
    for number, (where, count) in enumerate(
        (
            (ObjectFilter(categories=("bowl",)), 8),
            (ObjectFilter(min_score=0.7), 8),
            (ObjectFilter(max_score=0.7), 8),
            (ObjectFilter(validated=True), 4),
            (ObjectFilter(validated=False), 12),
            (ObjectFilter(states=(ReviewState.REJECTED,)), 8),
            (ObjectFilter(episodes=("episode1", "episode3")), 8),
            (ObjectFilter(captured_from_ns=1_001), 8),
            (ObjectFilter(captured_until_ns=1_001, categories=("red cup",)), 4),
        )
    ):
        made = build(registry, name=f"chosen{number}", where=where, ratios=SplitRatios(1, 0, 0))
        assert made.annotation_count == count, where


def test_versions_never_change_and_the_next_one_keeps_their_splits(registry):
    first = build(registry, seed=1)
    bytes_before = {path: path.read_bytes() for path in first.images.parent.rglob("*") if path.is_file()}
    changed = first.items[0].annotations[0]
    registry.update(changed.annotation_id, ObjectChange(category="mug"), who="ben")
    second = build(registry, seed=2)
    assert second.label == "cups@v2" and "mug" in second.categories
    splits = {item.image_id: item.split for item in first.items}
    assert {item.image_id: item.split for item in second.items} == splits
    assert second.provenance["splits kept from"] == "cups@v1"
    assert {path: path.read_bytes() for path in bytes_before} == bytes_before
    store = DatasetStore.of(registry)
    assert store.get("cups", 1) == first and store.get("cups") == second
    assert [one.label for one in store.versions()] == ["cups@v1", "cups@v2"]
    assert code_of(store.get, "cups", 3) == code_of(store.get, "bowls") == "dataset_missing"
    assert code_of(store.get, "../cups") == code_of(parse_label, "cups@2") == "dataset_invalid"


def test_versions_are_listed_page_by_page_without_a_look_at_those_beyond(registry):
    for name in ("cups", "cups", "bowls", "cups"):
        build(registry, name=name)
    store = DatasetStore.of(registry)

    def labels(*name, **asked):
        return [one.label for one in store.versions(*name, **asked)]

    assert labels(limit=2) == ["bowls@v1", "cups@v1"]
    assert labels(limit=2, after=("cups", 1)) == ["cups@v2", "cups@v3"]
    assert labels(after=("bowls", 7)) == labels("cups") == ["cups@v1", "cups@v2", "cups@v3"]
    assert labels(after=("cups", 3)) == labels(project="moon") == []
    assert labels(project="default", limit=1, after=("cups", 2)) == ["cups@v3"]
    newest, count = store.newest("cups", 2)
    assert ([one.label for one in newest], count) == (["cups@v2", "cups@v3"], 3)
    assert store.newest("none", 2) == ((), 0)
    (store.root / "cups/v3/manifest.json").write_text("{")
    assert labels(limit=3) == ["bowls@v1", "cups@v1", "cups@v2"]
    assert code_of(store.versions, limit=4) == "dataset_corrupt"


def test_what_cannot_be_built_leaves_neither_folder_nor_record(registry):
    store = DatasetStore.of(registry)

    def left():
        found = [path for path in store.root.rglob("*") if path.is_file() and path.name != ".lock"]
        return found, registry.datasets.list_versions()

    assert code_of(build, registry, where=ObjectFilter(min_score=0.99)) == "dataset_empty"
    with pytest.raises(DatasetError, match=r"there is no dataset cups in .*; known: none"):
        store.get("cups")
    with pytest.raises(InvalidInputError, match="known: bowl, red cup"):
        build(registry, where=ObjectFilter(categories=("spoon",)))
    with pytest.raises(UnknownError):
        build(registry, where=ObjectFilter(project="moon"))
    assert code_of(build, registry, where=ObjectFilter(episodes=("episode1",))) == "split_impossible"
    steps = iter(range(100))

    def withdrawn(done, total, note=""):
        if next(steps) == 12:
            raise CanceledError("withdrawn; nothing of it is left")

    order = DatasetOrder("cups", ratios=HALVES)
    assert code_of(store.build, registry, order, who="anna", progress=withdrawn) == "canceled"
    source = registry.sources()[2]
    picture = Pillow.open(f"{source.path}/1.png")
    picture.resize((40, 30)).save(f"{source.path}/1.png")
    assert code_of(build, registry) == "image_mismatch"
    with open(f"{source.path}/1.png", "wb") as stream:
        stream.write(b"no picture")
    assert code_of(build, registry) == "image_corrupt"
    from pathlib import Path

    Path(f"{source.path}/1.png").unlink()
    assert code_of(build, registry) == "image_missing"
    assert left() == ([], ())


def test_two_at_once_are_told_apart(registry):
    begun, go = threading.Event(), threading.Event()

    def slow(done, total, note=""):
        begun.set()
        go.wait(60)

    store, order = DatasetStore.of(registry), DatasetOrder("cups", ratios=HALVES)
    thread = threading.Thread(target=store.build, args=(registry, order), kwargs={"who": "a", "progress": slow})
    thread.start()
    try:
        assert begun.wait(60)
        assert code_of(build, registry) == "dataset_busy"
        assert build(registry, name="others").version == 1
    finally:
        go.set()
        thread.join()
    assert build(registry).version == 2


def test_a_picture_that_a_reader_might_turn_is_stored_upright(registry, tmp_path):
    folder = tmp_path / "turned"
    folder.mkdir()
    pixels = np.arange(30 * 20, dtype=np.uint8).reshape(30, 20)
    exif = Pillow.Exif()
    exif[0x0112] = 6
    Pillow.fromarray(pixels).save(folder / "a.png", exif=exif)
    source = registry.add_source(SourceDraft(SourceKind.FOLDER, str(folder)))
    image = registry.add_images(source.source_id, [ImageDraft("a.png", 30, 20)])[0]
    draft = ObjectDraft(image.image_id, "cup", (1, 1, 9, 9), 0.5, ScoreKind.HUMAN, Origin("anna"))
    registry.register([draft], who="anna")
    made = build(registry, where=ObjectFilter(source_ids=(source.source_id,)), ratios=SplitRatios(1, 0, 0))
    with Pillow.open(made.image_path(made.items[0])) as stored:
        assert stored.size == (30, 20) and stored.getexif().get(0x0112, 1) == 1


def test_frames_of_a_video_are_taken_by_their_times(registry, tmp_path):
    av = pytest.importorskip("av")
    path = tmp_path / "film.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(6):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 40 * number, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    source = registry.add_source(SourceDraft(SourceKind.VIDEO, str(path)))
    stamps = (100_000_000, 400_000_000)
    images = registry.add_images(
        source.source_id, [ImageDraft(path.name, 64, 48, number, stamp) for number, stamp in enumerate(stamps)]
    )
    about = {"score": 0.5, "score_kind": ScoreKind.HUMAN, "origin": Origin("anna"), "box": (1, 1, 9, 9)}
    registry.register([ObjectDraft(image.image_id, "cup", **about) for image in images], who="anna")
    where = ObjectFilter(source_ids=(source.source_id,))
    made = build(registry, where=where, ratios=SplitRatios(0, 0, 1))
    shades = [float(np.asarray(Pillow.open(made.image_path(item))).mean()) for item in made.items]
    assert np.allclose(shades, [40, 160], atol=6)
    (late,) = registry.add_images(source.source_id, [ImageDraft(path.name, 64, 48, 9, 900_000_000)])
    registry.register([ObjectDraft(late.image_id, "cup", **about)], who="anna")
    assert code_of(build, registry, where=where, ratios=SplitRatios(1, 0, 0)) == "image_missing"


def test_pictures_of_a_bag_are_taken_by_topic_and_stamp(registry, tmp_path):
    definitions = Definitions()
    topic, start = "/camera/front/image_raw", 1_700_000_000_000_000_000
    with BagWriter(tmp_path / "bag", definitions) as writer:
        writer.add_topic(topic, "sensor_msgs/msg/Image")
        for number in range(4):
            stamp = start + number * 100_000_000
            time = definitions.message("builtin_interfaces/msg/Time", sec=stamp // 10**9, nanosec=stamp % 10**9)
            header = definitions.message("std_msgs/msg/Header", stamp=time, frame_id="camera")
            data = np.full(24 * 32 * 3, 50 * number, np.uint8)
            fields = {"header": header, "height": 24, "width": 32, "encoding": "rgb8", "step": 96, "data": data}
            # Received 30 ms after it was taken.
            writer.write_message(topic, stamp + 30_000_000, definitions.message("sensor_msgs/msg/Image", **fields))
    source = registry.add_source(SourceDraft(SourceKind.BAG, str(tmp_path / "bag"), episode="one"))
    name = topic.strip("/")
    drafts = [ImageDraft(name, 32, 24, number, start + number * 100_000_000) for number in (1, 3)]
    images = registry.add_images(source.source_id, drafts)
    about = {"score": 0.5, "score_kind": ScoreKind.HUMAN, "origin": Origin("anna"), "box": (1, 1, 9, 9)}
    registry.register([ObjectDraft(image.image_id, "cup", **about) for image in images], who="anna")
    where = ObjectFilter(source_ids=(source.source_id,))
    made = build(registry, where=where, ratios=SplitRatios(1, 0, 0))
    shades = {item.frame: np.unique(np.asarray(Pillow.open(made.image_path(item)))).tolist() for item in made.items}
    assert shades == {1: [50], 3: [150]}
    (never,) = registry.add_images(source.source_id, [ImageDraft(name, 32, 24, 9, start + 5)])
    registry.register([ObjectDraft(never.image_id, "cup", **about)], who="anna")
    assert code_of(build, registry, where=where, ratios=SplitRatios(1, 0, 0)) == "image_missing"


def test_what_others_labelled_comes_into_the_registry_once_and_out_again_equal(registry, dataset, tmp_path):
    export_dataset(dataset, "label-studio", tmp_path / "ls")
    found = import_dataset(tmp_path / "ls", "label-studio", "cups")
    stored = DatasetStore.of(registry).add(found.dataset, files=found.files)
    assert stored.version == 1
    before = registry.statistics()
    for _ in range(2):
        done = register_dataset(registry, stored, who="carl")
        assert (done.sources, done.images, done.objects) == (4, 4, 9)
    after = registry.statistics()
    assert after.objects - before.objects == 9 and after.images - before.images == 4
    made = build(registry, name="again", where=ObjectFilter(episodes=tuple(f"episode{n}" for n in range(4)),
                                                          models=("detector",), categories=("그릇",)))  # fmt: skip
    old = {one.confidence: (one, item) for item in stored.items for one in item.annotations if one.category == "그릇"}
    for item in made.items:
        for one in item.annotations:
            was, where = old[one.confidence]
            assert (one.box, one.validated, one.validated_by, one.origin) == (
                was.box, was.validated, was.validated_by, was.origin)  # fmt: skip
            assert (mask_of(one, item) == mask_of(was, where)).all()
    assert made.annotation_count == 3 and replace(made.items[0], annotations=()).licence == "CC-BY-4.0"
