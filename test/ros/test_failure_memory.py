# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The failure memory node, in its own process, over its topics and services."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

DIMENSION = 32
HORIZON = 16
TICK_NS = 25_000_000
START_NS = 1_000_000_000_000


def unit(seed: int, dimension: int = DIMENSION) -> np.ndarray:
    values = np.random.default_rng(seed).normal(size=dimension)
    return (values / np.linalg.norm(values)).astype(np.float32)


class Bench:
    """A memory node in a process, and everything that talks to it."""

    def __init__(self, node: Any, spin_until: Callable[..., None], folder: Path) -> None:
        from diagnostic_msgs.msg import DiagnosticArray

        from flow_rag_vla.bringup import topics
        from flow_rag_vla.nodes import qos
        from flow_rag_vla_interfaces import msg

        self.node, self.spin_until, self.folder = node, spin_until, folder
        self.database = folder / "memory.db"
        self.corrections: list[Any] = []
        self.statistics: list[Any] = []
        self.health: list[Any] = []
        node.create_subscription(msg.Correction, topics.CORRECTION, self.corrections.append, qos.PLAN)
        node.create_subscription(msg.MemoryStatistics, topics.MEMORY_STATISTICS, self.statistics.append, qos.STATE)
        node.create_subscription(DiagnosticArray, topics.DIAGNOSTICS, self.health.append, 10)
        # Reliable, so that a test's few messages all arrive.
        self.embedding = node.create_publisher(msg.Embedding, topics.EMBEDDING, qos.PLAN)
        self.state = node.create_publisher(msg.RobotState, topics.ROBOT_STATE, qos.PLAN)
        self.chunk = node.create_publisher(msg.ActionChunk, topics.ACTION_CHUNK, qos.PLAN)
        self.command = node.create_publisher(msg.ControlCommand, topics.COMMAND, qos.PLAN)
        self.status = node.create_publisher(msg.EpisodeStatus, topics.EPISODE_STATUS, qos.STATE)
        self.failure = node.create_publisher(msg.FailureEvent, topics.FAILURE_EVENT, qos.EVENT)
        self.process: subprocess.Popen[str] | None = None
        self.clients: dict[str, Any] = {}
        self.killed = 0

    def start(self, **parameters: object) -> None:
        compared = {"key": "embedding", "corrector": "dispatch"}
        settings = {"database": str(self.database), "threshold": 0.9, **compared, **parameters}
        arguments = [item for name, value in settings.items() for item in ("-p", f"{name}:={value}")]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "flow_rag_vla.nodes.failure_memory", "--ros-args", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.statistics.clear()
        publishers = (self.embedding, self.state, self.chunk, self.command, self.status, self.failure)
        # A killed process stays in the graph until its lease is over.
        counts = {1, 1 + self.killed}
        self.spin_until(
            lambda: self.statistics and all(item.get_subscription_count() in counts for item in publishers),
            what="the node",
        )

    def stop(self, number: signal.Signals = signal.SIGINT) -> tuple[int, str]:
        assert self.process is not None
        process, self.process = self.process, None
        process.send_signal(number)
        output = process.communicate(timeout=30)[0]
        if number == signal.SIGKILL:
            self.killed += 1
            return process.returncode, output
        publisher_gone = (self.embedding, self.state, self.failure)
        self.spin_until(
            lambda: all(item.get_subscription_count() <= self.killed for item in publisher_gone), what="its end"
        )
        return process.returncode, output

    def call(self, kind: Any, name: str, **fields: object) -> Any:
        client = self.clients.get(name)
        if client is None:
            client = self.clients[name] = self.node.create_client(kind, name)
        self.spin_until(client.service_is_ready, what=name)
        future = client.call_async(kind.Request(**fields))
        self.spin_until(future.done, what=f"an answer of {name}")
        return future.result()

    def see(self, values: np.ndarray, stamp_ns: int, encoder: str = "compact", revision: str = "abc") -> Any:
        """Publish an embedding and give the correction that answers it."""
        from flow_rag_vla.nodes.conversions import floats
        from flow_rag_vla.nodes.stamps import to_ns, to_stamp
        from flow_rag_vla_interfaces import msg

        message = msg.Embedding(encoder=encoder, revision=revision, values=floats(values))
        message.header.stamp = to_stamp(stamp_ns)
        before = len(self.corrections)
        self.embedding.publish(message)
        self.spin_until(lambda: len(self.corrections) > before, what="the correction")
        assert len(self.corrections) == before + 1
        assert to_ns(self.corrections[-1].header.stamp) == stamp_ns
        return self.corrections[-1]

    def act(self, actions: np.ndarray, stamp_ns: int, mode: int = 0, case_ids: tuple[int, ...] = ()) -> None:
        from flow_rag_vla.core.action import ActionChunk, CorrectionMode, Provenance
        from flow_rag_vla.nodes.conversions import chunk_message

        provenance = Provenance(stamp_ns, correction=CorrectionMode(mode), case_ids=case_ids)
        self.chunk.publish(chunk_message(ActionChunk(1, stamp_ns, actions, provenance=provenance), "base_link"))

    def feel(self, stamp_ns: int) -> None:
        from flow_rag_vla.core.state import RobotState
        from flow_rag_vla.nodes.conversions import robot_state_message

        state = RobotState(stamp_ns, np.array([0.5, 0.1, 0.2]), np.array([1.0, 0.0, 0.0, 0.0]))
        self.state.publish(robot_state_message(state, ["joint"] * 7, "base_link"))

    def report(self, state: int, stamp_ns: int, episode: int = 1, phase: str = "reach", instruction: str = "") -> None:
        """Publish where the episode stands; wait until the node knows it, seen in the order of its answers."""
        from flow_rag_vla.nodes.stamps import to_stamp
        from flow_rag_vla_interfaces import msg

        message = msg.EpisodeStatus(episode_id=episode, state=state, task="push", phase=phase, instruction=instruction)
        message.header.stamp = to_stamp(stamp_ns)
        self.status.publish(message)
        self.settle()

    def fail(self, onset_ns: int, stamp_ns: int, failure_type: int = 1) -> None:
        from flow_rag_vla.nodes.stamps import to_stamp
        from flow_rag_vla_interfaces import msg

        message = msg.FailureEvent(
            event_id=7,
            failure_type=failure_type,
            task="push",
            phase="reach",
            onset=to_stamp(onset_ns),
            description="closed on nothing",
            evidence=[msg.Evidence(name="gripper_width", value=0.001, threshold=0.01, unit="m")],
        )
        message.header.stamp = to_stamp(stamp_ns)
        self.failure.publish(message)

    def settle(self) -> None:
        """Wait until the node has taken what was published before: a service is answered after its topics."""
        from flow_rag_vla.bringup import topics
        from flow_rag_vla_interfaces import srv

        for _ in range(3):
            self.call(srv.GetMemoryStatistics, topics.MEMORY_STATISTICS_SERVICE)

    def listed(self) -> list[Any]:
        from flow_rag_vla.bringup import topics
        from flow_rag_vla_interfaces import srv

        return list(self.call(srv.ListFailureCases, topics.LIST_CASES, include_retired=True).cases)

    def add(self, values: np.ndarray, **fields: object) -> Any:
        from flow_rag_vla.bringup import topics
        from flow_rag_vla.nodes.conversions import floats
        from flow_rag_vla_interfaces import msg, srv

        case = msg.FailureCase(
            **{
                "failure_type": 1,
                "task": "push",
                "phase": "reach",
                "encoder": "compact",
                "encoder_revision": "abc",
                "embedding": floats(values),
                "horizon": HORIZON,
                "failed_actions": floats(motion(0.001).ravel()),
                **fields,
            }
        )
        return self.call(srv.AddFailureCase, topics.ADD_CASE, failure_case=case)


