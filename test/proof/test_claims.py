# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flow_rag_vla.bringup.resources import share_folder
from flow_rag_vla.cli.main import app
from flow_rag_vla.proof import stages
from flow_rag_vla.proof.claims import (
    CLAIMS,
    COLUMNS,
    VARIANTS,
    claim_folder,
    claim_row,
    claim_settings,
    claims_markdown,
)
from flow_rag_vla.proof.stages import ProofSettings

RESULTS = share_folder() / "docs" / "results" / "proof"


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: str(claim.ground))
def test_each_claim_is_a_row_of_the_first_page_with_committed_trials(claim) -> None:
    row = claim_row(json.loads((RESULTS / f"{claim.results}-summary.json").read_text(encoding="utf-8")))
    assert len(row) == len(COLUMNS) - 1
    cells = dict(zip(COLUMNS[1:], row, strict=True))
    first_page = (share_folder() / "README.md").read_text(encoding="utf-8")
    alone, memory = (cells[name].partition(" (")[0] for name in ("policy alone", "with the memory"))
    assert f"| {cells['starts']} | {alone} | **{memory.replace(' [', '** [')} |" in first_page


def test_claims_of_the_same_demonstrations_train_one_policy_and_practise_each(monkeypatch, tmp_path: Path) -> None:
    steps: dict[str, list[Path]] = {}
    monkeypatch.setattr(
        stages, "_run", lambda title, made, *_: steps.update({title: [arguments[0] for _, arguments in made]})
    )
    jobs = [(claim_folder(tmp_path, claim), claim_settings(claim, ProofSettings())) for claim in CLAIMS]
    stages.prepare_all(jobs, 1, lambda *_: None)
    assert steps["Policies"] == [tmp_path / "of-20" / "policy-0", tmp_path / "of-120" / "policy-0"]
    assert len(set(steps["Practice"])) == len(set(steps["Fine-tuned controls"])) == len(CLAIMS)
    assert all(settings.variants == VARIANTS and settings.episodes == 134 for _, settings in jobs)


def test_a_run_that_was_interrupted_does_not_say_how_long_it_took() -> None:
    rows = [["ground", *map(str, range(len(COLUMNS) - 1))]]
    assert "It took 43 minutes." in claims_markdown(rows, "made", 43 * 60.0)
    assert "minutes" not in claims_markdown(rows, "made", None)
    assert "| ground | 0 | 1 |" in claims_markdown(rows, "made", None)


@pytest.mark.parametrize(
    "option",
    [["--ground", "push/plain"], ["--rounds", "1"], ["--variants", "off,by_cause"], ["--source", "rehearsal"]],
)
def test_what_a_claim_says_itself_cannot_be_said_beside_it(option: list[str], tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["proof", "--claims", "--work", str(tmp_path / "work"), *option])
    assert result.exit_code == 2 and "--claims names grounds" in " ".join(result.output.split())
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--source", "nobody"], "source 'nobody' is not known; known: expert, takeover, rehearsal, search"),
        (["--source", "rehearsal", "--rounds", "2"], "--rounds 2: source 'rehearsal' tries again by itself"),
    ],
)
def test_a_source_is_refused_before_anything_is_trained(options: list[str], said: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["proof", "--work", str(tmp_path / "work"), *options])
    assert result.exit_code == 2 and said in " ".join(result.output.split())
    assert not (tmp_path / "work").exists()
