# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Benchmarks: each prints its figure beside a baseline measured in the same run."""
