# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_rag_vla.core.action import TICK_NS
from flow_rag_vla.core.goal import GOALS
from flow_rag_vla.data.demonstrations import (
    Demonstration,
    DemonstrationError,
    read_shard,
    read_shards,
    state_from_row,
    state_row,
    write_shard,
)

ENTITIES = ("cube", "bin")


def episode(seed: int = 0, ticks: int = 20, frames: int = 5, **changes) -> Demonstration:
    rng = np.random.default_rng(seed)
    parts = {
        "goal": GOALS[seed % len(GOALS)],
        "variant": "plain",
        "seed": seed,
        "success": True,
        "states": rng.normal(size=(ticks, 9)).astype(np.float32),
        "actions": rng.normal(size=(ticks, 7)).astype(np.float32),
        "usable": rng.random(ticks) < 0.9,
        "frame_ticks": np.arange(frames, dtype=np.int32) * (ticks // frames),
        "images": {
            "front": rng.integers(0, 255, (frames, 6, 8, 3), dtype=np.uint8),
            "wrist": rng.integers(0, 255, (frames, 4, 4, 3), dtype=np.uint8),
        },
        "entities": ENTITIES,
        "poses": np.full((frames, 2, 4), np.nan, dtype=np.float32),
    }
    return Demonstration(**{**parts, **changes})


def same(left: Demonstration, right: Demonstration) -> bool:
    names = ("goal", "variant", "seed", "success", "entities")
    plain = all(getattr(left, name) == getattr(right, name) for name in names)
    arrays = all(
        np.array_equal(getattr(left, name), getattr(right, name), equal_nan=name == "poses")
        for name in ("states", "actions", "usable", "frame_ticks", "poses")
    )
    return plain and arrays and all(np.array_equal(left.images[name], right.images[name]) for name in left.images)


def test_a_shard_gives_back_what_was_written(tmp_path) -> None:
    written = [episode(0), episode(1, ticks=33, frames=3), episode(2, ticks=16, frames=1)]
    write_shard(tmp_path / "a.npz", written)
    read = read_shard(tmp_path / "a.npz")
    assert len(read) == 3
    assert all(same(left, right) for left, right in zip(written, read, strict=True))


def test_a_folder_is_read_in_order_of_names(tmp_path) -> None:
    for name, seed in (("b", 4), ("a", 3)):
        write_shard(tmp_path / f"{name}.npz", [episode(seed)])
    assert [item.seed for item in read_shards(tmp_path)] == [3, 4]


def test_an_empty_folder_is_named(tmp_path) -> None:
    with pytest.raises(DemonstrationError, match=rf"no demonstration shards.*{tmp_path}"):
        list(read_shards(tmp_path))


def test_a_shard_holds_no_pickled_objects(tmp_path) -> None:
    write_shard(tmp_path / "a.npz", [episode()])
    with np.load(tmp_path / "a.npz", allow_pickle=False) as archive:
        assert all(archive[name].dtype != object for name in archive.files)


@given(share=st.floats(0.05, 0.95))
def test_a_truncated_shard_is_named(tmp_path_factory, share: float) -> None:
    path = tmp_path_factory.mktemp("shard") / "a.npz"
    write_shard(path, [episode()])
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(DemonstrationError, match=r"a\.npz"):
        read_shard(path)


def test_a_missing_or_foreign_file_is_named(tmp_path) -> None:
    with pytest.raises(DemonstrationError, match=r"missing\.npz"):
        read_shard(tmp_path / "missing.npz")
    np.savez(tmp_path / "foreign.npz", header=np.frombuffer(json.dumps({"format": "x"}).encode(), np.uint8))
    with pytest.raises(DemonstrationError, match="'x'"):
        read_shard(tmp_path / "foreign.npz")
    with zipfile.ZipFile(tmp_path / "empty.npz", "w"):
        pass
    with pytest.raises(DemonstrationError, match=r"empty\.npz"):
        read_shard(tmp_path / "empty.npz")


def test_nothing_and_mixed_episodes_are_not_written(tmp_path) -> None:
    with pytest.raises(DemonstrationError, match="no demonstrations"):
        write_shard(tmp_path / "a.npz", [])
    other = episode(1)
    with pytest.raises(DemonstrationError, match="first of the shard"):
        write_shard(tmp_path / "a.npz", [episode(), episode(1, images={"front": other.images["front"]})])
    assert not (tmp_path / "a.npz").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"actions": np.zeros((20, 6), np.float32)}, r"actions has shape \(20, 6\)"),
        ({"usable": np.ones(19, np.bool_)}, "usable"),
        ({"poses": np.zeros((5, 3, 4), np.float32)}, "poses"),
        ({"images": {"front": np.zeros((4, 6, 8, 3), np.uint8)}}, r"images\[front\]"),
        ({"states": np.full((20, 9), np.inf, np.float32)}, "not finite"),
        ({"frame_ticks": np.array([0, 1, 2, 3, 20], np.int32)}, "outside its 20 ticks"),
    ],
)
def test_parts_that_do_not_fit_are_named(changes, words) -> None:
    with pytest.raises(DemonstrationError, match=words):
        episode(**changes)


@given(tick=st.integers(0, 19), horizon=st.integers(1, 40), bad=st.integers(0, 19))
def test_a_chunk_never_holds_an_unusable_action(tick: int, horizon: int, bad: int) -> None:
    usable = np.ones(20, dtype=np.bool_)
    usable[bad] = False
    chunk = episode(usable=usable).chunk(tick, horizon)
    inside = tick <= bad < tick + horizon
    assert (chunk is None) == inside
    assert chunk is None or chunk.shape == (horizon, 7)


def test_past_the_end_the_robot_stands_still_with_its_gripper_as_it_was() -> None:
    item = episode(usable=np.ones(20, dtype=np.bool_))
    chunk = item.chunk(18, 6)
    assert chunk is not None
    assert np.array_equal(chunk[:2], item.actions[18:])
    assert not chunk[2:, :6].any()
    assert (chunk[2:, 6] == item.actions[19, 6]).all()


def test_a_state_survives_its_row() -> None:
    item = episode()
    state = item.state(3)
    assert state.stamp_ns == 3 * TICK_NS
    assert np.array_equal(state_row(state), item.states[3])
    assert state_from_row(item.states[3], 5).stamp_ns == 5
