# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Models and tokenizers of transformers, from a folder or a hub id. Code that comes with weights is never run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flow_rag_vla.llm.errors import UnknownModelError
from flow_rag_vla.llm.redaction import redact


def model_and_tokenizer(kind: Any, name: str, what: str, a: str, **arguments: Any) -> tuple[Any, Any]:
    """A model and its tokenizer. Loaded are weights and settings alone: nobody is asked whether other code may run.

    Args:
        kind: Auto class of transformers.
        name: folder or hub id.
        what: what it is to the caller, for errors, such as ``model``.
        a: what it has to be, with its article, such as ``a translation model``.
        arguments: of the Auto class.

    Raises:
        UnknownModelError: if it is neither, cannot be loaded, or needs code of its own.
        torch.OutOfMemoryError, MemoryError: if it does not fit.
    """
    import torch
    import transformers

    place = Path(name).expanduser()
    where = str(place) if place.exists() else name
    try:
        _refuse_code(where, name, what)
        tokenizer = transformers.AutoTokenizer.from_pretrained(where, trust_remote_code=False)
        return kind.from_pretrained(where, trust_remote_code=False, **arguments), tokenizer
    except (torch.OutOfMemoryError, UnknownModelError):
        raise
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        raise UnknownModelError(
            f"{what} {name!r} is neither a folder with {a} nor a hub id that can be loaded: {redact(str(error))[:300]}"
        ) from error


def _refuse_code(where: str, name: str, what: str) -> None:
    """Before anything is loaded: what transformers says of it would name an argument that nobody here can give."""
    from transformers import CONFIG_MAPPING, PretrainedConfig

    config, _ = PretrainedConfig.get_config_dict(where)
    kind = config.get("model_type", "")
    if "AutoConfig" in config.get("auto_map", {}) and kind not in CONFIG_MAPPING:
        raise UnknownModelError(
            f"{what} {name!r} is of the type {kind!r}, which transformers does not know, and brings code of its own, "
            "which is never run here; take a model of a type that it knows, such as LGAI-EXAONE/EXAONE-4.0-1.2B, or "
            "serve this one elsewhere and ask it as provider openai with its base_url"
        )
