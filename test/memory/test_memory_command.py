# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The console command ``memory`` on a database file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from flow_rag_vla.cli.memory import app
from flow_rag_vla.core.failure import FailureType
from flow_rag_vla.core.state import RobotState
from flow_rag_vla.memory.store import CaseFilter
from flow_rag_vla.policy.observation import proprioception

WIDE = {"COLUMNS": "200"}


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(item) for item in arguments], env=WIDE)


def felt_at(*position: float) -> np.ndarray:
    return proprioception(RobotState(0, np.array(position), np.array([1.0, 0.0, 0.0, 0.0])))


@pytest.fixture
def filled(make, open_memory, database) -> Path:
    memory = open_memory()
    memory.add(make.case(1, note="slipped", uses=2, successes=1, origin="left arm"))
    memory.add(
        make.case(
            2,
            task="stack",
            failure_type=FailureType.DROP,
            correction=make.motion(0.01),
            correction_source="expert",
            proprioception=felt_at(0.5, 0.0, 0.2),
        )
    )
    return database


def test_list_shows_the_cases_that_are_asked_for(filled):
    everything = invoke("list", "-d", filled)
    assert everything.exit_code == 0, everything.output
    for word in ("slipped", "grasp_failure", "1/2", "0.50", "left arm", "stack", "expert", "2 of 2 cases"):
        assert word in everything.output
    dropped = invoke("list", "-d", filled, "--type", "drop")
    assert "1 of 1 cases" in dropped.output and "slipped" not in dropped.output
    unknown = invoke("list", "-d", filled, "--type", "explosion")
    assert unknown.exit_code == 2 and "no failure type" in unknown.output


def test_show_gives_everything_about_one_case(filled):
    shown = invoke("show", 2, "-d", filled)
    assert shown.exit_code == 0, shown.output
    for word in ("drop", "compact@abc (16 numbers)", "gripper_width", "10.00", "expert"):
        assert word in shown.output
    missing = invoke("show", 9, "-d", filled)
    assert missing.exit_code == 1 and "no failure case has id 9" in missing.output


def test_edit_changes_what_a_person_knows_better(make, filled, open_memory, tmp_path):
    np.save(tmp_path / "better.npy", make.motion(0.004))
    np.savetxt(tmp_path / "better.csv", make.motion(0.005), delimiter=",")
    better = ("--correction", tmp_path / "better.npy")
    edited = invoke("edit", 1, "-d", filled, *better, "--note", "lift", "--type", "drop")
    assert edited.exit_code == 0, edited.output
    case = open_memory().get(1)
    assert (case.note, case.failure_type, case.correction_source) == ("lift", FailureType.DROP, "human")
    np.testing.assert_array_equal(case.correction, make.motion(0.004))
    assert invoke("edit", 1, "-d", filled, "--correction", tmp_path / "better.csv").exit_code == 0
    np.testing.assert_allclose(open_memory().get(1).correction, make.motion(0.005))
    assert invoke("edit", 1, "-d", filled, "--forget-correction").exit_code == 0
    assert open_memory().get(1).correction is None
    np.save(tmp_path / "short.npy", make.motion(0.004, 2))
    short = invoke("edit", 1, "-d", filled, "--correction", tmp_path / "short.npy")
    assert short.exit_code == 1 and "correction has 2 rows" in short.output
    missing = invoke("edit", 1, "-d", filled, "--correction", tmp_path / "none.npy")
    assert missing.exit_code == 2


def test_a_person_admits_a_proposed_correction_which_is_tried_like_every_other(make, filled, open_memory, tmp_path):
    failed = open_memory().get(1).failed_actions
    slower = invoke("admit", 1, "-d", filled, "--slower", "--person", "Kim", "--reason", "seen on the bench")
    assert slower.exit_code == 0, slower.output
    case = open_memory().get(1)
    assert (case.correction_source, case.note) == ("language_model", "slipped; admitted by Kim: seen on the bench")
    np.testing.assert_allclose(case.correction[:, :3], 0.6 * failed[:, :3], rtol=1e-5)
    further = invoke("admit", 1, "-d", filled, "--offset", 4, 0, "-8", "--person", "Kim")
    assert further.exit_code == 0, further.output
    moved = open_memory().get(1).correction[:, :3].sum(axis=0) - failed[:, :3].sum(axis=0)
    np.testing.assert_allclose(moved, [0.004, 0.0, -0.008], atol=1e-6)
    np.save(tmp_path / "better.npy", make.motion(0.004))
    assert invoke("admit", 1, "-d", filled, "--correction", tmp_path / "better.npy").exit_code == 0
    np.save(tmp_path / "wild.npy", make.motion(0.5))
    wild = invoke("admit", 1, "-d", filled, "--correction", tmp_path / "wild.npy")
    assert wild.exit_code == 1 and "m a tick; scale it" in wild.output
    np.testing.assert_array_equal(open_memory().get(1).correction, make.motion(0.004))


