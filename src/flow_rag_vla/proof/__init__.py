# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The claims about the memory, made again from nothing: policies, banks, controls, paired trials."""
