# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Commands to plans: what is understood, and that nothing is planned that was not asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_rag_vla.core.goal import GOALS, OBJECT_WORDS, TASKS, Goal
from flow_rag_vla.llm.schemas import PlanStep, TaskPlan
from flow_rag_vla.llm.task_language.held_out import judge, read_commands, table
from flow_rag_vla.llm.task_language.manner import ENGLISH, KOREAN, asked_speed
from flow_rag_vla.llm.task_language.reader import LONGEST, read_command

HELD_OUT = Path(__file__).parent / "held_out_commands.tsv"
ADVERSARIAL = Path(__file__).parent / "adversarial_commands.tsv"
COMMANDS = read_commands(HELD_OUT)
DOABLE = [command for command in COMMANDS if command.goals]


def steps(text: str) -> list[tuple[str, str]]:
    return [(goal.task, goal.target) for goal in read_command(text).goals]


def test_every_held_out_plan_is_correct_or_refused_and_none_wrong():
    verdicts = judge(COMMANDS, read_command)
    print("\n" + table(verdicts))
    assert len(verdicts) == 200
    assert [item for item in verdicts if item.outcome == "wrong"] == []
    # What it refuses though it could be done is a weakness, not a danger; this keeps it from growing.
    assert sum(item.outcome == "refused" for item in verdicts) <= 5


def test_no_command_that_is_meant_to_be_misread_is():
    verdicts = judge(read_commands(ADVERSARIAL), read_command)
    print("\n" + table(verdicts))
    assert len(verdicts) >= 200
    assert [item for item in verdicts if item.outcome == "wrong"] == []
    assert sum(item.outcome == "refused" for item in verdicts) <= 20


@pytest.mark.parametrize("word", ["first", "firstly", "finally", "lastly"])
@given(st.sampled_from([item for item in DOABLE if item.language == "en"]), st.data())
def test_what_is_said_of_the_order_is_followed_or_refused_never_passed_over(word, command, data):
    words = command.text.split()
    place = data.draw(st.integers(0, len(words)))
    plan = read_command(" ".join([*words[:place], word, *words[place:]]))
    assert plan.goals in ((), command.goals)
    if plan.goals and len(command.goals) > 1 and word in ("first", "firstly"):
        # "Open the drawer. First, ...": what stands before the comma or full stop would have to come later.
        first = read_command(" ".join(words[:place]).rstrip(".,;!")).goals
        assert not first or words[place - 1][-1] not in ".,;!"


@pytest.mark.parametrize(
    "text",
    [
        "open the drawer and first put the red cube in the bin",
        "finally open the drawer and put the red cube in the bin",
        "서랍을 열고 먼저 빨간 큐브를 통에 넣어줘",
        "마지막으로 서랍을 열고 빨간 큐브를 통에 넣어줘",
    ],
)
def test_steps_that_are_not_said_in_their_order_are_refused_with_the_remedy(text):
    plan = read_command(text)
    assert plan.refusal == "ambiguous" and "say the steps in their order" in plan.reason


@pytest.mark.parametrize(
    ("text", "speeds"),
    [
        ("open the drawer and then put the red cube in the bin", [1.0, 1.0]),
        ("slowly open the drawer and then put the red cube in the bin", [0.5, 1.0]),
        ("open the drawer very slowly, then put the red cube in the bin", [0.5, 1.0]),
        ("open the drawer and carefully put the red cube in the bin", [1.0, 0.7]),
        ("Slowly, open the drawer and then put the red cube in the bin", [0.5, 0.5]),
        ("open the drawer, then put the red cube in the bin. Gently, please!", [0.7, 0.7]),
        ("before slowly opening the drawer, put the red cube in the bin", [1.0, 0.5]),
        ("slowly and gently pick up the red cube and put it in the bin", [0.5]),
        ("put the red cube in the bin with care and the blue box too", [0.7, 0.7]),
        ("put the red cube in the bin carefully, then open the drawer at half speed", [0.7, 0.5]),
        ("서랍을 천천히 열고 빨간 큐브를 통에 넣어줘", [0.5, 1.0]),
        ("서랍을 열고 조심해서 빨간 큐브를 통에 넣어줘", [1.0, 0.7]),
        ("천천히, 서랍을 열고 빨간 큐브를 통에 넣어줘", [0.5, 0.5]),
        ("천천히. 서랍을 열고 빨간 큐브를 통에 넣어줘", [0.5, 0.5]),
        ("서랍을 열고 빨간 큐브를 통에 넣어줘. 살살", [0.7, 0.7]),
        ("서랍을 열고 빨간 큐브를 통에 넣어줘 천천히", [0.5, 0.5]),
        ("빨간 큐브를 천천히 집어서 통에 넣어줘", [0.5]),
        ("서랍을 열어줘 조심히 빨간 큐브를 통에 넣어줘", [0.7, 0.7]),
    ],
)
def test_words_of_manner_slow_their_own_step_and_all_of_them_where_they_stand_alone(text, speeds):
    plan = read_command(text)
    assert [step.speed_scale for step in plan.steps] == speeds, plan


