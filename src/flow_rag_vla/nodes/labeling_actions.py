# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The labeling node's actions: long runs over a folder, a topic, a bag or the registry, one after the other."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from rclpy.action import CancelResponse
from rclpy.node import Node
from sensor_msgs.msg import Image

from flow_rag_vla.bringup import labeling as names
from flow_rag_vla.data.message_values import MessageError, image_pixels
from flow_rag_vla.labeling.pipeline import LabelRequest
from flow_rag_vla.labeling.registry.registry import Registry
from flow_rag_vla.labeling.registry.values import DEFAULT_PROJECT
from flow_rag_vla.nodes import qos
from flow_rag_vla.nodes.complaints import Complaints
from flow_rag_vla.nodes.jobs import JobThread
from flow_rag_vla.nodes.labeling_datasets import Built, build_dataset, build_request, tell_version
from flow_rag_vla.nodes.labeling_pace import LoopWatch
from flow_rag_vla.nodes.labeling_requests import seconds_between
from flow_rag_vla.nodes.labeling_runs import (
    Done,
    Inbox,
    RefusedError,
    Run,
    RunOrder,
    SharedPipeline,
    label_bag,
    label_path,
    label_topic,
)
from flow_rag_vla.nodes.labeling_serving import Handle, serve_actions
from flow_rag_vla.nodes.stamps import to_ns
from flow_rag_vla_interfaces.action import AutoLabel, BuildDataset, LabelBag

MOST_RUNS = 8
"""Runs under way or waiting; they are done one after the other."""

_WHO = "labeling node"


