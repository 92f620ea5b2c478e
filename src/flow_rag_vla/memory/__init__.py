# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Failures remembered: cases, their store and index, what is similar, and what to do about it."""
