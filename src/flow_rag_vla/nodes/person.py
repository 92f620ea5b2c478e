# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A person's word beside the graph: on plans that wait for one, and on episodes that nobody else can judge."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Any

from std_srvs.srv import SetBool

from flow_rag_vla.bringup import topics
from flow_rag_vla.bringup.deliberation import PLAN_REVIEW
from flow_rag_vla.bringup.security.permission import SCORE_EPISODE
from flow_rag_vla.nodes import qos
from flow_rag_vla.nodes.graph_client import GraphClient
from flow_rag_vla.nodes.stamps import to_ns
from flow_rag_vla_interfaces.msg import PlanReview
from flow_rag_vla_interfaces.srv import ApprovePlan

ANSWER_S = 5.0
"""How long a node may take to take a word."""

_LOOK_S = 0.05


class PersonError(RuntimeError):
    """A word that did not arrive, or was not taken; the message says why and what to do."""


@dataclass(slots=True)
class Waiting:
    """A plan that waits. closed: set once it no longer does; ends: on the clock of ``time.monotonic``."""

    review: PlanReview
    ends: float
    closed: threading.Event


class Person(GraphClient):
    """Use as a context manager; the methods belong to the caller's thread."""

    def __init__(self, namespace: str = "") -> None:
        super().__init__("person", namespace)
        self._lock = threading.Lock()
        self._waiting: dict[str, Waiting] = {}
        self._approve = self._node.create_client(ApprovePlan, topics.APPROVE_PLAN)
        self._score = self._node.create_client(SetBool, SCORE_EPISODE)
        self._node.create_subscription(PlanReview, PLAN_REVIEW, self._on_review, qos.STATE)

    def next_plan(self, seconds: float) -> Waiting | None:
        """The plan that has waited longest and still does; None if there is none within so many seconds."""
        ends = time.monotonic() + seconds
        while True:
            with self._lock:
                found = next((one for one in self._waiting.values() if one.ends > time.monotonic()), None)
            if found is not None or time.monotonic() >= ends:
                return found
            time.sleep(_LOOK_S)

    def answer(self, waiting: Waiting, approved: bool, person: str) -> str:
        """Say yes or no to a plan; what the node answers.

        Raises:
            PersonError: if the word is not taken.
        """
        name = waiting.review.deliberation_id
        with self._lock:
            self._waiting.pop(name, None)
        request = ApprovePlan.Request(deliberation_id=name, approved=approved, person=person)
        reply: Any = self._asked(self._approve, request, "deliberation")
        if not reply.ok:
            raise PersonError(reply.message)
        return str(reply.message)

    def score(self, success: bool) -> str:
        """Judge the episode that runs; what the episode manager answers.

        Raises:
            PersonError: if nobody takes the judgement, or no episode runs.
        """
        reply: Any = self._asked(self._score, SetBool.Request(data=success), "episode_manager")
        if not reply.success:
            raise PersonError(reply.message)
        return str(reply.message)

    def _asked(self, client: Any, request: Any, node: str) -> Any:
        if not client.wait_for_service(ANSWER_S):
            raise PersonError(
                f"{client.srv_name} is not there: the node {node} does not run here, or asks nobody; see whether the "
                "graph runs, and in which namespace"
            )
        done = threading.Event()
        future = client.call_async(request)
        future.add_done_callback(lambda _future: done.set())
        if not done.wait(ANSWER_S):
            raise PersonError(f"{client.srv_name} did not answer within {ANSWER_S:g} s; see the log of the node {node}")
        return future.result()

    def _on_review(self, review: PlanReview) -> None:
        with self._lock:
            name = review.deliberation_id
            if review.open:
                # A latched one is as old as its stamp says.
                age = (self._node.get_clock().now().nanoseconds - to_ns(review.header.stamp)) / 1e9
                ends = time.monotonic() + float(review.time_left) - max(age, 0.0)
                self._waiting[name] = Waiting(review, ends, threading.Event())
            elif name in self._waiting:
                self._waiting.pop(name).closed.set()
