# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Paired trials: the same starts and the same noise under different behaviours of the failure memory.

``protocol`` says what a trial is and what an environment must offer, ``variants`` names what the memory may do. Neither
knows a simulator. ``runner`` plays trials in parallel and keeps each result in a ``journal``; ``analysis`` compares.
"""
