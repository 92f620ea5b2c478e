# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The memory's effect on benchmarks of others: any Gymnasium environment with a Box action.

``environment`` makes an environment plain (actions in -1..1, float32 observations, success, seeds, snapshots),
``tasks`` names those that are wired in, ``policy`` and ``training`` hold a small flow-matching policy, ``cases`` puts
failures into the project's memory and takes corrections out of it, ``rollout`` runs an episode, ``study`` the paired
protocol. Gymnasium is imported when a task is made, so that this package needs no extra to be imported.
"""
