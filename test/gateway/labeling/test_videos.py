# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Videos over HTTP: labelled into tracks as a job, and those that would harm the server refused; real decoders."""

from __future__ import annotations

import io
import os
import signal
import threading
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from flow_rag_vla.gateway.access import Access, Role, new_token
from flow_rag_vla.gateway.app import make_app
from flow_rag_vla.gateway.labeling.labels import Labels
from flow_rag_vla.gateway.labeling.models import Models
from flow_rag_vla.gateway.labeling.pictures import Pictures
from flow_rag_vla.gateway.labeling.section import labeling_section
from flow_rag_vla.labeling.compact.baseline import ColourDetector
from flow_rag_vla.labeling.pipeline import LabelingPipeline
from flow_rag_vla.labeling.registry.registry import Registry
from flow_rag_vla.labeling.video.sent import kept_frames

av = pytest.importorskip("av")
API = "/api/labeling/videos"
WAIT_S = 120.0
FRAMES = 6


class Gate(ColourDetector):
    """Waits before each batch while it is shut."""

    def __init__(self) -> None:
        self.reached, self.open = threading.Event(), threading.Event()
        self.open.set()
        self.looked = 0

    def detect(self, images, prompts, threshold):
        self.reached.set()
        assert self.open.wait(WAIT_S)
        self.looked += len(images)
        return super().detect(images, prompts, threshold)


def video(
    path: Path, container="matroska", codec="ffv1", pixels="bgr0", frames=FRAMES, size=(320, 240), rate=10, pace=1
) -> bytes:
    """A red square that moves to the right."""
    with av.open(str(path), "w", format=container) as made:
        stream = made.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = *size, pixels
        for step in range(frames):
            image = np.full((size[1], size[0], 3), 210, np.uint8)
            image[20:40, 5 + 3 * step : 25 + 3 * step] = (217, 33, 31)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = pace * step, Fraction(1, rate)
            made.mux(stream.encode(frame))
        made.mux(stream.encode())
    return path.read_bytes()


@pytest.fixture
def served(tmp_path):
    """A client of a server with a quick detector; ``client.gate`` can hold it, ``client.registry`` gets the labels."""
    gate, (token, secret) = Gate(), new_token("ada", Role.LABELLER)
    with Registry(tmp_path / "labels") as registry:
        labels = Labels(registry, Pictures(), Models(lambda: LabelingPipeline(gate)))
        app = make_app(Access([token]), [labeling_section(labels)])
        with TestClient(app, headers={"Authorization": f"Bearer {secret}"}) as client:
            client.gate, client.registry = gate, registry
            yield client
            gate.open.set()


def send(client, data: bytes, **form):
    return client.post(API, files={"video": ("any name.gif", data)}, data=form)


def ended(client, name: str):
    """The job when it has ended; its state says so."""
    for _ in range(int(WAIT_S / 0.05)):
        job = client.get(f"{API}/{name}").json()
        if job["state"] != "running":
            return job
        threading.Event().wait(0.05)
    raise AssertionError(job)


def test_a_video_becomes_tracks_and_the_same_one_again_adds_nothing(served, tmp_path):
    data = video(tmp_path / "drive.mp4", "mp4", "mpeg4", "yuv420p")
    sent = send(served, data, classes="red cube")
    assert sent.status_code == 202, sent.text
    job = ended(served, sent.json()["name"])
    told = (job["state"], job["images"], job["total"], job["objects"], job["new"], job["tracks"], job["message"])
    assert told == ("finished", FRAMES, FRAMES, FRAMES, FRAMES, 1, "")
    assert (job["width"], job["height"], job["frames"], job["seconds"]) == (320, 240, FRAMES, pytest.approx(0.5))
    (track,) = served.get(f"/api/labeling/sources/{job['source_id']}/tracks").json()["items"]
    assert len(served.registry.track(track["track_id"]).object_ids) == FRAMES
    # Its frames can be looked at, and stand at their own times.
    images = served.registry.images(job["source_id"])
    assert [image.stamp_ns for image in images] == [100_000_000 * step for step in range(FRAMES)]
    shown = served.get(f"/api/labeling/images/{images[3].image_id}/picture")
    with Image.open(io.BytesIO(shown.content)) as picture:
        red, _, blue = np.asarray(picture)[30, 5 + 3 * 3 + 10].tolist()
    assert red > 150 > 100 > blue
    again = ended(served, send(served, data, classes="red cube").json()["name"])
    assert (again["state"], again["objects"], again["new"]) == ("finished", FRAMES, 0)
    assert again["source_id"] == job["source_id"]
    fewer = ended(served, send(served, data, classes="red cube", every="0.2").json()["name"])
    assert (fewer["images"], fewer["total"], fewer["new"]) == (3, 3, 0)
    assert [item["name"] for item in served.get(API).json()["items"]] == ["video-3", "video-2", "video-1"]
    files = [path for path in (served.registry.folder / "videos").rglob("*") if path.is_file()]
    assert [path.read_bytes() for path in files] == [data]
    # A dataset reads them all, and no more than a viewer does it decode them here.
    assert [frame.stamp_ns for frame in kept_frames(files[0])] == [image.stamp_ns for image in images]