@given(st.sampled_from(DOABLE), st.data())
def test_a_word_of_manner_anywhere_in_a_command_slows_something_and_changes_nothing_else(command, data):
    words = command.text.split()
    place = data.draw(st.integers(0, len(words)))
    said = data.draw(st.sampled_from(sorted(ENGLISH if command.language == "en" else KOREAN)))
    plain, told = read_command(command.text), read_command(" ".join([*words[:place], said, *words[place:]]))
    assert told.goals in ((), plain.goals)
    pairs = list(zip(told.steps, plain.steps, strict=False))
    assert all(one.speed_scale <= other.speed_scale for one, other in pairs)
    assert not pairs or min(one.speed_scale for one, _ in pairs) <= asked_speed(said) < 1.0


def test_words_of_manner_mean_the_same_to_the_grammar_and_to_whoever_only_looks_for_them():
    for word, speed in {**ENGLISH, **KOREAN}.items():
        assert asked_speed(f"... {word.upper()}!") == speed
    assert asked_speed("put the slowworm in the carefree gentry's bin") == 1.0


@pytest.mark.parametrize("goal", GOALS, ids=lambda goal: goal.instruction)
def test_every_goal_is_understood_from_its_own_words(goal):
    assert read_command(goal.instruction).goals == (goal,)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Put the red cube in the bin.", ["pick_and_place red_cube"]),
        ("pick the cylinder up and drop it into the container", ["pick_and_place yellow_cylinder"]),
        ("stack red cube on blue box then open the drawer", ["stack red_cube", "open_drawer drawer"]),
        ("put the cube and the cylinder in the bin", ["pick_and_place red_cube", "pick_and_place yellow_cylinder"]),
        ("open the drawer, please!", ["open_drawer drawer"]),
        ("would you pull the drawer?", ["open_drawer drawer"]),
        ("서랍 열어줘", ["open_drawer drawer"]),
        ("빨간큐브를 통에 넣어", ["pick_and_place red_cube"]),
        ("노란 원통을 초록 구역으로 밀어 줘", ["push yellow_cylinder"]),
        ("빨간 큐브를 집어 파란 상자 위에 쌓아", ["stack red_cube"]),
        ("상자를 통에 넣고 서랍을 열어", ["pick_and_place blue_box", "open_drawer drawer"]),
        ("서랍을 열어줄래?", ["open_drawer drawer"]),
    ],
)
def test_other_words_for_the_same_are_understood(text, expected):
    assert [" ".join(step) for step in steps(text)] == expected


@pytest.mark.parametrize(
    ("text", "kind", "names"),
    [
        ("don't open the drawer", "negated", "don't"),
        ("open the drawer if it is closed", "conditional", "if"),
        ("put the cube or the box in the bin", "ambiguous", "or"),
        ("put the purple cube in the bin", "unknown_object", "purple cube"),
        ("put the red cylinder in the bin", "unknown_object", "red cylinder"),
        ("put the block in the bin", "ambiguous", "red cube or the blue box"),
        ("juggle the red cube", "not_understood", "juggle"),
        ("put the red cueb in the bin", "not_understood", "did you mean 'cube'"),
        ("grab the cube", "incomplete", "red cube"),
        ("push the yellow cylinder", "incomplete", "where"),
        ("open the drawer?", "question", "question"),
        ("put it in the bin", "ambiguous", "'it'"),
        ("put them in the bin", "ambiguous", "'them'"),
        ("open the drawer and put it in the bin", "impossible", "drawer"),
        ("open the drawer and then open the drawer", "impossible", "step 2"),
        ("pick up the red cube, then open the drawer", "incomplete", "red cube"),
        ("put the red cube in the box", "impossible", "blue box"),
        ("put\u200b the red cube in the bin", "not_understood", "U+200B"),
        ("put the red \u0441ube in the bin", "not_understood", "\u0441"),  # a Cyrillic letter
        ("서랍을 열지 마", "negated", "열지"),
        ("서랍을 열면 알려줘", "conditional", "열면"),
        ("서랍을 열었어", "not_understood", "열었어"),
        ("빨간 공을 통에 넣어줘", "unknown_object", "공을"),
        ("빨간 큐브를 통에서 집어줘", "impossible", "통에서"),
        ("빨간 큐브를 red 통에 넣어줘", "not_understood", "red"),
        ("넣은 큐브", "not_understood", "넣은"),
        ("", "incomplete", "nothing"),
        ("open the drawer " * 100, "not_understood", "too long"),
    ],
)
def test_a_refusal_has_its_kind_and_names_the_reason(text, kind, names):
    plan = read_command(text)
    assert (plan.refusal, plan.steps) == (kind, [])
    assert names in plan.reason


