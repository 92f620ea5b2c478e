# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Training: demonstrations from the scripted expert, the encoder, the policy, and the pipeline that joins them.

Conventions: each stage is a plain function with explicit seeds that takes a ``Progress`` callback, writes its result
whole into a folder, and can be run again without what came after it. Seeds of training scenes lie below
``TRAINING_SEEDS``, seeds for tuning below ``TUNING_SEEDS``, and test seeds above that.
"""

TRAINING_SEEDS = 50_000
"""Scenes for training have seeds below this."""

TUNING_SEEDS = 100_000
"""Scenes for choosing among settings lie between ``TRAINING_SEEDS`` and this; tests start here."""
