# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""How good a detector is beside known truth: COCO's scores, confusions, curves, and a page that shows them."""
