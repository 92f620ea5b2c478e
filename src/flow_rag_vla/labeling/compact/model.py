# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The shipped network, ready for pictures: loading, saving, and one pass that detects, segments and embeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from flow_rag_vla.core.network_files import NetworkFiles, NetworkFilesError
from flow_rag_vla.labeling.compact.categories import ALONE
from flow_rag_vla.labeling.compact.grouping import group_things
from flow_rag_vla.labeling.compact.network import CompactConfig, CompactNetwork, on_grid, working_size
from flow_rag_vla.labeling.compact.pooling import pooled_features
from flow_rag_vla.labeling.detections import Detections, Masks, Origin, ScoreKind, Vectors
from flow_rag_vla.labeling.pipeline.boxes import box_of
from flow_rag_vla.labeling.pipeline.errors import ModelError
from flow_rag_vla.labeling.pipeline.images import Image

CONFIG_FILE = "detector.json"
WEIGHTS_FILE = "detector.safetensors"
CARD_FILE = "MODEL_CARD.md"
SHIPPED = Path(__file__).parent / "checkpoint"
"""The folder that comes with the package."""
NAME = "compact"
_FILES = NetworkFiles(
    "compact detector", "flow_rag_vla.compact_detector/1", CONFIG_FILE, WEIGHTS_FILE, "flow_rag_vla train-compact"
)


