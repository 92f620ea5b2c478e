# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The same pictures labelled again: by the same model, by another one, from elsewhere, as frames that are followed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from flow_rag_vla.labeling.compact.baseline import ColourDetector
from flow_rag_vla.labeling.detections import Detections
from flow_rag_vla.labeling.pipeline import LabelingPipeline, LabelRequest
from flow_rag_vla.labeling.registration import matched_objects, objects_in, register_found
from flow_rag_vla.labeling.registry.doctor import examine
from flow_rag_vla.labeling.registry.errors import ConflictError, ErrorCode
from flow_rag_vla.labeling.registry.queries import ObjectFilter
from flow_rag_vla.labeling.registry.registry import Registry
from flow_rag_vla.labeling.registry.values import (
    ChangeKind,
    Image,
    ImageDraft,
    LabelledObject,
    ObjectChange,
    ReviewState,
    SourceDraft,
    SourceKind,
)
from flow_rag_vla.labeling.runs import open_source, run_labeling
from flow_rag_vla.labeling.sinks import RegistrySink

RED, BLUE = (217, 33, 31), (33, 98, 217)


class Another(ColourDetector):
    """A newer model: other weights, boxes a pixel wider, scores that differ, perhaps other names."""

    def __init__(self, revision: str, grown: float = 1.0, names: dict[str, str] | None = None) -> None:
        self.revision, self._grown, self._names = revision, grown, names or {}

    def detect(self, images, prompts, threshold):
        return [self._other(found) for found in super().detect(images, prompts, threshold)]

    def _other(self, found):
        limits = np.asarray([found.width, found.height] * 2, np.float32)
        boxes = np.clip(found.boxes + np.float32([-1, -1, 1, 1]) * np.float32(self._grown), 0, limits)
        labels = tuple(self._names.get(label, label) for label in found.labels)
        return replace(found, boxes=boxes, scores=found.scores * np.float32(0.97), labels=labels, masks=None)


def picture(*things: tuple[tuple[int, int, int, int], tuple[int, int, int]], shade: int = 210) -> np.ndarray:
    image = np.full((64, 96, 3), shade, np.uint8)
    for (left, top, right, bottom), colour in things:
        image[top:bottom, left:right] = colour
    return image


