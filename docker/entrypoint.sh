#!/bin/bash
# Put ROS and the workspace into the environment, then run the command.
set -e
source "/opt/ros/$ROS_DISTRO/setup.bash"
source /home/robot/flow_rag_vla/install/setup.bash
exec "$@"
