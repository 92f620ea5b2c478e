# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The registry: every labelled object with its source, masks, vectors, history; the truth that datasets are made of."""