class CompactModel:
    """The network on one device. Not safe for use by two threads at once."""

    def __init__(self, network: CompactNetwork, revision: str, device: str | torch.device = "cpu") -> None:
        self._network = network.to(device).eval().requires_grad_(False)
        self._device = torch.device(device)
        self.revision = revision
        """Hash of the weights."""
        self._alone = tuple(name in ALONE for name in network.config.categories)

    @property
    def network(self) -> CompactNetwork:
        """The network itself."""
        return self._network

    @property
    def categories(self) -> tuple[str, ...]:
        """What it knows, in the order of its outputs."""
        return self._network.config.categories

    @property
    def dimension(self) -> int:
        """Length of an embedding."""
        return self._network.config.dimension

    @torch.inference_mode()
    def run(self, planes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, tuple[torch.Tensor, ...]]:
        """The bare network on (B, 3, h, w) float32 in 0..1; see ``CompactNetwork.forward``."""
        result: tuple[torch.Tensor, torch.Tensor, tuple[torch.Tensor, ...]] = self._network(planes)
        return result

    def planes(self, image: Image) -> torch.Tensor:
        """(3, h, w) float32 in 0..1 at working size on the model's device."""
        from PIL import Image as Pillow

        config = self._network.config
        size = working_size(image.shape[1], image.shape[0], config.pixels, config.detail)
        scaled = Pillow.fromarray(image)
        if scaled.size != size:
            scaled = scaled.resize(size, Pillow.Resampling.BILINEAR)
        values = torch.from_numpy(np.array(scaled)).to(self._device)
        return (values.permute(2, 0, 1).float() / 255.0).contiguous()

    @torch.inference_mode()
    def find(self, images: Sequence[Image], categories: Sequence[str], threshold: float) -> list[Detections]:
        """Things of some categories with masks and embeddings, best scores first.

        Args:
            images: each (H, W, 3) uint8 RGB.
            categories: of ``self.categories``.
            threshold: least score, 0 to 1.
        """
        planes = [self.planes(image) for image in images]
        wanted = [self.categories.index(name) for name in categories]
        found: list[Detections | None] = [None] * len(images)
        for rows in _same_sizes(planes):
            logits, votes, features = self.run(torch.stack([planes[row] for row in rows]))
            probabilities = logits.softmax(dim=1)
            for place, row in enumerate(rows):
                own = tuple(part[place] for part in features)
                found[row] = self._things(
                    images[row], planes[row], probabilities[place], votes[place], own, wanted, threshold
                )
        return [item for item in found if item is not None]

    @torch.inference_mode()
    def embed(self, images: Sequence[Image], found: Sequence[Detections]) -> list[Vectors]:
        """(N, D) float32 of unit length a picture: of what is in each mask, or in each box where there are none."""
        results = []
        for image, item in zip(images, found, strict=True):
            if not len(item):
                results.append(np.zeros((0, self.dimension), np.float32))
                continue
            planes = self.planes(image)
            _, _, features = self.run(planes[None])
            masks = _box_masks(item) if item.masks is None else item.masks
            shares = self._shares(masks, planes)
            results.append(self._embedded(planes, tuple(part[0] for part in features), shares))
        return results

    def _things(
        self,
        image: Image,
        planes: torch.Tensor,
        probabilities: torch.Tensor,
        votes: torch.Tensor,
        features: tuple[torch.Tensor, ...],
        wanted: Sequence[int],
        threshold: float,
    ) -> Detections:
        height, width = image.shape[:2]
        groups = group_things(probabilities.float().cpu().numpy(), votes.float().cpu().numpy(), self._alone)
        chosen = [group for group in groups if group.category in wanted and group.score >= threshold]
        full = _at_full_size(
            probabilities.clamp_min(1e-7).log(), [(item.category, item.mask) for item in chosen], (height, width)
        )
        boxes = [box_of(mask) for mask in full]
        seen = [row for row, box in enumerate(boxes) if box is not None]
        seen.sort(key=lambda row: -chosen[row].score)
        masks: Masks = full[seen] if seen else np.zeros((0, height, width), np.bool_)
        embeddings = np.zeros((0, self.dimension), np.float32)
        if seen:
            shares = torch.from_numpy(np.stack([chosen[row].mask for row in seen])).to(self._device)
            embeddings = self._embedded(planes, features, shares)
        return Detections(
            width,
            height,
            np.asarray([boxes[row] for row in seen], np.float32).reshape(-1, 4),
            np.clip(np.asarray([chosen[row].score for row in seen], np.float32), 0.0, 1.0),
            tuple(self.categories[chosen[row].category] for row in seen),
            ScoreKind.SOFTMAX,
            Origin(NAME, self.revision, "; ".join(self.categories[index] for index in wanted), threshold),
            masks,
            embeddings,
        )

    def _embedded(self, planes: torch.Tensor, features: tuple[torch.Tensor, ...], masks: torch.Tensor) -> Vectors:
        seen = on_grid(planes, self._network.config)
        vectors = self._network.embedding(pooled_features(seen, features, masks))
        unit: Vectors = nn.functional.normalize(vectors.float(), dim=1).cpu().numpy()
        return unit

    def _shares(self, masks: Masks, planes: torch.Tensor) -> torch.Tensor:
        """Masks of the picture's size on the grid, each pixel the share that is covered."""
        stacked = torch.from_numpy(masks).to(self._device).float()
        detail = self._network.config.detail
        size = (planes.shape[1] // detail, planes.shape[2] // detail)
        return nn.functional.interpolate(stacked[None], size=size, mode="area")[0]

    @classmethod
    def load(cls, folder: str | Path | None = None, device: str | torch.device = "cpu") -> CompactModel:
        """Load from a folder written by ``save_compact``; None: the one that is shipped.

        Raises:
            ModelError: when files are missing, damaged or of another kind.
        """
        folder = SHIPPED if folder is None else Path(folder).expanduser()

        def filled(weights: Mapping[str, NDArray[Any]]) -> CompactNetwork:
            network = CompactNetwork(config)
            network.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
            return network

        try:
            config = _FILES.read_config(folder, CompactConfig)
            network = _FILES.read_weights(folder, filled)
        except NetworkFilesError as error:
            raise ModelError(str(error), "model_damaged" if error.damaged else "model_missing") from error
        return cls(network, _FILES.revision(folder), device)


def save_compact(network: CompactNetwork, folder: str | Path) -> str:
    """Write the network to a folder; give its revision."""
    weights = {name: value.detach().cpu().numpy() for name, value in network.state_dict().items()}
    return _FILES.save(folder, asdict(network.config), weights)


def _same_sizes(planes: Sequence[torch.Tensor]) -> list[list[int]]:
    """Rows that can go through the network together."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for row, part in enumerate(planes):
        groups.setdefault(tuple(part.shape), []).append(row)
    return list(groups.values())


def _at_full_size(
    likelihoods: torch.Tensor, chosen: Sequence[tuple[int, NDArray[np.bool_]]], size: tuple[int, int]
) -> Masks:
    """(N, H, W) bool: masks at the picture's size, their rims where a category becomes likelier than all others.

    Only the surroundings of each thing are scaled up: a picture is mostly table.

    likelihoods: (1 + C, h, w) logarithms: between pixels of the grid they run straighter than probabilities
    """
    height, width = size
    full = np.zeros((len(chosen), height, width), np.bool_)
    rows, columns = likelihoods.shape[1:]
    for index, (category, mask) in enumerate(chosen):
        box = box_of(mask)
        assert box is not None
        left, top = max(0, int(box[0]) - 2), max(0, int(box[1]) - 2)
        right, bottom = min(columns, int(box[2]) + 2), min(rows, int(box[3]) + 2)
        part = likelihoods[:, top:bottom, left:right]
        others = part.clone()
        others[category + 1] = -torch.inf
        margin = part[category + 1] - others.amax(dim=0)
        # Pixels of a twin next to it are not its own, however probable.
        foreign = (margin > 0) & ~torch.from_numpy(mask[top:bottom, left:right]).to(margin.device)
        margin = torch.where(foreign, -margin, margin)
        x0, x1 = round(left * width / columns), round(right * width / columns)
        y0, y1 = round(top * height / rows), round(bottom * height / rows)
        if x1 <= x0 or y1 <= y0:
            continue
        scaled = nn.functional.interpolate(margin[None, None], size=(y1 - y0, x1 - x0), mode="bilinear")[0, 0]
        full[index, y0:y1, x0:x1] = (scaled > 0).cpu().numpy()
    return full


def _box_masks(found: Detections) -> Masks:
    masks = np.zeros((len(found), found.height, found.width), np.bool_)
    for row, (left, top, right, bottom) in enumerate(found.boxes):
        masks[row, int(top) : int(np.ceil(bottom)), int(left) : int(np.ceil(right))] = True
    return masks
