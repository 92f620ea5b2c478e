# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Tiny models with random weights, saved as the real ones are: the loading code under test is the real one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch


def _word_level(words: list[str], **special: Any) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    if "cls_token" in special:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", words.index("[CLS]")), ("[SEP]", words.index("[SEP]"))]
        )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)


def save_florence2(folder: Path, answer: tuple[int, ...]) -> Path:
    """It is taught one answer, since one of random weights says nothing that could be read as a box."""
    from transformers import BartConfig, Florence2Config, Florence2ForConditionalGeneration, Florence2Processor
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
    from transformers.models.florence2.configuration_florence2 import Florence2VisionConfig

    torch.manual_seed(0)
    locations = [f"<loc_{index}>" for index in range(1000)]
    words = ["<s>", "<pad>", "</s>", "[UNK]", "<image>", "Locate", "in", "the", "image", ".", "red", "cube", *locations]
    tokenizer = _word_level(
        words, unk_token="[UNK]", bos_token="<s>", eos_token="</s>", pad_token="<pad>",
        extra_special_tokens={"image_token": "<image>"},
    )  # fmt: skip
    vision = Florence2VisionConfig(
        depths=(1, 1, 1, 1), embed_dim=(8, 8, 8, 8), num_heads=(1, 1, 1, 1), num_groups=(1, 1, 1, 1), window_size=2,
        projection_dim=16,
    )  # fmt: skip
    text = BartConfig(
        vocab_size=len(tokenizer), d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=1,
        decoder_attention_heads=1, encoder_ffn_dim=16, decoder_ffn_dim=16, max_position_embeddings=512,
        bos_token_id=0, pad_token_id=1, eos_token_id=2, decoder_start_token_id=2,
        forced_bos_token_id=None, forced_eos_token_id=None,
    )  # fmt: skip
    config = Florence2Config(text_config=text, vision_config=vision, image_token_id=words.index("<image>"))
    model = Florence2ForConditionalGeneration(config)
    # 64 pixels are 2 x 2 places after the strides of 4, 2, 2 and 2, and one more for their mean.
    image = CLIPImageProcessorPil(size={"height": 64, "width": 64}, do_center_crop=False)
    image.image_seq_length = 5
    processor = Florence2Processor(image, tokenizer)
    inputs = processor(
        text=["<OPEN_VOCABULARY_DETECTION>red cube"], images=[np.zeros((96, 128, 3), np.uint8)], return_tensors="pt"
    )
    labels = torch.tensor([[*(words.index(f"<loc_{place}>") for place in answer), 2]])
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-2)
    model.train()
    for _ in range(40):
        optimiser.zero_grad()
        model(**inputs, labels=labels).loss.backward()
        optimiser.step()
    processor.save_pretrained(folder)
    model.save_pretrained(folder)
    return folder


def save_grounding_dino(folder: Path) -> Path:
    from transformers import (
        BertConfig,
        GroundingDinoConfig,
        GroundingDinoForObjectDetection,
        GroundingDinoProcessor,
        SwinConfig,
    )
    from transformers.models.grounding_dino.image_processing_pil_grounding_dino import GroundingDinoImageProcessorPil

    torch.manual_seed(0)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", ".", "?", "red", "cube", "blue", "box", "a"]
    tokenizer = _word_level(words, unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", pad_token="[PAD]")
    config = GroundingDinoConfig(
        backbone_config=SwinConfig(
            image_size=128, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 1, 1], window_size=4,
            out_features=["stage2", "stage3", "stage4"],
        ),
        text_config=BertConfig(
            vocab_size=200, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
        ),
        d_model=32, encoder_layers=1, decoder_layers=2, encoder_ffn_dim=32, decoder_ffn_dim=32,
        encoder_attention_heads=2, decoder_attention_heads=2, num_queries=12, max_text_len=32,
    )  # fmt: skip
    GroundingDinoForObjectDetection(config).save_pretrained(folder)
    image = GroundingDinoImageProcessorPil(size={"shortest_edge": 128, "longest_edge": 160})
    GroundingDinoProcessor(image, tokenizer).save_pretrained(folder)
    return folder


def save_sam2(folder: Path) -> Path:
    from transformers import (
        Sam2Config,
        Sam2HieraDetConfig,
        Sam2MaskDecoderConfig,
        Sam2Model,
        Sam2PromptEncoderConfig,
        Sam2VisionConfig,
    )

    torch.manual_seed(0)
    backbone = Sam2HieraDetConfig(
        hidden_size=8, image_size=[128, 128], blocks_per_stage=[1, 1, 1, 1], embed_dim_per_stage=[8, 16, 32, 64],
        num_attention_heads_per_stage=[1, 1, 1, 1], window_size_per_stage=[8, 4, 14, 7], global_attention_blocks=[],
        window_positional_embedding_background_size=[7, 7],
    )  # fmt: skip
    vision = Sam2VisionConfig(
        backbone_config=backbone, backbone_channel_list=[64, 32, 16, 8], fpn_hidden_size=32,
        backbone_feature_sizes=[[32, 32], [16, 16], [8, 8]],
    )  # fmt: skip
    prompt = Sam2PromptEncoderConfig(hidden_size=32, image_size=128, patch_size=16, mask_input_channels=4)
    decoder = Sam2MaskDecoderConfig(
        hidden_size=32, mlp_dim=32, num_hidden_layers=1, num_attention_heads=2, iou_head_depth=2, iou_head_hidden_dim=16
    )
    Sam2Model(
        Sam2Config(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder)
    ).save_pretrained(folder)
    return folder


def save_dinov2(folder: Path) -> Path:
    from transformers import Dinov2Config, Dinov2Model
    from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil

    torch.manual_seed(0)
    config = Dinov2Config(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14, mlp_ratio=2
    )
    Dinov2Model(config).save_pretrained(folder)
    BitImageProcessorPil(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}).save_pretrained(folder)
    return folder
