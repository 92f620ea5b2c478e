# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Failures of a manipulation: phases, rules on what a robot senses, and a monitor calibrated on success.

numpy only: a detector process carries neither torch nor ROS in here.
"""
