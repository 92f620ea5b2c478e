# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What a node's watch of its middleware looks at is there."""

from __future__ import annotations

from pathlib import Path

from flow_rag_vla.core.middleware_watch import EVENT_THREAD


def test_the_middleware_of_a_node_has_the_thread_that_is_watched_and_the_node_a_watch(start_node, spin_until):
    node = start_node("controller")
    spin_until(lambda: node.said("controller"), what="the controller")

    def named(name: str) -> bool:
        threads = Path(f"/proc/{node.popen.pid}/task").iterdir()
        return any((thread / "comm").read_text().startswith(name) for thread in threads)

    spin_until(lambda: named(EVENT_THREAD) and named("middleware"), what="both threads")