class LabelingActions:
    """AutoLabel, LabelBag and BuildDataset of a node; the runs have a thread of their own."""

    def __init__(
        self,
        node: Node,
        registry: Registry,
        pipeline: SharedPipeline,
        watch: LoopWatch,
        request: Callable[[Any], LabelRequest],
        failure: Callable[[str, Exception], tuple[str, str]],
    ) -> None:
        """Serve.

        Args:
            node: whose actions they are.
            registry: gets the labels.
            pipeline: makes them.
            watch: says when the loop needs the machine.
            request: what a goal asks of the models.
            failure: code and text of what went wrong.
        """
        self._node, self._registry, self._pipeline, self._watch = node, registry, pipeline, watch
        self._request, self._failure = request, failure
        self._complain = Complaints(node.get_logger())
        self._runs: dict[bytes, tuple[Handle, Run, Any]] = {}
        self._ends: dict[bytes, threading.Event] = {}
        self._long = JobThread(node, "labeling runs", limit=MOST_RUNS)
        actions = (
            (AutoLabel, names.AUTO_LABEL, self._on_auto_label),
            (LabelBag, names.LABEL_BAG, self._on_label_bag),
            (BuildDataset, names.BUILD_DATASET, self._on_build_dataset),
        )
        self._actions = serve_actions(node, actions, self._on_cancel, self._feed)

    @property
    def under_way(self) -> int:
        """Runs under way or waiting."""
        return len(self._runs)

    def close(self) -> None:
        """Withdraw what is under way, and end."""
        for end in self._ends.values():
            end.set()
        self._long.close()
        for action in self._actions:
            action.destroy()

    async def _on_auto_label(self, handle: Handle) -> AutoLabel.Result:
        goal: AutoLabel.Goal = handle.request
        inbox = Inbox()
        subscription = None

        def take(image: Image) -> None:
            try:
                inbox.put(image_pixels(image), to_ns(image.header.stamp))
            except MessageError as error:
                self._complain(f"image on {goal.topic}: {error}")

        async def work(run: Run) -> Done:
            nonlocal subscription
            order = self._order(goal)
            if bool(goal.topic) == bool(goal.folder):
                raise RefusedError("invalid_message", "name either a topic or a folder")
            if goal.folder:
                folder = Path(goal.folder).expanduser()
                return await self._long.submit(lambda: label_path(folder, order, self._registry, self._pipeline, run))
            try:
                subscription = self._node.create_subscription(Image, goal.topic, take, qos.NEWEST)
            except Exception as error:  # rclpy has an error of its own for each way to misname a topic
                raise RefusedError("invalid_message", f"topic {goal.topic!r}: {error}") from error
            session = str(to_ns(self._node.get_clock().now().to_msg()))
            return await self._long.submit(
                lambda: label_topic(goal.topic, inbox, session, order, self._registry, self._pipeline, run)
            )

        result = AutoLabel.Result()
        try:
            done = await self._ran(handle, AutoLabel, result, work)
        finally:
            if subscription is not None:
                self._node.destroy_subscription(subscription)
        if done is not None:
            result.source_ids, result.tracks = list(done.source_ids), len(done.report.tracks)
        return result

    async def _on_label_bag(self, handle: Handle) -> LabelBag.Result:
        goal: LabelBag.Goal = handle.request

        async def work(run: Run) -> Done:
            order = self._order(goal)
            bag = Path(goal.bag).expanduser()
            output = Path(goal.output).expanduser() if goal.output else None
            return await self._long.submit(
                lambda: label_bag(bag, list(goal.topics), output, order, self._registry, self._pipeline, run)
            )

        result = LabelBag.Result()
        done = await self._ran(handle, LabelBag, result, work)
        if done is not None:
            result.source_id, result.output = done.source_ids[0], goal.output
            result.tracks = len(done.report.tracks)
        return result

    async def _on_build_dataset(self, handle: Handle) -> BuildDataset.Result:
        async def work(run: Run) -> Built:
            asked = build_request(handle.request, _WHO)
            return await self._long.submit(lambda: build_dataset(asked, self._registry, run))

        result = BuildDataset.Result()
        done = await self._ran(handle, BuildDataset, result, work)
        if isinstance(done, Built):
            tell_version(done.dataset, result)
        return result

    async def _ran(
        self,
        handle: Handle,
        kind: Any,
        result: Any,
        work: Callable[[Run], Awaitable[Done]],
    ) -> Done | None:
        """Do a run: its account is fed back meanwhile and stands in the result, whatever came of it."""
        goal_id = bytes(handle.goal_id.uuid)
        run = Run(self._watch, self._ends.setdefault(goal_id, threading.Event()))
        self._runs[goal_id] = handle, run, kind
        done: Done | None = None
        try:
            done = await work(run)
        except Exception as error:
            result.code, result.message = self._failure(kind.__name__, error)
        finally:
            del self._runs[goal_id], self._ends[goal_id]
        self._feed_one(handle, run, kind)
        result.images, result.objects = run.images, run.objects
        if kind is not BuildDataset:
            result.new_objects = run.new
        if done is not None:
            result.ok = True
            result.message = "; ".join(f"{place}: {error}" for place, error in done.report.errors[:10])
            handle.succeed()
        elif handle.is_cancel_requested:
            handle.canceled()
        else:
            handle.abort()
        return done

    def _order(self, goal: AutoLabel.Goal | LabelBag.Goal) -> RunOrder:
        project, who = goal.project or DEFAULT_PROJECT, goal.person or _WHO
        return RunOrder(self._request(goal), project, who, int(goal.max_images), seconds_between(goal.rate))

    def _on_cancel(self, handle: Handle) -> CancelResponse:
        end = self._ends.setdefault(bytes(handle.goal_id.uuid), threading.Event())
        end.set()
        return CancelResponse.ACCEPT

    def _feed(self) -> None:
        for handle, under_way, kind in self._runs.values():
            self._feed_one(handle, under_way, kind)

    def _feed_one(self, handle: Handle, under_way: Run, kind: Any) -> None:
        if handle.is_active:
            images, total, objects, message = under_way.account
            feedback = kind.Feedback(images=images, total=total, objects=objects, message=message)
            handle.publish_feedback(feedback)
