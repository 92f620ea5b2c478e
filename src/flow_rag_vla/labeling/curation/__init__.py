# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Which labels are worth a look: doubles, mistakes, what is unlike the rest, and what to review next."""
