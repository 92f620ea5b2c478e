# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The labeling node, as a process, over its services, topics and actions, with the models that ship."""

from __future__ import annotations

import fcntl
import math
from collections import Counter

import numpy as np
import pytest
from action_msgs.msg import GoalStatus
from PIL import Image as Pillow
from rclpy.action import ActionClient
from sensor_msgs.msg import Image

from flow_rag_vla.bringup import labeling as names
from flow_rag_vla.bringup import topics
from flow_rag_vla.data.bag import Bag
from flow_rag_vla.data.bag_writer import BagWriter
from flow_rag_vla.data.definitions import Definitions
from flow_rag_vla.labeling.compact.scenes import labelled_frames
from flow_rag_vla.labeling.registry.registry import Registry
from flow_rag_vla.labeling.registry.turn import DOOR
from flow_rag_vla.nodes import qos
from flow_rag_vla.nodes.conversions import image_message
from flow_rag_vla.nodes.stamps import to_ns, to_stamp
from flow_rag_vla_interfaces import msg, srv
from flow_rag_vla_interfaces.action import AutoLabel, LabelBag

WAIT = 60.0


@pytest.fixture(scope="module")
def pictures():
    """Two pictures of the simulator with things in them, (240, 320, 3) uint8."""
    return [frame.image for frame in labelled_frames(900, 1, frames_a_scene=2, size=(320, 240))]


@pytest.fixture
def node(start_node, tmp_path, spin_until):
    """``node(publish=True)`` starts the node over a new registry and waits for it."""

    def start(**parameters):
        process = start_node("labeling", registry=str(tmp_path / "labels"), niceness=0, **parameters)
        spin_until(lambda: process.said("labels in"), 2 * WAIT, "the node")
        return process

    return start


@pytest.fixture
def act(ros_node, spin_until):
    """``act(AutoLabel, name, field=value)`` sends a goal: its handle, the future of its end and the feedback so far."""

    def send(kind, name, **fields):
        client = ActionClient(ros_node, kind, name)
        spin_until(client.server_is_ready, WAIT, f"action {name}")
        heard = []
        future = client.send_goal_async(kind.Goal(**fields), lambda message: heard.append(message.feedback))
        spin_until(future.done, WAIT, "the goal's acceptance")
        handle = future.result()
        return handle, handle.get_result_async(), heard

    return send


def picture(pixels, stamp_ns=1_000_000_000):
    return image_message(pixels, stamp_ns, "front_optical_frame")