ONE, TWO = ((5, 20, 25, 40), RED), ((60, 10, 85, 40), BLUE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pictures: three things."""
    made = tmp_path / "pictures"
    made.mkdir()
    Pillow.fromarray(picture(ONE, TWO)).save(made / "a.png")
    Pillow.fromarray(picture(ONE, shade=190)).save(made / "b.png")
    return made


@pytest.fixture
def registry(tmp_path: Path):
    with Registry(tmp_path / "registry") as opened:
        yield opened


def label(registry: Registry, path: Path, detector=None, **asked) -> tuple[int, int, int]:
    """Found, new and further labelled."""
    request, pipeline = LabelRequest(**asked), LabelingPipeline(detector or ColourDetector())
    source = open_source(path)
    sink = RegistrySink(registry, source, pipeline, who="test", request=request)
    report = run_labeling(source, pipeline, request, [sink])
    assert not report.failed, report.errors
    return sink.objects, sink.new, sink.labelled


def matched(registry: Registry, image: Image, found: Detections) -> list[LabelledObject | None]:
    """What is there of what was found in a picture."""
    return matched_objects(registry, "default", found, objects_in(registry, image))


def test_the_same_request_adds_nothing_nor_does_another_threshold_or_a_score_whose_last_digits_differ(registry, folder):
    assert label(registry, folder) == (3, 3, 0)
    before = registry.changes()
    for asked in ({}, {"threshold": 0.4}, {"prompts": ("red cube", "blue box")}, {"overlap": 0.6}):
        assert label(registry, folder, **asked) == (3, 0, 0)
    # The same weights, and sums that were added up in another order.
    assert label(registry, folder, Another("1", 1e-3)) == (3, 0, 0)
    assert registry.changes() == before
    assert all(
        not found for found in registry.labels([item.object_id for item in registry.list_objects().objects]).values()
    )


def test_a_copy_of_a_picture_is_the_picture_and_one_that_shows_something_else_is_refused(registry, folder, tmp_path):
    label(registry, folder)
    shutil.copytree(folder, tmp_path / "copy")
    shutil.copy(folder / "a.png", folder / "a_copy.png")
    assert label(registry, tmp_path / "copy") == (3, 0, 0)
    assert [source.path for source in registry.sources()] == [str(folder)], "a copy leaves no source of nothing"
    assert label(registry, folder) == (5, 0, 0)
    assert registry.statistics().images == 2
    # What it was registered from is gone: then the copy is what can be shown.
    shutil.move(folder, tmp_path / "away")
    assert label(registry, tmp_path / "copy") == (3, 3, 0)
    assert [source.path for source in registry.sources()] == [str(folder), str(tmp_path / "copy")]
    Pillow.fromarray(picture(TWO)).save(tmp_path / "copy" / "a.png")
    pipeline = LabelingPipeline(ColourDetector())
    source = open_source(tmp_path / "copy")
    sink = RegistrySink(registry, source, pipeline, who="test")
    report = run_labeling(source, pipeline, sinks=[sink])
    assert [(Path(name).name, error.code) for name, error in report.errors] == [("a.png", "image_changed")]


def test_a_new_revision_labels_the_same_objects_where_boxes_agree_and_adds_what_only_it_sees(registry, folder):
    label(registry, folder)
    ids = {item.object_id: item for item in registry.list_objects().objects}
    newer = Another("2", names={"blue box": "bin"})
    assert label(registry, folder, newer) == (3, 0, 3)
    assert label(registry, folder, newer, threshold=0.4) == (3, 0, 0)
    labels = registry.labels(list(ids))
    assert {item.object_id: item for item in registry.list_objects().objects} == ids
    for object_id, (further,) in labels.items():
        item = ids[object_id]
        assert (further.origin.revision, further.who) == ("2", "test")
        assert further.category == {"blue box": "bin"}.get(item.category, item.category)
        assert further.box[0] == item.box[0] - 1 and further.score < item.score
    # Boxes that do not agree are of something else.
    assert label(registry, folder, Another("3", grown=12.0)) == (3, 3, 0)


def test_what_a_person_called_something_else_is_not_proposed_again(registry, folder):
    label(registry, folder)
    for item in registry.list_objects().objects:
        registry.update(item.object_id, ObjectChange(category="cup", state=ReviewState.RELABELLED), who="anna")
    assert label(registry, folder, threshold=0.45) == (3, 0, 0)
    assert label(registry, folder, Another("2")) == (3, 0, 3)
    assert {item.category for item in registry.list_objects().objects} == {"cup"}


def test_a_further_label_is_part_of_the_history_and_what_was_taken_back_does_not_come_again(registry, folder):
    label(registry, folder)
    (item,) = registry.list_objects(ObjectFilter(categories=("blue box",))).objects
    newer = Another("2", names={"blue box": "bin"})
    assert label(registry, folder, newer) == (3, 0, 3)
    (further,) = registry.labels([item.object_id])[item.object_id]
    came = registry.history(item.object_id)[-1]
    assert (came.kind, came.who, came.change_id) == (ChangeKind.LABELLED, "test", further.change_id)
    assert (came.before, came.after["category"], came.after["revision"]) == ({}, "bin", "2")

    # Without a number, what was done to the object is meant.
    registry.update(item.object_id, ObjectChange(category="cup", state=ReviewState.RELABELLED), who="anna")
    assert registry.first_label(item.object_id).category == "blue box"
    assert label(registry, folder, Another("3")) == (3, 0, 3)
    assert registry.undo(who="anna", object_id=item.object_id).after["category"] == "blue box"
    assert len(registry.labels([item.object_id])[item.object_id]) == 2

    off = registry.undo(who="anna", change_id=further.change_id)
    assert (off.kind, off.undoes, off.before["category"], off.after) == (ChangeKind.UNDONE, came.change_id, "bin", {})
    assert [one.origin.revision for one in registry.labels([item.object_id])[item.object_id]] == ["3"]
    with pytest.raises(ConflictError, match="taken back before"):
        registry.undo(who="anna", change_id=further.change_id)
    assert label(registry, folder, newer, threshold=0.4) == (3, 0, 0)
    assert [one.origin.revision for one in registry.labels([item.object_id])[item.object_id]] == ["3"]

    registry.undo(who="anna", change_id=off.change_id)
    brought_back = registry.labels([item.object_id])[item.object_id][0]
    assert replace(brought_back, change_id=further.change_id) == further
    registry.undo(who="anna", change_id=brought_back.change_id)
    with pytest.raises(ConflictError, match="taken back before"):
        registry.undo(who="anna", change_id=brought_back.change_id)
    assert registry.get(item.object_id).version == item.version + 2, "labels come and go without a new version"
    # The last change of a program is that of its last label.
    assert registry.undo(who="test").before["revision"] == "3"


def test_two_things_in_one_place_stay_two_and_each_is_matched_with_its_own(registry):
    source = registry.add_source(SourceDraft(SourceKind.FOLDER, "/data"))
    (image,) = registry.add_images(source.source_id, [ImageDraft("a.png", 96, 64)])
    (found,) = ColourDetector().detect([picture(ONE)], (), 0.0)
    both = replace(
        found,
        boxes=np.repeat(found.boxes, 2, axis=0),
        scores=np.float32([0.9, 0.8]),
        labels=("bin", "red cube"),
        masks=None,
    )
    nothing = matched(registry, image, both)
    assert nothing == [None, None]
    made = register_found(registry, image, both, nothing, who="test", embedder=None)
    swapped = replace(both, labels=both.labels[::-1], boxes=both.boxes + np.float32([0, 0, 1, 0]))
    again = matched(registry, image, swapped)
    assert [item.object_id for item in again] == list(made.object_ids[::-1])
    third = replace(found, labels=("drawer",), masks=None)
    # One more word is a word for one of them, whoever says it.
    other = replace(third, origin=replace(third.origin, revision="2"))
    for word in (third, other):
        assert matched(registry, image, word)[0].object_id in made.object_ids


TWICE = """
import sys
import numpy as np
sys.path.insert(0, sys.argv[2])
from test_registration import ONE, TWO, picture
from flow_rag_vla.labeling import registration
from flow_rag_vla.labeling.compact.baseline import ColourDetector
from flow_rag_vla.labeling.registry.registry import Registry

real, asked = registration.matched_objects, []

def matched(*given):
    found = real(*given)
    if not asked:
        print("looked", flush=True)
        sys.stdin.readline()
    asked.append(1)
    return found

registration.matched_objects = matched
(found,) = ColourDetector().detect([picture(ONE, TWO)], (), 0.0)
with Registry(sys.argv[1]) as registry:
    image = registry.image(sys.argv[3])
    done = registration.register_once(registry, image, "default", found, who=sys.argv[4], embedder=None)
    print(*sorted(done.object_ids), done.new, done.known, len(asked), flush=True)
"""


def test_two_processes_that_label_a_picture_at_once_register_its_things_once(registry, tmp_path):
    """Both look up what is there before either of them stores anything, as two servers of one registry may."""
    source = registry.add_source(SourceDraft(SourceKind.FOLDER, "/data"))
    (image,) = registry.add_images(source.source_id, [ImageDraft("a.png", 96, 64)])
    command = [sys.executable, "-c", TWICE, str(tmp_path / "registry"), str(Path(__file__).parent), image.image_id]
    processes = [
        subprocess.Popen([*command, who], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for who in ("one", "other")
    ]
    assert [process.stdout.readline() for process in processes] == ["looked\n"] * 2
    told = [process.communicate("go\n")[0].split() for process in processes]
    assert told[0][:2] == told[1][:2], "both tell the same ids"
    assert sorted(line[2:] for line in told) == [["0", "2", "2"], ["2", "0", "1"]]
    assert registry.statistics().objects == 2
    assert not examine(registry, grace_s=0.0)


def test_what_is_new_beside_known_objects_is_refused_once_there_are_others(registry):
    source = registry.add_source(SourceDraft(SourceKind.FOLDER, "/data"))
    image, elsewhere = registry.add_images(source.source_id, [ImageDraft(name, 96, 64) for name in ("a.png", "b.png")])
    (found,) = ColourDetector().detect([picture(ONE, TWO)], (), 0.0)
    known = set(registry.register_detections(image.image_id, found, who="test", beside=()).object_ids)
    with pytest.raises(ConflictError, match="came to its image") as error:
        registry.register_detections(image.image_id, found, who="test", beside=())
    assert error.value.code is ErrorCode.IMAGE_LABELLED
    assert registry.register_detections(elsewhere.image_id, found, who="test", beside=known).object_ids
    gone = known.pop()
    registry.delete(gone, who="anna")
    assert registry.register_detections(image.image_id, found, who="test", beside=known).object_ids
    assert not examine(registry, grace_s=0.0), "masks of what was refused are gone"


def test_a_further_word_of_the_same_model_is_a_label_of_what_is_there_and_no_second_object(registry, folder):
    assert label(registry, folder, Another("1", 0.5, {"red cube": "cup"}), prompts=("red cube",)) == (2, 2, 0)
    mug = Another("1", 0.0, {"red cube": "mug"})
    assert label(registry, folder, mug, prompts=("red cube", "blue box"), threshold=0.45) == (3, 1, 2)
    assert label(registry, folder, mug, prompts=("red cube", "blue box"), threshold=0.45) == (3, 0, 0)
    items = registry.list_objects().objects
    assert sorted(item.category for item in items) == ["blue box", "cup", "cup"]
    labels = registry.labels([item.object_id for item in items])
    cups = [item for item in items if item.category == "cup"]
    for item in cups:
        (further,) = labels[item.object_id]
        assert (further.category, further.origin.revision, further.origin.threshold) == ("mug", "1", 0.45)
        assert item.version == 1
    # What was taken off does not come again, in whatever run; a third word does.
    registry.undo(who="anna", change_id=labels[cups[0].object_id][0].change_id)
    assert label(registry, folder, mug, threshold=0.4) == (3, 0, 0)
    beaker = Another("1", 0.0, {"red cube": "beaker"})
    assert label(registry, folder, beaker, threshold=0.35) == (3, 0, 2)
    # A person's word for it changes nothing of what the model has said.
    registry.update(cups[0].object_id, ObjectChange(category="glass", state=ReviewState.RELABELLED), who="anna")
    assert label(registry, folder, Another("1", 0.5, {"red cube": "cup"}), threshold=0.3) == (3, 0, 0)


def test_masks_tell_a_second_thing_from_a_second_word(registry):
    source = registry.add_source(SourceDraft(SourceKind.FOLDER, "/data"))
    (image,) = registry.add_images(source.source_id, [ImageDraft("a.png", 96, 64)])
    (found,) = ColourDetector().detect([picture(ONE)], (), 0.0)
    upper, lower = np.zeros((2, 1, 64, 96), np.bool_)
    upper[0, 20:30, 5:25] = lower[0, 30:40, 5:25] = True
    handle, cup = (replace(found, labels=(word,), masks=mask) for word, mask in (("handle", upper), ("cup", lower)))
    register_found(registry, image, handle, [None], who="test", embedder=None)
    (item,) = registry.list_objects().objects
    assert matched(registry, image, cup) == [None]
    assert matched(registry, image, replace(cup, masks=upper)) == [item]
    assert matched(registry, image, replace(cup, masks=None)) == [item]
    # A mask that is lost says nothing.
    registry.mask_file(item.object_id).unlink()
    assert matched(registry, image, cup) == [item]
    # Nor does one that somebody took off after the object was read.
    registry.update(item.object_id, ObjectChange(box=(0, 0, 9, 9)), who="anna")
    assert matched_objects(registry, "default", cup, [item]) == [item]
    registry.undo(who="anna")
    # What somebody rejected is not proposed again, whatever its mask.
    registry.update(item.object_id, ObjectChange(state=ReviewState.REJECTED), who="anna")
    assert matched(registry, image, cup)[0].object_id == item.object_id


def test_a_video_labelled_by_two_models_keeps_its_tracks_apart(registry, tmp_path):
    av = pytest.importorskip("av")
    path = tmp_path / "drive.mkv"
    with av.open(str(path), "w", format="matroska") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "bgr0"
        for step in range(4):
            moved = ((5 + 3 * step, 20, 25 + 3 * step, 40), RED)
            frame = av.VideoFrame.from_ndarray(picture(moved, TWO), format="rgb24")
            frame.pts, frame.time_base = step, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    # The first model knows one of the two things; to the second one the other is track 1.
    assert label(registry, path, prompts=("red cube",)) == (4, 4, 0)
    assert label(registry, path, Another("2"), prompts=("blue box", "red cube")) == (8, 4, 4)
    assert label(registry, path, Another("2"), prompts=("blue box", "red cube")) == (8, 0, 0)
    (source,) = registry.sources()
    tracks = registry.tracks(source.source_id)
    assert sorted((track.categories, len(track.object_ids)) for track in tracks) == [
        (("blue box",), 4),
        (("red cube",), 4),
    ]
