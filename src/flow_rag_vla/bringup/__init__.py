# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What runs: the graph, its topics, its parameters, and the processes that make it up. No ROS in here."""
