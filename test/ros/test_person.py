# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A person at a terminal beside the graph: says yes to a plan that waits, and judges an episode on an arm."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from rclpy.action import ActionClient
from std_srvs.srv import SetBool

from flow_rag_vla.bringup import topics
from flow_rag_vla.bringup.security.permission import SCORE_EPISODE
from flow_rag_vla_interfaces.action import DeliberateTask

sys.path.insert(0, str(Path(__file__).parents[1] / "cli"))
from test_asking import Terminal

WAIT_S = 60.0


@pytest.fixture
def terminal(tmp_path):
    """``terminal("approve")``: a console command at a terminal of its own, in the tests' ROS domain."""
    started: list[Terminal] = []

    def start(*arguments: str) -> Terminal:
        started.append(Terminal(tmp_path, *arguments, **{name: os.environ[name] for name in ("ROS_DOMAIN_ID",)}))
        return started[-1]

    yield start
    for one in started:
        one.close()


@pytest.mark.parametrize(
    ("typed", "outcome", "shown"),
    [
        ("y\n", DeliberateTask.Result.OUTCOME_ACCEPTED, "approved by ada"),
        ("n\n", DeliberateTask.Result.OUTCOME_REJECTED, "rejected by ada"),
        ("", DeliberateTask.Result.OUTCOME_HELD, "held"),
    ],
    ids=["yes", "no", "silence"],
)
def test_a_plan_waits_for_the_word_of_a_person_at_a_terminal(
    start_node, ros_node, spin_until, terminal, tmp_path, monkeypatch, typed, outcome, shown
):
    monkeypatch.delenv("LLM_PROVIDER", raising=False)
    start_node("llm", provider="rules")
    start_node("deliberation", ask_below=0.9)
    asked = terminal("approve", "--person", "ada")
    asked.until("Ctrl-C ends")
    client = ActionClient(ros_node, DeliberateTask, topics.DELIBERATE_TASK)
    spin_until(client.server_is_ready, WAIT_S, "the action")
    # Silence is waited for as long as the deadline; a word comes at once.
    goal = DeliberateTask.Goal(instruction="open the drawer slowly", deadline=60.0 if typed else 8.0)
    sent = client.send_goal_async(goal)
    spin_until(sent.done, WAIT_S, "the goal's acceptance")
    done = sent.result().get_result_async()
    asked.until("do it: open the drawer, at 50% of the speed")
    asked.until("[y/N")
    asked.say(typed)
    spin_until(done.done, WAIT_S, "the decision")
    assert done.result().result.outcome == outcome, done.result().result.reason
    asked.until(shown)
    client.destroy()


def test_an_episode_on_an_arm_is_judged_by_a_word(ros_node, spin_until, terminal):
    nobody = terminal("score", "success")
    assert nobody.code() == 1 and "episode_manager/score is not there" in nobody.shown, nobody.shown
    judged: list[bool] = []

    def on_score(request, response):
        judged.append(request.data)
        return SetBool.Response(success=len(judged) < 2, message="no episode is running" if judged[1:] else "episode 7")

    ros_node.create_service(SetBool, SCORE_EPISODE, on_score)
    for word, code, said in (("success", 0, "episode 7"), ("failure", 1, "no episode is running")):
        command = terminal("score", word)
        spin_until(lambda command=command: command.process.poll() is not None, WAIT_S, "the command's end")
        assert command.code() == code and said in command.shown, command.shown
    assert judged == [True, False]
