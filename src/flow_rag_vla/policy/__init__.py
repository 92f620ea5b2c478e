# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The flow-matching policy: image encoders, velocity network, sampler, checkpoints."""