def motion(step: float) -> np.ndarray:
    actions = np.zeros((HORIZON, 7), dtype=np.float32)
    actions[:, 0], actions[:, 6] = step, 1.0
    return actions


@pytest.fixture
def bench(ros_node, spin_until, tmp_path) -> Iterator[Bench]:
    made = Bench(ros_node, spin_until, tmp_path)
    yield made
    if made.process is not None:
        made.process.kill()
        made.process.communicate(timeout=30)


def test_every_embedding_is_answered_once_with_its_stamp_whatever_it_holds(bench):
    from flow_rag_vla_interfaces.msg import Provenance

    bench.start()
    assert bench.see(unit(1), START_NS).correction == Provenance.CORRECTION_NONE
    assert bench.add(unit(1)).accepted
    answer = bench.see(unit(1), START_NS + 1)
    assert answer.correction == Provenance.CORRECTION_NEGATIVE
    assert answer.cases[0].similarity == pytest.approx(1.0, abs=1e-5)
    assert len(answer.failed_actions) == HORIZON * 7
    broken = unit(1)
    broken[3] = np.nan
    assert bench.see(broken, START_NS + 2).correction == Provenance.CORRECTION_NONE
    assert bench.see(unit(1) * 3, START_NS + 3).correction == Provenance.CORRECTION_NONE
    assert bench.see(unit(1), START_NS + 4, encoder="dinov2").correction == Provenance.CORRECTION_NONE
    assert bench.see(unit(1, 8), START_NS + 5).correction == Provenance.CORRECTION_NONE
    assert bench.see(np.zeros(0), START_NS + 6).correction == Provenance.CORRECTION_NONE
    assert bench.see(unit(1), START_NS + 7).correction == Provenance.CORRECTION_NEGATIVE
    code, output = bench.stop()
    assert code == 0
    assert "Traceback" not in output
    assert "embeddings of compact@abc (32 numbers), but these are of dinov2@abc" in output