def test_a_picture_is_detected_registered_found_and_corrected_over_services(node, call, pictures):
    process = node()
    image = picture(pictures[0])
    seen = call(srv.Detect, names.DETECT, image=image)
    assert seen.ok, seen.message
    found = seen.detections
    assert found.detections and found.model == "compact" and to_ns(found.header.stamp) == 1_000_000_000
    assert (found.width, found.height) == (320, 240) and all(len(item.mask) for item in found.detections)
    kind = found.detections[0].class_id
    one = call(srv.Detect, names.DETECT, image=image, prompts=[kind], threshold=0.4)
    assert {item.class_id for item in one.detections.detections} == {kind}

    counts = Counter(item.class_id for item in found.detections)
    other = next(word for word in counts if word != kind)
    said = call(srv.Detect, names.DETECT, image=image, prompts=[kind], synonyms=[f"{kind}={other}"]).detections
    assert Counter(item.class_id for item in said.detections) == {kind: counts[kind] + counts[other]}
    tiled = call(srv.Detect, names.DETECT, image=image, tile_width=200, tile_height=160, masks=True)
    assert tiled.ok and {kind, other} <= {item.class_id for item in tiled.detections.detections}, tiled.message

    first = found.detections[0]
    half = np.array([first.size_x, first.size_y]) / 2
    centre = np.array([first.center_x, first.center_y])
    cut = call(srv.Segment, names.SEGMENT, image=image, boxes=[*(centre - half), *(centre + half), 0.0, 0.0, 4.0, 4.0])
    assert cut.ok and len(cut.detections.detections) == 2, cut.message

    fields = {"batch_key": "first", "image": image, "person": "ada", "detections": found}
    kept = call(srv.RegisterObjects, names.REGISTER_OBJECTS, **fields)
    assert kept.ok and len(kept.object_ids) == len(found.detections), kept.message
    again = call(srv.RegisterObjects, names.REGISTER_OBJECTS, **fields)
    assert again.ok and again.repeated and again.object_ids == kept.object_ids

    page = call(srv.SearchObjects, names.SEARCH_OBJECTS, limit=2)
    assert page.ok and len(page.objects) == 2 and math.isnan(page.objects[0].similarity)
    assert page.objects[0].confidence <= page.objects[1].confidence
    like = call(srv.SearchObjects, names.SEARCH_OBJECTS, similar_to=kept.object_ids[0], limit=3)
    assert like.ok and like.answered and like.objects[0].object_id != kept.object_ids[0], like.message

    name = kept.object_ids[0]
    read = call(srv.GetObject, names.GET_OBJECT, object_id=name).object
    assert (read.version, read.status, read.category) == (1, msg.LabelledObject.STATUS_UNREVIEWED, kind)
    change = {"object_id": name, "version": 1, "person": "grace", "set_category": True, "category": "cup"}
    done = call(
        srv.UpdateObject, names.UPDATE_OBJECT, **change, set_status=True, status=msg.LabelledObject.STATUS_RELABELLED
    )
    assert done.ok and (done.object.category, done.object.validated_by) == ("cup", "grace"), done.message
    stale = call(srv.UpdateObject, names.UPDATE_OBJECT, **change)
    assert (stale.ok, stale.code) == (False, "stale_version")
    counts = call(srv.GetLabelStatistics, names.LABEL_STATISTICS)
    assert (counts.objects, counts.relabelled, counts.images) == (len(kept.object_ids), 1, 1)
    assert dict(zip(counts.categories, counts.category_counts, strict=True))["cup"] == 1
    assert process.stop() == 0 and "Traceback" not in process.text