def test_what_a_person_may_not_admit_is_refused_with_what_to_do(make, filled, open_memory, tmp_path):
    for chosen in ((), ("--slower", "--offset", 0, 0, 5)):
        unclear = invoke("admit", 1, "-d", filled, *chosen)
        assert unclear.exit_code == 2 and "name one of" in unclear.output
    for far in (51, "nan"):
        assert "beyond 50 mm" in invoke("admit", 1, "-d", filled, "--offset", 0, 0, far).output
    nobody = invoke("admit", 1, "-d", filled, "--slower", "--person", " ")
    assert nobody.exit_code == 1 and "say who stands for it" in nobody.output
    trusted = invoke("admit", 2, "-d", filled, "--slower")
    assert trusted.exit_code == 1 and "memory edit 2 --forget-correction" in trusted.output
    missing = invoke("admit", 9, "-d", filled, "--slower")
    assert missing.exit_code == 1 and "no failure case has id 9" in missing.output
    assert open_memory().get(1).correction is None and open_memory().get(2).correction_source == "expert"


def test_retire_takes_a_case_out_and_back_in(filled, open_memory):
    assert invoke("retire", 1, "-d", filled, "--reason", "it hurt").exit_code == 0
    assert open_memory().get(1).retired_reason == "it hurt"
    assert "1 (retired)" in invoke("list", "-d", filled, "--retired").output
    assert invoke("retire", 1, "-d", filled, "--undo").exit_code == 0
    assert not open_memory().get(1).retired


def test_export_and_import_carry_cases_to_another_database(filled, open_memory, tmp_path):
    path, other = tmp_path / "cases.npz", tmp_path / "new" / "other.db"
    exported = invoke("export", path, "-d", filled)
    assert exported.exit_code == 0 and "2 cases" in exported.output
    assert invoke("export", path, "-d", filled).exit_code == 1
    dry = invoke("import", path, "-d", other, "--dry-run")
    assert dry.exit_code == 0 and "would import 2 cases" in dry.output and not other.exists()
    done = invoke("import", path, "-d", other, "--origin", "twin")
    assert done.exit_code == 0 and "imported 2 cases, 0 were known already" in done.output
    assert {case.origin for case in open_memory(other).page(CaseFilter())[1]} == {"twin"}
    again = invoke("import", path, "-d", other, "--dry-run")
    assert "would import 0 cases, 2 were known already" in again.output
    wrong = invoke("import", tmp_path / "none.npz", "-d", tmp_path / "third.db")
    assert wrong.exit_code == 1 and not (tmp_path / "third.db").exists()


def test_stats_counts_kinds_and_uses(filled, open_memory):
    said = invoke("stats", "-d", filled)
    assert said.exit_code == 0, said.output
    words = "2 active cases, 0 retired, of compact@abc", "not calibrated", "push/reach/grasp_failure", "newest: case"
    for word in words:
        assert word in said.output
    memory = open_memory(false_retrieval_rate=0.5)
    memory.observe_success([("push", "reach", memory.get(1).embedding)])
    assert "calibrated on 1 situations" in invoke("stats", "-d", filled).output


def test_salvage_mends_only_what_is_damaged(filled, open_memory):
    assert "nothing to do" in invoke("salvage", "-d", filled).output
    open_memory().store.checkpoint()
    filled.write_bytes(filled.read_bytes()[:5000])
    broken = invoke("list", "-d", filled)
    assert broken.exit_code == 1 and "memory salvage" in broken.output
    mended = invoke("salvage", "-d", filled)
    assert mended.exit_code == 0 and "intact cases are in" in mended.output and "corrupt-" in mended.output
    assert invoke("list", "-d", filled).exit_code == 0


@pytest.mark.parametrize("command", [("list",), ("stats",), ("salvage",), ("show", "1"), ("retire", "1")])
def test_a_database_that_is_not_there_is_named_and_not_made(tmp_path, command):
    said = invoke(*command, "-d", tmp_path / "none.db")
    assert said.exit_code == 1 and "there is no such database" in said.output
    assert not (tmp_path / "none.db").exists()


