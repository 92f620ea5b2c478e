# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Words in, validated structures out: providers behind one protocol, structured answers, text embeddings, knowledge."""
