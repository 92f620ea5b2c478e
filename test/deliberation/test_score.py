# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Seven criteria with measured terms: vetoes first, and what was not measured stays unknown."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from tabletop import plan_of, table

from flow_rag_vla.core.failure import FailureType
from flow_rag_vla.data.episode_record import EpisodeRecord, FailureRecord, PhaseSpan, record_path, write_record
from flow_rag_vla.deliberation.chance import beta_cumulated, chance
from flow_rag_vla.deliberation.checks import check_plan
from flow_rag_vla.deliberation.history import (
    EpisodeFact,
    HistoryError,
    case_histories,
    fact_from_json,
    fact_to_json,
    read_history,
)
from flow_rag_vla.deliberation.limits import simulated_limits
from flow_rag_vla.deliberation.scene import Thing
from flow_rag_vla.deliberation.score import CRITERIA, Experience, PlanScore, ScoreSettings, score_plan
from flow_rag_vla.evaluate.trials.journal import Journal
from flow_rag_vla.evaluate.trials.protocol import FailureSeen, Start, Trial, TrialResult
from flow_rag_vla.failure.thresholds import RuleThresholds
from flow_rag_vla.memory.memory import FailureMemory

PLAN = plan_of(("pick_and_place", "red_cube"))


def fact(success: bool = True, failures: tuple[str, ...] = (), **fields: object) -> EpisodeFact:
    values = {"first_contact": 1.5, "peak_force": 6.0, "moved_others": 0.001, **fields}
    return EpisodeFact("pick_and_place", success, 5.0 if success else 10.0, failures, **values)


def scored(experience: Experience, plan=PLAN, scene=None, **fields: object) -> PlanScore:
    robot = fields.pop("robot", simulated_limits())
    report = check_plan(plan, scene, robot)
    return score_plan(plan.goals, report, scene, robot, experience, **fields)


def term(score: PlanScore, name: str):
    return next(one for one in score.terms if one.name == name)


@given(st.integers(0, 60), st.integers(0, 60))
def test_a_chance_has_the_interval_of_its_beta_posterior(successes, failures):
    found, trials = chance(successes, successes + failures), successes + failures
    posterior = stats.beta(successes + 0.5, failures + 0.5)
    assert found.mean == pytest.approx(posterior.mean())
    assert found.low == pytest.approx(0.0 if successes == 0 else posterior.ppf(0.025), abs=1e-8)
    assert found.high == pytest.approx(1.0 if successes == trials else posterior.ppf(0.975), abs=1e-8)


@given(st.floats(0.0, 1.0), st.floats(0.3, 300.0), st.floats(0.3, 300.0))
def test_the_cumulated_beta_is_the_known_one(x, a, b):
    assert beta_cumulated(x, a, b) == pytest.approx(stats.beta.cdf(x, a, b), abs=1e-9)


def test_nothing_measured_is_nothing_known_and_the_score_is_a_wide_range():
    score = scored(Experience())
    assert set(score.unknown) == set(CRITERIA)
    assert score.score is None and (score.low, score.high) == (0.0, 1.0)
    assert all(one.value is None and one.source for one in score.terms)


def test_every_term_is_what_the_episodes_show():
    facts = (*(fact() for _ in range(6)), fact(False, ("drop", "grasp_failure", "timeout")), fact(False, ("drop",)))
    facts += tuple(fact(False, ("grasp_failure", "timeout")) for _ in range(3))
    score = scored(Experience(facts), scene=table())
    assert score.unknown == () and not score.vetoes
    assert term(score, "certainty").value == pytest.approx(6.5 / 12) and term(score, "certainty").samples == 11
    assert term(score, "duration").value == 5.0 and term(score, "duration").good == 0.5
    assert term(score, "propinquity").good == 0.5
    # Of five episodes with a failure, running out of time aside, one had a second one.
    assert term(score, "fecundity").value == pytest.approx(4.5 / 6)
    # Two of eleven dropped something.
    assert term(score, "purity").value == pytest.approx(9.5 / 12)
    assert term(score, "extent").value == 2.0  # blue box and cylinder, 13 and 14 cm from the cube
    # The simulated arm is led as fast as it may go: no margin is left.
    assert term(score, "intensity").value == 0.0
    half = scored(Experience(facts), scene=table(), speed_scale=0.5)
    assert term(half, "intensity").value == pytest.approx(0.5)
    assert 0.0 < score.low < score.score < score.high < 1.0