def test_merge_unites_two_databases_and_reports_what_it_refuses(make, filled, open_memory, tmp_path):
    other = open_memory(tmp_path / "left.db", origin="left")
    other.store.add(
        [
            make.case(1, origin="left", uses=4, successes=4),
            make.case(7, correction=make.motion(0.5), correction_source="expert"),
            make.case(8),
        ]
    )
    other.close()
    dry = invoke("merge", tmp_path / "left.db", "-d", filled, "--dry-run")
    assert dry.exit_code == 0, dry.output
    assert "would import 1 cases, 1 were known already, 1 of them brought something new, 1 were refused" in dry.output
    assert "refused case 2 there: correction: row 0 has a translation of 0.5000 m" in dry.output
    done = invoke("merge", tmp_path / "left.db", "-d", filled, "--origin", "bench")
    assert done.exit_code == 0 and "imported 1 cases" in done.output
    shown = invoke("show", 1, "-d", filled)
    for word in ("uses of left", "6, 5 of them", "merged by bench", "P(worse than no memory)"):
        assert word in shown.output
    wrong = invoke("merge", tmp_path / "none.db", "-d", filled)
    assert wrong.exit_code == 1 and "there is no such database" in wrong.output


@pytest.mark.parametrize("how", ["import", "merge"])
def test_a_dry_run_into_a_database_that_is_not_there_says_what_would_be_refused(make, open_memory, tmp_path, how):
    other = open_memory(tmp_path / "other.db")
    other.store.add(
        [
            make.case(1),
            make.case(
                2, correction=make.motion(0.5), correction_source="expert", proprioception=felt_at(0.5, 0.0, 0.2)
            ),
            make.case(1),
        ]
    )
    other.close()
    given, fleet = tmp_path / "other.db", tmp_path / "new" / "fleet.db"
    if how == "import":
        given = tmp_path / "gift.npz"
        assert invoke("export", given, "-d", tmp_path / "other.db").exit_code == 0
    dry = invoke(how, given, "-d", fleet, "--dry-run")
    assert dry.exit_code == 0 and not fleet.parent.exists(), dry.output
    assert f"would import 1 cases into {fleet}, which would be made, 1 were known already, 1 were refused" in dry.output
    assert "translation of 0.5000 m" in dry.output
    done = invoke(how, given, "-d", fleet)
    assert "imported 1 cases, 1 were known already, 1 were refused" in done.output
    wrong = invoke(how, given, "-d", tmp_path / "third.db", "--dry-run", "--profile", "so100")
    assert wrong.exit_code == 2 and "so101" in " ".join(wrong.output.split())


def test_merge_makes_a_database_that_is_to_take_cases_and_is_not_there(filled, tmp_path):
    fleet = tmp_path / "fleet.db"
    wrong = invoke("merge", tmp_path / "none.db", "-d", fleet)
    assert wrong.exit_code == 1 and "none.db: there is no such database" in wrong.output and not fleet.exists()
    dry = invoke("merge", filled, "-d", fleet, "--dry-run")
    assert dry.exit_code == 0 and "which would be made" in dry.output and not fleet.exists()
    done = invoke("merge", filled, "-d", fleet)
    assert done.exit_code == 0, done.output
    assert invoke("list", "-d", fleet).output.splitlines()[-1] == invoke("list", "-d", filled).output.splitlines()[-1]


def test_check_ends_with_1_on_a_case_that_should_not_act_and_can_retire_it(make, filled, open_memory):
    assert invoke("check", "-d", filled).exit_code == 0
    memory = open_memory()
    memory.store.add([make.case(7, correction=make.motion(0.5), correction_source="expert")])
    memory.close()
    found = invoke("check", "-d", filled)
    assert found.exit_code == 1 and "case 3: the guard stops it" in found.output and "1 found, 3 cases" in found.output
    mended = invoke("check", "-d", filled, "--retire", "--origin", "bench")
    assert mended.exit_code == 0 and "1 retired, 2 cases are active" in mended.output
    assert invoke("check", "-d", filled).exit_code == 0
    assert [(item.change, item.origin) for item in open_memory().get(3).history] == [("retired", "bench")]
    refused = invoke("restore", 3, "-d", filled, "--reason", "tried on the bench")
    assert refused.exit_code == 1 and "case 3 stays retired: correction: row 0" in refused.output


