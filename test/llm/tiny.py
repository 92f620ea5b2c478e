# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A language model of 30,000 random weights, with a tokenizer trained here: what tests can do without any download."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

CHAT = (
    "{% for message in messages %}[{{ message.role }}]{{ message.content }}"
    "{% if message.role == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


def train_tokenizer(texts: Iterable[str], size: int = 320):
    """A byte-level tokenizer of transformers with an end, a padding token and a chat format."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=["<pad>", "</s>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    raw.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="</s>", pad_token="<pad>")
    tokenizer.chat_template = CHAT
    return tokenizer


def make_tiny_model(folder: Path, seed: int = 0, spread: float = 0.02) -> Path:
    """Save an EXAONE 4 of random weights, of standard deviation ``spread``, into ``folder``."""
    import torch
    from transformers import Exaone4Config, Exaone4ForCausalLM

    tokenizer = train_tokenizer(["put the red cube in the bin", '{"steps": [], "refusal": "none"}'])
    tokenizer.save_pretrained(folder)
    torch.manual_seed(seed)
    config = Exaone4Config(
        vocab_size=len(tokenizer) + 8,  # as many models have: more rows than tokens
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        initializer_range=spread,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    Exaone4ForCausalLM(config).save_pretrained(folder)
    return folder


def make_tiny_bert(folder: Path) -> Path:
    """Save a BERT of random weights that gives vectors of 16 numbers."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    raw = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    raw.train_from_iterator(
        ["the cube slipped out of the fingers"], trainers.WordPieceTrainer(vocab_size=100, special_tokens=special)
    )
    raw.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    words = PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )
    words.save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    BertModel(config).save_pretrained(folder)
    return folder
