# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""An adapter made one with its base: a folder that any program for such models can load."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from flow_rag_vla.core.files import write_text
from flow_rag_vla.llm.errors import BadRequestError, UnknownModelError
from flow_rag_vla.llm.fine_tuning.settings import TrainingSettings
from flow_rag_vla.llm.fine_tuning.training import load_base

CARD = "fine_tuning.json"
"""In the merged folder: what it was made of."""

PROBE = 16
"""Tokens on which the merged model is compared with the adapter."""


def merge(adapter: Path, folder: Path, device: str = "cpu") -> float:
    """Write the merged model; return the largest difference of a logit to the adapter's on a probe.

    The base is loaded whole, also for an adapter that was trained on a quantized one: what was rounded there is added
    to what was not, so that merging such an adapter changes it a little.

    Raises:
        UnknownModelError: for a folder without an adapter, or a base that cannot be loaded.
        BadRequestError: when ``folder`` is there already, or the merged model answers otherwise.
    """
    import peft

    if folder.exists():
        raise BadRequestError(f"{folder} is there already; give a folder that is not")
    if not (adapter / peft.utils.CONFIG_NAME).is_file():
        # peft would look for a model of this name on the hub.
        raise UnknownModelError(f"{adapter} holds no adapter: no {peft.utils.CONFIG_NAME} in it; train one first")
    try:
        config = peft.PeftConfig.from_pretrained(str(adapter))
    except (OSError, ValueError) as error:
        raise UnknownModelError(f"{adapter} holds no adapter: {error}; train one first") from error
    base = str(config.base_model_name_or_path)
    model, tokenizer = load_base(base, TrainingSettings(device=device))
    adapted = peft.PeftModel.from_pretrained(model, str(adapter)).eval()
    probe = torch.arange(PROBE, device=adapted.device).remainder(len(tokenizer)).reshape(1, -1)
    with torch.inference_mode():
        before = adapted(probe).logits.float().clone()
    merged: Any = adapted.merge_and_unload()
    merged.config.use_cache = True
    with torch.inference_mode():
        after = merged(probe).logits.float()
    difference = float((after - before).abs().max())
    # Rounding only: bfloat16 keeps 8 bits of each weight.
    allowed = (1e-3 if after.dtype is torch.float32 and device == "cpu" else 0.1) * max(1.0, float(before.abs().max()))
    if not difference <= allowed:
        raise BadRequestError(f"the merged model's logits differ by {difference:.3g} from the adapter's; do not use it")
    merged.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    write_text(folder / CARD, json.dumps({"base": base, "adapter": adapter.name, "difference": difference}) + "\n")
    return difference
