# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""LoRA and QLoRA (Dettmers et al. 2023) with peft: a small loop that goes on from exactly the step where it stopped.

Everything random is drawn anew from the seed and the step (the order of an epoch, the dropout of a step), so a training
that was interrupted gives the same weights as one that was not.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from flow_rag_vla.llm.errors import BadRequestError, MissingPackageError
from flow_rag_vla.llm.fine_tuning import checkpoint
from flow_rag_vla.llm.fine_tuning.conversations import Conversation, digest
from flow_rag_vla.llm.fine_tuning.settings import TrainingSettings
from flow_rag_vla.llm.fine_tuning.tokens import Example, example, padded
from flow_rag_vla.llm.pretrained import model_and_tokenizer

ADAPTER = "adapter"
"""Folder of the trained adapter inside the training's own."""

OnStep = Callable[[int, int, float], None]
"""Called after each step with its number from 1, how many there are, and its loss."""


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training gave: its adapter's folder, steps done, losses in nats a token, conversations left out."""

    adapter: Path
    steps: int
    losses: tuple[float, ...]
    left_out: int


def train(
    base: str,
    conversations: Sequence[Conversation],
    folder: Path,
    settings: TrainingSettings,
    on_step: OnStep | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Trained:
    """Train an adapter on a base model, going on where ``folder`` stands.

    Args:
        base: folder or hub id of a causal language model.
        conversations: what to learn.
        folder: of the training: checkpoints, and the adapter when it is done.
        settings: how; the same again to go on.
        on_step: told after each step.
        stop: looked at after each step; True saves a checkpoint and returns.

    Raises:
        MissingPackageError: naming the extra; also for ``quantized`` without CUDA and bitsandbytes.
        UnknownModelError: for a base that cannot be loaded.
        BadRequestError: for conversations that are all too long, a folder with another training, or a base that cannot
            do ``gradient_checkpointing``.
    """
    _check_packages(settings)
    model, tokenizer = load_base(base, settings)
    examples = [example(tokenizer, one) for one in conversations]
    kept = [one for one in examples if len(one.tokens) <= settings.longest]
    if not kept:
        raise BadRequestError(f"all {len(examples)} conversations are longer than {settings.longest} tokens")
    run = {"base": base, "data": digest(conversations), "settings": _run_settings(settings)}
    progress = checkpoint.read(folder)
    if progress is not None and dict(progress.run) != run:
        changed = ", ".join(name for name in run if progress.run.get(name) != run[name])
        raise BadRequestError(f"{folder} holds a training with another {changed}; go on with the same, or elsewhere")
    torch.manual_seed(settings.seed)
    adapted = _adapted(model, settings)
    weights = [weight for weight in adapted.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=settings.rate, weight_decay=0.0)
    losses: list[float] = []
    if progress is not None:
        checkpoint.restore(folder, adapted, optimizer, progress)
        losses = list(progress.losses)
    folder.mkdir(parents=True, exist_ok=True)
    padding = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    total = steps_of(len(kept), settings)
    adapted.train()
    for step in range(len(losses), total):
        losses.append(_step(adapted, optimizer, kept, step, total, padding, settings))
        if on_step is not None:
            on_step(step + 1, total, losses[-1])
        ended = step + 1 == total
        halted = not ended and stop()
        if ended or halted or (step + 1) % settings.save_every == 0:
            checkpoint.save(folder, adapted, optimizer, checkpoint.Progress(step + 1, tuple(losses), run))
        if halted:
            break
    adapted.save_pretrained(folder / ADAPTER)
    tokenizer.save_pretrained(folder / ADAPTER)
    return Trained(folder / ADAPTER, len(losses), tuple(losses), len(examples) - len(kept))


def load_base(base: str, settings: TrainingSettings) -> tuple[Any, Any]:
    """A base model on its device, and its tokenizer.

    Raises:
        UnknownModelError: for one that cannot be loaded.
    """
    import transformers

    device = training_device(settings)
    arguments: dict[str, Any] = {"dtype": torch.bfloat16 if device == "cuda" else torch.float32}
    if settings.quantized:
        arguments["quantization_config"] = transformers.BitsAndBytesConfig(  # type: ignore[no-untyped-call]
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16
        )
        arguments["device_map"] = device
    model, tokenizer = model_and_tokenizer(
        transformers.AutoModelForCausalLM, base, "base", "a causal language model", **arguments
    )
    return (model if settings.quantized else model.to(device)), tokenizer


def training_device(settings: TrainingSettings) -> str:
    """Where it is computed."""
    if settings.device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return settings.device


def steps_of(examples: int, settings: TrainingSettings) -> int:
    """Steps of a whole training; an epoch's last one may be a part."""
    return settings.epochs * -(-examples // (settings.batch * settings.accumulate))


def rate_at(step: int, total: int, settings: TrainingSettings) -> float:
    """Learning rate of a step from 0: a linear warm-up, then a half cosine down to 0 after the last one."""
    warm_up = int(settings.warm_up * total)
    if step < warm_up:
        return settings.rate * (step + 1) / (warm_up + 1)
    return settings.rate * 0.5 * (1.0 + math.cos(math.pi * (step - warm_up) / max(1, total - warm_up)))


def _check_packages(settings: TrainingSettings) -> None:
    missing = [name for name in ("peft", "transformers") if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingPackageError(f"fine-tuning needs {' and '.join(missing)}: pip install 'flow_rag_vla[fine-tuning]'")
    if settings.quantized and importlib.util.find_spec("bitsandbytes") is None:
        raise MissingPackageError(
            "a quantized base (QLoRA) needs bitsandbytes: pip install bitsandbytes, or train without --quantized"
        )
    if settings.quantized and training_device(settings) != "cuda":
        raise MissingPackageError("a quantized base (QLoRA) needs a CUDA GPU; train without --quantized")


def _run_settings(settings: TrainingSettings) -> dict[str, Any]:
    """What changes the weights: not how often a checkpoint is written, nor what is kept for the way back.

    So a training that ran out of memory goes on with ``gradient_checkpointing``.
    """
    passing = ("save_every", "gradient_checkpointing")
    return {name: value for name, value in asdict(settings).items() if name not in passing}


def _adapted(model: Any, settings: TrainingSettings) -> Any:
    import peft

    if settings.quantized:
        # Its own kind of checkpointing enters a layer anew, which needs inputs that have a gradient.
        model = peft.prepare_model_for_kbit_training(  # type: ignore[no-untyped-call]
            model, use_gradient_checkpointing=False
        )
    if settings.quantized or settings.gradient_checkpointing:
        _compute_again(model)
    model.config.use_cache = False
    config = peft.LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules="all-linear",
    )
    return peft.get_peft_model(model, config)


def _compute_again(model: Any) -> None:
    """Turn gradient checkpointing on; the random numbers of a layer's dropout are drawn the same both times."""
    # The name in newer versions of transformers, and the one before; both take the same as their first argument.
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    try:
        enable({"use_reentrant": False})
    except ValueError as error:
        raise BadRequestError(
            f"{error} Take another base, or train without --gradient-checkpointing and --quantized"
        ) from error


def _step(
    model: Any,
    optimizer: torch.optim.Optimizer,
    examples: Sequence[Example],
    step: int,
    total: int,
    padding: int,
    settings: TrainingSettings,
) -> float:
    """One step; its mean loss. All tokens of the step count alike, however the batches cut them."""
    chosen = _chosen(len(examples), step, settings)
    group = [examples[number] for number in chosen]
    learned = sum(label >= 0 for one in group for label in one.labels[1:])
    torch.manual_seed(settings.seed * 1_000_003 + step + 1)
    for parameters in optimizer.param_groups:
        parameters["lr"] = rate_at(step, total, settings)
    optimizer.zero_grad(set_to_none=True)
    whole = 0.0
    for start in range(0, len(group), settings.batch):
        inputs = padded(group[start : start + settings.batch], padding, model.device)
        labels = inputs.pop("labels")
        logits = model(**inputs).logits[:, :-1].float()
        loss = torch.nn.functional.cross_entropy(
            logits.reshape(-1, logits.shape[-1]), labels[:, 1:].reshape(-1), reduction="sum"
        )
        loss = loss / max(1, learned)
        loss.backward()  # type: ignore[no-untyped-call]
        whole += float(loss.detach())
    if not math.isfinite(whole):
        raise BadRequestError(f"the loss is {whole} at step {step + 1}; lower the rate")
    torch.nn.utils.clip_grad_norm_([weight for group_ in optimizer.param_groups for weight in group_["params"]], 1.0)
    optimizer.step()
    return whole


def _chosen(count: int, step: int, settings: TrainingSettings) -> list[int]:
    """The conversations of a step: a fresh order each epoch, drawn from the seed and the epoch."""
    size = settings.batch * settings.accumulate
    epoch, part = divmod(step, -(-count // size))
    generator = torch.Generator().manual_seed(settings.seed * 7919 + epoch)
    order: list[int] = torch.randperm(count, generator=generator).tolist()
    return order[part * size : (part + 1) * size]
