# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""RT-DETR v2 and D-FINE of transformers: made anew, or gone on from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flow_rag_vla.labeling.detectors.detr import network_class, read_config
from flow_rag_vla.labeling.pretrained import PretrainedSettings, load_part
from flow_rag_vla.labeling.training.settings import D_FINE, RT_DETR, DetectorTraining

WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
_MODEL_TYPES = {RT_DETR: "rt_detr_v2", D_FINE: "d_fine"}


def make_network(settings: DetectorTraining, categories: Sequence[str]) -> tuple[Any, bool]:
    """The network to train, and whether it comes with weights. The global random state decides the new ones.

    Raises:
        ModelError: for a model that is missing, damaged or of another architecture.
    """
    names = {"id2label": dict(enumerate(categories)), "label2id": {name: row for row, name in enumerate(categories)}}
    if not settings.model:
        fresh = _fresh_config(settings.architecture, settings.size, names)
        return _begun(network_class(_MODEL_TYPES[settings.architecture])(fresh)), False
    source = PretrainedSettings(settings.model)
    config = read_config(source)
    kind = network_class(config.model_type)
    folder = Path(settings.model).expanduser()
    if folder.is_dir() and not any((folder / name).is_file() for name in WEIGHTS):
        for name, value in names.items():
            setattr(config, name, value)
        return _begun(kind(config)), False
    # Heads for other categories do not fit and are made anew.
    loaded = load_part(
        "detector", source, lambda place: kind.from_pretrained(place, ignore_mismatched_sizes=True, **names)
    )
    return loaded, True


def _begun(network: Any) -> Any:
    """A new network that can learn.

    Transformers draws the gains of norms outside of the backbone around 0, which hardly lets a signal through; that
    does not matter where weights are loaded. They begin at 1, and the encoder's boxes at their anchors, as in the
    original.
    """
    from torch import nn

    for name, module in network.named_modules():
        if isinstance(module, nn.BatchNorm2d) and "backbone" not in name:
            nn.init.ones_(module.weight)
    last = network.model.enc_bbox_head.layers[-1]
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return network


def _fresh_config(architecture: str, size: str, names: dict[str, Any]) -> Any:
    """Configurations whose norms learn: those of transformers are frozen for backbones that come with weights."""
    from transformers import DFineConfig, HGNetV2Config, RTDetrResNetConfig, RTDetrV2Config

    if size == "medium":
        hidden, wide, queries, layers, widths, depths = 256, 1024, 300, 3, [64, 128, 256, 512], [2, 2, 2, 2]
        stem, heads, noise = 64, 8, 100
    elif size == "small":
        hidden, wide, queries, layers, widths, depths = 64, 128, 60, 2, [32, 64, 96, 128], [1, 1, 1, 1]
        stem, heads, noise = 32, 4, 40
    else:
        hidden, wide, queries, layers, widths, depths = 16, 16, 12, 2, [8, 8, 16, 16], [1, 1, 1, 1]
        stem, heads, noise = 8, 2, 4
    shared: dict[str, Any] = dict(
        freeze_backbone_batch_norms=False,
        # The usual 0.01 is for weights that are loaded afterwards.
        initializer_range=hidden**-0.5,
        encoder_in_channels=widths[1:],
        encoder_hidden_dim=hidden,
        encoder_ffn_dim=wide,
        encoder_attention_heads=heads,
        hidden_expansion=1.0 if size == "medium" else 0.5,
        d_model=hidden,
        num_queries=queries,
        decoder_in_channels=[hidden] * 3,
        decoder_ffn_dim=wide,
        decoder_layers=layers,
        decoder_attention_heads=heads,
        num_denoising=noise,
        **names,
    )
    if architecture == RT_DETR:
        # out_indices is its own keyword, which the dataclass' signature does not show.
        backbone = RTDetrResNetConfig(  # type: ignore[call-arg]
            embedding_size=stem, hidden_sizes=widths, depths=depths, layer_type="basic", out_indices=[2, 3, 4]
        )
        return RTDetrV2Config(backbone_config=backbone, **shared)
    middle = [max(4, width // 2) for width in widths]
    hgnet = HGNetV2Config(  # type: ignore[call-arg]
        stem_channels=[3, max(4, stem // 2), stem],
        stage_in_channels=[stem, *widths[:-1]],
        stage_mid_channels=middle,
        stage_out_channels=widths,
        stage_num_blocks=depths,
        stage_numb_of_layers=[3, 3, 3, 3],
        hidden_sizes=widths,
        depths=depths,
        embedding_size=stem,
        out_indices=[2, 3, 4],
    )
    return DFineConfig(backbone_config=hgnet, decoder_n_points=4, **shared)
