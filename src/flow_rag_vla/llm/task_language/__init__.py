# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Commands of the simulator's task language, in English and Korean, to a plan or a refusal.

The grammar is small and closed: every word of a command must be known and have a place. A word that is not, a negation,
a condition, a choice, a question: each is a refusal that names it. So it refuses much that a language model would
understand, and does nothing that was not asked for.
"""