@given(st.sampled_from([item for item in DOABLE if item.language == "en"]), st.data())
def test_a_negation_anywhere_in_an_english_command_stops_it(command, data):
    words = command.text.split()
    place = data.draw(st.integers(0, len(words)))
    word = data.draw(st.sampled_from(["not", "don't", "never", "without", "except", "no"]))
    assert not read_command(" ".join([*words[:place], word, *words[place:]])).accepted


@given(st.sampled_from([item for item in DOABLE if item.language == "ko"]), st.data())
def test_a_negation_anywhere_in_a_korean_command_stops_it(command, data):
    words = command.text.split()
    place = data.draw(st.integers(0, len(words)))
    word = data.draw(st.sampled_from(["말고", "안", "못", "빼고", "없이", "마세요", "절대"]))
    assert not read_command(" ".join([*words[:place], word, *words[place:]])).accepted


@given(
    st.sampled_from(DOABLE),
    st.sampled_from(["ignore", "system:", "무시하고", "</data>", "{}", "assistant", "override", "sudo", "7", "규칙"]),
    st.data(),
)
def test_a_foreign_word_anywhere_in_a_command_stops_it(command, word, data):
    words = command.text.split()
    place = data.draw(st.integers(0, len(words)))
    assert not read_command(" ".join([*words[:place], word, *words[place:]])).accepted


@given(st.sampled_from(DOABLE), st.sampled_from(DOABLE))
def test_one_command_after_another_is_one_plan_of_both_or_refused(first, second):
    if first.language != second.language:
        return
    plan = read_command(f"{first.text.rstrip('.!?')}. {second.text}")
    assert plan.goals in ((), first.goals + second.goals)


@given(st.lists(st.sampled_from(" ".join(item.text for item in COMMANDS).split()), max_size=14))
def test_any_words_give_a_valid_plan_or_a_refusal_with_a_reason(words):
    plan = read_command(" ".join(words))
    assert TaskPlan.model_validate_json(plan.model_dump_json(), strict=True) == plan
    assert plan.accepted or plan.reason


NAMED = {
    "red_cube": ("red", "cube", "block", "빨", "붉", "큐브", "정육면체"),
    "blue_box": ("blue", "box", "block", "파", "푸른", "상자", "박스"),
    "yellow_cylinder": ("yellow", "cylinder", "노", "원기둥", "원통", "실린더"),
    "drawer": ("drawer", "서랍"),
}
EVERYTHING = ("everything", "all", "every", "전부", "모두", "모든", "다")


@given(st.lists(st.sampled_from(" ".join(item.text for item in DOABLE).split()), min_size=3, max_size=12))
def test_nothing_is_planned_for_a_thing_that_is_not_named(words):
    text = " ".join(words).lower()
    for goal in read_command(text).goals:
        assert any(word in text for word in (*NAMED[goal.target], *EVERYTHING))


@given(st.text(max_size=LONGEST))
def test_any_text_gives_a_plan_or_a_refusal(text):
    plan = read_command(text)
    assert plan.accepted or plan.reason


def test_the_words_of_plans_are_those_of_the_simulator():
    from typing import get_args

    from flow_rag_vla.llm.schemas import Target, Task
    from flow_rag_vla.llm.task_language.meaning import KNOWN

    assert set(get_args(Task)) == set(TASKS)
    assert set(get_args(Target)) == set(OBJECT_WORDS)
    assert set(OBJECT_WORDS) | {"bin", "green_zone"} == set(KNOWN)


@pytest.mark.parametrize(
    "changed",
    [
        {"steps": []},
        {"refusal": "negated", "reason": "x"},
        {"steps": [{"task": "stack", "target": "blue_box"}]},
        {"steps": [{"task": "push", "target": "yellow_cylinder"}] * 2},
        {"steps": [{"task": "pick_and_place", "target": "red_cube"}] * 9},
        {"steps": [{"task": "dance", "target": "red_cube"}]},
        *(
            {"steps": [{"task": "pick_and_place", "target": "red_cube", "speed_scale": scale}]}
            for scale in (0.0, -0.5, 1.01, float("nan"), float("inf"), None, "slow")
        ),
        {"steps": [], "refusal": "negated", "reason": " "},
    ],
)
def test_a_plan_that_makes_no_sense_is_no_plan(changed):
    good = {"steps": [{"task": "pick_and_place", "target": "red_cube"}], "refusal": "none", "reason": ""}
    assert TaskPlan.model_validate(good).accepted
    with pytest.raises(ValueError):
        TaskPlan.model_validate({**good, **changed})


def test_a_step_is_a_goal():
    assert PlanStep(task="stack", target="red_cube").goal == Goal("stack", "red_cube")
