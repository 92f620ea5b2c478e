# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Frames of videos and bags with exact times; labels back into a bag; whole runs into files and a registry."""

import io
import json
import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from flow_rag_vla.data.bag import Bag
from flow_rag_vla.data.bag_writer import BagWriter
from flow_rag_vla.data.definitions import Definitions
from flow_rag_vla.data.message_values import stamp_ns
from flow_rag_vla.labeling.compact.baseline import ColourDetector
from flow_rag_vla.labeling.overlay import overlay
from flow_rag_vla.labeling.pipeline import ImageError, LabelingPipeline, SettingError, SourceError
from flow_rag_vla.labeling.registry.registry import Registry
from flow_rag_vla.labeling.runs import BAG, FOLDER, VIDEO, open_source, run_labeling
from flow_rag_vla.labeling.sinks import BagSink, JsonLinesSink, OverlaySink, RegistrySink, mask_counts
from flow_rag_vla.labeling.video.bags import ARRAY_TYPE, detections_topic
from flow_rag_vla.labeling.video.frames import bag_frames, image_topics, open_bag, video_frames
from flow_rag_vla.labeling.video.limits import Taken, VideoFacts, checked_facts

TICKS = (0, 1, 3, 7, 8, 20)
TICK = Fraction(1001, 30_000)
FRONT, WRIST = "/camera/front/image_raw", "/camera/wrist/image_raw/compressed"
START_NS = 1_700_000_000_000_000_000


def moving(step: int, width: int = 96, height: int = 64) -> np.ndarray:
    image = np.full((height, width, 3), 210, np.uint8)
    image[20:40, 5 + 3 * step : 25 + 3 * step] = (217, 33, 31)
    return image


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Frames at uneven times in a time base that no decimal number writes."""
    av = pytest.importorskip("av")
    path = tmp_path / "drive.mkv"
    with av.open(str(path), "w", format="matroska") as container:
        stream = container.add_stream("ffv1", rate=Fraction(30_000, 1001))
        stream.width, stream.height, stream.pix_fmt = 96, 64, "bgr0"
        stream.codec_context.time_base = TICK
        for step, tick in enumerate(TICKS):
            frame = av.VideoFrame.from_ndarray(moving(step), format="rgb24")
            frame.pts, frame.time_base = tick, TICK
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def _header(definitions: Definitions, stamp: int) -> Any:
    time = definitions.message("builtin_interfaces/msg/Time", sec=stamp // 10**9, nanosec=stamp % 10**9)
    return definitions.message("std_msgs/msg/Header", stamp=time, frame_id="camera")


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    """Six raw pictures, one of them broken, three compressed, and joints in between."""
    definitions = Definitions()
    folder = tmp_path / "episode"
    with BagWriter(folder, definitions) as writer:
        writer.add_topic(FRONT, "sensor_msgs/msg/Image")
        writer.add_topic(WRIST, "sensor_msgs/msg/CompressedImage")
        writer.add_topic("/joint_states", "sensor_msgs/msg/JointState")
        for step in range(6):
            log = START_NS + step * 100_000_000
            header = _header(definitions, log - 30_000_000)
            pixels = moving(step)
            data = pixels.tobytes() if step != 2 else pixels.tobytes()[:100]
            writer.write_message(
                FRONT, log,
                definitions.message(
                    "sensor_msgs/msg/Image", header=header, height=64, width=96, encoding="rgb8", step=288,
                    data=np.frombuffer(data, np.uint8),
                ),
            )  # fmt: skip
            joints = definitions.message("sensor_msgs/msg/JointState", header=header, position=np.arange(7.0) + step)
            writer.write_message("/joint_states", log + 1_000_000, joints)
            if step % 2 == 0:
                buffer = io.BytesIO()
                Pillow.fromarray(pixels).save(buffer, "PNG")
                packed = definitions.message(
                    "sensor_msgs/msg/CompressedImage", header=header, format="png",
                    data=np.frombuffer(buffer.getvalue(), np.uint8),
                )  # fmt: skip
                writer.write_message(WRIST, log + 2_000_000, packed)
    return folder


def test_frames_of_a_video_have_the_exact_times_of_their_stamps(video: Path) -> None:
    frames = list(video_frames(video))
    # Matroska keeps milliseconds: the container's own fraction is what counts, to the nanosecond.
    expected = [round(round(tick * TICK * 1000) * Fraction(1_000_000)) for tick in TICKS]
    assert [frame.stamp_ns for frame in frames] == expected
    assert all(np.array_equal(frame.load(), moving(step)) for step, frame in enumerate(frames))


def test_frames_can_be_taken_less_often(video: Path) -> None:
    assert len(list(video_frames(video, every_s=0.2))) == 3
    with pytest.raises(SettingError):
        video_frames(video, -1.0)


def test_a_video_that_breaks_off_gives_what_it_has_and_says_so(video: Path, tmp_path: Path) -> None:
    (tmp_path / "none.mp4").write_bytes(b"no video at all")
    with pytest.raises(SourceError, match="none") as caught:
        list(video_frames(tmp_path / "none.mp4"))
    assert caught.value.code == "source_corrupt"
    with pytest.raises(SourceError) as absent:
        video_frames(tmp_path / "absent.mp4")
    assert absent.value.code == "source_missing"


def damaged(path: Path) -> bytes:
    """A video of six frames of JPEG, whose third one is zeros."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w", format="matroska") as container:
        stream = container.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuvj420p"
        for step in range(6):
            frame = av.VideoFrame.from_ndarray(moving(step), format="rgb24")
            frame.pts, frame.time_base = step, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    data = bytearray(path.read_bytes())
    starts = [place for place in range(len(data)) if data[place : place + 3] == b"\xff\xd8\xff"]
    data[starts[2] : starts[3] - 20] = bytes(starts[3] - 20 - starts[2])
    return bytes(data)