def test_a_failure_becomes_a_case_and_a_later_success_its_correction(bench):
    from flow_rag_vla_interfaces.msg import EpisodeStatus, Provenance

    bench.start()
    failed, better = motion(0.001), motion(0.008)
    bench.report(EpisodeStatus.STATE_RUNNING, START_NS)
    bench.feel(START_NS + 100_000_000)
    bench.see(unit(2), START_NS + 50_000_000)
    bench.see(unit(1), START_NS + 100_000_000)
    bench.act(failed, START_NS + 100_000_000)
    bench.settle()
    bench.fail(START_NS + 110_000_000, START_NS + 300_000_000)
    bench.spin_until(lambda: bench.listed(), what="the case")
    case = bench.listed()[0]
    assert (case.task, case.phase, case.failure_type, case.note) == ("push", "reach", 1, "closed on nothing")
    assert case.evidence[0].name == "gripper_width"
    assert len(case.proprioception) > 0
    np.testing.assert_array_equal(np.array(case.failed_actions).reshape(-1, 7), failed)
    assert len(case.correction) == 0

    bench.see(unit(1), START_NS + 1_000_000_000)
    bench.act(better, START_NS + 1_000_000_000, Provenance.CORRECTION_NEGATIVE, (case.case_id,))
    bench.settle()
    bench.report(EpisodeStatus.STATE_RUNNING, START_NS + 1_500_000_000, phase="grasp")
    bench.report(EpisodeStatus.STATE_SUCCEEDED, START_NS + 2_000_000_000, phase="release")
    bench.spin_until(lambda: len(bench.listed()[0].correction), what="the correction of the later success")
    learned = bench.listed()[0]
    np.testing.assert_array_equal(np.array(learned.correction).reshape(-1, 7), better)
    assert (learned.correction_source, learned.uses, learned.successes) == ("later_success", 1, 1)

    bench.report(EpisodeStatus.STATE_RUNNING, START_NS + 3_000_000_000, episode=2)
    answer = bench.see(unit(1), START_NS + 3_000_000_001)
    assert answer.correction == Provenance.CORRECTION_GUIDANCE
    np.testing.assert_array_equal(np.array(answer.actions).reshape(-1, 7), better)
    bench.report(EpisodeStatus.STATE_RUNNING, START_NS + 3_100_000_000, episode=2, phase="grasp")
    assert bench.see(unit(1), START_NS + 3_100_000_001).correction == Provenance.CORRECTION_NONE


def test_the_way_into_a_failure_becomes_cases_unless_nothing_is_to_be_learned(bench):
    from flow_rag_vla_interfaces.msg import EpisodeStatus

    bench.start()

    def fail(episode: int, start_ns: int) -> None:
        bench.report(EpisodeStatus.STATE_RUNNING, start_ns, episode=episode)
        for step in range(4):
            stamp_ns = start_ns + step * 8 * TICK_NS
            bench.see(unit(10 * episode + step), stamp_ns)
            bench.act(motion(0.001), stamp_ns)
        bench.settle()
        bench.fail(start_ns + 24 * TICK_NS, start_ns + 40 * TICK_NS)

    fail(1, START_NS)
    bench.spin_until(lambda: len(bench.listed()) == 4, what="the cases")
    bench.report(EpisodeStatus.STATE_FAILED, START_NS + 60 * TICK_NS)
    changed = subprocess.run([sys.executable, "-c", SET_LEARN], capture_output=True, text=True, timeout=60, check=False)
    assert changed.returncode == 0, changed.stderr
    fail(2, START_NS + 100 * TICK_NS)
    bench.report(EpisodeStatus.STATE_SUCCEEDED, START_NS + 160 * TICK_NS, episode=2)
    # Answered by the thread that would have written the case before it.
    assert bench.add(unit(99)).accepted
    assert len(bench.listed()) == 5


SET_LEARN = """
from flow_rag_vla.nodes.memory_switch import MemorySwitch
with MemorySwitch() as switch:
    switch.set("dispatch", learn=False, check=lambda: None)
"""


def test_a_failed_episode_debits_the_cases_that_its_commands_name(bench):
    from flow_rag_vla_interfaces import msg

    bench.start()
    used, unused = bench.add(unit(1)).case_id, bench.add(unit(2)).case_id
    bench.report(msg.EpisodeStatus.STATE_RUNNING, START_NS)
    command = msg.ControlCommand()
    command.provenance.correction, command.provenance.case_ids = msg.Provenance.CORRECTION_RESIDUAL, [used]
    bench.command.publish(command)
    bench.settle()
    bench.report(msg.EpisodeStatus.STATE_FAILED, START_NS + 1_000_000_000)
    bench.spin_until(lambda: any(case.uses for case in bench.listed()), what="the debit")
    assert {case.case_id: (case.uses, case.successes) for case in bench.listed()} == {used: (1, 0), unused: (0, 0)}


def test_a_failure_without_anything_seen_is_refused_and_counted(bench):
    from flow_rag_vla.bringup import topics
    from flow_rag_vla_interfaces import srv

    bench.start()
    bench.fail(START_NS, START_NS, failure_type=99)
    bench.fail(START_NS, START_NS)

    def refused() -> int:
        answer = bench.call(srv.GetMemoryStatistics, topics.MEMORY_STATISTICS_SERVICE)
        return int(answer.statistics.refused_invalid)

    bench.spin_until(lambda: refused() == 2, what="both refusals")
    assert bench.listed() == []


