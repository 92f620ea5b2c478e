# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""HTTP and web pages over the domain objects. It knows no ROS: a node hands it what it shows."""
