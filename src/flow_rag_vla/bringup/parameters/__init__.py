# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""One table of parameters a node: the source of its ROS parameters, of the YAML check and of the reference page."""
