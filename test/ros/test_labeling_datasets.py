# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Datasets over ROS: the labeling node as a process, over the action BuildDataset."""

from __future__ import annotations

import numpy as np
from action_msgs.msg import GoalStatus
from PIL import Image as Pillow
from rclpy.action import ActionClient

from flow_rag_vla.bringup import labeling as names
from flow_rag_vla.bringup import topics
from flow_rag_vla.labeling.datasets.exchange import import_dataset
from flow_rag_vla.labeling.datasets.folders import read_dataset
from flow_rag_vla.labeling.datasets.store import DatasetStore
from flow_rag_vla.labeling.detections import Origin, ScoreKind
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
from flow_rag_vla.nodes import qos
from flow_rag_vla_interfaces import msg
from flow_rag_vla_interfaces.action import BuildDataset

WAIT = 60.0


def fill(folder, media):
    """Four sources of one picture with a cup (0.9) and a bin (0.4); the pictures show the same, in other light."""
    with Registry(folder) as registry:
        for number in range(4):
            (media / str(number)).mkdir(parents=True)
            Pillow.fromarray(np.full((24, 32, 3), 40 * number + 40, np.uint8)).save(media / f"{number}/a.png")
            source = registry.add_source(SourceDraft(SourceKind.FOLDER, str(media / str(number))))
            image = registry.add_images(source.source_id, [ImageDraft("a.png", 32, 24)])[0]
            about = {"score_kind": ScoreKind.SIGMOID, "origin": Origin("detector"), "embedder": Embedder("e", "1", 2)}
            cup, bin_ = np.eye(2, dtype=np.float32)
            drafts = [
                ObjectDraft(image.image_id, "cup", (1, 1, 9, 9), 0.9, embedding=cup, **about),
                ObjectDraft(image.image_id, "bin", (4, 4, 30, 20), 0.4, embedding=bin_, **about),
            ]
            registry.register(drafts, who="detector")


def fill_folder(folder, media):
    """One source of eight pictures in other shades, a cup in each, every other one larger and with look=3."""
    media.mkdir()
    with Registry(folder) as registry:
        source = registry.add_source(SourceDraft(SourceKind.FOLDER, str(media)))
        for number in range(8):
            Pillow.fromarray(np.full((24, 32, 3), 30 * number, np.uint8)).save(media / f"{number}.png")
            image = registry.add_images(source.source_id, [ImageDraft(f"{number}.png", 32, 24, number)])[0]
            side, attributes = (20, {"look": 3}) if number % 2 else (10, {})
            draft = ObjectDraft(
                image.image_id, "cup", (0, 0, side, side), 0.9, ScoreKind.SIGMOID, Origin(f"model {number // 4}"),
                attributes=attributes,
            )  # fmt: skip
            (object_id,) = registry.register([draft], who="detector").object_ids
            if number == 7:
                registry.update(object_id, ObjectChange(state=ReviewState.REJECTED), who="ada")


def test_a_dataset_is_ordered_as_on_the_command_line(start_node, ros_node, spin_until, tmp_path):
    fill_folder(tmp_path / "labels", tmp_path / "media")
    process = start_node("labeling", registry=str(tmp_path / "labels"), niceness=0)
    client = ActionClient(ros_node, BuildDataset, names.BUILD_DATASET)
    spin_until(client.server_is_ready, 2 * WAIT, "the action")

    def built(**fields):
        future = client.send_goal_async(BuildDataset.Goal(**fields))
        spin_until(future.done, WAIT, "the goal's acceptance")
        ended = future.result().get_result_async()
        spin_until(ended.done, WAIT, "the end")
        return ended.result().result

    def splits(result):
        return result.train_images, result.val_images, result.test_images

    whole = built(name="cups", train=1.0)
    assert (splits(whole), whole.left_out, whole.categories) == ((7, 0, 0), 0, ["cup"]), whole.message
    shares = {"train": 0.5, "val": 0.25, "test": 0.25}
    assert built(name="x", **shares).code == "split_impossible"
    # The version before has a say until its pictures are split anew.
    assert splits(built(name="cups", apart=True, **shares)) == (7, 0, 0)
    assert min(splits(built(name="cups", apart=True, afresh=True, **shares))) > 0
    for fields, count in (
        ({"attributes": ["look=3"]}, 3),
        ({"minimum_area": 101.0}, 3),
        ({"maximum_area": 100.0}, 4),
        ({"models": ["model 1"]}, 3),
        ({"statuses": [msg.LabelledObject.STATUS_REJECTED]}, 1),
    ):
        assert built(name="chosen", train=1.0, **fields).images == count, fields
    for link in (False, True):
        made = built(name="files", train=1.0, link=link)
        assert {path.is_symlink() for path in read_dataset(made.folder).images.iterdir()} == {link}
    assert process.stop() == 0 and "Traceback" not in process.text


