# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A memory whose vectors lie in PostgreSQL: refusals, a server that goes away, and what is durable meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

import pytest

from flow_rag_vla.memory.backends.base import IndexUnavailableError
from flow_rag_vla.memory.index import make_backend
from flow_rag_vla.memory.memory import FailureMemory
from flow_rag_vla.memory.results import MemorySettings


@pytest.fixture
def url(postgres, request) -> Callable[[str], str]:
    """``url("robot_7")``: the server, with a namespace of the test's own."""
    mark = "&" if "?" in postgres else "?"
    return lambda namespace: f"{postgres}{mark}namespace={request.node.name}_{namespace}"


def opened(database, url: str) -> FailureMemory:
    return FailureMemory.open(database, MemorySettings(threshold=0.9), make_backend(url))[0]


def test_a_memory_searches_on_the_server_and_fills_it_anew_at_each_start(make, database, url):
    with closing(opened(database, url("a"))) as memory:
        first = memory.add(make.case(1)).case_id
        second = memory.add(make.case(2)).case_id
        assert memory.statistics().index.kind == "exact scan by PostgreSQL"
    for _ in range(2):
        with closing(opened(database, url("a"))) as memory:
            assert [item.case_id for item in memory.search(make.unit(1), k=1).cases] == [first]
            memory.retire(second)
            assert memory.search(make.unit(2)).cases == ()


def test_two_robots_on_one_server_do_not_see_each_other(make, tmp_path, url):
    with closing(opened(tmp_path / "a.db", url("a"))) as one, closing(opened(tmp_path / "b.db", url("b"))) as other:
        one.add(make.case(1))
        other.add(make.case(2))
        assert one.search(make.unit(2)).cases == ()
        assert len(other.search(make.unit(2)).cases) == 1


def test_vectors_of_two_encoders_are_never_mixed(make, tmp_path, url):
    with closing(opened(tmp_path / "a.db", url("same"))) as memory:
        memory.add(make.case(1))
    with closing(FailureMemory.open(tmp_path / "b.db")[0]) as memory:
        memory.add(make.case(1, encoder="dinov2"))
    with pytest.raises(IndexUnavailableError, match=r"holds vectors of compact@abc .* these are of dinov2@abc"):
        opened(tmp_path / "b.db", url("same"))


def test_a_case_is_not_lost_when_the_server_does_not_answer(make, database, url):
    with closing(opened(database, url("a"))) as memory:
        kept = memory.add(make.case(1)).case_id
        backend = memory._backend
        reachable = backend._url
        # The connection breaks, and the server is gone.
        backend.close()
        backend._url = "postgresql://127.0.0.1:1/none"
        with pytest.raises(IndexUnavailableError, match=r"does not answer: .*check the server"):
            memory.search(make.unit(1))
        added = memory.apply([make.case(2)], {})[0]
        assert "does not answer" in memory.statistics().index.problem
        with pytest.raises(IndexUnavailableError):
            memory.refresh()
        # It is back.
        backend._url = reachable
        assert memory.refresh()
        assert memory.statistics().index.problem == ""
        assert [item.case_id for item in memory.search(make.unit(2), k=1).cases] == [added]
        assert [item.case_id for item in memory.search(make.unit(1), k=1).cases] == [kept]


def test_a_server_that_cannot_be_reached_is_named_without_its_password():
    pytest.importorskip("psycopg")
    with pytest.raises(IndexUnavailableError, match=r"postgresql://127\.0\.0\.1:1/none does not answer") as error:
        make_backend("postgresql://robot:secret@127.0.0.1:1/none")
    assert "secret" not in str(error.value)