def test_check_tells_doubted_misreadings_and_forgets_them_without_losing_the_case(make, open_memory, database):
    memory = open_memory()
    aside, down = np.array([0.03, 0.0, 0.0]), np.array([0.0, 0.0, -0.149])
    for seed, metres in ((1, aside), (2, aside), (3, down)):
        embedding = make.turned(make.unit(1), 0.95, seed)
        moved = {"failed_actions": make.motion(0.003 * seed), "correction": make.motion(0.004)}
        case = make.case(seed, embedding=embedding, misreading=metres, correction_source="expert", **moved)
        memory.store.add([case])
    memory.close()
    found = invoke("check", "-d", database)
    assert found.exit_code == 1 and "1 found, 3 cases are active" in found.output
    said = " ".join(found.output.split())
    assert "case 3: its misreading of 149 mm contradicts" in said and "memory edit 3 --forget-misreading" in said
    mended = invoke("check", "-d", database, "--retire", "--origin", "bench")
    assert mended.exit_code == 0 and "0 retired, 1 misreadings forgotten, 3 cases are active" in mended.output
    assert invoke("check", "-d", database).exit_code == 0
    case = open_memory().get(3)
    assert case.misreading is None and case.correction is not None and not case.retired
    (entry,) = case.history
    assert (entry.change, entry.origin) == ("edited", "bench")
    assert entry.detail.startswith("misreading forgotten: its misreading of 149 mm contradicts")
    assert invoke("edit", 1, "-d", database, "--forget-misreading").exit_code == 0
    assert open_memory().get(1).misreading is None


def test_limits_and_workspace_are_those_of_the_robot_that_will_act(make, open_memory, database, tmp_path):
    other = open_memory(tmp_path / "other.db")
    outside = felt_at(0.31, 0.0, 0.1)
    other.add(make.case(1, correction=make.motion(0.007), correction_source="expert", proprioception=outside))
    gift = tmp_path / "gift.npz"
    assert invoke("export", gift, "-d", tmp_path / "other.db").exit_code == 0
    smaller = invoke("import", gift, "-d", database, "--profile", "so101")
    assert "imported 0 cases" in smaller.output and "it leaves the workspace in row 1: x" in smaller.output
    tight = tmp_path / "tight.yaml"
    tight.write_text("/**/failure_memory:\n  ros__parameters:\n    max_translation: 0.005\n    use_sim_time: true\n")
    slower = invoke("import", gift, "-d", database, "--params-file", tight)
    assert "imported 0 cases" in slower.output and "allowed is 0.005 m a tick" in slower.output
    assert "imported 1 cases" in invoke("import", gift, "-d", database).output
    assert invoke("check", "-d", database).exit_code == 0
    assert invoke("check", "-d", database, "--profile", "so101").exit_code == 1
    assert invoke("retire", 1, "-d", database).exit_code == 0
    assert invoke("restore", 1, "-d", database, "--params-file", tight).exit_code == 1
    assert invoke("restore", 1, "-d", database).exit_code == 0


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (("--profile", "so100"), "so101"),
        (("--params-file", "none.yaml"), "cannot be read"),
        (("--params-file", "other.yaml"), "says nothing of failure_memory"),
        (("--params-file", "wrong.yaml"), "max_translation"),
    ],
)
def test_limits_that_cannot_be_read_are_refused_before_anything_is_made(
    tmp_path, monkeypatch, make, open_memory, option, said
):
    monkeypatch.chdir(tmp_path)
    other = open_memory(tmp_path / "other.db")
    other.add(make.case(1))
    assert invoke("export", "gift.npz", "-d", "other.db").exit_code == 0
    (tmp_path / "other.yaml").write_text("controller: {ros__parameters: {}}")
    (tmp_path / "wrong.yaml").write_text("failure_memory: {ros__parameters: {max_translation: 7.0}}")
    refused = invoke("import", "gift.npz", "-d", "new.db", *option)
    assert refused.exit_code == 2 and said in " ".join(refused.output.split()) and not (tmp_path / "new.db").exists()


def test_restore_takes_a_case_back_and_says_who_did(filled, open_memory):
    assert invoke("retire", 1, "-d", filled, "--origin", "bench").exit_code == 0
    restored = invoke("restore", 1, "-d", filled, "--reason", "tried on the bench", "--origin", "bench")
    assert restored.exit_code == 0, restored.output
    history = open_memory().get(1).history
    assert [(item.change, item.origin) for item in history[-2:]] == [("retired", "bench"), ("restored", "bench")]


def test_show_writes_the_pictures_under_safe_names(make, filled, open_memory, tmp_path):
    from flow_rag_vla.memory.images import encoded

    memory = open_memory()
    memory.ledger.put_images({1: (encoded("../../front", np.zeros((8, 8, 3), np.uint8)),)})
    memory.close()
    assert invoke("show", 1, "-d", filled, "--images", tmp_path / "pictures").exit_code == 0
    assert [item.name for item in (tmp_path / "pictures").iterdir()] == ["case1_______front.png"]


@pytest.mark.parametrize(
    "command",
    ["list", "show", "edit", "admit", "retire", "restore", "export", "import", "merge", "check", "stats", "salvage"],
)
def test_every_command_shows_an_example(command):
    said = invoke(command, "--help")
    assert said.exit_code == 0 and f"flow_rag_vla memory {command}" in said.output