def test_a_dataset_is_built_exported_refused_and_withdrawn(start_node, ros_node, spin_until, tmp_path):
    fill(tmp_path / "labels", tmp_path / "media")
    process = start_node("labeling", registry=str(tmp_path / "labels"), niceness=0, pause=3600.0)
    loop = ros_node.create_publisher(msg.LoopStatistics, topics.LOOP_STATISTICS, qos.STATE)
    client = ActionClient(ros_node, BuildDataset, names.BUILD_DATASET)
    spin_until(client.server_is_ready, 2 * WAIT, "the action")
    heard = []

    def send(**fields):
        heard.clear()
        future = client.send_goal_async(BuildDataset.Goal(**fields), lambda item: heard.append(item.feedback))
        spin_until(future.done, WAIT, "the goal's acceptance")
        return future.result(), future.result().get_result_async()

    def done(**fields):
        _, ended = send(**fields)
        spin_until(ended.done, WAIT, "the end")
        return ended.result().status, ended.result().result

    asked = {"name": "cups", "train": 0.5, "val": 0.25, "test": 0.25, "seed": 3, "minimum_confidence": 0.9}
    status, result = done(**asked, format="yolo", output=str(tmp_path / "yolo"), person="anna")
    assert (status, result.ok, result.code) == (GoalStatus.STATUS_SUCCEEDED, True, ""), result.message
    assert (result.version, result.images, result.objects) == (1, 4, 4)
    made = read_dataset(result.folder, verify=True)
    assert made.label == "cups@v1" and made.categories == ("cup",) and made.provenance["made by"] == "anna"
    assert len(import_dataset(tmp_path / "yolo", "yolo", "cups").dataset.items) == 4
    assert heard and (heard[-1].images, heard[-1].total, heard[-1].objects) == (4, 4, 4)

    status, result = done(name="once", train=1.0, without_duplicates=True)
    assert result.ok and (result.version, result.images, result.left_out) == (1, 1, 3), result.message
    assert read_dataset(result.folder).provenance["near duplicates left out"] == 3

    for fields, code in (
        ({"name": "../x"}, "dataset_invalid"),
        ({"name": "x", "train": float("nan")}, "dataset_invalid"),
        ({"name": "x", "train": 1.0, "format": "yolo"}, "dataset_invalid"),
        ({"name": "x", "format": "tfrecord", "output": str(tmp_path / "out")}, "unknown_format"),
        ({"name": "x", "minimum_confidence": 0.99}, "dataset_empty"),
        ({"name": "x", "minimum_confidence": float("nan")}, "invalid_score"),
        ({"name": "x", "maximum_confidence": 1.5}, "invalid_score"),
        ({"name": "x", "categories": ["spoon"]}, "unknown_category"),
        ({"name": "x", "project": "moon"}, "unknown_project"),
        ({"name": "x", "train": 1.0, "format": "yolo", "output": str(tmp_path / "yolo")}, "dataset_exists"),
    ):
        status, result = done(**fields)
        assert (status, result.ok, result.code) == (GoalStatus.STATUS_ABORTED, False, code), result.message

    spin_until(loop.get_subscription_count, WAIT, "the node's ear for the loop")
    late = iter(range(1, 10_000))

    def hold():
        loop.publish(msg.LoopStatistics(late_ticks=next(late)))
        return any("late ticks" in item.message for item in heard)

    before = [one.label for one in DatasetStore(tmp_path / "labels/datasets").versions()]
    spin_until(lambda: hold() or next(late) > 20, WAIT, "reports of a late loop")
    handle, ended = send(**asked)
    spin_until(hold, WAIT, "the pause to be told")
    spin_until(handle.cancel_goal_async().done, WAIT, "the cancellation")
    spin_until(ended.done, WAIT, "the end")
    assert (ended.result().status, ended.result().result.code) == (GoalStatus.STATUS_CANCELED, "canceled")
    assert [one.label for one in DatasetStore(tmp_path / "labels/datasets").versions()] == before
    assert process.stop() == 0 and "Traceback" not in process.text
