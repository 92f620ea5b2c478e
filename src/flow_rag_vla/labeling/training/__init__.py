# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Detectors of one's own: RT-DETR v2 and D-FINE, taught with pictures whose truth is known."""
