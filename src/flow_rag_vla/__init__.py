# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Flow-RAG-VLA: a flow-matching policy under a 40 Hz loop that remembers its failures."""

__version__ = "0.1.0"
