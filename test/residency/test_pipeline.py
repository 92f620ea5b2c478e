# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flow_rag_vla.residency.errors import ClosedError, QueueFullError
from flow_rag_vla.residency.messages import Status as S
from flow_rag_vla.residency.messages import TaskMessage
from flow_rag_vla.residency.pipeline import Pipeline
from flow_rag_vla.residency.steps import MAX_STEPS


async def echo(task):
    return dict(task.data)


def piped(**settings):
    """Run a coroutine function with a pipeline, and close it."""

    def run(body):
        async def whole():
            pipeline = Pipeline(**settings)
            try:
                await body(pipeline)
            finally:
                pipeline.close()

        asyncio.run(whole())

    return run


async def until(condition):
    """Turns of the loop until something holds; what a thread does takes some."""
    while not condition():
        await asyncio.sleep(0.001)


def test_a_step_ends_with_all_its_tasks_and_the_devices_synchronized():
    called = []

    @piped(synchronize=lambda: called.append(1))
    async def _(pipeline):
        pipeline.register("a", echo, places=4)
        pipeline.register("b", lambda task: {"thread": threading.current_thread().name})
        futures = [pipeline.submit(TaskMessage("a" if n % 2 else "b", step="s", data={"n": n})) for n in range(20)]
        report = await pipeline.wait_step("s", 60.0)
        assert report.ok and report.counts == {S.OK: 20} and called == [1]
        assert futures[1].result().data == {"n": 1} and futures[0].result().data == {"thread": "pipeline"}


def test_the_urgent_come_first_and_equals_in_order():
    order = []

    async def keep(task):
        order.append(task.task_id)
        return {}

    @piped()
    async def _(pipeline):
        pipeline.register("a", keep)
        pipeline.submit(TaskMessage("a", task_id="first"))  # takes the place at once
        for name, priority in (("low", -1), ("x", 0), ("y", 0), ("high", 5)):
            pipeline.submit(TaskMessage("a", task_id=name, priority=priority, step="s"))
        await pipeline.wait_step("s", 60.0)
        assert order == ["first", "high", "x", "y", "low"]


def test_a_handler_that_hangs_holds_neither_the_barrier_nor_another_handler():
    go = threading.Event()

    @piped()
    async def _(pipeline):
        pipeline.register("hangs", lambda task: go.wait(60.0) and {}, timeout_s=100.0)
        pipeline.register("fine", echo)
        dead = pipeline.submit(TaskMessage("hangs", step="s"))
        queued = pipeline.submit(TaskMessage("hangs", step="s"))
        alive = pipeline.submit(TaskMessage("fine", step="s"))
        report = await pipeline.wait_step("s", 0.05)
        assert report.given_up == ("hangs",) and report.counts == {S.OK: 1, S.TIMEOUT: 2} and not report.ok
        assert dead.result().status is queued.result().status is S.TIMEOUT and alive.result().status is S.OK
        assert pipeline.waiting == 0, "what a barrier gave up takes no room in the queue"
        # The next step of the same name begins anew.
        pipeline.submit(TaskMessage("fine", step="s"))
        assert (await pipeline.wait_step("s", 60.0)).ok
        go.set()


def test_a_dead_handler_is_refused_at_once_and_lives_again_when_it_is_back():
    go = threading.Event()

    @piped()
    async def _(pipeline):
        pipeline.register("hangs", lambda task: go.wait(60.0) and {"back": True}, timeout_s=0.02)
        first, second = pipeline.submit(TaskMessage("hangs")), pipeline.submit(TaskMessage("hangs"))
        assert (await first).status is S.TIMEOUT
        assert (await second).status is S.FAILED, "what waited for a dead handler is refused too"
        refused = await pipeline.submit(TaskMessage("hangs"))
        assert refused.status is S.FAILED and "places of handler 'hangs' hang" in refused.error
        go.set()
        await until(lambda: pipeline.metrics()["hangs"].stuck == 0)
        assert (await pipeline.submit(TaskMessage("hangs"))).data == {"back": True}


def test_the_loop_ends_although_a_thread_never_comes_back():
    never = threading.Event()

    @piped()
    async def _(pipeline):
        pipeline.register("hangs", lambda task: never.wait() and {}, timeout_s=0.02)
        assert (await pipeline.submit(TaskMessage("hangs"))).status is S.TIMEOUT

    never.set()


def test_a_coroutine_that_ignores_its_cancellation_is_given_up():
    @piped()
    async def _(pipeline):
        release = asyncio.Event()

        async def stubborn(task):
            while not release.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await release.wait()
            return {}

        pipeline.register("a", stubborn, timeout_s=0.02)
        pipeline.register("b", echo)
        assert (await pipeline.submit(TaskMessage("a"))).status is S.TIMEOUT
        assert pipeline.metrics()["a"].stuck == 1
        assert (await pipeline.submit(TaskMessage("b"))).status is S.OK
        release.set()
        await until(lambda: pipeline.metrics()["a"].stuck == 0)


