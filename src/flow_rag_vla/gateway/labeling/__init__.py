# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Labels over HTTP: find, correct and accept what the labelling pipeline saw; see docs/review.md."""
