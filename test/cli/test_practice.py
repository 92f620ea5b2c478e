# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The practice command, on the real thing."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from flow_rag_vla.cli import practice
from flow_rag_vla.cli.main import app
from flow_rag_vla.evaluate.trials.bank import CaseBank
from flow_rag_vla.evaluate.trials.protocol import TrialError
from flow_rag_vla.learn.few_demonstrations import SAMPLES

runner = CliRunner()


def test_one_episode_makes_a_bank_and_says_so(tmp_path: Path) -> None:
    bank = tmp_path / "bank"
    done = runner.invoke(
        app, ["practice", "--task", "open_drawer", "--variant", "plain", "--episodes", "1", "--seed", "51000",
              "--source", "search", "--output", str(bank)],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "failed 0 of 1" in done.output
    assert [item.success for item in CaseBank(bank).episodes] == [True]


def test_a_practice_in_which_nothing_failed_has_nothing_to_fine_tune_on(tmp_path: Path) -> None:
    with pytest.raises(TrialError, match="holds no labels"):
        practice._fine_tuned(tmp_path, tmp_path, tmp_path / "tuned")


def test_the_folder_of_the_control_must_be_free(tmp_path: Path) -> None:
    (tmp_path / SAMPLES).touch()
    practice._check_fine_tuning(tmp_path, tmp_path / "tuned")
    with pytest.raises(TrialError, match="is there already"):
        practice._check_fine_tuning(tmp_path, tmp_path)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--task", "juggle"], "juggle"),
        (["--task", "push", "--variant", "moon"], "scene 'moon' is not known"),
        (["--task", "push", "--source", "oracle"], "source 'oracle' is not known"),
        (["--task", "push", "--checkpoint", "nowhere"], "nowhere"),
        (["--task", "push", "--fine-tune", "tuned"], "keeps no samples.npz"),
    ],
)
def test_what_is_not_known_is_refused_before_anything_is_made(tmp_path: Path, arguments: list[str], text: str) -> None:
    done = runner.invoke(app, ["practice", *arguments, "--output", str(tmp_path / "bank")])
    assert done.exit_code == 2
    assert text in done.output
    assert not (tmp_path / "bank").exists()
