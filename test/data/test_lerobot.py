# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Bags become data sets and come back; the files are laid out as LeRobot v3 documents it."""

from __future__ import annotations

import dataclasses
import json
import os

import numpy as np
import pytest

from flow_rag_vla.control.ladder import Mode
from flow_rag_vla.control.takeover import HUMAN
from flow_rag_vla.core.action import CorrectionMode
from flow_rag_vla.data.bag import Bag, BagError
from flow_rag_vla.data.bag_writer import BagWriter
from flow_rag_vla.data.definitions import installed_definitions
from flow_rag_vla.data.recorded_episode import HELD, PERSON, RecordedEpisode, episodes_of_bag, write_episodes

pytest.importorskip("pyarrow", reason="data sets are an extra")
pytest.importorskip("av", reason="data sets are an extra")

import pyarrow.parquet as pq

from flow_rag_vla.data.lerobot.files import VideoFiles
from flow_rag_vla.data.lerobot.layout import DatasetError
from flow_rag_vla.data.lerobot.reading import read_dataset
from flow_rag_vla.data.lerobot.writing import write_dataset

ARRAYS = ("stamps_ns", "states", "actions", "failures", "interventions", "frame_ticks")
PLAIN = ("task", "instruction", "variant", "seed", "success", "phases")


def episode(
    number: int = 1, ticks: int = 40, success: bool | None = True, seed: int = 0, size: int = 24
) -> RecordedEpisode:
    rng = np.random.default_rng(seed)
    frames = np.arange(0, ticks, 4, dtype=np.int32)
    states = rng.normal(size=(ticks, 9)).astype(np.float32)
    states[:, 3:7] /= np.linalg.norm(states[:, 3:7], axis=1, keepdims=True)
    failures = np.full(ticks, -1, dtype=np.int64)
    interventions = np.zeros(ticks, dtype=np.int64)
    if number == 2:
        failures[10], interventions[15:20], interventions[22:26] = 3, 1, PERSON
        interventions[:2] = HELD
    smooth = np.linspace(0, 255, size * size).reshape(size, size).astype(np.uint8)
    pictures = np.stack(
        [np.stack([smooth, smooth.T, np.full_like(smooth, 3 * index)], 2) for index in range(len(frames))]
    )
    return RecordedEpisode(
        number, "pick_and_place", "put the red cube into the bin", "plain", 100 + number, success,
        1_790_000_000_000_000_000 + number * 10**11 + np.arange(ticks, dtype=np.int64) * 25_000_000, states,
        rng.normal(size=(ticks, 7)).astype(np.float32), failures, interventions,
        tuple("reach" if tick < ticks // 2 else "grasp" for tick in range(ticks)), frames,
        {"front": pictures, "wrist": pictures[:, ::-1]},
    )  # fmt: skip


def same(one: RecordedEpisode, other: RecordedEpisode) -> None:
    for name in ARRAYS:
        assert np.array_equal(getattr(one, name), getattr(other, name)), name
    for name in PLAIN:
        assert getattr(one, name) == getattr(other, name), name
    assert set(one.images) == set(other.images)
    for camera in one.images:
        assert np.array_equal(one.images[camera], other.images[camera]), camera


EPISODES = [episode(1), episode(2, 31, success=False, seed=1), episode(3, 12, success=None, seed=2)]


def test_a_bag_becomes_a_data_set_and_a_bag_again_without_losing_a_bit(tmp_path):
    write_episodes(tmp_path / "bag", EPISODES, installed_definitions())
    from_bag = list(episodes_of_bag(tmp_path / "bag"))
    write_dataset(tmp_path / "set", from_bag)
    from_set = list(read_dataset(tmp_path / "set"))
    write_episodes(tmp_path / "again", from_set, installed_definitions())
    again = list(episodes_of_bag(tmp_path / "again"))
    assert len(from_bag) == len(from_set) == len(again) == 3
    for original, first, second, third in zip(EPISODES, from_bag, from_set, again, strict=True):
        same(original, first)
        same(first, second)
        same(second, third)
    commands = [entry.message for entry in Bag(tmp_path / "again").messages(["command"])]
    taken = [message for message in commands if message.mode == Mode.TAKEOVER]
    assert len(taken) == 4 and {message.provenance.policy for message in taken} == {HUMAN}
    assert not any(message.provenance.correction for message in taken)
    assert [message.mode for message in commands].count(Mode.HOLD) == 2


def test_the_layout_is_that_of_lerobot_v3(tmp_path):
    summary = write_dataset(tmp_path / "set", EPISODES)
    root = tmp_path / "set"
    assert (summary.episodes, summary.frames, summary.cameras) == (3, 83, ("front", "wrist"))
    info = json.loads((root / "meta/info.json").read_text())
    assert info["codebase_version"] == "v3.0" and info["fps"] == 40
    assert (info["total_episodes"], info["total_frames"], info["total_tasks"]) == (3, 83, 1)
    assert info["data_path"] == "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
    for name in ("timestamp", "frame_index", "episode_index", "index", "task_index"):
        assert info["features"][name]["shape"] == [1]
    rows = pq.read_table(root / "data/chunk-000/file-000.parquet")
    wanted = {name for name, feature in info["features"].items() if feature["dtype"] != "video"}
    assert set(rows.column_names) == wanted
    assert rows.column("index").to_pylist() == list(range(83))
    assert np.allclose(rows.column("timestamp").to_pylist()[:3], [0.0, 0.025, 0.05])
    assert rows.schema.field("action").type.list_size == 7
    assert b'"Image"' in rows.schema.metadata[b"huggingface"]
    episodes = pq.read_table(root / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    assert [(row["dataset_from_index"], row["dataset_to_index"]) for row in episodes] == [(0, 40), (40, 71), (71, 83)]
    assert episodes[0]["tasks"] == ["put the red cube into the bin"]
    assert [row["success"] for row in episodes] == [True, False, None]
    assert [(row["failure_events"], row["interventions"]) for row in episodes] == [(0, 0), (1, 9), (0, 0)]
    tasks = pq.read_table(root / "meta/tasks.parquet")
    assert tasks.to_pylist() == [{"task_index": 0, "task": "put the red cube into the bin"}]
    assert json.loads(tasks.schema.metadata[b"pandas"])["index_columns"] == ["task"]


def test_statistics_are_those_of_all_rows(tmp_path):
    write_dataset(tmp_path / "set", EPISODES)
    stats = json.loads((tmp_path / "set/meta/stats.json").read_text())
    whole = np.concatenate([item.actions for item in EPISODES]).astype(np.float64)
    assert np.allclose(stats["action"]["mean"], whole.mean(axis=0))
    assert np.allclose(stats["action"]["std"], whole.std(axis=0))
    assert np.allclose(stats["action"]["min"], whole.min(axis=0)) and stats["action"]["count"] == [83]
    parts = [np.quantile(item.actions, 0.9, axis=0, method="inverted_cdf") * item.ticks for item in EPISODES]
    assert np.allclose(stats["action"]["q90"], np.sum(parts, axis=0) / 83)
    assert stats["action"]["q01"] <= stats["action"]["q10"] <= stats["action"]["q50"] <= stats["action"]["q99"]
    assert np.shape(stats["observation.images.front"]["mean"]) == (3, 1, 1)


def test_columns_are_named_so_that_lerobots_policies_and_tools_take_them_for_what_they_are(tmp_path):
    write_dataset(tmp_path / "set", EPISODES)
    features = json.loads((tmp_path / "set/meta/info.json").read_text())["features"]
    pictures = {name for name, feature in features.items() if feature["dtype"] == "image"}
    # What a policy is given, by the beginning of its name, and what is a picture, by a word in it.
    assert {name for name in features if name.startswith("observation")} == {"observation.state", *pictures}
    assert {name for name in features if name.startswith("action")} == {"action"}
    assert {name for name in features if "image" in name} == pictures
    stats = json.loads((tmp_path / "set/meta/stats.json").read_text())
    assert all(np.shape(stats[name]["q99"]) == (3, 1, 1) for name in pictures)


def test_a_data_set_of_before_and_one_that_was_shortened_elsewhere_are_read(tmp_path):
    write_dataset(tmp_path / "set", EPISODES)
    rows = tmp_path / "set/data/chunk-000/file-000.parquet"
    table = pq.read_table(rows)
    names = ["observation.image_is_new" if name == "picture_is_new" else name for name in table.column_names]
    pq.write_table(table.rename_columns(names), rows)
    for original, read in zip(EPISODES, read_dataset(tmp_path / "set"), strict=True):
        assert np.array_equal(original.frame_ticks, read.frame_ticks)
    # LeRobot's tools keep of an episode's row the columns that they know.
    about = tmp_path / "set/meta/episodes/chunk-000/file-000.parquet"
    told = pq.read_table(about)
    pq.write_table(told.drop_columns(["success", "task_name", "variant", "seed", "source_episode_id"]), about)
    again = list(read_dataset(tmp_path / "set"))
    assert [item.success for item in again] == [True, None, None]
    assert [item.instruction for item in again] == [item.instruction for item in EPISODES]


def test_videos_hold_every_picture_where_the_table_says(tmp_path):
    write_dataset(tmp_path / "set", EPISODES, video=True)
    assert (tmp_path / "set/videos/observation.images.front/chunk-000/file-000.mp4").is_file()
    for original, read in zip(EPISODES, read_dataset(tmp_path / "set"), strict=True):
        assert np.array_equal(original.actions, read.actions)
        for camera, pictures in original.images.items():
            assert read.images[camera].shape == pictures.shape
            difference = np.abs(read.images[camera].astype(float) - pictures.astype(float))
            assert difference.mean() < 12.0, f"{camera} is another picture"


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="threads are scheduled otherwise here")
def test_writing_videos_raises_no_thread_before_a_control_loop(tmp_path):
    video = VideoFiles(tmp_path, "front")
    video.add(iter(episode(size=64).images["front"]))
    # Threads that an earlier test put behind everybody may still be there.
    policies = {task: os.sched_getscheduler(int(task)) for task in os.listdir("/proc/self/task")}
    video.close()
    assert [task for task, policy in policies.items() if policy in (os.SCHED_FIFO, os.SCHED_RR)] == []


def felt(item: RecordedEpisode, frame: str = "ft_sensor", seed: int = 7) -> RecordedEpisode:
    rows = np.random.default_rng(seed).normal(0.0, 20.0, (item.ticks, 6)).astype(np.float32)
    return dataclasses.replace(item, wrenches=rows, wrench_frame=frame)


FELT = [felt(item, seed=index) for index, item in enumerate(EPISODES)]


def test_wrenches_go_from_a_bag_to_a_data_set_and_back_without_losing_a_bit(tmp_path):
    write_episodes(tmp_path / "bag", FELT, installed_definitions())
    from_bag = list(episodes_of_bag(tmp_path / "bag"))
    assert write_dataset(tmp_path / "set", from_bag).left_out == ()
    from_set = list(read_dataset(tmp_path / "set"))
    write_episodes(tmp_path / "again", from_set, installed_definitions())
    again = list(episodes_of_bag(tmp_path / "again"))
    for original, *others in zip(FELT, from_bag, from_set, again, strict=True):
        for other in others:
            same(original, other)
            assert np.array_equal(original.wrenches, other.wrenches) and other.wrenches.dtype == np.float32
            assert other.wrench_frame == "ft_sensor"
    feature = json.loads((tmp_path / "set/meta/info.json").read_text())["features"]["observation.wrench"]
    assert (feature["dtype"], feature["shape"]) == ("float32", [6])
    assert feature["names"] == ["fx", "fy", "fz", "tx", "ty", "tz"]
    assert feature["info"] == {"frame": "ft_sensor", "units": ["N", "N", "N", "Nm", "Nm", "Nm"]}
    stats = json.loads((tmp_path / "set/meta/stats.json").read_text())["observation.wrench"]
    assert np.allclose(stats["mean"], np.concatenate([item.wrenches for item in FELT]).mean(axis=0), atol=1e-4)


def test_a_data_set_without_wrenches_is_the_one_that_was_written_before_there_were_any(tmp_path):
    write_episodes(tmp_path / "bag", EPISODES, installed_definitions())
    assert "/wrench" not in Bag(tmp_path / "bag").topics
    from_bag = list(episodes_of_bag(tmp_path / "bag"))
    assert all(item.wrenches is None and item.wrench_frame == "" for item in from_bag)
    write_dataset(tmp_path / "set", from_bag)
    write_dataset(tmp_path / "felt", FELT)
    names = {
        folder: pq.read_table(tmp_path / folder / "data/chunk-000/file-000.parquet").column_names
        for folder in ("set", "felt")
    }
    assert set(names["felt"]) - set(names["set"]) == {"observation.wrench"}
    assert [name for name in names["felt"] if name != "observation.wrench"] == names["set"]
    for path in ("meta/info.json", "meta/stats.json"):
        assert (
            "wrench" in (tmp_path / "felt" / path).read_text() and "wrench" not in (tmp_path / "set" / path).read_text()
        )


def sensor_bag(folder, item, stamps, rows, frame="ft_sensor", topic="/ft/wrench"):
    """A bag of an episode in which a sensor spoke at other moments than the loop."""
    write_episodes(folder / "plain", [item], installed_definitions())
    made = installed_definitions()
    with BagWriter(folder / "bag", made) as writer:
        writer.add_topic(topic, "geometry_msgs/msg/WrenchStamped")
        plain = Bag(folder / "plain")
        for name, about in plain.topics.items():
            writer.add_topic(name, about.msgtype)
        entries = [(entry.log_ns, entry.topic, entry.message) for entry in plain.messages()]
        for stamp, row in zip(stamps, rows, strict=True):
            time = made.message("builtin_interfaces/msg/Time", sec=stamp // 10**9, nanosec=stamp % 10**9)
            force, torque = (made.message("geometry_msgs/msg/Vector3", x=x, y=y, z=z) for x, y, z in (row[:3], row[3:]))
            message = made.message(
                "geometry_msgs/msg/WrenchStamped",
                header=made.message("std_msgs/msg/Header", stamp=time, frame_id=frame),
                wrench=made.message("geometry_msgs/msg/Wrench", force=force, torque=torque),
            )
            entries.append((stamp, topic, message))
        for stamp, name, message in sorted(entries, key=lambda entry: entry[0]):
            writer.write_message(name, stamp, message)
    return next(iter(episodes_of_bag(folder / "bag")))


def test_a_tick_has_the_newest_wrench_that_it_could_know_and_none_that_is_old(tmp_path):
    item = EPISODES[0]
    first = int(item.stamps_ns[0])
    row = [1.0, 2.0, 3.0, 0.1, 0.2, 0.3]
    newer = [4.0] * 6
    broken = [float("nan")] * 6
    # 10 ms behind tick 2, 1 ms behind tick 8, what is no number, and then silence.
    stamps = [first + 60_000_000, first + 201_000_000, first + 220_000_000]
    read = sensor_bag(tmp_path, item, stamps, [row, newer, broken], frame="/ft_sensor")
    assert read.wrench_frame == "ft_sensor"
    assert not read.wrenches[:3].any()
    assert np.array_equal(read.wrenches[3:9], np.tile(np.float32(row), (6, 1)))
    assert np.array_equal(read.wrenches[9:29], np.tile(np.float32(newer), (20, 1)))
    assert not read.wrenches[29:].any(), "half a second after the last one nothing is felt"


@pytest.mark.parametrize(
    ("episodes", "why"),
    [
        ([FELT[0], EPISODES[1]], "1 of 2 episodes have none"),
        ([FELT[0], felt(EPISODES[1], "tool0")], "they are of the frames ft_sensor, tool0"),
    ],
)
def test_wrenches_that_make_no_column_are_left_out_and_that_is_said(tmp_path, episodes, why):
    (said,) = write_dataset(tmp_path / "set", episodes).left_out
    assert why in said and "export them apart" in said
    assert all(item.wrenches is None for item in read_dataset(tmp_path / "set"))


def test_what_cannot_be_written_is_named(tmp_path):
    with pytest.raises(DatasetError, match="no episodes"):
        write_dataset(tmp_path / "set", [])
    other = episode(2, size=32)
    with pytest.raises(DatasetError, match="export them apart"):
        write_dataset(tmp_path / "set", [EPISODES[0], other])
    (tmp_path / "there").mkdir()
    with pytest.raises(FileExistsError, match="choose another"):
        write_dataset(tmp_path / "there", EPISODES)


def test_what_is_no_data_set_of_this_robot_is_refused_with_a_reason(tmp_path):
    with pytest.raises(DatasetError, match=r"info\.json cannot be read"):
        list(read_dataset(tmp_path))
    write_dataset(tmp_path / "set", EPISODES)
    path = tmp_path / "set/meta/info.json"
    info = json.loads(path.read_text())
    path.write_text(json.dumps({**info, "codebase_version": "v2.1"}))
    with pytest.raises(DatasetError, match=r"expected v3\.0"):
        list(read_dataset(tmp_path / "set"))
    features = {**info["features"], "action": {"dtype": "float32", "shape": [14], "names": None}}
    path.write_text(json.dumps({**info, "features": features}))
    with pytest.raises(DatasetError, match="another robot"):
        list(read_dataset(tmp_path / "set"))
    path.write_text(json.dumps(info))
    (tmp_path / "set/data/chunk-000/file-000.parquet").write_bytes(b"cut")
    with pytest.raises(DatasetError, match="is the copy complete"):
        list(read_dataset(tmp_path / "set"))


def test_episodes_of_several_runs_keep_apart_in_one_bag(tmp_path):
    twins = [EPISODES[0], dataclasses.replace(EPISODES[1], episode_id=1)]
    write_episodes(tmp_path / "bag", twins, installed_definitions())
    read = list(episodes_of_bag(tmp_path / "bag"))
    assert [item.episode_id for item in read] == [1, 2]
    assert [item.ticks for item in read] == [40, 31]


def test_a_bag_without_episodes_says_what_it_lacks(tmp_path):
    with BagWriter(tmp_path / "bag", installed_definitions()) as writer:
        writer.add_topic("/notes", "std_msgs/msg/String")
    with pytest.raises(BagError, match="'command'"):
        list(episodes_of_bag(tmp_path / "bag"))


def test_parts_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match="actions has shape"):
        dataclasses.replace(EPISODES[0], actions=EPISODES[0].actions[:-1])
    with pytest.raises(ValueError, match="wrenches has shape"):
        dataclasses.replace(FELT[0], wrenches=FELT[0].wrenches[:, :3])


def test_what_a_person_did_and_where_nothing_was_followed_is_told_from_every_correction():
    assert not {PERSON, HELD} & {int(mode) for mode in CorrectionMode}
