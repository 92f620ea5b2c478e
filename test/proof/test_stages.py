# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from flow_rag_vla.cli.practice import _fine_tuned
from flow_rag_vla.evaluate.trials.bank import CaseBank
from flow_rag_vla.evaluate.trials.practice import LABELS
from flow_rag_vla.evaluate.trials.protocol import TrialError
from flow_rag_vla.evaluate.trials.session import SUMMARY, run_plan
from flow_rag_vla.learn.samples import read_samples
from flow_rag_vla.policy.checkpoint import load_checkpoint
from flow_rag_vla.proof.stages import (
    PRACTICE_SEED,
    TEST_SEED,
    Ground,
    ProofSettings,
    bank_path,
    dagger_path,
    plans,
    policy_path,
    prepare,
)
from flow_rag_vla.proof.steps import DONE, MADE

GROUND = Ground("open_drawer", "object_size")
TINY = ProofSettings(
    grounds=(GROUND,), training_seeds=(0,), demonstrations=1, iterations=20, tuning=20, practice=2, episodes=1,
    repeats=1, variants="off,shuffled+by_cause,dagger,by_cause",
)  # fmt: skip


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole proof in small: its policy knows nothing, so every practice episode fails."""
    folder = tmp_path_factory.mktemp("proof")
    prepare(folder, TINY, 1, lambda *_: None)
    return folder


@pytest.mark.slow
def test_practice_makes_cases_with_the_experts_corrections_from_its_own_seeds(work: Path) -> None:
    bank = CaseBank(bank_path(work, 0, GROUND))
    cases = bank.cases()
    assert [episode.start.seed for episode in bank.episodes] == [PRACTICE_SEED, PRACTICE_SEED + 1]
    assert not any(episode.success for episode in bank.episodes)
    assert cases
    assert {case.correction_source for case in cases} == {"expert"}
    assert {case.encoder for case in cases} == {"situation"}
    assert all(case.correction is not None and case.correction.shape == (16, 7) for case in cases)
    assert {case_id for episode in bank.episodes for case_id in episode.cases} == {case.case_id for case in cases}


@pytest.mark.slow
def test_the_control_is_tuned_on_the_labels_of_the_same_bank(work: Path) -> None:
    labels = read_samples(bank_path(work, 0, GROUND) / LABELS)
    assert len(labels) >= len(CaseBank(bank_path(work, 0, GROUND)).cases())
    before, tuned = (load_checkpoint(path)[2] for path in (policy_path(work, 0), dagger_path(work, 0, GROUND)))
    assert before != tuned


@pytest.mark.slow
def test_what_is_there_is_not_made_again(work: Path) -> None:
    stamps = {path: path.stat().st_mtime_ns for path in work.glob(f"*/{DONE}")}
    assert {policy_path(work, 0), bank_path(work, 0, GROUND), dagger_path(work, 0, GROUND)} <= {
        path.parent for path in stamps
    }
    prepare(work, TINY, 1, lambda *_: None)
    assert {path: path.stat().st_mtime_ns for path in work.glob(f"*/{DONE}")} == stamps


@pytest.mark.slow
def test_trials_are_paired_fresh_and_of_old_failures(work: Path, tmp_path: Path) -> None:
    fresh, again = plans(work, TINY, GROUND)
    assert {trial.start.seed for trial in fresh.trials} == {TEST_SEED}
    assert {trial.variant for trial in fresh.trials} == {"off", "shuffled+by_cause", "dagger", "by_cause"}
    assert {trial.start.seed for trial in again.trials} == {TEST_SEED, PRACTICE_SEED, PRACTICE_SEED + 1}
    assert {trial.variant for trial in again.trials} == {"off", "by_cause"}
    summary = run_plan(fresh, tmp_path, workers=1)
    assert not summary.broken
    assert (tmp_path / SUMMARY).is_file()


@pytest.mark.slow
def test_an_interrupted_step_is_made_from_nothing(work: Path) -> None:
    folder = dagger_path(work, 0, GROUND)
    (folder / DONE).unlink()
    (folder / "half").write_text("left over")
    prepare(work, TINY, 1, lambda *_: None)
    assert (folder / DONE).is_file()
    assert not (folder / "half").exists()


@pytest.mark.slow
def test_the_control_can_be_made_of_any_bank_and_its_policy(work: Path, tmp_path: Path) -> None:
    made = _fine_tuned(policy_path(work, 0), bank_path(work, 0, GROUND), tmp_path / "tuned")
    assert load_checkpoint(tmp_path / "tuned")[2] == made != load_checkpoint(policy_path(work, 0))[2]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("other", "said"),
    [
        (replace(TINY, practice=3), "'episodes': 2, 'rounds': 0, 'source': 'expert'}, not with .*'episodes': 3"),
        (replace(TINY, demonstrations=2), "'demonstrations': 1, .* another --work"),
        (replace(TINY, tuning=21), "dagger-0-open_drawer-object_size was made with"),
    ],
)
def test_what_was_made_with_other_settings_is_refused(work: Path, other: ProofSettings, said: str) -> None:
    with pytest.raises(TrialError, match=said):
        prepare(work, other, 1, lambda *_: None)


@pytest.mark.slow
def test_another_source_of_corrections_shares_the_policies_and_has_folders_of_its_own(work: Path) -> None:
    asked = replace(TINY, source="takeover")
    before = {path: path.stat().st_mtime_ns for path in work.glob(f"*/{DONE}")}
    prepare(work, asked, 1, lambda *_: None)
    after = {path: path.stat().st_mtime_ns for path in work.glob(f"*/{DONE}")}
    assert before.items() <= after.items()
    made = {path.parent.name for path in after.keys() - before.keys()}
    assert made == {"bank-0-open_drawer-object_size-takeover", "dagger-0-open_drawer-object_size-takeover"}
    fresh, _ = plans(work, asked, GROUND)
    assert [spec.cases for spec in fresh.specs] == [str(bank_path(work, 0, GROUND, "takeover"))]


@pytest.mark.slow
def test_a_bank_of_before_there_was_a_choice_of_sources_is_an_experts(work: Path) -> None:
    made = bank_path(work, 0, GROUND) / MADE
    text = made.read_text()
    earlier = {name: value for name, value in json.loads(text).items() if name != "source"}
    made.write_text(json.dumps(earlier))
    try:
        prepare(work, TINY, 1, lambda *_: None)
        assert json.loads(made.read_text()) == earlier
    finally:
        made.write_text(text)


def test_the_grounds_are_named_in_files() -> None:
    assert str(GROUND) == "open_drawer-object_size"
