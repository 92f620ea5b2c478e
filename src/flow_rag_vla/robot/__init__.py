# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Real arms: what a robot is (profiles), where its tool is, and how it follows commands inside its limits. No ROS."""