def test_bad_input_is_answered_with_a_code_and_ends_nothing(node, call, act, spin_until, pictures, tmp_path):
    process = node()
    image, nan = picture(pictures[0]), float("nan")
    cut_off = picture(pictures[0])
    cut_off.data = cut_off.data[:100]
    strange = msg.DetectionArray(width=320, height=240, model="x", detections=[msg.Detection(class_id="a", score=nan)])
    outside = msg.Detection(class_id="a", score=0.5, score_kind=1, center_x=400.0, center_y=9.0, size_x=9.0, size_y=9.0)
    beyond = msg.DetectionArray(width=320, height=240, model="x", detections=[outside])
    unmasked = msg.Detection(
        class_id="a", score=0.5, score_kind=1, center_x=9.0, center_y=9.0, size_x=4.0, size_y=4.0, mask=b"no png"
    )
    broken = msg.DetectionArray(width=320, height=240, model="x", detections=[unmasked])
    empty = msg.DetectionArray(width=320, height=240, model="x")
    playlist, cut_video = tmp_path / "playlist.mp4", tmp_path / "cut.mp4"
    playlist.write_bytes(b"#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n")
    cut_video.write_bytes(b"\x00\x00\x00\x20ftypisom" + bytes(200))
    nobody = "0" * 32
    for kind, name, fields, code in (
        (srv.Detect, names.DETECT, {"image": Image()}, "invalid_message"),
        (srv.Detect, names.DETECT, {"image": cut_off}, "invalid_message"),
        (srv.Detect, names.DETECT, {"image": image, "prompts": ["submarine"]}, "prompt_unknown"),
        (srv.Detect, names.DETECT, {"image": image, "prompts": [""]}, "prompt_empty"),
        (srv.Detect, names.DETECT, {"image": image, "threshold": nan}, "setting_out_of_range"),
        (srv.Detect, names.DETECT, {"image": image, "synonyms": ["cup"]}, "prompt_empty"),
        (srv.Detect, names.DETECT, {"image": image, "tile_width": 200}, "setting_out_of_range"),
        (srv.Detect, names.DETECT, {"image": image, "tile_width": 32, "tile_height": 32}, "too_many_tiles"),
        (srv.Segment, names.SEGMENT, {"image": image, "boxes": [1.0, 2.0, 3.0]}, "invalid_message"),
        (srv.Segment, names.SEGMENT, {"image": image, "boxes": [5.0, 5.0, 5.0, 9.0]}, "invalid_message"),
        (srv.RegisterObjects, names.REGISTER_OBJECTS, {"image": image, "detections": strange}, "invalid_message"),
        (srv.RegisterObjects, names.REGISTER_OBJECTS, {"image": image, "detections": beyond}, "invalid_message"),
        (srv.RegisterObjects, names.REGISTER_OBJECTS, {"image": image, "detections": broken}, "invalid_message"),
        (srv.RegisterObjects, names.REGISTER_OBJECTS, {"detections": empty}, "invalid_message"),
        (srv.RegisterObjects, names.REGISTER_OBJECTS, {"image_id": nobody, "detections": empty}, "unknown_image"),
        (srv.SearchObjects, names.SEARCH_OBJECTS, {"similar_to": nobody}, "unknown_object"),
        (srv.SearchObjects, names.SEARCH_OBJECTS, {"cursor": "none"}, "invalid_cursor"),
        (srv.SearchObjects, names.SEARCH_OBJECTS, {"project": "moon"}, "unknown_project"),
        (srv.SearchObjects, names.SEARCH_OBJECTS, {"minimum_confidence": nan}, "invalid_score"),
        (srv.SearchObjects, names.SEARCH_OBJECTS, {"maximum_area": nan}, "invalid_value"),
        (srv.SearchObjects, names.SEARCH_OBJECTS, {"attributes": ["look"]}, "invalid_value"),
        (srv.SearchObjects, names.SEARCH_OBJECTS, {"statuses": [9]}, "invalid_message"),
        (srv.SearchObjects, names.SEARCH_OBJECTS, {"order": "best"}, "invalid_message"),
        (srv.SearchObjects, names.SEARCH_OBJECTS, {"similar_to": nobody, "embedding": [1.0]}, "invalid_message"),
        (srv.SearchObjects, names.SEARCH_OBJECTS, {"embedding": [nan, 1.0]}, "invalid_embedding"),
        (srv.GetLabelStatistics, names.LABEL_STATISTICS, {"project": "moon"}, "unknown_project"),
        (srv.GetObject, names.GET_OBJECT, {"object_id": "../../etc"}, "unknown_object"),
        (srv.UpdateObject, names.UPDATE_OBJECT, {"object_id": nobody, "person": "ada"}, "invalid_value"),
        (
            srv.UpdateObject,
            names.UPDATE_OBJECT,
            {"object_id": nobody, "person": "ada", "set_status": True, "status": 99},
            "invalid_message",
        ),
    ):
        answer = call(kind, name, **fields)
        assert (answer.ok, answer.code) == (False, code), (name, fields if len(fields) < 2 else code, answer.message)
        assert answer.message
    spoiled = tmp_path / "bag"
    spoiled.mkdir()
    (spoiled / "x.mcap").write_bytes(b"\x00" * 64)
    for kind, name, fields, code in (
        (AutoLabel, names.AUTO_LABEL, {}, "invalid_message"),
        (AutoLabel, names.AUTO_LABEL, {"topic": "no topic!"}, "invalid_message"),
        (AutoLabel, names.AUTO_LABEL, {"folder": str(tmp_path / "nowhere")}, "source_missing"),
        (AutoLabel, names.AUTO_LABEL, {"folder": str(tmp_path), "rate": -1.0}, "setting_out_of_range"),
        (AutoLabel, names.AUTO_LABEL, {"folder": str(tmp_path), "tile_height": 9}, "setting_out_of_range"),
        (AutoLabel, names.AUTO_LABEL, {"folder": str(tmp_path), "synonyms": ["cup="]}, "prompt_empty"),
        (AutoLabel, names.AUTO_LABEL, {"folder": str(playlist)}, "video_type"),
        (AutoLabel, names.AUTO_LABEL, {"folder": str(cut_video)}, "video_corrupt"),
        (LabelBag, names.LABEL_BAG, {"bag": str(tmp_path / "nowhere")}, "source_missing"),
        (LabelBag, names.LABEL_BAG, {"bag": str(spoiled)}, "source_corrupt"),
    ):
        _, ended, _ = act(kind, name, **fields)
        spin_until(ended.done, WAIT, "the end")
        assert (ended.result().status, ended.result().result.code) == (GoalStatus.STATUS_ABORTED, code)
    assert call(srv.GetLabelStatistics, names.LABEL_STATISTICS).objects == 0
    assert process.stop() == 0 and "Traceback" not in process.text


