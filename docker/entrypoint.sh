#!/bin/bash
# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
# Put ROS and the workspace into the environment, then run the command.
set -e
source "/opt/ros/$ROS_DISTRO/setup.bash"
source /home/robot/flow_rag_vla/install/setup.bash
exec "$@"
