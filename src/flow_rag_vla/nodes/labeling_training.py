# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The labeling node's actions that train and measure detectors: each a job, a process of its own below all others.

The node only starts, watches and ends it. While the control loop reports late ticks the job's process is stopped by the
kernel, in the middle of whatever it does, and goes on afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rclpy.action import CancelResponse
from rclpy.node import Node
from rclpy.task import Future

from flow_rag_vla.bringup import labeling as names
from flow_rag_vla.labeling.datasets.store import DatasetStore
from flow_rag_vla.labeling.evaluation.dataset import stored_dataset
from flow_rag_vla.labeling.pipeline import LabelingError
from flow_rag_vla.labeling.registry.errors import RegistryError
from flow_rag_vla.labeling.training.jobs import Job, Jobs
from flow_rag_vla.labeling.training.orders import (
    FINISHED,
    STOPPED,
    TRAINING_PAGE,
    Order,
    TrainOrder,
)
from flow_rag_vla.labeling.training.tracking import AUTO
from flow_rag_vla.nodes.labeling_pace import LoopWatch
from flow_rag_vla.nodes.labeling_requests import evaluate_order, training_settings
from flow_rag_vla.nodes.labeling_serving import Handle, serve_actions
from flow_rag_vla_interfaces.action import EvaluateDetector, TrainDetector

WAITS = "waits: the control loop reports late ticks"


class TrainingActions:
    """``TrainDetector`` and ``EvaluateDetector`` on a node; one job at a time."""

    def __init__(
        self,
        node: Node,
        folder: str | Path,
        store: DatasetStore,
        watch: LoopWatch,
        failure: Callable[[str, Exception], tuple[str, str]],
    ) -> None:
        """Offer the actions.

        Args:
            node: that offers them.
            folder: that holds a folder a job.
            store: of datasets that may be named.
            watch: says when the control loop needs the machine.
            failure: gives code and text of an exception, and logs it.
        """
        self._jobs = Jobs(folder)
        self._store, self._watch, self._failure = store, watch, failure
        self._under_way: dict[bytes, tuple[Handle, Any, str, Future[Job]]] = {}
        self._canceled: set[bytes] = set()
        actions = (
            (TrainDetector, names.TRAIN_DETECTOR, self._on_train),
            (EvaluateDetector, names.EVALUATE_DETECTOR, self._on_evaluate),
        )
        self._actions = serve_actions(node, actions, self._on_cancel, self._look)

    @property
    def under_way(self) -> int:
        """Jobs that this node waits for."""
        return len(self._under_way)

    def close(self) -> None:
        """End what is under way: a training with a checkpoint."""
        self._jobs.close(patience_s=20.0)
        for action in self._actions:
            action.destroy()

    async def _on_train(self, handle: Handle) -> TrainDetector.Result:
        goal: TrainDetector.Goal = handle.request
        result = TrainDetector.Result()

        def order() -> Order:
            return TrainOrder(self._place(goal.dataset), training_settings(goal), goal.tracking or AUTO)

        job = await self._done(handle, TrainDetector, result, order, goal.name)
        if job is not None:
            result.model = job.status.result
            page = job.folder / TRAINING_PAGE
            result.page = str(page) if page.is_file() else ""
        return result

    async def _on_evaluate(self, handle: Handle) -> EvaluateDetector.Result:
        goal: EvaluateDetector.Goal = handle.request
        result = EvaluateDetector.Result()

        def order() -> Order:
            return evaluate_order(goal, self._place(goal.dataset))

        job = await self._done(handle, EvaluateDetector, result, order, "")
        if job is not None:
            result.page = job.status.result
        return result

    def _place(self, dataset: str) -> str:
        """A folder as it is, a name in the registry's store."""
        return dataset if "/" in dataset else stored_dataset(dataset, self._store)

    async def _done(self, handle: Handle, kind: Any, result: Any, order: Callable[[], Order], name: str) -> Job | None:
        """Do a job: its account is fed back meanwhile and stands in the result, whatever came of it."""
        goal_id = bytes(handle.goal_id.uuid)
        try:
            started = self._jobs.start(order(), name)
            end: Future[Job] = Future()
            self._under_way[goal_id] = handle, kind, started.name, end
            if goal_id in self._canceled:
                self._jobs.cancel(started.name)
            job = await end
            assert job is not None
        except (LabelingError, RegistryError, OSError) as error:
            result.code, result.message = self._failure(kind.__name__, error)
            self._canceled.discard(goal_id)
            handle.abort()
            return None
        status = job.status
        result.name, result.map, result.map50 = job.name, float(status.best), float(status.map50)
        self._canceled.discard(goal_id)
        if status.state == FINISHED:
            result.ok = True
            handle.succeed()
        elif status.state == STOPPED:
            result.code, result.message = "canceled", "the job was withdrawn; a training goes on under its name"
            handle.canceled() if handle.is_cancel_requested else handle.abort()
        else:
            result.code, result.message = status.code, status.message
            handle.canceled() if handle.is_cancel_requested else handle.abort()
        return job

    def _on_cancel(self, handle: Handle) -> CancelResponse:
        goal_id = bytes(handle.goal_id.uuid)
        self._canceled.add(goal_id)
        if goal_id in self._under_way:
            self._jobs.cancel(self._under_way[goal_id][2])
        return CancelResponse.ACCEPT

    def _look(self) -> None:
        """Have the job wait or go on, feed its account back, and hand over one that has ended."""
        if not self._under_way:
            return
        # What is withdrawn goes on, to write its checkpoint and end.
        waits = self._watch.paused and not any(goal_id in self._canceled for goal_id in self._under_way)
        paused = self._jobs.pause(waits)
        for goal_id, (handle, kind, name, end) in list(self._under_way.items()):
            job = self._jobs.job(name)
            status = job.status
            if handle.is_active:
                handle.publish_feedback(
                    kind.Feedback(
                        name=name, stage=status.stage, done=status.done, total=status.total, note=status.note,
                        message=WAITS if paused else "",
                    )
                )  # fmt: skip
            if status.ended:
                del self._under_way[goal_id]
                end.set_result(job)
