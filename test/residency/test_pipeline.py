from __future__ import annotations

import asyncio
import threading

import pytest

from flow_rag_vla.residency.messages import MessageError, ResultMessage, Status, TaskMessage
from flow_rag_vla.residency.pipeline import Pipeline, QueueFullError


async def echo(task):
    return dict(task.data)


def test_messages_survive_their_json():
    task = TaskMessage("llm", "ask", {"text": "집어", "n": [1, 2.5, None]}, 3, "first")
    assert TaskMessage.from_json(task.to_json()) == task
    result = ResultMessage(task.task_id, "llm", Status.OK, {"a": 1}, "", 1, 0.1, 0.2)
    assert ResultMessage.from_json(result.to_json()) == result


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"module": 3}', '{"module": "a", "else": 1}', '{"module": "a", "data": 1}', "[" * 100_000]
)
def test_malformed_messages_are_refused(text):
    with pytest.raises(MessageError):
        TaskMessage.from_json(text)


def test_what_is_no_json_is_not_sent():
    with pytest.raises(MessageError):
        TaskMessage("a", data={"x": float("nan")}).to_json()


def test_a_step_ends_with_all_its_tasks_and_the_devices_synchronized():
    async def run():
        called = []
        pipeline = Pipeline(synchronize=lambda: called.append(1))
        pipeline.register("a", echo, places=4)
        pipeline.register("b", lambda task: {"thread": threading.current_thread().name})
        futures = [pipeline.submit(TaskMessage("a" if n % 2 else "b", step="s", data={"n": n})) for n in range(20)]
        report = await pipeline.wait_step("s", 60.0)
        assert report.ok and report.counts == {Status.OK: 20} and called == [1]
        assert futures[1].result().data == {"n": 1} and futures[0].result().data == {"thread": "pipeline"}
        pipeline.close()

    asyncio.run(run())


def test_a_handler_that_hangs_holds_neither_the_barrier_nor_another_handler():
    async def run():
        go, stubborn = threading.Event(), Pipeline()
        stubborn.register("hangs", lambda task: go.wait(60.0) and {}, timeout_s=100.0)
        stubborn.register("fine", echo)
        dead = stubborn.submit(TaskMessage("hangs", step="s"))
        alive = stubborn.submit(TaskMessage("fine", step="s"))
        report = await stubborn.wait_step("s", 0.05)
        assert report.given_up == ("hangs",) and not report.ok
        assert dead.result().status is Status.TIMEOUT and alive.result().status is Status.OK
        go.set()
        stubborn.close()

    asyncio.run(run())


def test_a_dead_handler_is_refused_at_once():
    async def run():
        go, pipeline = threading.Event(), Pipeline()
        pipeline.register("hangs", lambda task: go.wait(60.0) and {}, timeout_s=0.02)
        assert (await pipeline.submit(TaskMessage("hangs"))).status is Status.TIMEOUT
        refused = await pipeline.submit(TaskMessage("hangs"))
        assert refused.status is Status.FAILED and "hang" in refused.error
        go.set()
        pipeline.close()

    asyncio.run(run())


def test_retries_are_bounded_by_the_budget():
    async def run():
        calls = []

        async def fails(task):
            calls.append(task)
            raise OSError("no")

        pipeline = Pipeline(retry_start=2)
        pipeline.register("a", fails, attempts=3, pause_s=0.0)
        results = await asyncio.gather(*(pipeline.submit(TaskMessage("a")) for _ in range(5)))
        assert all(one.status is Status.FAILED and one.error == "OSError: no" for one in results)
        assert len(calls) == 5 + 2
        pipeline.close()

    asyncio.run(run())


@pytest.mark.parametrize("overflow", ["reject", "shed"])
def test_a_full_queue_never_grows(overflow):
    async def run():
        pipeline = Pipeline(capacity=2, overflow=overflow)
        pipeline.register("a", echo)
        first = [pipeline.submit(TaskMessage("a", priority=n)) for n in (5, 1, 2)]
        if overflow == "shed":
            pipeline.submit(TaskMessage("a", priority=9))
            assert first[1].result().status is Status.SHED
        for _ in range(10):
            with pytest.raises(QueueFullError):
                pipeline.submit(TaskMessage("a", priority=0))
        assert pipeline.waiting == 2
        pipeline.close()

    asyncio.run(run())


def test_handlers_come_and_go():
    async def run():
        pipeline = Pipeline()
        assert (await pipeline.submit(TaskMessage("a"))).status is Status.NO_HANDLER
        pipeline.register("a", echo)
        running, waiting = pipeline.submit(TaskMessage("a")), pipeline.submit(TaskMessage("a"))
        pipeline.unregister("a")
        assert (await waiting).status is Status.NO_HANDLER and (await running).status is Status.OK
        pipeline.close()

    asyncio.run(run())
