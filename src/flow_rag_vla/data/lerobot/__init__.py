# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""LeRobot data sets, format v3.0, written and read with pyarrow and PyAV (extra ``dataset``).

Layout, as LeRobot documents it: ``meta/info.json``, ``meta/stats.json``, ``meta/tasks.parquet``,
``meta/episodes/chunk-000/file-000.parquet``, ``data/chunk-000/file-000.parquet`` and, with videos,
``videos/<camera>/chunk-000/file-000.mp4``. Many episodes share a file; offsets in the episodes table say where each is.

A row is one tick of 25 ms. Cameras are slower: their picture is repeated until the next one, and
``picture_is_new`` marks the rows at which it was taken.
"""
