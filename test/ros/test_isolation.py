"""The fixtures that every ROS test stands on."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


def test_a_message_of_our_own_crosses_the_middleware(ros_context, ros_node, spin_until):
    from flow_rag_vla_interfaces.msg import Embedding

    received = []
    ros_node.create_subscription(Embedding, "embedding", received.append, 1)
    publisher = ros_node.create_publisher(Embedding, "embedding", 1)
    spin_until(lambda: publisher.get_subscription_count() == 1, what="discovery")
    message = Embedding()
    message.header.frame_id = "camera_front"
    publisher.publish(message)
    spin_until(lambda: received, what="the message")
    assert received[0].header.frame_id == "camera_front"


def test_a_condition_that_never_holds_fails_with_its_name(spin_until):
    with pytest.raises(pytest.fail.Exception, match="an event that nobody sends"):
        spin_until(lambda: False, timeout=0.01, what="an event that nobody sends")


def test_a_child_process_lives_in_the_same_graph_and_finds_the_messages(ros_domain_id):
    code = (
        "import os, rclpy\n"
        "from flow_rag_vla_interfaces.msg import ControlCommand\n"
        "rclpy.init()\n"
        "node = rclpy.create_node('child')\n"
        "node.create_publisher(ControlCommand, 'command', 1)\n"
        "print(node.context.get_domain_id(), os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'])\n"
        "rclpy.shutdown()\n"
    )
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert child.returncode == 0, child.stderr
    assert child.stdout.split() == [str(ros_domain_id), "LOCALHOST"]


def test_the_domain_is_one_that_a_person_does_not_use_by_default(ros_domain_id):
    assert 1 <= ros_domain_id <= 101
    assert os.environ["ROS_DOMAIN_ID"] == str(ros_domain_id)