def test_the_force_that_is_too_much_is_that_of_the_rules_for_tasks_that_pull(monkeypatch):
    facts, limits = Experience(tuple(fact() for _ in range(6))), RuleThresholds()
    pushed = term(scored(facts, speed_scale=0.01), "intensity").value
    monkeypatch.setattr("flow_rag_vla.deliberation.score.PULL_TASKS", frozenset({"pick_and_place"}))
    pulled = term(scored(facts, speed_scale=0.01), "intensity").value
    assert pushed == pytest.approx(1.0 - 6.0 / limits.collision_force_contact)
    assert pulled == pytest.approx(1.0 - 6.0 / limits.collision_force_pull) and pulled != pushed


def test_a_term_is_unknown_below_enough_episodes_and_says_how_many_there_are():
    score = scored(Experience((fact(), fact(), fact(False))))
    assert set(score.unknown) == set(CRITERIA)
    assert "2 episodes of pick_and_place say so, 5 needed" in term(score, "duration").source


def test_a_plan_is_as_sure_as_the_product_of_its_steps():
    facts = tuple(fact() for _ in range(9))
    one = term(scored(Experience(facts)), "certainty").value
    two = scored(Experience(facts), plan_of(("pick_and_place", "red_cube"), ("pick_and_place", "blue_box")))
    assert term(two, "certainty").value == pytest.approx(one**2)
    missing = scored(Experience(facts), plan_of(("pick_and_place", "red_cube"), ("open_drawer", "drawer")))
    assert "open_drawer" in term(missing, "certainty").source and missing.score is None


def test_what_surely_fails_is_vetoed_and_a_refusal_of_the_checks_is_a_veto(robot):
    hopeless = scored(Experience(tuple(fact(False, ("drop",)) for _ in range(30))))
    assert "expected at least 0.2" in hopeless.vetoes[0]
    person = replace(table(), things=(*table().things, Thing("person", (0.45, 0.1, 0.02))))
    assert "step back" in scored(Experience(tuple(fact() for _ in range(9))), scene=person).vetoes[0]
    unchecked = score_plan(PLAN.goals, replace(check_plan(PLAN, None, robot), checks=()), None, robot, Experience())
    assert "not checked" in unchecked.vetoes[0]
    assert "nothing to do" in score_plan((), check_plan(PLAN, None, robot), None, robot, Experience()).vetoes[0]


facts_drawn = st.lists(
    st.builds(
        fact,
        st.booleans(),
        st.lists(st.sampled_from(["drop", "collision", "grasp_failure", "timeout"]), max_size=4).map(tuple),
        first_contact=st.none() | st.floats(0.0, 10.0),
        peak_force=st.none() | st.floats(0.0, 200.0),
        moved_others=st.none() | st.floats(0.0, 1.0),
    ),
    max_size=20,
)
weights_drawn = st.fixed_dictionaries(dict.fromkeys(CRITERIA, st.floats(0.0, 10.0))).filter(
    lambda w: sum(w.values()) > 0
)


@given(facts_drawn, weights_drawn, st.floats(0.01, 1.0))
def test_every_score_lies_in_its_range_and_every_term_in_its_own(facts, weights, scale):
    score = scored(Experience(tuple(facts)), scene=table(), speed_scale=scale, settings=ScoreSettings(weights))
    assert 0.0 <= score.low <= score.high <= 1.0 + 1e-9
    assert [one.name for one in score.terms] == list(CRITERIA)
    for one in score.terms:
        assert 0.0 <= one.good_low <= one.good_high <= 1.0
        assert (one.value is None) == (one.good is None)
        assert one.good is None or one.good_low - 1e-9 <= one.good <= one.good_high + 1e-9
    if not score.unknown and score.score is not None:
        assert score.low - 1e-9 <= score.score <= score.high + 1e-9