def seen_in(boxes, category, score=0.5):
    """A message of what a detector found in a picture of 64 x 48 pixels; boxes: left, top, right, bottom."""
    items = [
        msg.Detection(
            class_id=category, score=score, score_kind=msg.Detection.SCORE_SIGMOID, center_x=(left + right) / 2,
            center_y=(top + bottom) / 2, size_x=right - left, size_y=bottom - top, embedding=[0.6, 0.8],
        )
        for left, top, right, bottom in boxes
    ]  # fmt: skip
    return msg.DetectionArray(width=64, height=48, model=f"{category} finder", revision="1", detections=items)


def test_objects_are_found_by_every_condition_and_told_and_changed_in_full(node, call):
    process = node()
    shade = iter(range(1, 9))

    def register(boxes, category, score=0.5, **fields):
        image = picture(np.full((48, 64, 3), 20 * next(shade), np.uint8))
        found = seen_in(boxes, category, score)
        made = call(srv.RegisterObjects, names.REGISTER_OBJECTS, image=image, detections=found, **fields)
        assert made.ok, made.message
        return made.object_ids

    def search(**fields):
        answer = call(srv.SearchObjects, names.SEARCH_OBJECTS, **fields)
        assert answer.ok, (fields, answer.message)
        return answer

    def update(object_id, **fields):
        return call(srv.UpdateObject, names.UPDATE_OBJECT, object_id=object_id, **fields)

    small, large = register(
        [(0.0, 0.0, 4.0, 4.0), (8.0, 8.0, 40.0, 40.0)], "cup", 0.6, attributes=["look=3"], tracks=["1", ""],
        embedder="eye@2",
    )  # fmt: skip
    (text,) = register([(0.0, 0.0, 8.0, 8.0)], "bin", 0.7, attributes=['look="3"'], embedder="eye@2")
    read = call(srv.GetObject, names.GET_OBJECT, object_id=small).object
    assert (read.area, list(read.attributes), read.embedder, read.deleted) == (16.0, ["look=3"], "eye@2", False)
    assert math.isnan(read.quality) and read.track_id and to_ns(read.created) == to_ns(read.updated) > 0

    usual = {"person": "ada", "set_status": True, "status": msg.LabelledObject.STATUS_ACCEPTED}
    done = update(large, **usual, set_quality=True, quality=0.25, set_attributes=True, attributes=["wet=true"])
    assert done.ok and (done.object.quality, done.object.attributes) == (0.25, ["wet=true"]), done.message
    assert to_ns(done.object.validated) >= to_ns(done.object.created)
    either, without = srv.SearchObjects.Request.EITHER, srv.SearchObjects.Request.WITHOUT
    for fields, ids in (
        ({"minimum_area": 16.0, "maximum_area": 64.0}, {small, text}),
        ({"minimum_area": 64.1}, {large}),
        ({"attributes": ["look=3"]}, {small}),
        ({"attributes": ['look="3"']}, {text}),
        ({"attributes": ["look=3", "wet=true"]}, set()),
        ({"minimum_confidence": 0.6, "maximum_confidence": 0.6}, {small, large}),
        ({"category": "cup", "categories": ["bin"]}, {small, large, text}),
        ({"source_ids": [read.source_id]}, {small, large}),
        ({"image_ids": [read.image_id]}, {small, large}),
        ({"track_ids": [read.track_id]}, {small}),
        ({"episodes": ["none"]}, set()),
        ({"models": ["bin finder"]}, {text}),
        ({"score_kinds": [msg.Detection.SCORE_HUMAN]}, set()),
        ({"statuses": [msg.LabelledObject.STATUS_ACCEPTED]}, {large}),
        ({"validated_by": "ada"}, {large}),
        ({"with_mask": without, "with_embedding": either}, {small, large, text}),
        ({"with_embedding": without}, set()),
        ({"captured_from": to_stamp(1)}, set()),
        ({"created_from": read.created, "created_until": to_stamp(to_ns(read.created) + 1)}, {small}),
    ):
        assert {item.object_id for item in search(**fields).objects} == ids, fields
    assert search(order="highest_score", limit=1).objects[0].object_id == text
    assert search(order="highest_quality", limit=1).objects[0].object_id == large
    like = search(embedding=[3.0, 4.0], categories=["bin"])
    assert [item.object_id for item in like.objects] == [text] and like.objects[0].similarity > 0.999
    assert (like.answered, like.matching, like.compared) == ("exact_filtered", 1, 1) and like.index
    assert (
        call(srv.SearchObjects, names.SEARCH_OBJECTS, embedding=[3.0, 4.0], embedder="x@1").code == "embedder_mismatch"
    )

    off = update(small, person="ada", set_track=True)
    assert off.ok and not off.object.track_id
    # Whoever accepted it did not accept what it is now.
    other = update(large, person="grace", set_category=True, category="mug")
    assert (other.object.status, other.object.validated_by) == (msg.LabelledObject.STATUS_UNREVIEWED, ""), other.message
    counts = call(srv.GetLabelStatistics, names.LABEL_STATISTICS, project="default")
    assert dict(zip(counts.models, counts.model_counts, strict=True)) == {"cup finder": 2, "bin finder": 1}
    assert (counts.tracks, counts.with_mask, counts.with_embedding) == (1, 0, 3)
    assert math.isclose(counts.mean_confidence, 1.9 / 3, rel_tol=1e-4) and counts.validated_share == 0.0
    odd = call(
        srv.RegisterObjects, names.REGISTER_OBJECTS, image=picture(np.zeros((48, 64, 3), np.uint8)),
        detections=seen_in([(0.0, 0.0, 4.0, 4.0)], "cup"), tracks=["1", "2"],
    )  # fmt: skip
    assert (odd.ok, odd.code) == (False, "invalid_message")
    assert process.stop() == 0 and "Traceback" not in process.text


