# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Processes are kept up, and ended cleanly."""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
import time
from functools import partial

import pytest

from flow_rag_vla.bringup import spare as spare_module
from flow_rag_vla.bringup import supervisor as module
from flow_rag_vla.bringup.graph import NodeSpec, Process, SimulatorParameters
from flow_rag_vla.bringup.supervisor import Supervisor, last_line
from flow_rag_vla.core.middleware_watch import OutsideWatch

OBEDIENT = "import signal, sys; signal.sigwait({signal.SIGINT}); sys.exit(0)"
DEAF = (
    "import signal, time; [signal.signal(n, signal.SIG_IGN) for n in (2, 15)]; print('up', flush=True); time.sleep(60)"
)


@dataclasses.dataclass(frozen=True)
class Script(Process):
    """A node whose program is a line of Python."""

    code: str = ""


@pytest.fixture
def supervise(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "command_line", lambda process: [sys.executable, "-c", process.code])
    monkeypatch.setattr(module, "RESPAWN_DELAY_S", 0.0)
    started = []

    def start(**scripts):
        processes = [
            Script(NodeSpec(name, SimulatorParameters, "", respawn=name != "controller"), "", "", {}, "info", code)
            for name, code in scripts.items()
        ]
        events = []
        made = Supervisor(processes, tmp_path / "log", events.append)
        made.start()
        started.append(made)
        return made, events

    yield start
    for made in started:
        made.stop(patience_s=0.1)


def wait_for(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "nothing happened"
        os.sched_yield()
    return found


def test_a_node_that_dies_is_started_again_and_said_to_be(supervise):
    graph, events = supervise(camera_encoder=OBEDIENT)
    first = graph.pid("camera_encoder")
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: graph.poll() is None and graph.pid("camera_encoder") not in (None, first))
    assert graph.restarts == 1
    assert events == ["camera_encoder ended with code -9; starting it again"]


def test_a_node_that_dies_early_waits_before_it_is_started_from_the_second_time_in_a_row_on(supervise, monkeypatch):
    monkeypatch.setattr(module, "RESPAWN_DELAY_S", 1000.0)
    graph, events = supervise(recorder="raise SystemExit(1)")
    wait_for(lambda: graph.poll() is None and len(events) == 2)
    for _ in range(3):
        assert graph.poll() is None
    assert graph.restarts == 1 and graph.pid("recorder") is None


def test_a_node_that_is_locked_out_of_its_middleware_is_killed_and_started_again(supervise, locked_out, monkeypatch):
    monkeypatch.setattr(module, "OutsideWatch", partial(OutsideWatch, look_every_s=0.05))
    graph, events = supervise(robot_camera=locked_out, controller=OBEDIENT)
    first = graph.pid("robot_camera")
    wait_for(lambda: graph.poll() is None and graph.pid("robot_camera") not in (None, first))
    assert events == [
        "robot_camera has locked itself out of its middleware and is killed",
        "robot_camera ended with code -9; starting it again",
    ]


FORKING = """
import signal, sys
from flow_rag_vla.nodes.standby import _fork
print('ready', flush=True)
while line := sys.stdin.readline():
    if _fork():
        print('became', line.strip(), file=sys.stderr, flush=True)
        signal.sigwait({signal.SIGINT})
        sys.exit(0)
"""


@pytest.fixture
def at_once(monkeypatch):
    """Spares from the start on, that fork what ends when it is asked to."""
    monkeypatch.setattr(module, "SPARE_AFTER_S", 0.0)
    monkeypatch.setattr(module, "SPARE_AGAIN_S", 0.0)
    monkeypatch.setattr(spare_module, "command_line", lambda _nodes: [sys.executable, "-c", FORKING])


@pytest.mark.parametrize("node", ["camera_encoder", "recorder"])
def test_a_spare_takes_the_place_of_a_node_that_died_and_stays_for_the_next_time(supervise, at_once, node):
    graph, _ = supervise(controller=OBEDIENT, **{node: OBEDIENT})
    (spare,) = graph._spares
    assert node in spare.nodes and "controller" not in spare.nodes
    wait_for(lambda: graph.poll() is None and spare.ready)
    waiting, log = spare.pid, graph._log_folder / "standby.log"
    for deaths in (1, 2):
        was = graph.pid(node)
        os.kill(was, signal.SIGKILL)
        wait_for(lambda was=was: graph.poll() is None and graph.pid(node) not in (None, was))
        wait_for(lambda deaths=deaths: log.read_text().count("became") == deaths)
        assert f"flow_rag_vla.nodes.{node}" in log.read_text()
        assert os.getpgid(graph.pid(node)) == graph.pid(node) != waiting, "a session of its own"
        assert spare.ready and spare.pid == waiting
    assert graph.restarts == 2
    assert graph.stop(patience_s=20.0) == [] and graph.pid(node) is None