def test_a_robot_state_that_makes_no_sense_costs_neither_the_node_nor_what_the_episode_teaches(bench):
    from flow_rag_vla.core.state import RobotState
    from flow_rag_vla.nodes.conversions import robot_state_message
    from flow_rag_vla_interfaces import msg

    bench.start()
    bench.report(msg.EpisodeStatus.STATE_RUNNING, START_NS)
    state = RobotState(START_NS, np.array([np.nan, 0.1, 0.2]), np.array([1.0, 0.0, 0.0, 0.0]))
    bench.state.publish(robot_state_message(state, ["joint"] * 7, "base_link"))
    # Truncated before its stamp ends, as of a sender that was built with other messages.
    bench.state.publish(b"\x00\x01\x00\x00\x07")
    bench.act(motion(0.001), START_NS)
    bench.see(unit(1), START_NS)
    bench.fail(START_NS, START_NS + TICK_NS)
    bench.spin_until(bench.listed, what="the case")
    bench.report(msg.EpisodeStatus.STATE_FAILED, START_NS + 2 * TICK_NS)
    bench.report(msg.EpisodeStatus.STATE_RUNNING, START_NS + 3 * TICK_NS, episode=2)
    bench.state.publish(robot_state_message(state, ["joint"] * 7, "base_link"))
    bench.act(motion(0.001), START_NS + 4 * TICK_NS)
    bench.see(unit(2), START_NS + 4 * TICK_NS)
    bench.report(msg.EpisodeStatus.STATE_SUCCEEDED, START_NS + 5 * TICK_NS, episode=2)
    bench.spin_until(lambda: bench.statistics[-1].success_situations, what="what the success showed")
    assert [len(case.proprioception) for case in bench.listed()] == [0]
    code, output = bench.stop()
    assert code == 0 and "internal error" not in output


def test_an_id_that_no_case_can_have_is_answered_as_one_that_none_has(bench):
    from flow_rag_vla.bringup import topics
    from flow_rag_vla_interfaces import srv

    bench.start()
    for kind, name in (
        (srv.GetFailureCase, topics.GET_CASE),
        (srv.RetireFailureCase, topics.RETIRE_CASE),
        (srv.EditFailureCase, topics.EDIT_CASE),
    ):
        answer = bench.call(kind, name, case_id=2**64 - 1)
        assert answer.message.startswith(f"no failure case has id {2**64 - 1}")
    code, output = bench.stop()
    assert code == 0 and "internal error" not in output


def test_services_change_what_a_search_finds(bench):
    from flow_rag_vla.bringup import topics
    from flow_rag_vla.nodes.conversions import floats
    from flow_rag_vla_interfaces import msg, srv

    bench.start()
    first = bench.add(unit(1))
    assert first.accepted, first.message
    again = bench.add(unit(1))
    assert not again.accepted and again.case_id == first.case_id and "same failure" in again.message
    wrong = bench.add(unit(3), horizon=3)
    assert not wrong.accepted and "failed_actions has 112 numbers, expected 3 x 7" in wrong.message

    query = msg.Embedding(encoder="compact", revision="abc", values=floats(unit(1)))
    found = bench.call(srv.SearchFailureCases, topics.SEARCH_CASES, embedding=query, k=0, threshold=-2.0)
    assert found.ok and [case.case_id for case in found.cases] == [first.case_id]
    edited = bench.call(
        srv.EditFailureCase,
        topics.EDIT_CASE,
        case_id=first.case_id,
        set_correction=True,
        horizon=HORIZON,
        correction=floats(motion(0.002).ravel()),
        set_note=True,
        note="shown by hand",
    )
    assert edited.ok, edited.message
    got = bench.call(srv.GetFailureCase, topics.GET_CASE, case_id=first.case_id)
    assert got.found and got.failure_case.note == "shown by hand" and got.failure_case.correction_source == "human"
    assert len(got.failure_case.embedding) == DIMENSION
    assert not bench.call(srv.GetFailureCase, topics.GET_CASE, case_id=999).found
    retired = bench.call(srv.RetireFailureCase, topics.RETIRE_CASE, case_id=first.case_id, retired=True, reason="old")
    assert retired.ok
    found = bench.call(srv.SearchFailureCases, topics.SEARCH_CASES, embedding=query, k=0, threshold=-2.0)
    assert found.ok and len(found.cases) == 0

    path = str(bench.folder / "cases.npz")
    exported = bench.call(srv.ExportFailureCases, topics.EXPORT_CASES, path=path, include_retired=True)
    assert exported.ok and exported.exported == 1
    refused = bench.call(srv.ExportFailureCases, topics.EXPORT_CASES, path=path)
    assert not refused.ok and "exists" in refused.message
    imported = bench.call(srv.ImportFailureCases, topics.IMPORT_CASES, path=path, origin="other")
    assert imported.ok and (imported.imported, imported.duplicates) == (0, 1)
    missing = bench.call(srv.ImportFailureCases, topics.IMPORT_CASES, path=path + "x")
    assert not missing.ok and "no such file" in missing.message


