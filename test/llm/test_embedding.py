# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Text embedders: the embedded one, folders, and the hosted one against a local server."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
from tiny import make_tiny_bert
from wire import SECRET

from flow_rag_vla.llm import errors
from flow_rag_vla.llm.embedding.base import EmbedderSettings, EmbedderStamp, TextEmbedder, unread
from flow_rag_vla.llm.embedding.choice import make_embedder


@pytest.fixture(scope="module")
def minilm() -> TextEmbedder:
    return make_embedder("minilm", EmbedderSettings(environment={}))


@pytest.fixture(scope="module")
def bert_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT of random weights as plain transformers saves it: no word on pooling."""
    return make_tiny_bert(tmp_path_factory.mktemp("bert"))


class EmbeddingServer(HTTPServer):
    """Speaks OpenAI's embeddings: a vector of ones with the text's length in front."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[dict] = []
        self.status, self.dimension, self.shuffled = 200, 0, True


class _Handler(BaseHTTPRequestHandler):
    server: EmbeddingServer

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.requests.append(asked)
        size = self.server.dimension or asked["dimensions"]
        data = [
            {"object": "embedding", "index": index, "embedding": [float(len(text)), *[1.0] * (size - 1)]}
            for index, text in enumerate(asked["input"])
        ]
        body = {"object": "list", "model": asked["model"], "data": data[::-1], "usage": {"prompt_tokens": 1,
                "total_tokens": 1}}  # fmt: skip
        text = json.dumps(body if self.server.status == 200 else {"error": {"message": f"no {SECRET}"}}).encode()
        self.send_response(self.server.status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[EmbeddingServer]:
    made = EmbeddingServer()
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


def hosted(server: EmbeddingServer, **settings: object) -> TextEmbedder:
    url = f"http://127.0.0.1:{server.server_port}/v1"
    return make_embedder(
        "openai", EmbedderSettings(base_url=url, key_variable="K", environment={"K": SECRET}, **settings)
    )


def test_the_embedded_model_needs_no_network_and_knows_english(minilm):
    vectors = minilm.embed(["the gripper dropped the cube", "the cube slipped out of the fingers", "open the drawer"])
    assert vectors.shape == (3, 384) and vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=1e-5)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.2
    assert (minilm.stamp.embedder, minilm.stamp.dimension) == ("minilm", 384)
    assert isinstance(minilm, TextEmbedder) and minilm.embed([]).shape == (0, 384)


def test_the_same_text_gets_the_same_vector_alone_and_in_a_batch(minilm):
    alone = minilm.embed(["the cube slipped"])[0]
    batch = minilm.embed(["x", "the cube slipped", "a much longer sentence about something else altogether"])[1]
    np.testing.assert_allclose(alone, batch, atol=1e-5)


def test_an_empty_text_is_refused(minilm):
    with pytest.raises(errors.BadRequestError, match="text 1 of 2"):
        minilm.embed(["x", " "])


def test_a_folder_is_pooled_as_told_and_the_pooling_is_part_of_the_revision(bert_folder):
    made = {
        pooling: make_embedder("local", EmbedderSettings(str(bert_folder), pooling=pooling))
        for pooling in ("auto", "mean", "cls")
    }
    text = ["the cube slipped"]
    assert made["auto"].stamp.dimension == 16 and made["auto"].stamp.embedder.startswith("local:")
    assert len({embedder.stamp.revision for embedder in made.values()}) == 3
    np.testing.assert_allclose(made["auto"].embed(text), made["mean"].embed(text), atol=1e-6)
    assert not np.allclose(made["cls"].embed(text), made["mean"].embed(text), atol=1e-3)


@pytest.mark.parametrize("pooling", ["auto", "cls"])
def test_code_that_comes_with_weights_is_never_run_and_nobody_is_asked(foreign_model, monkeypatch, pooling):
    monkeypatch.setattr("builtins.input", lambda *_said: pytest.fail("somebody was asked whether it may run"))
    folder, ran = foreign_model
    with pytest.raises(errors.UnknownModelError, match="custom code"):
        make_embedder("local", EmbedderSettings(str(folder), pooling=pooling)).embed(["x"])
    assert not ran.exists()


def test_a_folder_without_a_model_is_named(tmp_path):
    with pytest.raises(errors.UnknownModelError, match=str(tmp_path)):
        make_embedder("local", EmbedderSettings(str(tmp_path))).embed(["x"])


def test_the_hosted_one_asks_for_its_dimension_and_keeps_the_order(server):
    embedder = hosted(server)
    vectors = embedder.embed(["a", "bbbb"])
    assert vectors.shape == (2, 512) and server.requests[0]["dimensions"] == 512
    assert vectors[1, 0] / vectors[1, 1] == pytest.approx(4.0)
    assert embedder.stamp.dimension == 512
    embedder.embed(["x"] * 300)
    assert [len(request["input"]) for request in server.requests] == [2, 128, 128, 44]


@pytest.mark.parametrize(("status", "kind"), [(401, errors.MissingKeyError), (404, errors.UnknownModelError)])
def test_the_hosted_one_has_typed_errors_without_secrets(server, status, kind):
    server.status = status
    with pytest.raises(kind) as caught:
        hosted(server).embed(["x"])
    assert SECRET not in str(caught.value)


def test_a_vector_of_another_size_is_refused(server):
    server.dimension = 100
    with pytest.raises(errors.ProtocolError, match="100 numbers"):
        hosted(server).embed(["x"])


def test_a_server_that_the_environment_names_is_asked_without_a_key_and_gives_the_size_that_its_model_has(server):
    server.dimension = 100
    named = {"OPENAI_BASE_URL": f"http://127.0.0.1:{server.server_port}/v1"}
    made = make_embedder("openai", EmbedderSettings("nomic-embed-text", environment=named))
    assert made.stamp == EmbedderStamp("openai", "nomic-embed-text", 100)
    assert made.embed(["a", "bc"]).shape == (2, 100) and made.embed([]).shape == (0, 100)
    assert all("dimensions" not in asked for asked in server.requests)
    with pytest.raises(errors.MissingKeyError, match="OPENAI_API_KEY"):
        make_embedder("openai", EmbedderSettings("nomic-embed-text", environment={}))


def test_korean_is_told_of_where_the_embedder_understands_english_alone(minilm, bert_folder):
    told = unread(minilm, ["open the drawer", "서랍을 열어줘", "빨간 큐브"])
    assert told.startswith("2 of 3 texts are Korean, and embedder 'minilm'") and "--to local" in told
    assert unread(minilm, ["open the drawer", "ouvrez le tiroir"]) == ""
    assert unread(make_embedder("local", EmbedderSettings(str(bert_folder))), ["서랍을 열어줘"]) == ""


def test_the_embedder_is_chosen_by_name_then_variable(server):
    with pytest.raises(errors.MissingKeyError, match="OPENAI_API_KEY"):
        make_embedder("", EmbedderSettings(environment={"EMBEDDING_PROVIDER": "openai"}))
    with pytest.raises(errors.UnknownProviderError, match="minilm, local, openai"):
        make_embedder("word2vec")
