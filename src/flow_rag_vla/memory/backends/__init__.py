# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Ways to keep the vectors of one group of cases and to find the nearest: one protocol, several backends."""
