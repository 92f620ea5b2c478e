# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flow_rag_vla.bringup.resources import share_folder
from flow_rag_vla.cli.main import app
from flow_rag_vla.cli.proof_claims import CLAIMS_PAGE
from flow_rag_vla.proof import claims, stages
from flow_rag_vla.proof.claims import (
    CLAIMS,
    COLUMNS,
    EXTERNAL,
    Claim,
    ExternalClaim,
    claim_folder,
    claim_row,
    claim_settings,
    claims_markdown,
    external_preparation,
)
from flow_rag_vla.proof.stages import Ground, ProofSettings
from flow_rag_vla.proof.steps import DONE

RESULTS = share_folder() / "docs" / "results"
ROWS = [(f"proof/{results}-summary.json", claim.memory) for claim in CLAIMS for results in claim.results]
ROWS += [("metaworld/summary.json", EXTERNAL.memory)]


@pytest.mark.parametrize(("results", "memory"), ROWS, ids=lambda value: str(value))
def test_each_claim_is_a_row_of_the_first_page_with_committed_trials(results: str, memory: str) -> None:
    row = claim_row(json.loads((RESULTS / results).read_text(encoding="utf-8")), memory)
    assert len(row) == len(COLUMNS) - 1
    cells = dict(zip(COLUMNS[1:], row, strict=True))
    first_page = (share_folder() / "README.md").read_text(encoding="utf-8")
    alone, value = (cells[name].partition(" (")[0] for name in ("policy alone", "with the memory"))
    assert f"| {int(cells['starts']):,} | {alone} | **{value.replace(' [', '** [')} |" in first_page


def test_every_row_of_the_first_page_about_the_memory_is_claimed() -> None:
    first_page = (share_folder() / "README.md").read_text(encoding="utf-8").splitlines()
    head = next(number for number, line in enumerate(first_page) if "shuffled memory |" in line)
    rows = [line for line in first_page[head + 2 :][: len(ROWS) + 2] if line.startswith("|")]
    # The last is that of the running graph, which `pairs` makes.
    assert len(rows) == len(ROWS) + 1 and "in the running graph" in rows[-1]


def test_claims_of_the_same_demonstrations_train_one_policy_and_practise_each(monkeypatch, tmp_path: Path) -> None:
    steps: dict[str, list[Path]] = defaultdict(list)
    monkeypatch.setattr(stages, "run_steps", lambda made, *_: [steps[step.title].append(step.folder) for step in made])
    jobs = [(claim_folder(tmp_path, claim), claim_settings(claim, ProofSettings())) for claim in CLAIMS]
    stages.prepare_all(jobs, 1, lambda *_: None)
    assert steps["Policies"] == [tmp_path / "of-20" / "policy-0", tmp_path / "of-120" / "policy-0"]
    # Where the memory begins empty nobody practises.
    assert len(set(steps["Practice"])) == len([claim for claim in CLAIMS if not claim.online]) < len(CLAIMS)
    tuned = [claim for claim in CLAIMS if "dagger" in claim.variants]
    assert len(set(steps["Fine-tuned controls"])) == len(tuned) < len(CLAIMS)
    assert all(settings.variants == claim.variants for claim, (_, settings) in zip(CLAIMS, jobs, strict=True))


def test_a_short_look_practises_and_trains_no_more_than_was_asked_for() -> None:
    settings = ProofSettings(practice=6, iterations=30)
    assert {claim_settings(claim, settings).practice for claim in CLAIMS} == {6}
    preparation = external_preparation(settings)
    assert (preparation.episodes, preparation.training.iterations) == (6, 30)
    usual = external_preparation(ProofSettings())
    assert (usual.episodes, usual.training.iterations) == (30, 800)


@pytest.mark.slow
def test_every_claim_is_made_measured_and_told_and_made_only_once(monkeypatch, tmp_path: Path) -> None:
    ground = Ground("open_drawer", "object_size")
    tiny = (Claim(ground, 1, 0, (), variants="off,by_cause"),
            Claim(ground, 1, 0, (), source="takeover", variants="off,dagger,by_cause"),
            Claim(ground, 1, 0, (), source="takeover", variants="off,online+by_cause", online=True))  # fmt: skip
    monkeypatch.setattr(claims, "CLAIMS", tiny)
    outside = ExternalClaim("car", ("gym/MountainCarContinuous-v0",), "off,dagger", "dagger", 2)
    monkeypatch.setattr(claims, "EXTERNAL", outside)
    work, results = tmp_path / "work", tmp_path / "results"
    command = ["proof", "--claims", "--quick", "--episodes", "1", "--work", str(work), "--results", str(results)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    page = (results / CLAIMS_PAGE).read_text(encoding="utf-8")
    rows = [line.split("|")[1].strip() for line in page.splitlines() if line.startswith("|")][2:]
    assert rows == ["open_drawer-object_size", "open_drawer-object_size-takeover",
                    "open_drawer-object_size-takeover-online", "car"]  # fmt: skip
    assert "It took" in page
    assert {path.name for path in results.glob("*.gz")} == {f"{row}-trials.jsonl.gz" for row in rows}
    # The first compares with no fine-tuned policy, so none was made.
    assert {path.name for path in work.glob("of-1/dagger-*")} == {"dagger-0-open_drawer-object_size-takeover"}

    made = {path: path.stat().st_mtime_ns for path in work.rglob(DONE)}
    assert CliRunner().invoke(app, command).exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in work.rglob(DONE)} == made
    again = (results / CLAIMS_PAGE).read_text(encoding="utf-8")
    assert "It took" not in again and again.splitlines()[:13] == page.splitlines()[:13]


def test_a_run_that_was_interrupted_does_not_say_how_long_it_took() -> None:
    rows = [["ground", *map(str, range(len(COLUMNS) - 1))]]
    assert "It took 43 minutes." in claims_markdown(rows, "made", 43 * 60.0)
    assert "minutes" not in claims_markdown(rows, "made", None)
    assert "| ground | 0 | 1 |" in claims_markdown(rows, "made", None)


@pytest.mark.parametrize(
    "option",
    [["--ground", "push/plain"], ["--rounds", "1"], ["--variants", "off,by_cause"], ["--source", "rehearsal"],
     ["--practice", "9"], ["--repeated", "off"], ["--online"]],
)  # fmt: skip
def test_what_a_claim_says_itself_cannot_be_said_beside_it(option: list[str], tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["proof", "--claims", "--work", str(tmp_path / "work"), *option])
    assert result.exit_code == 2 and "--claims names grounds" in " ".join(result.output.split())
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--source", "nobody"], "source 'nobody' is not known; known: expert, takeover, rehearsal, search"),
        (["--online", "--source", "takeover", "--rounds", "2"], "--online has no practice: leave out --practice"),
        (["--online"], "--online learns by --source takeover or rehearsal; it was 'expert'"),
        (["--source", "rehearsal", "--rounds", "2"], "--rounds 2: source 'rehearsal' tries again by itself"),
    ],
)
def test_a_source_is_refused_before_anything_is_trained(options: list[str], said: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["proof", "--work", str(tmp_path / "work"), *options])
    assert result.exit_code == 2 and said in " ".join(result.output.split())
    assert not (tmp_path / "work").exists()
