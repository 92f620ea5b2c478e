# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The simulator and its cameras, as processes."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
from sensor_msgs.msg import CameraInfo, Image, JointState

from flow_rag_vla.bringup import topics
from flow_rag_vla.core.action import TICK_S
from flow_rag_vla.data.message_values import image_pixels, robot_state
from flow_rag_vla.nodes import qos
from flow_rag_vla.nodes.stamps import to_ns, to_stamp
from flow_rag_vla_interfaces.msg import ControlCommand, RobotState, SceneState
from flow_rag_vla_interfaces.srv import ResetSimulation, StepSimulation


@pytest.fixture
def heard(ros_node):
    messages = {"state": [], "truth": []}
    ros_node.create_subscription(RobotState, topics.ROBOT_STATE, messages["state"].append, qos.SENSOR)
    ros_node.create_subscription(SceneState, topics.GROUND_TRUTH, messages["truth"].append, qos.SENSOR)
    return messages


def command(state, dx=0.0, **changes):
    message = ControlCommand(target=copy.deepcopy(state.end_effector), gripper_width=0.08)
    message.header.stamp = state.header.stamp
    message.target.position.x += dx
    for name, value in changes.items():
        setattr(message, name, value)
    return message


def test_the_same_seed_and_the_same_commands_give_the_same_episode(start_node, call, heard, ros_node, spin_until):
    start_node("simulator", mode="stepped")
    publisher = ros_node.create_publisher(ControlCommand, topics.COMMAND, qos.command_profile(TICK_S))
    spin_until(lambda: publisher.get_subscription_count() == 1, what="the simulator")
    runs = []
    for _ in range(2):
        answer = call(ResetSimulation, topics.RESET_SIMULATION, task="stack", seed=7)
        assert answer.ok and answer.instruction == "stack the red cube on the blue box" and answer.time_limit > 0
        heard["truth"].clear()
        call(StepSimulation, topics.STEP_SIMULATION, ticks=3)
        spin_until(lambda: len(heard["truth"]) >= 3, what="three scenes")
        runs.append([(list(scene.joint_positions), [item.pose for item in scene.objects]) for scene in heard["truth"]])
    assert runs[0] == runs[1]


def test_a_stepped_simulator_moves_only_when_stepped_and_keeps_its_own_time(start_node, call, heard, spin_until):
    start_node("simulator", mode="stepped")
    first = call(StepSimulation, topics.STEP_SIMULATION, ticks=4)
    second = call(StepSimulation, topics.STEP_SIMULATION, ticks=2)
    assert first.ok and second.ok and second.tick == first.tick + 2
    spin_until(lambda: heard["state"] and to_ns(heard["state"][-1].header.stamp) == second.tick * 25_000_000)
    assert not call(StepSimulation, topics.STEP_SIMULATION, ticks=0).ok


def test_a_command_moves_the_tool_and_a_bad_one_does_not(start_node, heard, ros_node, spin_until):
    node = start_node("simulator")
    publisher = ros_node.create_publisher(ControlCommand, topics.COMMAND, qos.command_profile(TICK_S))
    spin_until(lambda: publisher.get_subscription_count() == 1 and heard["state"], what="the simulator")
    start = robot_state(heard["state"][-1]).position

    def answered(said, dx=0.0, y=None):
        message = command(heard["state"][-1], dx=dx)
        if y is not None:
            message.target.position.y = y
        publisher.publish(message)
        return node.said(said)

    spin_until(lambda: answered("expected finite numbers", y=math.nan), what="the complaint about NaN")
    spin_until(lambda: answered("command not followed", dx=5.0), what="the complaint about a target out of reach")
    assert np.allclose(robot_state(heard["state"][-1]).position, start, atol=5e-3)

    def moved():
        publisher.publish(command(heard["state"][-1], dx=0.02))
        return robot_state(heard["state"][-1]).position[0] > start[0] + 0.02

    spin_until(moved, what="motion")
    assert node.alive


