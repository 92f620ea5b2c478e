# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What every other package agrees on: actions, robot state, failure types, parameters, files."""