async def raises(task):
    raise OSError("no")


async def gives_no_mapping(task):
    return 3


async def cancels_itself(task):
    raise asyncio.CancelledError


def exits(task):
    raise SystemExit(3)


@pytest.mark.parametrize("bad", [raises, gives_no_mapping, cancels_itself, exits])
def test_what_one_handler_does_is_its_own_failure(bad):
    @piped()
    async def _(pipeline):
        pipeline.register("bad", bad)
        pipeline.register("good", echo)
        futures = [pipeline.submit(TaskMessage(name, step="s")) for name in ("bad", "good") * 3]
        report = await pipeline.wait_step("s", 60.0)
        assert report.counts == {S.FAILED: 3, S.OK: 3} and report.given_up == ()
        assert [one.result().status for one in futures] == [S.FAILED, S.OK] * 3
        assert pipeline.metrics()["bad"].failed == 3 and pipeline.metrics()["good"].done == 3


def test_a_device_that_does_not_answer_does_not_hold_the_barrier():
    go = threading.Event()

    @piped(synchronize=lambda: go.wait(60.0))
    async def _(pipeline):
        pipeline.register("a", echo)
        pipeline.submit(TaskMessage("a", step="s"))
        report = await pipeline.wait_step("s", 0.05)
        assert report.given_up == ("synchronize",) and report.counts == {S.OK: 1}

    go.set()


def test_a_barrier_whose_waiter_left_can_be_waited_for_again_but_not_twice():
    go = threading.Event()

    @piped()
    async def _(pipeline):
        pipeline.register("a", lambda task: go.wait(60.0) and {})
        pipeline.submit(TaskMessage("a", step="s"))
        waits = asyncio.ensure_future(pipeline.wait_step("s", 60.0))
        await asyncio.sleep(0)
        with pytest.raises(ValueError, match="has a barrier already"):
            await pipeline.wait_step("s", 60.0)
        waits.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waits
        go.set()
        assert (await pipeline.wait_step("s", 60.0)).counts == {S.OK: 1}
        assert (await pipeline.wait_step("never", 60.0)).ok


def test_steps_that_nobody_waits_for_do_not_add_up():
    @piped()
    async def _(pipeline):
        for n in range(3 * MAX_STEPS):
            pipeline.submit(TaskMessage("none", step=str(n)))
        assert len(pipeline._steps._steps) <= MAX_STEPS


def test_retries_are_bounded_by_the_budget_and_earned_by_successes():
    calls = []

    async def fails(task):
        calls.append(task)
        if not task.data:
            raise OSError("no")
        return {}

    @piped(retry_start=2, retry_share=0.5)
    async def _(pipeline):
        pipeline.register("a", fails, attempts=3, pause_s=0.0)
        results = await asyncio.gather(*(pipeline.submit(TaskMessage("a")) for _ in range(5)))
        assert all(one.status is S.FAILED and one.error == "OSError: no" for one in results)
        assert len(calls) == 5 + 2
        await asyncio.gather(*(pipeline.submit(TaskMessage("a", data={"fine": 1})) for _ in range(2)))
        calls.clear()
        assert (await pipeline.submit(TaskMessage("a"))).attempts == 2
        assert len(calls) == 2 and pipeline.metrics()["a"].retried == 3


def test_what_a_barrier_gave_up_is_not_tried_again():
    calls = []

    async def fails(task):
        calls.append(task)
        raise OSError("no")

    @piped()
    async def _(pipeline):
        pipeline.register("a", fails, attempts=3, pause_s=0.2)
        pipeline.submit(TaskMessage("a", step="s"))
        assert (await pipeline.wait_step("s", 0.05)).given_up == ("a",)
        await until(lambda: pipeline.metrics()["a"].running == 0)
        assert len(calls) == 1


@pytest.mark.parametrize("overflow", ["reject", "shed"])
def test_a_full_queue_never_grows(overflow):
    @piped(capacity=2, overflow=overflow)
    async def _(pipeline):
        pipeline.register("a", echo)
        first = [pipeline.submit(TaskMessage("a", priority=n)) for n in (5, 1, 2)]
        if overflow == "shed":
            pipeline.submit(TaskMessage("a", priority=9))
            assert first[1].result().status is S.SHED
        for _ in range(10):
            with pytest.raises(QueueFullError, match="none less urgent than 0"):
                pipeline.submit(TaskMessage("a", priority=0))
        assert pipeline.waiting == 2