def test_a_command_made_of_where_the_robot_was_before_a_reset_is_not_followed(
    start_node, call, heard, ros_node, spin_until
):
    start_node("simulator")
    publisher = ros_node.create_publisher(ControlCommand, topics.COMMAND, qos.command_profile(TICK_S))
    spin_until(lambda: publisher.get_subscription_count() == 1 and heard["state"], what="the simulator")
    elsewhere = command(heard["state"][-1], dx=0.05)
    assert call(ResetSimulation, topics.RESET_SIMULATION, task="stack", seed=7).ok
    spin_until(lambda: heard["truth"] and heard["truth"][-1].task == "stack", what="the new scene")
    shown = next(truth for truth in heard["truth"] if truth.task == "stack").header.stamp
    start = next(robot_state(state) for state in heard["state"] if to_ns(state.header.stamp) >= to_ns(shown)).position

    def told(stamp_ns, ticks):
        elsewhere.header.stamp = to_stamp(stamp_ns)
        heard["state"].clear()

        def answered():
            publisher.publish(elsewhere)
            return len(heard["state"]) >= ticks

        spin_until(answered, what="states after it")
        return float(np.linalg.norm(robot_state(heard["state"][-1]).position - start))

    assert told(to_ns(shown) + 1_000_000, ticks=6) < 1e-3
    assert told(to_ns(shown) + 100_000_000, ticks=6) > 0.02


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"task": "juggle"}, "juggle"),
        ({"task": "stack", "variant": "upside_down"}, "upside_down"),
        ({"task": "stack", "instruction": "open the drawer"}, "leave one of them empty"),
        ({"instruction": "make coffee"}, "not understood"),
        ({}, "unknown task"),
    ],
)
def test_a_reset_that_makes_no_sense_is_refused_with_the_value(start_node, call, fields, said):
    node = start_node("simulator", mode="stepped")
    answer = call(ResetSimulation, topics.RESET_SIMULATION, **fields)
    assert not answer.ok and said in answer.message
    assert node.alive


def test_an_instruction_alone_chooses_task_and_object(start_node, call):
    start_node("simulator", mode="stepped")
    answer = call(ResetSimulation, topics.RESET_SIMULATION, instruction="put the blue box in the bin", seed=3)
    assert answer.ok and answer.instruction == "put the blue box in the bin" and "blue_box" in answer.objects


def test_stepping_in_real_time_is_refused_with_the_remedy(start_node, call):
    start_node("simulator")
    answer = call(StepSimulation, topics.STEP_SIMULATION, ticks=1)
    assert not answer.ok and "mode:=stepped" in answer.message


def test_a_parameter_out_of_range_ends_the_node_with_one_line(start_node):
    node = start_node("simulator", mode="warp")
    assert node.wait() == 2
    assert "simulator: mode: 'warp' is not one of real_time, stepped" in node.text
    assert "Traceback" not in node.text


@pytest.mark.parametrize("name", ["simulator", "simulator_camera"])
def test_an_interrupt_ends_the_node_with_code_0_and_no_traceback(start_node, ros_node, spin_until, name):
    node = start_node(name)
    spin_until(lambda: name in ros_node.get_node_names(), what=name)
    assert node.stop() == 0
    assert "Traceback" not in node.text


def test_the_cameras_show_the_scene_with_the_stamp_of_its_state(start_node, heard, ros_node, spin_until):
    images, infos, joints = {}, {}, []
    for camera, image_topic, info_topic in (
        ("front", topics.FRONT_IMAGE, topics.FRONT_INFO),
        ("wrist", topics.WRIST_IMAGE, topics.WRIST_INFO),
    ):
        images[camera] = []
        ros_node.create_subscription(Image, image_topic, images[camera].append, qos.SENSOR)
        ros_node.create_subscription(CameraInfo, info_topic, lambda m, c=camera: infos.update({c: m}), qos.SENSOR)
    ros_node.create_subscription(JointState, topics.JOINT_STATES, joints.append, qos.SENSOR)
    start_node("simulator")
    start_node("simulator_camera", rate=20.0)

    def shared_stamps():
        return set.intersection(*({to_ns(m.header.stamp) for m in some} for some in (*images.values(), heard["truth"])))

    spin_until(lambda: len(shared_stamps()) > 3, what="pairs of images with the stamp of a scene")
    for camera in ("front", "wrist"):
        pixels = image_pixels(images[camera][-1])
        assert pixels.std() > 10, "the picture is empty"
        assert (infos[camera].height, infos[camera].width) == pixels.shape[:2]
        assert infos[camera].k[0] > 0 and infos[camera].header.frame_id == images[camera][-1].header.frame_id
    assert list(joints[-1].name) == [f"panda_joint{number}" for number in range(1, 8)]