def test_who_reads_does_not_wait_for_another_program_that_writes(node, call, ros_node, spin_until, tmp_path):
    process = node()
    image = picture(np.zeros((48, 64, 3), np.uint8))
    found = seen_in([(0.0, 0.0, 8.0, 8.0)], "cup")
    (name,) = call(srv.RegisterObjects, names.REGISTER_OBJECTS, image=image, detections=found).object_ids
    client = ros_node.create_client(srv.UpdateObject, names.UPDATE_OBJECT)
    spin_until(client.service_is_ready, WAIT, "the service")
    with Registry(tmp_path / "labels") as other, (tmp_path / "labels" / DOOR).open() as door:

        def stands_there():
            try:
                fcntl.flock(door, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            fcntl.flock(door, fcntl.LOCK_UN)
            return False

        with other.database.write():
            asked = srv.UpdateObject.Request(object_id=name, person="ada", set_category=True, category="mug")
            update = client.call_async(asked)
            spin_until(stands_there, WAIT, "the node's place in the queue")
            assert call(srv.GetObject, names.GET_OBJECT, object_id=name).object.category == "cup"
            assert call(srv.SearchObjects, names.SEARCH_OBJECTS, category="cup").objects
            assert call(srv.GetLabelStatistics, names.LABEL_STATISTICS).objects == 1
            assert not update.done()
        spin_until(update.done, WAIT, "the change")
    assert update.result().ok and update.result().object.category == "mug", update.result().message
    assert process.stop() == 0 and "Traceback" not in process.text


def test_a_topic_is_labelled_and_drawn_and_the_loop_comes_first(node, call, act, ros_node, spin_until, pictures):
    process = node(publish=True, rate=20.0, pause=2.0)
    drawn, seen = [], []
    ros_node.create_subscription(Image, names.OVERLAY, drawn.append, qos.SENSOR)
    ros_node.create_subscription(msg.DetectionArray, names.DETECTIONS, seen.append, qos.SENSOR)
    camera = ros_node.create_publisher(Image, topics.FRONT_IMAGE, qos.SENSOR)
    loop = ros_node.create_publisher(msg.LoopStatistics, topics.LOOP_STATISTICS, qos.STATE)
    spin_until(lambda: camera.get_subscription_count() and loop.get_subscription_count(), WAIT, "the node's ears")
    for topic in (names.OVERLAY, names.DETECTIONS):
        spin_until(lambda topic=topic: ros_node.count_publishers(topic), WAIT, "the node's voice")
    stamps = iter(range(1, 10_000))

    def show():
        camera.publish(picture(pictures[0], next(stamps) * 1_000_000))
        return True

    spin_until(lambda: show() and seen and drawn, WAIT, "detections and overlay")
    assert seen[0].detections and seen[0].header.frame_id == "front_optical_frame"
    assert (drawn[0].width, drawn[0].height) == (320, 240)
    assert (np.frombuffer(drawn[0].data, np.uint8) != pictures[0].ravel()).any()

    _, ended, heard = act(AutoLabel, names.AUTO_LABEL, topic=topics.FRONT_IMAGE, max_images=3)
    spin_until(lambda: show() and ended.done(), WAIT, "three images")
    result = ended.result().result
    assert result.ok and result.images == 3 and result.objects > 0, result.message
    # rclpy drops feedback that waits behind the goal's last status: what came is in order, the result is whole.
    shown = [item.images for item in heard]
    assert shown and shown == sorted(shown) and shown[-1] <= 3
    counts = call(srv.GetLabelStatistics, names.LABEL_STATISTICS)
    assert (counts.images, counts.objects) == (3, result.objects)

    loop.publish(msg.LoopStatistics(late_ticks=10))
    late = iter(range(11, 10_000))

    def hold():
        loop.publish(msg.LoopStatistics(late_ticks=next(late)))
        answers.append(call(srv.Detect, names.DETECT, image=picture(pictures[0])))
        return answers[-1].code == "yielding"

    answers = []
    spin_until(hold, WAIT, "labeling to pause")
    handle, ended, heard = act(AutoLabel, names.AUTO_LABEL, topic=topics.FRONT_IMAGE)
    spin_until(lambda: hold() and any("late ticks" in item.message for item in heard), WAIT, "the pause to be told")
    assert call(srv.GetLabelStatistics, names.LABEL_STATISTICS).images == 3
    spin_until(lambda: call(srv.Detect, names.DETECT, image=picture(pictures[0])).ok, WAIT, "labeling after the pause")
    spin_until(lambda: show() and any(item.images for item in heard), WAIT, "the run to go on")
    spin_until(handle.cancel_goal_async().done, WAIT, "the cancellation")
    spin_until(ended.done, WAIT, "the end")
    assert ended.result().status == GoalStatus.STATUS_CANCELED
    assert (ended.result().result.code, ended.result().result.ok) == ("canceled", False)
    kept = call(srv.GetLabelStatistics, names.LABEL_STATISTICS).images
    assert kept >= 3 + ended.result().result.images > 3
    assert process.stop() == 0 and "Traceback" not in process.text


def test_a_folder_and_a_bag_become_labels_and_a_bag_with_labels(node, call, act, spin_until, pictures, tmp_path):
    node()
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, pixels in enumerate(pictures):
        Pillow.fromarray(pixels).save(folder / f"{number}.png")
    (folder / "broken.png").write_bytes(b"\x89PNG no picture")
    _, ended, _ = act(AutoLabel, names.AUTO_LABEL, folder=str(folder))
    spin_until(ended.done, WAIT, "the folder")
    done = ended.result().result
    assert done.ok and done.images == 3 and "broken.png" in done.message, done.message
    before = call(srv.GetLabelStatistics, names.LABEL_STATISTICS)
    assert (before.sources, before.objects) == (1, done.objects) and done.new_objects == done.objects
    _, ended, _ = act(AutoLabel, names.AUTO_LABEL, folder=str(folder))
    spin_until(ended.done, WAIT, "the folder again")
    assert (ended.result().result.objects, ended.result().result.new_objects) == (done.objects, 0)

    # Another picture in other words and in tiles, for somebody.
    mirrored, (first, other) = tmp_path / "mirrored.png", before.categories[:2]
    Pillow.fromarray(pictures[0][:, ::-1].copy()).save(mirrored)
    asked = {"prompts": [first], "synonyms": [f"{first}={other}"], "tile_width": 200, "tile_height": 160}
    _, ended, _ = act(AutoLabel, names.AUTO_LABEL, folder=str(mirrored), person="ada", **asked)
    spin_until(ended.done, WAIT, "the picture in tiles")
    done = ended.result().result
    assert done.ok and done.new_objects == done.objects > 0 and done.tracks == 0, done.message
    page = call(srv.SearchObjects, names.SEARCH_OBJECTS, source_ids=done.source_ids)
    assert {item.category for item in page.objects} == {first}
    assert {word for item in page.objects for word in item.prompt.split("; ")} == {first, other}
    with Registry(tmp_path / "labels", create=False) as registry:
        assert {registry.history(item.object_id)[0].who for item in page.objects} == {"ada"}
    before = call(srv.GetLabelStatistics, names.LABEL_STATISTICS)

    with BagWriter(tmp_path / "bag", Definitions()) as bag:
        bag.add_topic("/camera/front/image_raw", "sensor_msgs/msg/Image")
        for number, pixels in enumerate(pictures):
            image = picture(pixels, (number + 1) * 100_000_000)
            bag.write("/camera/front/image_raw", (number + 1) * 100_000_000, serialized(image))
    output = tmp_path / "labelled"
    _, ended, heard = act(LabelBag, names.LABEL_BAG, bag=str(tmp_path / "bag"), output=str(output))
    spin_until(ended.done, WAIT, "the bag")
    done = ended.result().result
    assert done.ok and done.images == 2 and done.new_objects == done.objects > 0, done.message
    assert (heard[-1].images, heard[-1].total) == (2, 2)
    after = call(srv.GetLabelStatistics, names.LABEL_STATISTICS)
    assert (after.sources, after.objects) == (3, before.objects + done.objects)
    written = list(Bag(output).messages(["/camera/front/detections"]))
    assert [entry.log_ns for entry in written] == [100_000_000, 200_000_000]
    assert sum(len(entry.message.detections) for entry in written) == done.objects
    _, ended, _ = act(LabelBag, names.LABEL_BAG, bag=str(tmp_path / "bag"), output=str(output))
    spin_until(ended.done, WAIT, "the refusal")
    assert ended.result().result.code == "source_exists"
    _, ended, _ = act(LabelBag, names.LABEL_BAG, bag=str(tmp_path / "bag"), max_images=1)
    spin_until(ended.done, WAIT, "one image of the bag")
    done = ended.result().result
    assert done.ok and (done.images, done.new_objects) == (1, 0) and done.objects > 0, done.message


def serialized(image):
    from rclpy.serialization import serialize_message

    return serialize_message(image)
