# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What every image encoder promises, and the checks they share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

CAMERAS = ("front", "wrist")
"""The two cameras of the robot, in the order in which encoders join them."""

MAX_IMAGE_SIDE = 4096


class EncoderError(RuntimeError):
    """An encoder cannot be made: its weights are missing, damaged or of another kind."""


class ImageError(EncoderError, ValueError):
    """A picture is missing or malformed; the message names the camera, the value and the remedy."""


class Encoder(Protocol):
    """Turns one picture of each camera into one embedding."""

    @property
    def name(self) -> str:
        """What the encoder was asked for as."""

    @property
    def revision(self) -> str:
        """Hash of the weights; embeddings of different revisions do not compare."""

    @property
    def dimension(self) -> int:
        """Length of the embedding."""

    @property
    def cameras(self) -> tuple[str, ...]:
        """The cameras that ``encode`` needs."""

    def encode(self, images: Mapping[str, NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Embed one picture a camera.

        Args:
            images: camera name to (H, W, 3) uint8 RGB.

        Returns:
            (D,) float32 of unit length.

        Raises:
            ImageError: for a missing camera or a malformed picture.
        """

    def encode_batch(self, images: Mapping[str, NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Embed (B, H, W, 3) uint8 pictures a camera to (B, D) float32 of unit length."""


def check_image(camera: str, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the picture if it is (H, W, 3) uint8 RGB.

    Raises:
        ImageError: naming the camera, what was found and what is expected.
    """
    if not isinstance(image, np.ndarray):
        raise ImageError(f"{camera} image is a {type(image).__name__}, expected a (H, W, 3) uint8 array")
    if image.ndim != 3 or image.shape[2] != 3:
        raise ImageError(f"{camera} image has shape {image.shape}, expected (H, W, 3); convert it to RGB first")
    if image.dtype != np.uint8:
        raise ImageError(f"{camera} image has dtype {image.dtype}, expected uint8 from 0 to 255")
    height, width = image.shape[:2]
    if not (8 <= height <= MAX_IMAGE_SIDE and 8 <= width <= MAX_IMAGE_SIDE):
        raise ImageError(f"{camera} image is {width} x {height} pixels, expected 8 to {MAX_IMAGE_SIDE} a side")
    return image


def check_images(images: Mapping[str, NDArray[np.uint8]], cameras: Sequence[str]) -> dict[str, NDArray[np.uint8]]:
    """Return the pictures of ``cameras``, each checked.

    Raises:
        ImageError: for a missing camera or a malformed picture.
    """
    missing = [camera for camera in cameras if camera not in images]
    if missing:
        found = ", ".join(sorted(images)) or "none"
        raise ImageError(f"no image of camera {missing[0]!r}; found: {found}; the encoder needs {', '.join(cameras)}")
    return {camera: check_image(camera, images[camera]) for camera in cameras}


def check_batches(images: Mapping[str, NDArray[np.uint8]], cameras: Sequence[str]) -> dict[str, NDArray[np.uint8]]:
    """Return the (B, H, W, 3) uint8 batches of ``cameras``, all of one length.

    Raises:
        ImageError: for a missing camera, a malformed batch or lengths that differ.
    """
    batches: dict[str, NDArray[np.uint8]] = {}
    length: int | None = None
    for camera in cameras:
        if camera not in images:
            found = ", ".join(sorted(images)) or "none"
            raise ImageError(f"no images of camera {camera!r}; found: {found}")
        batch = images[camera]
        if batch.ndim != 4 or batch.shape[0] == 0:
            raise ImageError(f"{camera} images have shape {batch.shape}, expected (B, H, W, 3) with B of at least 1")
        check_image(camera, batch[0])
        if length is not None and batch.shape[0] != length:
            raise ImageError(f"{camera} has {batch.shape[0]} images, the camera before it {length}")
        length = batch.shape[0]
        batches[camera] = batch
    return batches


def to_planes(batch: NDArray[np.uint8], size: tuple[int, int], device: torch.device) -> torch.Tensor:
    """(B, H, W, 3) uint8 to (B, 3, h, w) float32 in 0..1, resized with antialiasing when sizes differ."""
    planes = torch.from_numpy(np.ascontiguousarray(batch)).to(device).permute(0, 3, 1, 2).float() / 255.0
    if tuple(planes.shape[2:]) != size:
        planes = torch.nn.functional.interpolate(planes, size=size, mode="bilinear", antialias=True)
    return planes


def unit_length(vectors: torch.Tensor) -> torch.Tensor:
    """(B, D) scaled to unit length."""
    # Scaled to order one before squaring: features of 1e-20 would vanish.
    largest = vectors.abs().amax(dim=-1, keepdim=True).clamp(min=1e-30)
    return torch.nn.functional.normalize(vectors / largest, dim=-1)