def test_a_spare_that_died_is_replaced_and_does_not_take_its_nodes_along(supervise, at_once):
    graph, _ = supervise(controller=OBEDIENT, recorder=OBEDIENT)
    (spare,) = graph._spares
    wait_for(lambda: graph.poll() is None and spare.ready)
    os.kill(graph.pid("recorder"), signal.SIGKILL)
    wait_for(lambda: graph.poll() is None and graph.restarts == 1)
    node, waiting = graph.pid("recorder"), spare.pid
    os.kill(waiting, signal.SIGKILL)
    wait_for(lambda: graph.poll() is None and spare.pid not in (None, waiting) and spare.ready)
    assert graph.pid("recorder") == node and graph.restarts == 1


def test_a_spare_that_does_not_answer_is_given_up_and_leaves_no_second_node(supervise, at_once, monkeypatch):
    monkeypatch.setattr(spare_module, "FORKED_WITHIN_S", 0.1)
    graph, _ = supervise(controller=OBEDIENT, recorder=OBEDIENT)
    (spare,) = graph._spares
    wait_for(lambda: graph.poll() is None and spare.ready)
    waiting = spare.pid
    os.kill(waiting, signal.SIGSTOP)
    was = graph.pid("recorder")
    os.kill(was, signal.SIGKILL)
    wait_for(lambda: graph.poll() is None and graph.pid("recorder") not in (None, was))
    assert "became" not in (graph._log_folder / "standby.log").read_text()
    wait_for(lambda: graph.poll() is None and spare.pid not in (None, waiting) and spare.ready)


def test_the_end_of_the_controller_ends_the_graph(supervise):
    graph, _ = supervise(controller="raise SystemExit('the loop broke')")
    assert "the loop broke" in wait_for(graph.poll)


def test_a_wrong_parameter_ends_the_graph_with_the_nodes_own_words(supervise):
    graph, _ = supervise(flow_policy="import sys; print('steps: 0 is outside [1, 100]'); sys.exit(2)")
    assert wait_for(graph.poll) == "flow_policy cannot start: steps: 0 is outside [1, 100]"


def test_a_node_that_dies_at_once_again_and_again_is_given_up(supervise):
    graph, _ = supervise(recorder="raise SystemExit('no disk')")
    reason = wait_for(graph.poll)
    assert "recorder died 5 times" in reason and "no disk" in reason


def test_stopping_asks_first_and_kills_only_the_deaf(supervise):
    graph, events = supervise(camera_encoder=OBEDIENT, recorder=DEAF)
    wait_for(lambda: last_line(graph._children[1].log) == "up")
    assert graph.stop(patience_s=0.2) == ["recorder"]
    assert events == ["recorder does not end; it said last: up"]
    assert graph.pid("camera_encoder") is None and graph.pid("recorder") is None
    assert graph.poll() is None


def test_a_log_that_does_not_exist_is_no_error(tmp_path):
    assert last_line(tmp_path / "none.log") == "no log"


def test_topics_can_be_given_other_names_and_nodes_an_environment_of_their_own(tmp_path):
    process = Process(
        NodeSpec("recorder", SimulatorParameters, ""), "", "p.yaml", {}, "info", remaps=(("a", "relayed/a"),)
    )
    assert "a:=relayed/a" in module.command_line(process)
    printing = "import os; print(os.environ['ODD'], os.environ['FLOW_RAG_VLA_SUPERVISED'] == str(os.getppid()))"
    shown = Supervisor([process], tmp_path, environment={"ODD": "said"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "command_line", lambda _process: [sys.executable, "-c", printing])
        shown.start()
    try:
        wait_for(lambda: last_line(tmp_path / "recorder.log") == "said True")
    finally:
        shown.stop(patience_s=0.1)