def test_a_frame_that_cannot_be_decoded_is_named_and_the_others_are_labelled(tmp_path: Path) -> None:
    path = tmp_path / "drive.mkv"
    path.write_bytes(damaged(path))
    source, pipeline = open_source(path), LabelingPipeline(ColourDetector())
    with Registry(tmp_path / "registry") as registry:
        sink = RegistrySink(registry, source, pipeline, who="test")
        report = run_labeling(source, pipeline, sinks=[sink])
        stamps = [image.stamp_ns for image in registry.images(sink.source_id)]
    assert (source.total, report.images, report.failed) == (6, 6, 1)
    ((name, error),) = report.errors
    assert (name, error.code) == (f"{path}#2", "frame_corrupt")
    assert stamps == [100_000_000 * step for step in (0, 1, 3, 4, 5)]


def test_a_video_of_this_machine_is_looked_at_whole_before_any_of_it_is_labelled(video: Path, tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    whole = video.read_bytes()
    with av.open(str(tmp_path / "sound.mkv"), "w", format="matroska") as made:
        stream = made.add_stream("pcm_s16le", rate=8000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), layout="mono")
        sound.sample_rate, sound.pts = 8000, 0
        made.mux(stream.encode(sound))
        made.mux(stream.encode())
    length = whole.index(b"\x44\x89\x88") + 3  # Matroska's Duration, milliseconds
    width, height = whole.index(b"\xb0\x81\x60") + 2, whole.index(b"\xba\x81\x40") + 2
    tiny = bytearray(whole)
    tiny[width], tiny[height] = 4, 4
    refused = {
        "empty": (b"", "video_corrupt", "has no bytes"),
        "a playlist, which names other files": (
            b"#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n",
            "video_type",
            "none of",
        ),
        "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(100), "video_type", "none of MP4"),
        "sound only": ((tmp_path / "sound.mkv").read_bytes(), "video_type", "holds no pictures"),
        "cut in the middle": (whole[: len(whole) // 2], "video_corrupt", "ffmpeg -i IN -c copy OUT"),
        "says that it is an hour": (
            whole[:length] + struct.pack(">d", 3.6e6) + whole[length + 8 :],
            "video_corrupt",
            "of 3600.0 s",
        ),
        "says that it is tiny": (bytes(tiny), "video_corrupt", "4 x 4 pixels"),
        "no known codec": (whole.replace(b"V_FFV1", b"V_NONE"), "video_undecodable", "codec"),
    }
    for what, (data, code, text) in refused.items():
        path = tmp_path / "given.mkv"
        path.write_bytes(data)
        with pytest.raises(SourceError, match=text) as caught:
            open_source(path)
        assert caught.value.code == code, what
    with pytest.raises(SourceError, match="scale it down") as large:
        checked_facts(VideoFacts(9_000, 9_000, 1.0, 1, 1.0), Taken.OWN)
    assert large.value.code == "video_too_large"
    # What only says too little, and is longer than a stranger's may be, is taken.
    path = tmp_path / "modest.mkv"
    path.write_bytes(whole[:length] + struct.pack(">d", 1.0) + whole[length + 8 :])
    assert open_source(path).total == len(TICKS)
    assert checked_facts(VideoFacts(640, 480, 1e5, 10**7, 1e3), Taken.OWN).seconds == 1e5


def test_pictures_of_a_bag_keep_both_their_times_and_broken_ones_say_so(bag: Path) -> None:
    opened = open_bag(bag)
    topics = image_topics(opened)
    assert set(topics) == {FRONT, WRIST}
    frames = [frame for frame in bag_frames(opened, topics) if frame.topic == FRONT]
    assert [frame.log_ns - frame.stamp_ns for frame in frames] == [30_000_000] * 6
    assert [frame.image is None for frame in frames] == [False, False, True, False, False, False]
    assert isinstance(frames[2].error, ImageError)
    assert image_topics(opened, ["camera/front/image_raw"]) == (FRONT,)
    assert len(list(bag_frames(opened, (FRONT,), every_s=0.25))) == 2


def test_a_topic_without_pictures_is_refused_and_those_with_are_listed(bag: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="front/image_raw"):
        image_topics(open_bag(bag), ["joint_states"])
    with pytest.raises(SourceError) as caught:
        open_bag(tmp_path / "absent.mcap")
    assert caught.value.code == "source_missing"


def test_labels_go_back_into_the_bag_beside_joints_and_pictures(bag: Path, tmp_path: Path) -> None:
    source = open_source(bag)
    assert source.kind == BAG
    output = tmp_path / "labelled"
    report = run_labeling(source, LabelingPipeline(ColourDetector()), sinks=[BagSink(source, output)])
    assert (report.images, report.failed) == (9, 1)
    before, after = Bag(bag), Bag(output)
    # Everything that was recorded is there, byte for byte.
    old = [(channel.topic, log, data) for channel, log, data in before.raw()]
    new = [(channel.topic, log, data) for channel, log, data in after.raw() if channel.msgtype != ARRAY_TYPE]
    assert old == new
    topic = detections_topic(FRONT)
    assert topic == "/camera/front/detections"
    pictures = {entry.log_ns: stamp_ns(entry.message.header) for entry in before.messages([FRONT])}
    labels = list(after.messages([topic]))
    assert [entry.log_ns for entry in labels] == [START_NS + step * 100_000_000 for step in (0, 1, 3, 4, 5)]
    for entry in labels:
        message = entry.message
        assert stamp_ns(message.header) == pictures[entry.log_ns]
        assert (message.width, message.height, message.model) == (96, 64, "colour")
        (found,) = message.detections
        assert (found.class_id, found.id, found.size_x, found.size_y) == ("red cube", "1", 20.0, 20.0)
        assert found.score_kind == 1
        mask = np.asarray(Pillow.open(io.BytesIO(bytes(found.mask))))
        assert mask.shape == (20, 20)
        assert (mask == 255).all()
    assert len(list(after.messages([detections_topic(WRIST)]))) == 3


def test_a_bag_that_exists_is_not_written_over(bag: Path) -> None:
    source = open_source(bag)
    with pytest.raises(SourceError, match="exists already") as caught:
        BagSink(source, bag)
    assert caught.value.code == "source_exists"


def test_a_video_becomes_lines_tracks_and_drawings(video: Path, tmp_path: Path) -> None:
    source = open_source(video)
    assert source.kind == VIDEO
    sinks = [JsonLinesSink(tmp_path / "out"), OverlaySink(tmp_path / "out")]
    report = run_labeling(source, LabelingPipeline(ColourDetector()), sinks=sinks, batch=4)
    lines = [json.loads(line) for line in (tmp_path / "out/labels.jsonl").read_text().splitlines()]
    assert [line["frame"] for line in lines] == list(range(6))
    assert [line["objects"][0]["box"] for line in lines] == [[5 + 3 * n, 20, 25 + 3 * n, 40] for n in range(6)]
    (track,) = json.loads((tmp_path / "out/tracks.json").read_text())
    assert (track["label"], track["start_frame"], track["end_frame"], track["track"]) == ("red cube", 0, 5, "1")
    assert report.objects == 6
    drawn = np.asarray(Pillow.open(sorted((tmp_path / "out/overlays").iterdir())[0]))
    assert drawn.shape == (64, 96, 3)
    assert not np.array_equal(drawn, moving(0))


def test_the_registry_holds_what_was_found_once_however_often_it_is_labelled(bag: Path, tmp_path: Path) -> None:
    pipeline = LabelingPipeline(ColourDetector())
    with Registry(tmp_path / "registry") as registry:
        for _ in range(2):
            source = open_source(bag)
            sink = RegistrySink(registry, source, pipeline, who="test")
            report = run_labeling(source, pipeline, sinks=[sink])
            assert report.failed == 1
        assert registry.count() == 8
        tracks = registry.tracks(sink.source_id)
        # The thing on the front camera and the one on the wrist: each is followed on its own topic.
        assert sorted(len(track.object_ids) for track in tracks) == [3, 5]


def test_a_folder_goes_on_after_a_broken_picture(picture_folder: Path, tmp_path: Path) -> None:
    source = open_source(picture_folder)
    assert (source.kind, source.total) == (FOLDER, 4)
    with Registry(tmp_path / "registry") as registry:
        pipeline = LabelingPipeline(ColourDetector())
        sinks = [JsonLinesSink(tmp_path / "out", masks=False), RegistrySink(registry, source, pipeline, who="test")]
        report = run_labeling(source, pipeline, sinks=sinks)
    assert (report.images, report.failed) == (4, 1)
    assert report.errors[0][1].code == "image_corrupt"
    lines = [json.loads(line) for line in (tmp_path / "out/labels.jsonl").read_text().splitlines()]
    assert [line.get("error") for line in lines if "broken" in line["image"]] == ["image_corrupt"]
    assert report.tracks == ()


def test_nothing_to_label_is_said(tmp_path: Path) -> None:
    with pytest.raises(SourceError) as caught:
        open_source(tmp_path)
    assert caught.value.code == "source_empty"
    with pytest.raises(SourceError) as absent:
        open_source(tmp_path / "absent")
    assert absent.value.code == "source_missing"


def test_run_lengths_are_those_of_coco() -> None:
    mask = np.array([[0, 1, 1], [0, 0, 1]], np.bool_)
    assert mask_counts(mask) == [2, 1, 1, 2]
    assert mask_counts(~mask) == [0, 2, 1, 1, 2]
    assert mask_counts(np.zeros((2, 2), np.bool_)) == [4]


def test_a_drawing_of_another_picture_is_refused() -> None:
    found = LabelingPipeline(ColourDetector()).label([moving(0)])[0].detections
    with pytest.raises(ValueError, match="96 x 64"):
        overlay(moving(0)[:40], found)
