# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Parameters of the recorder."""

from __future__ import annotations

from dataclasses import dataclass

from flow_rag_vla.core.parameters import parameter


@dataclass(frozen=True, slots=True)
class RecorderParameters:
    """One MCAP bag of the graph's topics."""

    bag: str = parameter("runs/latest/bag", "Folder of the bag; a number is appended if it exists")
    profile: str = parameter(
        "graph",
        "What is recorded: every topic of the graph; control, what decisions are made of, without pictures; "
        "perception, what the cameras saw; everything, also the topics of others. All but perception: an arm's joint "
        "states and wrench too, under the names of its robot profile",
        choices=("graph", "control", "perception", "everything"),
    )
    topics: tuple[str, ...] = parameter(
        (), "Further topics, absolute or relative, beside those of the profile; '*' records every visible topic"
    )
    exclude: tuple[str, ...] = parameter((), "Topics that are not recorded, absolute or relative")
    split_size: float = parameter(
        0.0, "Size from which on another file is begun; 0: one file", unit="MB", minimum=0.0, maximum=1e6
    )
    split_duration: float = parameter(
        0.0, "Time after which another file is begun; 0: one file", unit="s", minimum=0.0, maximum=1e6
    )
    compress: bool = parameter(True, "Compress with zstd")
    queue: float = parameter(
        64.0,
        "Most that waits in memory for a slow disk; what comes beyond it is dropped and counted",
        unit="MB",
        minimum=1.0,
        maximum=4096.0,
    )
    checkpoint_period: float = parameter(
        1.0,
        "How often what was received is put into the file: the most that a killed recorder loses",
        unit="s",
        minimum=0.1,
        maximum=60.0,
    )
    discovery_period: float = parameter(
        0.5, "How often new publishers are looked for", unit="s", minimum=0.05, maximum=60.0
    )
    minimum_free: float = parameter(
        256.0,
        "Free disk space below which the bag is closed while there is room for its index",
        unit="MB",
        minimum=0.0,
        maximum=1e6,
    )