@given(facts_drawn)
def test_a_success_more_never_makes_a_plan_less_sure(facts):
    before = term(scored(Experience(tuple(facts))), "certainty")
    after = term(scored(Experience((*facts, fact()))), "certainty")
    assert before.value is None or after.value >= before.value


def test_wrong_settings_are_refused():
    for weights in ({}, dict.fromkeys(CRITERIA, 0.0), {**dict.fromkeys(CRITERIA, 1.0), "purity": math.nan}):
        with pytest.raises(ValueError, match="weight"):
            ScoreSettings(weights)


def test_episodes_of_the_graph_trials_and_rehearsals_are_read_alike(tmp_path):
    seen = FailureRecord(1, "drop", 1.0, "transport", "drop", "it fell", 0, 0, 2.0)
    spans = (PhaseSpan("reach", 0.0, 1.2), PhaseSpan("grasp", 1.2, 2.0))
    for number, outcome in enumerate(("success", "failure", "canceled"), 1):
        record = EpisodeRecord(
            number, "push", "plain", "push it", number, outcome, "", 0, 1, 4.0, 12.0, spans,
            (seen,) if outcome == "failure" else (),
        )  # fmt: skip
        write_record(record_path(tmp_path / "run/episodes", number), record)
    first, second = read_history(tmp_path / "run")
    assert (first.success, second.success, second.failures, first.first_contact) == (True, False, ("drop",), 1.2)

    trial = Trial("pybullet/push/plain/p", "consensus", Start(3, 3))
    with Journal(tmp_path / "trials/trials.jsonl") as journal:
        failures = (FailureSeen("collision", 1.0),)
        journal.append(TrialResult(trial, "push", "plain", "p", False, 12.0, failures=failures))
    (found,) = read_history(tmp_path / "trials")
    assert (found.failures, found.method, found.seed, found.first_contact) == (("collision",), "consensus", 3, None)

    lines = fact_to_json(first) + fact_to_json(second) + '{"task": "half a li'
    (tmp_path / "rehearsals.jsonl").write_text(lines, encoding="utf-8")
    assert read_history(tmp_path / "rehearsals.jsonl") == (first, second)


def test_what_is_no_log_is_refused_with_the_remedy(tmp_path):
    with pytest.raises(HistoryError, match="name a run's folder"):
        read_history(tmp_path)
    (tmp_path / "rehearsals.jsonl").write_text('{"task": 3, "colour": "red"}\n', encoding="utf-8")
    with pytest.raises(HistoryError, match="no episode of a rehearsal"):
        read_history(tmp_path)
    bad = json.loads(fact_to_json(fact())) | {"duration": -1.0}
    with pytest.raises(ValueError, match="duration"):
        fact_from_json(json.dumps(bad))


def test_what_a_memory_counted_makes_a_plan_sure_where_no_episode_does(tmp_path, case):
    database = tmp_path / "memory.db"
    memory, _ = FailureMemory.open(database)
    made = case(task="pick_and_place", failure_type=FailureType.DROP)
    case_id = memory.add(made).case_id
    for success in (True, True, True, False, True, True):
        memory.record_use([case_id], success)
    memory.close()
    cases = case_histories(database)
    assert (cases["pick_and_place"].uses, cases["pick_and_place"].successes) == (6, 5)
    certainty = term(scored(Experience(cases=cases)), "certainty")
    assert certainty.value == pytest.approx(5.5 / 7) and "5 of 6 uses of 1 cases" in certainty.source
    # Episodes that are on record count each attempt once, so they come first.
    logged = term(scored(Experience(tuple(fact(False) for _ in range(5)), cases)), "certainty")
    assert logged.value == pytest.approx(0.5 / 6)
