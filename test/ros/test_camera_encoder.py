# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The camera encoder, as a process."""

from __future__ import annotations

import numpy as np
import pytest
from sensor_msgs.msg import Image

from flow_rag_vla.bringup import topics
from flow_rag_vla.data.message_values import embedding_values
from flow_rag_vla.nodes import qos
from flow_rag_vla.nodes.conversions import image_message
from flow_rag_vla.nodes.stamps import to_ns, to_stamp
from flow_rag_vla_interfaces.msg import Embedding


@pytest.fixture
def cameras(start_node, ros_node, spin_until):
    """A running encoder, a function that shows it one picture a camera, and what it published."""
    node = start_node("camera_encoder")
    heard = []
    ros_node.create_subscription(Embedding, topics.EMBEDDING, heard.append, qos.SENSOR)
    publishers = {
        "front": ros_node.create_publisher(Image, topics.FRONT_IMAGE, qos.SENSOR),
        "wrist": ros_node.create_publisher(Image, topics.WRIST_IMAGE, qos.SENSOR),
    }
    spin_until(lambda: all(item.get_subscription_count() for item in publishers.values()), 60, "the encoder")
    pixels = {
        "front": np.random.default_rng(0).integers(0, 255, (128, 128, 3), dtype=np.uint8),
        "wrist": np.random.default_rng(1).integers(0, 255, (96, 96, 3), dtype=np.uint8),
    }

    def now():
        return to_ns(ros_node.get_clock().now().to_msg())

    def show(stamp_ns=None, spoil=None, wrist_delay_ns=0):
        stamp = now() if stamp_ns is None else stamp_ns
        for camera, publisher in publishers.items():
            delay = wrist_delay_ns if camera == "wrist" else 0
            image = image_message(pixels[camera], stamp + delay, f"{camera}_optical_frame")
            if spoil is not None and camera == "front":
                spoil(image)
            publisher.publish(image)
        return stamp

    return node, show, heard, now


def shown_until_heard(show, heard, spin_until):
    def tried():
        show()
        return heard

    spin_until(tried, what="an embedding")


def test_an_embedding_has_unit_length_and_the_stamp_of_its_images(cameras, spin_until):
    node, show, heard, _ = cameras
    shown_until_heard(show, heard, spin_until)
    heard.clear()
    stamp = show()
    spin_until(lambda: any(to_ns(item.header.stamp) == stamp for item in heard), what="the embedding")
    message = heard[-1]
    values = embedding_values(message)
    assert values.dtype == np.float32 and abs(float(np.linalg.norm(values)) - 1) < 1e-4
    assert message.encoder == "compact" and len(message.revision) == 12 and list(message.cameras) == ["front", "wrist"]
    assert node.stop() == 0 and "Traceback" not in node.text


def test_the_same_images_give_the_same_embedding(cameras, spin_until):
    _, show, heard, _ = cameras
    shown_until_heard(show, heard, spin_until)
    spin_until(lambda: show() and len(heard) >= 3, what="three embeddings")
    assert len({item.values.tobytes() for item in heard}) == 1


SPOILT = (
    (lambda image: setattr(image, "data", image.data[:100]), "truncated"),
    (lambda image: setattr(image, "encoding", "32FC1"), "'32FC1' is not one of"),
    (lambda image: setattr(image, "step", 5), "step is 5 bytes"),
    (lambda image: setattr(image, "height", 0), "empty"),
    (lambda image: setattr(image, "height", 2**31), "2147483648 rows"),
    (lambda image: setattr(image.header, "stamp", to_stamp(0)), "s old, limit"),
    (lambda image: setattr(image.header, "stamp", to_stamp(2_100_000_000 * 10**9)), "in the future"),
)


def test_each_malformed_image_is_named_and_the_next_good_one_is_encoded(cameras, spin_until):
    node, show, heard, _ = cameras
    for spoil, said in SPOILT:

        def complained(spoil=spoil, said=said):
            show(spoil=spoil)
            return node.said(said)

        spin_until(complained, what=f"the complaint {said!r}")
        heard.clear()
        shown_until_heard(show, heard, spin_until)


def test_images_too_far_apart_make_no_observation(cameras, spin_until):
    _, show, heard, now = cameras
    shown_until_heard(show, heard, spin_until)
    apart = now()
    show(apart, wrist_delay_ns=-100_000_000)
    last = show(apart + 50_000_000)
    spin_until(lambda: any(to_ns(item.header.stamp) == last for item in heard), what="the good pair")
    assert apart not in [to_ns(item.header.stamp) for item in heard]


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"device": "tpu"}, "not one of auto, cpu, cuda"),
        ({"threads": 0}, "threads: 0 is outside"),
    ],
)
def test_a_parameter_that_makes_no_sense_ends_the_node_with_one_line(start_node, parameters, said):
    node = start_node("camera_encoder", **parameters)
    assert node.wait(90) == 2
    assert said in node.text and "Traceback" not in node.text