@settings(max_examples=60, deadline=None)
@given(
    capacity=st.integers(1, 5),
    overflow=st.sampled_from(["reject", "shed"]),
    tasks=st.lists(st.tuples(st.sampled_from("abx"), st.integers(-2, 2)), max_size=40),
)
def test_every_task_ends_once_and_the_queue_is_never_over_its_capacity(capacity, overflow, tasks):
    @piped(capacity=capacity, overflow=overflow)
    async def _(pipeline):
        pipeline.register("a", echo, places=2)
        pipeline.register("b", raises)
        futures, refused = [], 0
        for module, priority in tasks:
            try:
                futures.append(pipeline.submit(TaskMessage(module, priority=priority, step="s")))
            except QueueFullError:
                refused += 1
            assert 0 <= pipeline.waiting <= capacity
        report = await pipeline.wait_step("s", 60.0)
        assert report.given_up == () and sum(report.counts.values()) == len(futures) == len(tasks) - refused
        assert all(one.done() for one in futures) and pipeline.waiting == 0
        assert overflow == "shed" or S.SHED not in report.counts


def test_handlers_come_and_go():
    @piped()
    async def _(pipeline):
        assert (await pipeline.submit(TaskMessage("a"))).status is S.NO_HANDLER
        pipeline.register("a", echo)
        with pytest.raises(ValueError, match="has a handler already"):
            pipeline.register("a", echo)
        running, waiting = pipeline.submit(TaskMessage("a")), pipeline.submit(TaskMessage("a"))
        pipeline.unregister("a")
        assert (await waiting).status is S.NO_HANDLER and (await running).status is S.OK
        with pytest.raises(KeyError, match="registered: none"):
            pipeline.unregister("a")
        pipeline.register("a", lambda task: {"new": True})
        assert (await pipeline.submit(TaskMessage("a"))).data == {"new": True}


@pytest.mark.parametrize("numbers", [{"places": 0}, {"attempts": 0}, {"timeout_s": 0.0}, {"pause_s": -1.0}])
def test_a_handler_with_senseless_numbers_is_refused(numbers):
    with pytest.raises(ValueError, match="expected from 1"):
        Pipeline().register("a", echo, **numbers)


def test_ids_are_unique_and_a_task_that_its_caller_canceled_is_not_begun():
    begun = []

    async def keep(task):
        begun.append(task.task_id)
        return {}

    @piped()
    async def _(pipeline):
        pipeline.register("a", keep)
        pipeline.submit(TaskMessage("a", task_id="one", step="s"))
        with pytest.raises(ValueError, match="on its way already"):
            pipeline.submit(TaskMessage("a", task_id="one"))
        pipeline.submit(TaskMessage("a", task_id="two", step="s")).cancel()
        report = await pipeline.wait_step("s", 60.0)
        assert begun == ["one"] and report.counts == {S.OK: 1, S.CANCELED: 1}


def test_closing_ends_everything_and_takes_no_more():
    async def whole():
        pipeline = Pipeline()
        pipeline.register("a", echo)
        futures = [pipeline.submit(TaskMessage("a")) for _ in range(3)]
        pipeline.close()
        assert [one.result().status for one in futures] == [S.CANCELED] * 3
        with pytest.raises(ClosedError):
            pipeline.submit(TaskMessage("a"))

    asyncio.run(whole())


def test_the_figures_of_each_handler_and_the_log_tell_what_happened(caplog):
    caplog.set_level(logging.DEBUG, "flow_rag_vla.residency.pipeline")

    @piped()
    async def _(pipeline):
        pipeline.register("a", echo)
        pipeline.register("b", raises)
        for n in range(6):
            pipeline.submit(TaskMessage("ab"[n % 2], step="s", task_id=str(n)))
        assert pipeline.metrics()["a"].queued == 2 and pipeline.metrics()["a"].running == 1
        await pipeline.wait_step("s", 60.0)
        figures = pipeline.metrics()["a"]
        assert (figures.queued, figures.running, figures.done, figures.failed) == (0, 0, 3, 0)
        assert 0.0 <= figures.queued_p50_s <= figures.queued_p95_s and 0.0 < figures.run_p50_s <= figures.run_p95_s

    events = [json.loads(record.message) for record in caplog.records]
    tasks = {one["task"]: one for one in events if one["event"] == "task"}
    assert tasks["0"]["status"] == "ok" and tasks["0"]["run_s"] >= 0.0
    assert tasks["1"]["status"] == "failed" and tasks["1"]["error"] == "OSError: no"
    assert [one["event"] for one in events if one["event"] != "task"] == ["registered", "registered", "step"]
