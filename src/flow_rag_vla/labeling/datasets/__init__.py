# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Datasets from the object registry: values, splits, folders, formats, cards, versions."""
