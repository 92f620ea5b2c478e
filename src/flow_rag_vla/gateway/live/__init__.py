# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The live page: what a person sees of a running graph, and the few things that they may ask of it."""
