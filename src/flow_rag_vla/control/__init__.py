# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The 40 Hz loop without ROS: chunk queue, arbiter, clamps, safety ladder. numpy only."""
