# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Who may do what in the graph: permission without keys, and the SROS2 policy that the declared graph makes."""
