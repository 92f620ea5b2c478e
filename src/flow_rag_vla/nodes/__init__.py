"""The ROS 2 nodes, one file each: parameters, topics and services around domain objects.

This package is the only home of rclpy.
"""

from __future__ import annotations

try:
    import flow_rag_vla_interfaces as _interfaces  # noqa: F401
except ImportError as error:
    raise ImportError(
        "flow_rag_vla_interfaces is not built or not sourced. From a source checkout run `make setup`; in a colcon "
        "workspace add the package (`ln -s flow_rag_vla/src/flow_rag_vla_interfaces src/`), run `colcon build` and "
        "source install/setup.bash."
    ) from error
