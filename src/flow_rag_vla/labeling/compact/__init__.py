# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The shipped detector and segmenter: its network, its data from the simulator, its training, its loading."""
