"""Import each package that a run needs, once, with bytecode written.

It shows a broken wheel at set-up and not in the middle of an episode, and it compiles exactly the modules that are used,
so that the nodes, which all start at the same moment, do not each compile them again.

Run it with the environment's own interpreter: ``.venv/bin/python scripts/warm_up.py``.
"""

from __future__ import annotations

import importlib
import sys

NEEDED = (
    "numpy",
    "rclpy",
    "flow_rag_vla_interfaces.msg",
    "flow_rag_vla_interfaces.srv",
    "flow_rag_vla_interfaces.action",
    "sensor_msgs.msg",
    "geometry_msgs.msg",
    "trajectory_msgs.msg",
    "diagnostic_msgs.msg",
    "std_srvs.srv",
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


def main() -> int:
    """Import everything; return the exit code."""
    broken = []
    for name in NEEDED:
        try:
            importlib.import_module(name)
        except Exception as error:
            broken.append(f"{name}: {type(error).__name__}: {error}")
    for line in broken:
        print(f"warm_up: {line}", file=sys.stderr)
    if broken:
        print("warm_up: remove the environment and set it up again: make clean setup", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