def test_what_was_acknowledged_survives_a_kill_and_a_damaged_file_is_salvaged(bench):
    bench.start()
    ids = {bench.add(unit(seed), note="x" * 3000).case_id for seed in range(20)}
    bench.stop(signal.SIGKILL)
    bench.start()
    assert {case.case_id for case in bench.listed()} == ids
    bench.stop()

    data = bytearray(bench.database.read_bytes())
    place = len(data) * 3 // 4
    data[place : place + 4096] = b"\xff" * 4096
    bench.database.write_bytes(bytes(data))
    bench.start()
    survivors = {case.case_id for case in bench.listed()}
    assert survivors < ids and len(survivors) >= 15
    kept = list(bench.folder.glob("memory.db.corrupt-*"))
    assert len(kept) == 1 and kept[0].read_bytes() == bytes(data)
    assert bench.add(unit(100)).accepted
    code, output = bench.stop()
    assert code == 0 and f"{bench.database} was damaged" in output and str(kept[0]) in output


def test_a_write_that_hangs_delays_no_answer_and_is_acknowledged_only_when_done(bench):
    import sqlite3

    from flow_rag_vla.bringup import topics
    from flow_rag_vla.nodes.conversions import floats
    from flow_rag_vla_interfaces import msg, srv

    bench.start()
    case_id = bench.add(unit(1)).case_id
    holder = sqlite3.connect(bench.database, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    adding = bench.clients[topics.ADD_CASE]
    case = msg.FailureCase(
        failure_type=1,
        task="push",
        phase="grasp",
        encoder="compact",
        encoder_revision="abc",
        embedding=floats(unit(2)),
        horizon=HORIZON,
        failed_actions=floats(motion(0.001).ravel()),
    )
    waiting = adding.call_async(srv.AddFailureCase.Request(failure_case=case))
    for step in range(20):
        assert bench.see(unit(1), START_NS + step).cases[0].case_id == case_id
    got = bench.call(srv.GetFailureCase, topics.GET_CASE, case_id=case_id)
    assert got.found
    assert not waiting.done()
    holder.execute("ROLLBACK")
    holder.close()
    bench.spin_until(waiting.done, what="the acknowledgement")
    assert waiting.result().accepted
    assert len(bench.listed()) == 2


def test_what_is_learned_while_another_program_holds_the_database_is_kept_and_written_after_it(bench):
    import sqlite3

    from flow_rag_vla_interfaces.msg import EpisodeStatus

    bench.start()
    bench.report(EpisodeStatus.STATE_RUNNING, START_NS)
    for place in (1, 2):
        bench.feel(START_NS + place * 100_000_000)
        bench.see(unit(place), START_NS + place * 100_000_000)
        bench.act(motion(0.001 * place), START_NS + place * 100_000_000)
    bench.settle()
    holder = sqlite3.connect(bench.database, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    bench.fail(START_NS + 110_000_000, START_NS + 300_000_000)
    bench.fail(START_NS + 210_000_000, START_NS + 900_000_000, failure_type=2)

    def waiting():
        values = [value for array in bench.health for status in array.status for value in status.values]
        return [value.value for value in values if value.key == "lessons_waiting"]

    bench.spin_until(lambda: "2" in waiting(), what="both lessons waiting")
    assert not bench.listed()
    holder.execute("ROLLBACK")
    holder.close()
    bench.spin_until(lambda: len(bench.listed()) >= 2, what="the cases")
    assert {case.failure_type for case in bench.listed()} == {1, 2}
    code, output = bench.stop()
    assert code == 0 and "2 lessons that had waited for the disk are written" in output
    assert "another program holds it" in output and "lost" not in output


def test_a_change_by_another_program_is_taken_up(bench):
    from flow_rag_vla.memory.memory import FailureMemory
    from flow_rag_vla_interfaces.msg import Provenance

    bench.start()
    case_id = bench.add(unit(1)).case_id
    other, _ = FailureMemory.open(bench.database)
    other.retire(case_id, True, "by the console")
    other.close()
    bench.spin_until(lambda: bench.statistics and bench.statistics[-1].retired == 1, what="the change")
    assert bench.see(unit(1), START_NS).correction == Provenance.CORRECTION_NONE


def test_a_database_that_cannot_be_opened_leaves_the_node_unconfigured_until_it_can(
    start_node, call, spin_until, tmp_path
):
    from lifecycle_msgs.msg import Transition
    from lifecycle_msgs.srv import ChangeState, GetState

    (tmp_path / "file").write_text("not a folder")
    node = start_node("failure_memory", database=f"{tmp_path}/file/memory.db")
    spin_until(lambda: node.said("its folder cannot be made"), what="the reason")
    assert call(GetState, "failure_memory/get_state").current_state.label == "unconfigured"
    (tmp_path / "file").unlink()
    for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
        assert call(ChangeState, "failure_memory/change_state", transition=Transition(id=transition)).success
    assert (tmp_path / "file" / "memory.db").exists()
    assert node.stop() == 0 and "Traceback" not in node.text


def test_the_node_does_without_torch(ros_domain_id):
    code = "import sys, flow_rag_vla.nodes.failure_memory; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0


def test_an_import_says_which_cases_it_refuses_and_why(bench, tmp_path):
    from flow_rag_vla.bringup import topics
    from flow_rag_vla.memory.case import FailureCase
    from flow_rag_vla.memory.exchange import export_cases
    from flow_rag_vla.memory.index import NumpyIndex
    from flow_rag_vla.memory.memory import FailureMemory
    from flow_rag_vla.policy.observation import CENTRE, PROPRIOCEPTION_DIM
    from flow_rag_vla_interfaces import srv

    felt = np.zeros(PROPRIOCEPTION_DIM, dtype=np.float32)
    felt[:3] = np.array([0.5, 0.0, 0.05]) - CENTRE
    down = np.zeros((HORIZON, 7), dtype=np.float32)
    down[:, 2] = -0.012
    memory, _ = FailureMemory.open(tmp_path / "other.db", make_index=NumpyIndex)
    for seed, correction in ((1, down), (2, motion(0.002))):
        case = FailureCase(
            1, "push", "reach", "compact", "abc", unit(seed), motion(0.001), correction, "expert", proprioception=felt
        )
        memory.store.add([case])
    memory.close()
    memory, _ = FailureMemory.open(tmp_path / "other.db", make_index=NumpyIndex)
    export_cases(memory, tmp_path / "gift.npz")
    memory.close()
    bench.start()
    answer = bench.call(srv.ImportFailureCases, topics.IMPORT_CASES, path=str(tmp_path / "gift.npz"), origin="mallory")
    assert (answer.ok, answer.imported, answer.refused) == (True, 1, 1)
    assert "case 0 of 2" in answer.refusals[0] and "below the table's edge" in answer.refusals[0]
    (listed,) = bench.listed()
    assert listed.origin == "mallory" and [item.change for item in listed.history] == ["imported"]


def test_a_case_that_would_change_what_just_succeeded_is_kept_out_of_the_searches(bench):
    from flow_rag_vla.bringup import topics
    from flow_rag_vla.nodes.conversions import floats
    from flow_rag_vla_interfaces import msg, srv

    status = msg.EpisodeStatus
    bench.start(origin="left")
    bench.report(status.STATE_RUNNING, START_NS)
    for step in range(6):
        bench.see(unit(1), START_NS + step * 10 * TICK_NS)
        bench.act(motion(0.012), START_NS + step * 10 * TICK_NS)
    bench.settle()
    bench.report(status.STATE_SUCCEEDED, START_NS + 70 * TICK_NS)
    bench.spin_until(lambda: bench.statistics[-1].success_situations > 0, what="the success on record")
    picture = msg.CaseImage(name="front", format="jpeg", data=b"\xff\xd8\xff\xe0")
    wrong = {"correction": floats(motion(-0.012).ravel()), "correction_source": "language_model", "images": [picture]}
    answer = bench.add(unit(1), **wrong)
    assert not answer.accepted and "success situation" in answer.message and "episode 1 of left" in answer.message
    case = bench.call(srv.GetFailureCase, topics.GET_CASE, case_id=answer.case_id).failure_case
    assert case.retired and case.retired_reason.startswith("stopped by the guard")
    assert [bytes(item.data) for item in case.images] == [b"\xff\xd8\xff\xe0"]
    bench.report(status.STATE_RUNNING, START_NS + 100 * TICK_NS, episode=2)
    assert bench.see(unit(1), START_NS + 101 * TICK_NS).correction == msg.Provenance.CORRECTION_NONE
    assert not bench.add(unit(2), images=[msg.CaseImage(name="front", format="png", data=b"GIF")]).accepted
    bench.spin_until(lambda: bench.statistics[-1].refused_guard == 1, what="the count")


def test_pictures_of_the_onset_are_kept_with_the_case(bench):
    from sensor_msgs.msg import Image

    from flow_rag_vla.bringup import topics
    from flow_rag_vla.nodes import qos
    from flow_rag_vla.nodes.conversions import image_message
    from flow_rag_vla_interfaces import msg, srv

    cameras = {
        name: bench.node.create_publisher(Image, topic, qos.PLAN)
        for name, topic in (("front", topics.FRONT_IMAGE), ("wrist", topics.WRIST_IMAGE))
    }
    bench.start()
    bench.spin_until(lambda: all(item.get_subscription_count() for item in cameras.values()), what="the cameras")
    bench.report(msg.EpisodeStatus.STATE_RUNNING, START_NS)
    for number, publisher in enumerate(cameras.values()):
        pixels = np.full((200, 160, 3), 40 + number, dtype=np.uint8)
        publisher.publish(image_message(pixels, START_NS + 5 * TICK_NS, "camera"))
    bench.see(unit(1), START_NS + 5 * TICK_NS)
    bench.act(motion(0.004), START_NS + 5 * TICK_NS)
    bench.settle()
    bench.fail(START_NS + 6 * TICK_NS, START_NS + 20 * TICK_NS)
    bench.spin_until(bench.listed, what="the case")
    case = bench.call(srv.GetFailureCase, topics.GET_CASE, case_id=bench.listed()[0].case_id).failure_case
    assert [item.name for item in case.images] == ["front", "wrist"]
    assert all(bytes(item.data[:4]) == b"\x89PNG" for item in case.images)


class Situations:
    """Keys of the policy that ships, and a database of cases in them."""

    def __init__(self) -> None:
        from flow_rag_vla.core.goal import Goal
        from flow_rag_vla.core.state import RobotState
        from flow_rag_vla.policy.observation import proprioception
        from flow_rag_vla.policy.situation import SituationKey

        self.make = SituationKey.load()
        self.goal = Goal("push", "yellow_cylinder")
        # As Bench.feel.
        self.felt = proprioception(RobotState(0, np.array([0.5, 0.1, 0.2]), np.array([1.0, 0.0, 0.0, 0.0])))

    def seen(self, seed: int) -> np.ndarray:
        return unit(seed, self.make.embedding_dimension)

    def key(self, seed: int) -> np.ndarray:
        return self.make(self.seen(seed), self.felt, self.goal)

    def fill(self, database: Path, seed: int, correction: np.ndarray, successes: int = 0, revision: str = "") -> None:
        from flow_rag_vla.memory.case import EncoderStamp, FailureCase
        from flow_rag_vla.memory.index import NumpyIndex
        from flow_rag_vla.memory.ledger import SuccessSituation
        from flow_rag_vla.memory.memory import FailureMemory
        from flow_rag_vla.policy.situation import DIMENSION as KEY_DIMENSION

        stamp = EncoderStamp("situation", revision or self.make.revision, KEY_DIMENSION)
        memory, _ = FailureMemory.open(database, make_index=NumpyIndex)
        case = FailureCase(
            1, "push", "reach", stamp.encoder, stamp.revision, self.key(seed), motion(0.001), correction, "expert"
        )
        memory.add_all([case])
        memory.observe_done(
            [
                SuccessSituation("push", "reach", stamp, self.key(seed), motion(0.001), episode)
                for episode in range(successes)
            ]
        )
        memory.close()


def test_a_remembered_situation_gets_the_consensus_as_guidance_through_the_whole_flow(bench):
    from flow_rag_vla_interfaces import msg

    situations = Situations()
    situations.fill(bench.database, 1, motion(0.008))
    bench.start(key="situation", corrector="consensus")
    asked = {"revision": situations.make.encoder_revision}
    none, guidance = msg.Provenance.CORRECTION_NONE, msg.Provenance.CORRECTION_GUIDANCE
    # No episode names a goal yet, then no robot state is near: no key, no answer.
    assert bench.see(situations.seen(1), START_NS, **asked).correction == none
    bench.report(msg.EpisodeStatus.STATE_RUNNING, START_NS, instruction=situations.goal.instruction)
    assert bench.see(situations.seen(1), START_NS + TICK_NS, **asked).correction == none
    bench.feel(START_NS + 20 * TICK_NS)
    bench.settle()
    answer = bench.see(situations.seen(1), START_NS + 20 * TICK_NS, **asked)
    assert answer.correction == guidance and answer.strength == 1.0 and answer.guidance_until == 1.0
    assert [case.case_id for case in answer.cases] == [1]
    assert answer.cases[0].similarity == pytest.approx(1.0, abs=1e-3)
    np.testing.assert_allclose(np.array(answer.actions).reshape(-1, 7), motion(0.008), atol=1e-6)
    # A state that is long past makes no key.
    assert bench.see(situations.seen(1), START_NS + 40 * TICK_NS, **asked).correction == none
    # Embeddings of another encoder would be misread.
    bench.feel(START_NS + 60 * TICK_NS)
    bench.settle()
    assert bench.see(situations.seen(1), START_NS + 60 * TICK_NS).correction == none
    code, output = bench.stop()
    assert code == 0 and "Traceback" not in output
    assert f"reads embeddings of revision {situations.make.encoder_revision}, but these are of compact@abc" in output


def test_an_answer_that_led_nowhere_for_long_is_withdrawn_for_a_while_and_the_log_says_so(bench):
    from flow_rag_vla_interfaces import msg

    situations = Situations()
    situations.fill(bench.database, 1, motion(0.008))
    bench.start(key="situation", corrector="consensus", consensus_lead=0.5, consensus_rest=0.25)
    bench.report(msg.EpisodeStatus.STATE_RUNNING, START_NS, instruction=situations.goal.instruction)

    def asked(tick: int) -> int:
        stamp_ns = START_NS + tick * TICK_NS
        bench.feel(stamp_ns)
        bench.settle()
        return bench.see(situations.seen(1), stamp_ns, revision=situations.make.encoder_revision).correction

    none, guidance = msg.Provenance.CORRECTION_NONE, msg.Provenance.CORRECTION_GUIDANCE
    assert [asked(tick) for tick in (10, 29, 30, 39, 40)] == [guidance, guidance, none, none, guidance]
    code, output = bench.stop()
    assert code == 0 and output.count("led for 0.5 s within one phase: silent for 0.25 s") == 1


def test_what_went_well_in_a_situation_keeps_the_memory_silent_there(bench):
    from flow_rag_vla_interfaces import msg

    situations = Situations()
    situations.fill(bench.database, 1, motion(0.008), successes=6)
    bench.start(key="situation", corrector="consensus", consensus_confidence=0.4)
    bench.report(msg.EpisodeStatus.STATE_RUNNING, START_NS, instruction=situations.goal.instruction)
    bench.feel(START_NS + TICK_NS)
    bench.settle()
    answer = bench.see(situations.seen(1), START_NS + TICK_NS, revision=situations.make.encoder_revision)
    assert answer.correction == msg.Provenance.CORRECTION_NONE
    assert [case.case_id for case in answer.cases] == [1]


@pytest.mark.parametrize(
    ("held", "asked", "remedy"),
    [
        ("another policy", "situation", "set policy_checkpoint to the policy that they were made with"),
        ("embeddings", "situation", "set the parameter key to embedding"),
        ("situations", "embedding", "set the parameter key to situation"),
    ],
)
def test_a_database_of_another_kind_is_refused_with_the_remedy(bench, held, asked, remedy):
    from flow_rag_vla_interfaces import msg

    situations = Situations()
    if held == "embeddings":
        bench.start()
        assert bench.add(unit(1)).accepted
        bench.stop()
    else:
        situations.fill(bench.database, 1, motion(0.008), revision="000000" if held == "another policy" else "")
    bench.start(key=asked, corrector="consensus")
    bench.report(msg.EpisodeStatus.STATE_RUNNING, START_NS, instruction=situations.goal.instruction)
    bench.feel(START_NS + TICK_NS)
    bench.settle()
    answer = bench.see(situations.seen(1), START_NS + TICK_NS, revision=situations.make.encoder_revision)
    assert answer.correction == msg.Provenance.CORRECTION_NONE
    _, output = bench.stop()
    assert str(bench.database) in output and remedy in output


def test_after_a_failure_the_answer_leads_back_then_away_from_what_failed_then_asks_a_person(bench):
    from flow_rag_vla.core.state import RobotState
    from flow_rag_vla.nodes.conversions import robot_state_message
    from flow_rag_vla_interfaces.msg import EpisodeStatus, Provenance

    bench.start(rewinds=1, threshold=0.99)
    bench.report(EpisodeStatus.STATE_RUNNING, START_NS)
    values, at = unit(1), START_NS

    def feel(x: float, z: float, seconds: float, width: float = 0.08) -> None:
        nonlocal at
        for _ in range(round(seconds / 0.1)):
            at += 4 * TICK_NS
            state = RobotState(at, np.array([x, 0.1, z]), np.array([1.0, 0.0, 0.0, 0.0]), gripper_width=width)
            bench.state.publish(robot_state_message(state, ["joint"] * 7, "base_link"))

    def fail() -> None:
        bench.act(motion(0.001), at - TICK_NS)
        bench.settle()
        bench.fail(at, at)
        bench.settle()

    feel(0.4, 0.3, 0.5)
    feel(0.5, 0.05, 1.5, width=0.0)
    assert bench.see(values, at).correction == Provenance.CORRECTION_NONE
    fail()
    back = bench.see(unit(2), at)
    assert (back.correction, back.strength, back.guidance_until) == (Provenance.CORRECTION_GUIDANCE, 1.0, 1.0)
    rows = np.array(back.actions, dtype=np.float32).reshape(-1, 7)
    # The hand opens, then rises; sideways only once it is high.
    assert (rows[:, 6] == 1.0).all() and rows[:, 2].sum() > 0.01 and abs(rows[:, 0]).sum() < 1e-6
    feel(0.4, 0.3, 0.2)
    away = bench.see(unit(3), at)
    assert away.correction == Provenance.CORRECTION_NEGATIVE
    np.testing.assert_allclose(np.array(away.failed_actions, dtype=np.float32).reshape(-1, 7), motion(0.001))
    feel(0.5, 0.05, 1.5, width=0.0)
    fail()
    assert bench.see(unit(4), at).correction == Provenance.CORRECTION_HOLD
    bench.report(EpisodeStatus.STATE_RUNNING, at, episode=2)
    assert bench.see(unit(5), at).correction == Provenance.CORRECTION_NONE
    assert "held, a person is asked for: grasp_failure in push after 1 rewinds" in bench.stop()[1]