def test_a_video_is_looked_at_in_tiles_too_and_one_with_too_many_is_not_kept(served, tmp_path):
    data = video(tmp_path / "drive.mkv")
    sent = send(served, data, classes="red cube", tiles="32x32")
    assert (sent.status_code, sent.json()["code"]) == (422, "too_many_tiles"), sent.text
    assert served.get(API).json()["items"] == [] and served.registry.sources() == ()
    assert [path for path in (served.registry.folder / "videos").rglob("*") if path.is_file()] == []
    assert send(served, data, tiles="320").json()["code"] == "setting_out_of_range"
    plain = ended(served, send(served, data, classes="red cube").json()["name"])
    looked = served.gate.looked
    assert looked == FRAMES
    tiled = ended(served, send(served, data, classes="red cube", tiles="200x160").json()["name"])
    # Four tiles and the whole of each frame; what they find is what is there.
    assert served.gate.looked - looked == 5 * FRAMES
    assert (tiled["state"], tiled["objects"], tiled["new"]) == ("finished", plain["objects"], 0)


def test_what_is_no_video_or_would_be_too_much_is_refused_by_what_it_is_and_nothing_is_kept(served, tmp_path):
    whole = video(tmp_path / "whole.mkv")
    mp4 = video(tmp_path / "whole.mp4", "mp4", "mpeg4", "yuv420p")
    with av.open(str(tmp_path / "sound.mkv"), "w", format="matroska") as made:
        stream = made.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), layout="mono")
        frame.sample_rate, frame.pts = 8000, 0
        made.mux(stream.encode(frame))
        made.mux(stream.encode())
    refused = {
        "empty": (b"", 400, "video_empty"),
        "a playlist, which names other files": (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n", 415, "video_type"),
        "a list of files": (b"ffconcat version 1.0\nfile '/etc/hostname'\n", 415, "video_type"),
        "sound only": ((tmp_path / "sound.mkv").read_bytes(), 415, "video_type"),
        "a head and noise": (whole[:60] + bytes(range(256)) * 40, 422, "video_corrupt"),
        "cut in the middle": (whole[: len(whole) // 2], 422, "video_corrupt"),
        "cut before its index": (mp4[: len(mp4) // 2], 422, "video_corrupt"),
        "larger than 4K": (video(tmp_path / "wide.mkv", frames=1, size=(4096, 2200)), 413, "video_too_large"),
        "hours in a few bytes": (video(tmp_path / "slow.mkv", pace=10_000), 413, "video_too_long"),
        "a thousand a second": (video(tmp_path / "fast.mkv", rate=1000), 422, "video_frame_rate"),
    }
    for what, (data, status, code) in refused.items():
        answer = send(served, data)
        assert (answer.status_code, answer.json().get("code")) == (status, code), (what, answer.text)
        assert str(tmp_path) not in answer.text
    nobody = send(served, whole, project="nobody's")
    assert (nobody.status_code, nobody.json()["code"]) == (404, "unknown_project")
    assert served.get(API).json()["items"] == []
    assert served.registry.sources() == ()
    assert [path for path in (served.registry.folder / "videos").rglob("*") if path.is_file()] == []


def decoders() -> list[int]:
    """Processes that decode, whose parent is this one."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            stat, command = (entry / "stat").read_text(), (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if int(stat.rpartition(")")[2].split()[1]) == os.getpid() and b"labeling.video.decoding" in command:
            found.append(int(entry.name))
    return found


def test_a_job_is_canceled_and_a_decoder_that_dies_ends_its_job_alone(served, tmp_path):
    # A frame is larger than a pipe: the decoder waits for its reader.
    data = video(tmp_path / "drive.mkv", frames=40)
    served.gate.open.clear()
    name = send(served, data).json()["name"]
    assert served.gate.reached.wait(WAIT_S)
    busy = send(served, data)
    assert (busy.status_code, busy.json()["code"]) == (409, "video_busy")
    assert served.post(f"{API}/{name}/cancel").status_code == 202
    served.gate.open.set()
    job = ended(served, name)
    assert (job["state"], job["code"]) == ("canceled", "canceled")
    assert 0 < job["objects"] == served.registry.count() < 40

    served.gate.open.clear()
    served.gate.reached.clear()
    name = send(served, data).json()["name"]
    assert served.gate.reached.wait(WAIT_S)
    (decoder,) = decoders()
    os.kill(decoder, signal.SIGKILL)
    served.gate.open.set()
    job = ended(served, name)
    assert (job["state"], job["code"]) == ("failed", "video_undecodable")
    assert decoders() == []
    missing = served.get(f"{API}/video-99")
    assert (missing.status_code, missing.json()["code"]) == (404, "job_missing")
    # The server is none the worse; the frames that were missed are made up for.
    job = ended(served, send(served, data).json()["name"])
    assert (job["state"], job["objects"], served.registry.count()) == ("finished", 40, 40)
