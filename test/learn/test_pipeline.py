# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The whole pipeline with everything as small as it goes, on the one task that needs the fewest episodes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flow_rag_vla.core.goal import task_names
from flow_rag_vla.evaluate.model_card import write_model_card
from flow_rag_vla.evaluate.rollout import rollout
from flow_rag_vla.learn.collect import CollectSettings
from flow_rag_vla.learn.pipeline import STAGES, PipelineError, PipelineSettings, run_pipeline, scaled
from flow_rag_vla.learn.train_encoder import EncoderTraining
from flow_rag_vla.learn.train_policy import PolicyTraining
from flow_rag_vla.policy.checkpoint import load_checkpoint
from flow_rag_vla.policy.encoders import make_encoder
from flow_rag_vla.policy.policy import FlowPolicy
from flow_rag_vla.sim.world import World


def only_drawer(count: int) -> dict[str, int]:
    return {task: count if task == "open_drawer" else 0 for task in task_names()}


TINY = PipelineSettings(
    episodes=only_drawer(1),
    second_episodes=only_drawer(1),
    posed_scenes=only_drawer(2),
    posed_frames=2,
    held_out_episodes=only_drawer(1),
    encoder_frames=8,
    encoder_training=EncoderTraining(iterations=2, batch=4),
    first_policy=PolicyTraining(iterations=2, batch=4, width=16, blocks=1),
    policy=PolicyTraining(iterations=2, batch=4, width=16, blocks=1),
    collect=CollectSettings(frame_ticks=8),
)


class Recorder:
    def __init__(self) -> None:
        self.notes: list[tuple[str, int, int, str]] = []

    def __call__(self, stage):
        return lambda done, total, note="": self.notes.append((stage.key, done, total, note))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder, recorder = tmp_path_factory.mktemp("pipeline"), Recorder()
    result = run_pipeline(folder / "work", folder / "out", TINY, workers=1, progress=recorder)
    return folder, result, recorder


def test_every_stage_reports_its_progress_and_its_cost(made) -> None:
    _, result, recorder = made
    assert {note[0] for note in recorder.notes} == {stage.key for stage in STAGES} == set(result.report)
    assert all(facts["cpu_s"] >= 0 and facts["wall_s"] >= 0 for facts in result.report.values())


def test_what_was_made_runs_in_a_closed_loop(made) -> None:
    _, result, _ = made
    encoder, policy = make_encoder(str(result.encoder_folder)), FlowPolicy.load(result.policy_folder)
    with World() as world:
        assert rollout(world, policy, encoder, "open_drawer", "plain", 0).chunks > 0


def test_a_second_run_does_nothing_again(made) -> None:
    folder, result, _ = made
    recorder = Recorder()
    again = run_pipeline(folder / "work", folder / "out", TINY, workers=1, progress=recorder)
    assert again.report == result.report
    assert {note[3] for note in recorder.notes} == {"done before"}


def test_a_work_folder_of_other_settings_is_refused(made) -> None:
    folder, *_ = made
    with pytest.raises(PipelineError, match=r"work holds a training run with other settings"):
        run_pipeline(folder / "work", folder / "out", replace(TINY, seed=1), workers=1, progress=Recorder())


def test_an_encoder_that_is_there_is_used_as_it_is(made, tmp_path) -> None:
    _, first, _ = made
    name = str(first.encoder_folder)
    settings = replace(TINY, encoder=name, second_episodes=only_drawer(0))
    result = run_pipeline(tmp_path / "work", tmp_path / "out", settings, workers=1, progress=Recorder())
    assert result.encoder_folder is None
    FlowPolicy.load(result.policy_folder).check_encoder("compact", make_encoder(name).revision)


def test_the_model_card_names_what_made_the_checkpoint(made, tmp_path) -> None:
    _, result, _ = made
    _, config, revision = load_checkpoint(result.policy_folder)
    path = write_model_card(
        tmp_path, config=config, revision=revision, command="train --this", evaluation_command="evaluate --that",
        report=result.report, results=[],
    )  # fmt: skip
    text = path.read_text(encoding="utf-8")
    for words in (revision, config.encoder.revision, "train --this", "evaluate --that", "open the drawer: 1"):
        assert words in text


def test_scaling_changes_amounts_and_nothing_else() -> None:
    half = scaled(PipelineSettings(), 0.5)
    assert half.policy.iterations == PipelineSettings().policy.iterations // 2
    assert scaled(half, 1.0) == half
    assert min(scaled(PipelineSettings(), 0.0001).episodes.values()) == 1
