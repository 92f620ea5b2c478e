# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Episodes, demonstrations and bags on disk: written whole, read back typed."""
