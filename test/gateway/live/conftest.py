# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A graph that lives in memory, and what the live page's section is made of."""

import pytest

from flow_rag_vla.gateway.access import Role, new_token
from flow_rag_vla.gateway.errors import conflict, not_found, unavailable
from flow_rag_vla.gateway.live.board import Board
from flow_rag_vla.gateway.live.pace import Audience, Pace


class MemoryGraph:
    """A graph without nodes: cases in a dictionary, and a note of what was asked."""

    def __init__(self):
        self.asked = []
        self.down = False
        self.running = False
        self.waiting = {"p1", "p2"}
        self.store = {
            number: {"id": number, "type": "drop", "note": "", "retired": False, "value": float("nan")}
            for number in range(1, 4)
        }

    def _check(self):
        if self.down:
            raise unavailable("node_down", "controller is not running", "start controller")

    def publish_stop(self):
        self.asked.append("stop published")

    async def confirm_stop(self):
        self._check()
        return "latched"

    async def release(self):
        self._check()
        self.asked.append("released")
        return "released"

    async def start(self, order):
        self._check()
        if self.running:
            raise conflict("refused", "an episode is running", "stop it first")
        self.running = True
        self.asked.append(order)
        return "accepted"

    async def stop(self):
        self.running = False
        return "stopping"

    async def answer(self, plan, approved, person, reason):
        self._check()
        if plan not in self.waiting:
            raise conflict("not_waiting", f"no plan {plan!r} waits for a person", "answer one that waits")
        self.waiting.remove(plan)
        self.asked.append((plan, approved, person, reason))
        return f"{'approved' if approved else 'rejected'} by {person}"

    async def score(self, success):
        self._check()
        self.asked.append(success)
        return f"episode 4: {'success' if success else 'failure'}"

    async def cases(self, query):
        self.asked.append(query)
        return {"total": len(self.store), "cases": list(self.store.values())[query.offset :][: query.limit]}

    async def case(self, case_id):
        if case_id not in self.store:
            raise not_found("no_case", f"there is no case {case_id}", "list the cases")
        return self.store[case_id]

    async def edit(self, case_id, edit):
        await self.case(case_id)
        self.asked.append(edit)
        if edit.note is not None:
            self.store[case_id]["note"] = edit.note

    async def retire(self, case_id, retired, reason):
        await self.case(case_id)
        self.store[case_id] |= {"retired": retired, "retired_reason": reason}

    async def export(self, path, include_retired):
        path.write_bytes(b"PK cases")
        return len(self.store)


@pytest.fixture
def graph():
    return MemoryGraph()


@pytest.fixture
def board():
    return Board()


@pytest.fixture
def audience():
    return Audience(capacity=2)


@pytest.fixture
def pace():
    return Pace(image_hz=50.0, data_hz=100.0)


@pytest.fixture
def tokens():
    return {role: new_token(role.word, role) for role in Role}
