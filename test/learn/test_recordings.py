# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A policy is trained further on what was recorded, by the command that users have."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from flow_rag_vla.cli.main import app
from flow_rag_vla.core.goal import GOALS
from flow_rag_vla.data.definitions import installed_definitions
from flow_rag_vla.data.demonstrations import DemonstrationError, state_from_row
from flow_rag_vla.data.recorded_episode import RecordedEpisode, write_episodes
from flow_rag_vla.learn.bag_demonstrations import demonstrations
from flow_rag_vla.learn.few_demonstrations import SAMPLES
from flow_rag_vla.learn.recordings import recorded_samples
from flow_rag_vla.learn.samples import read_samples
from flow_rag_vla.policy.checkpoint import load_checkpoint
from flow_rag_vla.policy.encoders import make_encoder
from flow_rag_vla.policy.policy import FlowPolicy

GOAL = GOALS[0]
SIDEWAYS = -0.006
"""Metres a tick along y, in every recorded action: nothing that the shipped policy would do here."""


def recorded(number: int, success: bool = True, instruction: str = GOAL.instruction) -> RecordedEpisode:
    ticks = 60
    rng = np.random.default_rng(number)
    states = np.zeros((ticks, 9), dtype=np.float32)
    states[:, :3], states[:, 3], states[:, 7] = (0.45, 0.0, 0.3), 1.0, 0.08
    actions = np.zeros((ticks, 7), dtype=np.float32)
    actions[:, 1], actions[:, 6] = SIDEWAYS, 1.0
    frames = np.arange(0, ticks, 4, dtype=np.int32)
    pictures = {
        camera: rng.integers(0, 255, (len(frames), size, size, 3), dtype=np.uint8)
        for camera, size in (("front", 128), ("wrist", 96))
    }
    return RecordedEpisode(
        number, GOAL.task, instruction, "plain", number, success,
        1_790_000_000_000_000_000 + number * 10**11 + np.arange(ticks, dtype=np.int64) * 25_000_000, states, actions,
        np.full(ticks, -1, dtype=np.int64), np.zeros(ticks, dtype=np.int64), ("reach",) * ticks, frames, pictures,
    )  # fmt: skip


def train(*arguments: object):
    return CliRunner().invoke(
        app,
        ["train", "--workers", "1", "--iterations", "120", *map(str, arguments)],
        env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"},
    )


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory):
    path = tmp_path_factory.mktemp("recorded") / "bag"
    episodes = [recorded(1), recorded(2), recorded(3, success=False), recorded(4, instruction="make coffee")]
    write_episodes(path, episodes, installed_definitions())
    return path


@pytest.fixture(scope="module")
def tuned(bag, tmp_path_factory: pytest.TempPathFactory):
    output = tmp_path_factory.mktemp("tuned")
    return output / "policy", train("--from", bag, "--output", output)


def sideways(folder) -> float:
    """Metres a tick along y of a chunk that a policy makes in a recorded situation."""
    episode, policy = recorded(1), FlowPolicy.load(folder)
    encoder = make_encoder("compact")
    embedding = encoder.encode({camera: pictures[0] for camera, pictures in episode.images.items()})
    state = state_from_row(episode.states[0], int(episode.stamps_ns[0]))
    return float(policy.act(embedding, state, GOAL, seed=0).actions[:, 1].mean())


def test_what_was_recorded_is_learned_and_what_it_was_is_written_down(tuned) -> None:
    folder, result = tuned
    assert result.exit_code == 0, result.output
    assert f"2 episodes: {GOAL.instruction}" in result.output, "failed and unknown ones are left out"
    assert "what it knows of other tasks may be lost" in result.output
    _, _, revision = load_checkpoint(folder)
    shipped = load_checkpoint(None)[2]
    note = json.loads((folder / "recordings.json").read_text(encoding="utf-8"))
    assert (note["revision"], note["start"]) == (revision, shipped) and revision != shipped
    assert note["episodes"] == {GOAL.instruction: 2} and note["samples"] == len(read_samples(folder / SAMPLES))
    assert abs(sideways(folder) - SIDEWAYS) < 0.5 * abs(sideways(None) - SIDEWAYS)


def test_a_second_training_mixes_in_what_the_first_learned_from(tuned, bag, tmp_path) -> None:
    folder, _ = tuned
    CliRunner().invoke(app, ["dataset", "shards", str(bag), "--failed", "--to", str(tmp_path / "shards")])
    result = train("--from", tmp_path / "shards", "--checkpoint", folder, "--output", tmp_path / "again")
    assert result.exit_code == 0, result.output
    assert "may be lost" not in result.output and f"3 episodes: {GOAL.instruction}" in result.output
    note = json.loads((tmp_path / "again" / "policy" / "recordings.json").read_text(encoding="utf-8"))
    assert note["before"] == len(read_samples(folder / SAMPLES)) > 0
    assert len(read_samples(tmp_path / "again" / "policy" / SAMPLES)) == note["before"] + note["samples"]


def test_what_cannot_be_learned_from_is_named_and_leaves_no_policy(bag, tuned, tmp_path) -> None:
    write_episodes(tmp_path / "failed", [recorded(1, success=False)], installed_definitions())
    for arguments, words in (
        (("--from", tmp_path / "failed"), "nothing to learn from"),
        (("--from", tmp_path / "nowhere"), "nowhere"),
        (("--from", bag, "--checkpoint", tmp_path), "no policy.json"),
    ):
        result = train(*arguments, "--output", tmp_path / "out")
        assert result.exit_code == 2 and words in result.output, result.output
        assert not (tmp_path / "out").exists()
    again = train("--from", bag, "--output", tuned[0].parent)
    assert again.exit_code == 2 and "there already" in again.output


def test_a_camera_that_was_not_recorded_is_named() -> None:
    sighted = recorded(1)
    blind = replace(sighted, images={"front": sighted.images["front"]})
    with pytest.raises(DemonstrationError, match="no pictures of wrist, which the encoder compact needs"):
        recorded_samples(demonstrations([blind]), make_encoder("compact"), 16)
