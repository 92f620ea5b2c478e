# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The language model node within a memory that its two models do not fit into together."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from flow_rag_vla.bringup import topics
from flow_rag_vla_interfaces.srv import Ask, EmbedText

sys.path.insert(0, str(Path(__file__).parent.parent / "llm"))
from tiny import make_tiny_model

EMBEDDER_MB = 91.0
"""Room for the embedded text embedder alone: its weights take 90.9 MB, the tiny language model 0.1."""


@pytest.mark.timeout(600)  # torch, transformers and sentence-transformers are imported by a process of its own
def test_the_language_model_and_the_embedder_take_turns(start_node, call, ros_node, spin_until, tmp_path):
    node = start_node(
        "llm",
        provider="local",
        model=str(make_tiny_model(tmp_path)),
        device="cpu",
        host_memory=EMBEDDER_MB,
        max_tokens=8,
    )
    embeds = ros_node.create_client(EmbedText, topics.EMBED_TEXT)
    asks = ros_node.create_client(Ask, topics.ASK)
    spin_until(lambda: embeds.service_is_ready() and asks.service_is_ready(), what="the services")
    for client, request in (
        (asks, Ask.Request(question="open the drawer", deadline=500.0)),
        (embeds, EmbedText.Request(texts=["the cube slipped"])),
        (asks, Ask.Request(question="close the drawer", deadline=500.0)),
    ):
        future = client.call_async(request)
        spin_until(future.done, 500.0, "an answer")
        answer = future.result()
        # Random weights speak on without an end: what they are cut off at is the right answer here.
        assert answer.ok or answer.kind == "truncated", answer.message
    assert node.stop() == 0 and "Traceback" not in node.text
