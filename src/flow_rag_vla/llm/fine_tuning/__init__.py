# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""From conversations to a language model of one's own: prepare, train an adapter, merge, compare, register."""
