# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Options that commands share say what the nodes take."""

from __future__ import annotations

from flow_rag_vla.bringup.parameters.failure_memory import CHOSEN_CORRECTORS
from flow_rag_vla.cli.graph_options import CORRECTORS, complete_corrector, complete_node


def test_the_offered_correctors_are_those_that_the_memory_takes():
    assert CORRECTORS == CHOSEN_CORRECTORS


def test_names_are_completed_from_their_beginning():
    assert complete_corrector("con") == ["consensus"]
    assert complete_corrector("x") == []
    assert set(complete_node("l")) == {"llm", "labeling"}
