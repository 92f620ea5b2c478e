# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Training and measuring detectors over the labeling node's actions."""

from __future__ import annotations

import json
from itertools import count

import pytest
from action_msgs.msg import GoalStatus
from rclpy.action import ActionClient

from flow_rag_vla.bringup import labeling as names
from flow_rag_vla.bringup import topics
from flow_rag_vla.nodes import qos
from flow_rag_vla.nodes.labeling_training import WAITS
from flow_rag_vla_interfaces import msg
from flow_rag_vla_interfaces.action import EvaluateDetector, TrainDetector

WAIT = 60.0
LONG = 150.0


@pytest.fixture
def act(ros_node, spin_until):
    """``act(TrainDetector, action, field=value)`` sends a goal: its handle, its end's future, the feedback so far."""

    def send(kind, action, **fields):
        client = ActionClient(ros_node, kind, action)
        spin_until(client.server_is_ready, WAIT, f"action {action}")
        heard = []
        future = client.send_goal_async(kind.Goal(**fields), lambda message: heard.append(message.feedback))
        spin_until(future.done, WAIT, "the goal's acceptance")
        handle = future.result()
        return handle, handle.get_result_async(), heard

    return send


def test_a_training_makes_way_is_withdrawn_and_leaves_a_checkpoint(start_node, act, ros_node, spin_until, tmp_path):
    process = start_node(
        "labeling", registry=str(tmp_path / "labels"), trainings=str(tmp_path / "jobs"), niceness=0, pause=3600.0
    )
    spin_until(lambda: process.said("labels in"), 2 * WAIT, "the node")

    for kind, action, fields, code in (
        (TrainDetector, names.TRAIN_DETECTOR, {"dataset": "simulator:1", "width": 100}, "setting_out_of_range"),
        (TrainDetector, names.TRAIN_DETECTOR, {"dataset": "cups@v9"}, "dataset_missing"),
        (TrainDetector, names.TRAIN_DETECTOR, {"dataset": "simulator:1", "settings": ["every"]}, "invalid_value"),
        (
            TrainDetector,
            names.TRAIN_DETECTOR,
            {"dataset": "simulator:1", "settings": ["evry=1"]},
            "setting_out_of_range",
        ),
        (
            TrainDetector,
            names.TRAIN_DETECTOR,
            {"dataset": "simulator:1", "settings": ["batch=1"]},
            "setting_out_of_range",
        ),
        (EvaluateDetector, names.EVALUATE_DETECTOR, {"dataset": ""}, "dataset_invalid"),
    ):
        _, end, _ = act(kind, action, **fields)
        spin_until(end.done, WAIT, "the refusal")
        refused = end.result()
        assert (refused.status, refused.result.code) == (GoalStatus.STATUS_ABORTED, code), refused.result.message

    loop = ros_node.create_publisher(msg.LoopStatistics, topics.LOOP_STATISTICS, qos.STATE)
    handle, end, heard = act(
        TrainDetector, names.TRAIN_DETECTOR, name="one", dataset="simulator:1", size="tiny", width=64, height=64,
        epochs=100_000, batch=4, tracking="none", settings=["augment=false", "patience=0", "average=0.5"],
    )  # fmt: skip
    spin_until(lambda: any(item.stage == "Training" and item.done for item in heard), LONG, "a step")
    assert heard[-1].name == "one"
    ordered = json.loads((tmp_path / "jobs" / "one" / "order.json").read_text())["settings"]
    assert (ordered["augment"], ordered["patience"], ordered["average"], ordered["batch"]) == (False, 0, 0.5, 4)
    busy_handle, busy, _ = act(EvaluateDetector, names.EVALUATE_DETECTOR, dataset="simulator:1")
    spin_until(busy.done, WAIT, "the refusal of a second job")
    assert busy_handle.accepted and busy.result().result.code == "busy"
    spin_until(lambda: loop.get_subscription_count() > 0, WAIT, "the node's ear for the loop")
    # Each report tells of more late ticks than the one before: whichever two arrive, the loop needs the machine.
    late = count(1)
    reports = ros_node.create_timer(0.2, lambda: loop.publish(msg.LoopStatistics(late_ticks=next(late))))
    spin_until(lambda: heard[-1].message == WAITS, WAIT, "the pause")
    ros_node.destroy_timer(reports)
    # It is withdrawn while it waits: it goes on, keeps a checkpoint and ends.
    canceled = handle.cancel_goal_async()
    spin_until(canceled.done, WAIT, "the cancel's answer")
    spin_until(end.done, LONG, "the end")
    result = end.result()
    assert (result.status, result.result.code) == (GoalStatus.STATUS_CANCELED, "canceled"), result.result.message
    assert result.result.name == "one" and list((tmp_path / "jobs" / "one").glob("step-*/state.safetensors"))
    assert process.stop() == 0 and "Traceback" not in process.text
