# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Similarity indexes over the vectors of one embedder: caches, each rebuilt from the database when it is lost."""
