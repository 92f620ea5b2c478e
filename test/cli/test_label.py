# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""``flow_rag_vla label`` and ``train-compact`` as people call them."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow
from typer.testing import CliRunner

from flow_rag_vla.cli.main import app
from flow_rag_vla.labeling.compact.scenes import TEST_SEEDS, labelled_frames
from flow_rag_vla.labeling.registry.queries import ObjectFilter
from flow_rag_vla.labeling.registry.registry import Registry

RUNNER = CliRunner(env={"COLUMNS": "200"})


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for number, frame in enumerate(labelled_frames(TEST_SEEDS + 700_000, 1, frames_a_scene=2, size=(320, 240))):
        Pillow.fromarray(frame.image).save(folder / f"{number}.png")
    return folder


def test_a_folder_is_labelled_and_everything_is_written(pictures: Path, tmp_path: Path) -> None:
    arguments = ["label", str(pictures), "-o", str(tmp_path / "out"), "--registry", str(tmp_path / "registry")]
    result = RUNNER.invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "2 of 2 pictures labelled" in result.output
    lines = [json.loads(line) for line in (tmp_path / "out/labels.jsonl").read_text().splitlines()]
    assert sum(len(line["objects"]) for line in lines) > 0
    assert len(list((tmp_path / "out/overlays").iterdir())) == 2
    assert (tmp_path / "registry/registry.db").is_file()
    assert f"registry: {sum(len(line['objects']) for line in lines)} new objects, 0 known" in result.output
    again = RUNNER.invoke(app, [*arguments, "--batch", "1", "--no-overlays"])
    assert again.exit_code == 0, again.output
    assert "registry: nothing new: all" in again.output


def test_a_licence_is_kept_with_what_was_labelled_also_where_all_of_it_was_known(
    pictures: Path, tmp_path: Path
) -> None:
    arguments = ["label", str(pictures), "-o", str(tmp_path / "out"), "--no-overlays", "--registry"]
    stamp = 1_795_176_000_000_000_000
    for said, kept in (
        ([], ("", 0)),
        (["--licence", "CC-BY-4.0"], ("CC-BY-4.0", 0)),
        (["--captured", "2026-11-20T12:00"], ("CC-BY-4.0", stamp)),
        ([], ("CC-BY-4.0", stamp)),
    ):
        result = RUNNER.invoke(app, [*arguments, str(tmp_path / "registry"), *said])
        assert result.exit_code == 0, result.output
        with Registry(tmp_path / "registry") as registry:
            assert [(source.licence, source.captured_ns) for source in registry.sources()] == [kept]
            taken = registry.count(ObjectFilter(captured_from_ns=stamp, captured_until_ns=stamp + 1))
            assert taken == (registry.count() if kept[1] else 0)


def test_a_broken_picture_is_named_and_the_others_are_labelled(pictures: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    (folder / "a.png").write_bytes((pictures / "0.png").read_bytes())
    (folder / "b.png").write_bytes(b"\x89PNG and no more")
    result = RUNNER.invoke(app, ["label", str(folder), "-o", str(tmp_path / "out"), "--no-overlays"])
    assert result.exit_code == 1
    assert "1 of 2 pictures labelled" in result.output
    assert "failed: " in result.output
    assert "b.png" in result.output
    assert not (tmp_path / "out/overlays").exists()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["-p", "elephant"], "known are: red cube"),
        (["-p", " "], "prompt 0 is empty"),
        (["--detector", "magic"], "unknown detector 'magic'"),
        (["--detector-model", "/nowhere"], "no detector.json in /nowhere"),
        (["--tiles", "big"], "WIDTHxHEIGHT"),
        (["--registry", "/proc/nope"], "or choose another place with --registry"),
        (["--device", "cuda:99"], "finds no device 'cuda:99' here: take cpu"),
        (["--device", "gpu"], "unknown device 'gpu'; give cpu, cuda"),
        (["--precision", "float64"], "unknown precision 'float64'; known: float32"),
        (["--topic", "/camera"], "is no bag and has no topics"),
        (["--synonyms", "mug"], "category=word,word"),
        (["--bag", "new"], "is no bag"),
        (["--licence", "MIT"], "are kept with the source in a registry"),
        (["--captured", "yesterday", "--registry", "here"], "give a UTC time such as"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(pictures: Path, tmp_path: Path, arguments: list[str], text: str) -> None:
    result = RUNNER.invoke(app, ["label", str(pictures), "-o", str(tmp_path / "out"), *arguments])
    assert result.exit_code == 2
    assert text in result.output
    assert "Traceback" not in result.output


def test_of_a_video_that_is_cut_off_nothing_is_labelled_or_written(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    path = tmp_path / "drive.mkv"
    with av.open(str(path), "w", format="matroska") as made:
        stream = made.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "bgr0"
        noise = np.random.default_rng(0)
        for _ in range(9):
            pixels = noise.integers(0, 256, (64, 96, 3), dtype=np.uint8)
            made.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        made.mux(stream.encode())
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    arguments = ["label", str(path), "-o", str(tmp_path / "out"), "--registry", str(tmp_path / "registry")]
    result = RUNNER.invoke(app, arguments)
    assert result.exit_code == 2, result.output
    assert f"{path} ends after" in result.output and "ffmpeg -i IN -c copy OUT" in result.output
    assert not (tmp_path / "out").exists() and not (tmp_path / "registry").exists()


def test_an_empty_folder_is_said(tmp_path: Path) -> None:
    result = RUNNER.invoke(app, ["label", str(tmp_path)])
    assert result.exit_code == 2
    assert "holds no pictures" in result.output


def test_a_detector_that_was_made_again_labels(pictures: Path, tmp_path: Path) -> None:
    made = tmp_path / "detector"
    arguments = ["--scenes", "1", "--iterations", "2", "--test-scenes", "1", "--threads", "1"]
    result = RUNNER.invoke(app, ["train-compact", "--output", str(made), *arguments])
    assert result.exit_code == 0, result.output
    card = (made / "MODEL_CARD.md").read_text()
    assert "| **mean (mAP@50 / mIoU)** |" in card
    labelled = RUNNER.invoke(
        app, ["label", str(pictures), "-o", str(tmp_path / "out"), "--detector-model", str(made), "--threshold", "0.99"]
    )
    assert labelled.exit_code == 0, labelled.output
    lines = [json.loads(line) for line in (tmp_path / "out/labels.jsonl").read_text().splitlines()]
    (revision,) = {line["revision"] for line in lines}
    assert f"# Compact detector {revision}" in card
