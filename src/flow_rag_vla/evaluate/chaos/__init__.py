# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Faults drawn from a seed, what an independent watch finds in the command stream meanwhile, and the page of both."""
