# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Which model is in which memory, and when; and the pipeline whose steps take turns in that memory."""
