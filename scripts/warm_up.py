# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Import each package that a run needs, once, with bytecode written.

It shows a broken wheel at set-up and not in the middle of an episode, and it compiles exactly the modules that are
used, so that the nodes, which all start at the same moment, do not each compile them again.

Run it with the environment's own interpreter: ``.venv/bin/python scripts/warm_up.py --packages`` (what pip installed)
or ``--messages`` (what colcon built, and the ROS packages beside it).
"""

from __future__ import annotations

import importlib
import sys

PACKAGES = (
    "numpy",
    "yaml",
    "cv2",
    "PIL.Image",
    "pybullet",
    "pybullet_data",
    "faiss",
    "safetensors.torch",
    "torch.nn.functional",
    "torch.optim",
    "transformers",
    "rosbags.rosbag2",
    "rosbags.typesys",
    "matplotlib.figure",
    "typer",
    "rich.live",
)
MESSAGES = (
    "rclpy",
    "flow_rag_vla_interfaces.msg",
    "flow_rag_vla_interfaces.srv",
    "flow_rag_vla_interfaces.action",
    "diagnostic_msgs.msg",
    "geometry_msgs.msg",
    "rosgraph_msgs.msg",
    "sensor_msgs.msg",
    "std_srvs.srv",
    "tf2_msgs.msg",
    "trajectory_msgs.msg",
)
GROUPS = {"--packages": PACKAGES, "--messages": MESSAGES}


def main(arguments: list[str]) -> int:
    """Import the groups that the arguments name; return the exit code."""
    unknown = [argument for argument in arguments if argument not in GROUPS]
    if unknown or not arguments:
        print(f"usage: warm_up.py [{'] ['.join(GROUPS)}]", file=sys.stderr)
        return 2
    broken = []
    for name in (name for argument in arguments for name in GROUPS[argument]):
        try:
            importlib.import_module(name)
        except Exception as error:  # a broken wheel may raise anything; each is reported
            broken.append(f"{name}: {type(error).__name__}: {error}")
    for line in broken:
        print(f"warm_up: {line}", file=sys.stderr)
    if broken:
        print("warm_up: make the environment anew: make clean setup", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
