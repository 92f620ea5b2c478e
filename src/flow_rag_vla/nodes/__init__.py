# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The ROS 2 nodes, one file each: parameters, topics and services around domain objects.

This package is the only home of rclpy.
"""

from __future__ import annotations

import os
import signal
import sys

_folder, _program = os.path.split(sys.argv[0])
if _program == "-m" or (os.path.basename(_folder) == "flow_rag_vla" and _program != "flow_rag_vla"):
    # A node (python -m, or an executable in lib/flow_rag_vla) that is still importing ends at once on an interrupt and
    # without a traceback: torch takes seconds. runtime.run takes the signals over.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

try:
    import flow_rag_vla_interfaces as _interfaces  # noqa: F401
except ImportError as error:
    raise ImportError(
        "flow_rag_vla_interfaces is not built or not sourced. From a source checkout run `make setup`; in a colcon "
        "workspace add the package (`ln -s flow_rag_vla/src/flow_rag_vla_interfaces src/`), run `colcon build` and "
        "source install/setup.bash."
    ) from error
