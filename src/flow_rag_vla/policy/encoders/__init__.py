# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Camera images to one unit-length embedding."""

from flow_rag_vla.policy.encoders.base import Encoder, EncoderError, ImageError
from flow_rag_vla.policy.encoders.registry import make_encoder

__all__ = ["Encoder", "EncoderError", "ImageError", "make_encoder"]
