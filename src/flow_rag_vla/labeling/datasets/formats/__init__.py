# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""One module a format: how a dataset is written in it, and how one is read that anybody wrote."""
