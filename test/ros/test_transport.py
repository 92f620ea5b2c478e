# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What the middleware really opens: a node that must be in time has no shared memory, and all hear this host only."""

from __future__ import annotations

import subprocess
import sys

import pytest
from std_msgs.msg import String

CHILD = """
import glob, os, sys
from flow_rag_vla.bringup.discovery import Transport, beyond_loopback, choose_profile
alone = choose_profile(os.environ, transport=Transport[sys.argv[1]])
import rclpy
from std_msgs.msg import String
rclpy.init()
node = rclpy.create_node("in_time")
heard = []
node.create_subscription(String, "asked", heard.append, 10)
publisher = node.create_publisher(String, "told", 10)
threads = [open(path).read() for path in glob.glob("/proc/self/task/*/comm")]
unwanted = [word for word in ("shm", "tls") if any(word in name for name in threads)]
told = f"{alone} {unwanted} {beyond_loopback()}"
while not (heard and publisher.get_subscription_count()):
    rclpy.spin_once(node, timeout_sec=0.1)
while True:
    publisher.publish(String(data=told))
    rclpy.spin_once(node, timeout_sec=0.1)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is read")
@pytest.mark.parametrize(
    ("transport", "told"),
    [("LOOPBACK", "True [] []"), ("PICTURES", "True ['shm'] []")],
)
def test_a_node_over_the_loopback_interface_and_one_with_shared_memory_hear_each_other(
    ros_node, spin_until, tmp_path, transport, told
):
    answers = []
    ros_node.create_subscription(String, "told", answers.append, 10)
    publisher = ros_node.create_publisher(String, "asked", 10)
    child = subprocess.Popen([sys.executable, "-c", CHILD, transport], cwd=tmp_path)
    try:
        spin_until(lambda: child.poll() is None and publisher.get_subscription_count(), 60, "the child's subscription")
        publisher.publish(String(data="?"))
        spin_until(lambda: answers, 60, "the child's answer")
    finally:
        child.kill()
        child.wait()
    assert answers[0].data == told
