# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Frames of bags and videos are shown as they were labelled."""

from __future__ import annotations

import numpy as np
import pytest

from flow_rag_vla.data.bag_writer import BagWriter
from flow_rag_vla.data.definitions import Definitions
from flow_rag_vla.gateway.errors import GatewayError
from flow_rag_vla.gateway.labeling.pictures import Pictures
from flow_rag_vla.labeling.registry.values import Image, Source, SourceKind
from flow_rag_vla.labeling.video.frames import video_frames

TOPIC, TYPE = "/camera/front/image_raw", "sensor_msgs/msg/Image"


def image(name, stamp_ns, frame=0):
    return Image(name, 32, 24, frame, stamp_ns, image_id=f"{name}{stamp_ns}")


def shade(number):
    return np.full((24, 32, 3), 40 * number, np.uint8)


@pytest.mark.parametrize("simulated_time", [False, True])
def test_a_frame_of_a_bag_is_found_by_its_stamp(tmp_path, simulated_time):
    definitions = Definitions()
    definitions.ensure(TYPE)
    start = 1_000_000_000 if simulated_time else 1_700_000_000_000_000_000
    with BagWriter(tmp_path / "bag", definitions) as bag:
        bag.add_topic(TOPIC, TYPE)
        for number in range(5):
            stamp = start + number * 100_000_000
            time = definitions.message("builtin_interfaces/msg/Time", sec=stamp // 10**9, nanosec=stamp % 10**9)
            header = definitions.message("std_msgs/msg/Header", stamp=time, frame_id="front")
            fields = {"header": header, "height": 24, "width": 32, "encoding": "rgb8", "is_bigendian": 0, "step": 96}
            message = definitions.message(TYPE, **fields, data=shade(number).ravel())
            # The recorder's clock is not that of a simulator.
            log_ns = 1_700_000_000_000_000_000 + number * 100_000_000
            bag.write(TOPIC, log_ns, definitions.serialize(message, TYPE))
    source = Source(SourceKind.BAG, str(tmp_path / "bag"))
    pictures = Pictures()
    for number in (3, 0, 4):
        found = pictures.pixels(source, image(TOPIC.strip("/"), start + number * 100_000_000))
        np.testing.assert_array_equal(found, shade(number))
    for missing in (image(TOPIC.strip("/"), start + 7), image("other/topic", start)):
        with pytest.raises(GatewayError, match=missing.name) as caught:
            pictures.pixels(source, missing)
        assert (caught.value.status, caught.value.code) == (404, "no_picture")


def test_a_frame_of_a_video_is_the_one_that_was_labelled(tmp_path):
    av = pytest.importorskip("av")
    path = tmp_path / "video.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = 32, 24, "yuv420p", 4
        for number in range(6):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(shade(number), format="rgb24")))
        container.mux(stream.encode())
    source, pictures = Source(SourceKind.VIDEO, str(path)), Pictures()
    labelled = [(frame.stamp_ns, frame.load()) for frame in video_frames(path)]
    assert len(labelled) == 6
    for stamp_ns, pixels in reversed(labelled):
        np.testing.assert_array_equal(pictures.pixels(source, image("video.mp4", stamp_ns)), pixels)
    with pytest.raises(GatewayError, match=r"holds no video\.mp4"):
        pictures.pixels(source, image("video.mp4", labelled[2][0] + 1))
    path.write_bytes(b"no video")
    with pytest.raises(GatewayError, match=r"video\.mp4") as caught:
        Pictures().pixels(source, image("video.mp4", 0))
    assert caught.value.remedy.startswith("copy it back")
