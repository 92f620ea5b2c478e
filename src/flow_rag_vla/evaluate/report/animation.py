# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""``episode.gif``: one episode as an animated picture, drawn again from ground truth beside what the cameras saw."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from flow_rag_vla.core.files import replaced_file
from flow_rag_vla.core.goal import UnknownTaskError, parse_instruction
from flow_rag_vla.data.bag import Bag, images
from flow_rag_vla.data.episode_record import EpisodeRecord
from flow_rag_vla.evaluate.report.digest import Digest, EpisodeWindow
from flow_rag_vla.sim.bodies import SceneState
from flow_rag_vla.sim.camera import VIEW, SceneRenderer
from flow_rag_vla.sim.scene import sample_scene

MAX_BYTES = 5_000_000
MAX_SECONDS = 20.0
TAIL_S = 0.5
VIEW_SIZE = (480, 360)
SIDE = 176
BAR = 40
FRONT, WRIST, TRUTH = "camera/front/image_raw", "camera/wrist/image_raw", "simulator/ground_truth"

_INK, _SOFT, _PAPER, _LINE = (31, 38, 48), (112, 122, 133), (250, 249, 246), (221, 219, 212)
_PHASES = {
    "idle": (200, 204, 208), "reach": (123, 167, 194), "grasp": (210, 162, 76), "transport": (63, 127, 158),
    "release": (106, 165, 131),
}  # fmt: skip
_MEMORY, _GOOD, _BAD = (109, 90, 168), (60, 138, 99), (182, 73, 63)


@dataclass(frozen=True, slots=True)
class _Moment:
    """One frame before it is laid out. at_s: seconds since the episode began."""

    at_s: float
    view: NDArray[np.uint8] | None
    front: NDArray[np.uint8] | None
    wrist: NDArray[np.uint8] | None
    phase: str
    memory: str
    failed: str


def choose_episode(records: Sequence[EpisodeRecord], digest: Digest) -> EpisodeRecord | None:
    """The episode that tells most: a success that the memory helped, else a success, else whatever there is."""
    shown = [record for record in records if record.episode_id in digest.windows]
    if not shown:
        return None
    return max(
        shown,
        key=lambda record: (
            record.succeeded and bool(record.corrections),
            record.succeeded,
            record.scored,
            -abs(record.duration - 8.0),
        ),
    )


def write_animation(
    path: str | Path, bag: Bag, digest: Digest, record: EpisodeRecord, *, rate: float = 12.5, scale: int = 1
) -> Path | None:
    """Draw an episode as a GIF of less than 5 MB; None if the bag has no picture and no ground truth of it.

    Args:
        path: file to write.
        bag: bag of the run.
        digest: its small topics.
        record: episode to draw; the bag must show it.
        rate: frames a second; halved until the file is small enough.
        scale: every how manieth frame is drawn, for quick previews.
    """
    window = digest.windows.get(record.episode_id)
    if window is None:
        return None
    target = Path(path)
    moments = list(_moments(bag, digest, window, record, rate / scale))
    if not moments:
        return None
    while True:
        frames = [_lay_out(moment, record, window) for moment in moments]
        with replaced_file(target) as temporary:
            _save(temporary, frames, rate / scale)
            size = temporary.stat().st_size
        if size <= MAX_BYTES or len(moments) < 8:
            return target
        moments, rate = moments[::2], rate / 2


def _moments(bag: Bag, digest: Digest, window: EpisodeWindow, record: EpisodeRecord, rate: float) -> Iterator[_Moment]:
    start = window.start_ns
    stop = min(window.end_ns + int(TAIL_S * 1e9), start + int(MAX_SECONDS * 1e9))
    times = np.arange(start, stop, int(1e9 / rate))
    fronts, wrists = (_nearest(images(bag, topic, start - 10**9, stop), times) for topic in (FRONT, WRIST))
    scenes = ((entry.log_ns, entry.message) for entry in bag.messages([TRUTH], start - 10**8, stop))
    shaped = [(item.log_ns, item.correction) for item in digest.commands if start <= item.log_ns <= stop]
    failures = [item for item in digest.failures if start <= item.log_ns <= stop]
    with ExitStack() as stack:
        views = _Views(stack)
        pairs = zip(times, _nearest(scenes, times), fronts, wrists, strict=True)
        for moment, scene, front, wrist in pairs:
            view = views.draw(scene) if scene is not None else None
            if view is None and front is None and wrist is None:
                continue
            phase = next((name for at, name in reversed(window.phases) if at <= moment), "")
            mode = next((value for at, value in reversed(shaped) if at <= moment), 0)
            failed = next((item for item in failures if 0 <= moment - item.log_ns < 900_000_000), None)
            yield _Moment(
                (int(moment) - start) * 1e-9, view, front, wrist, phase,
                {1: "guidance", 2: "negative", 3: "residual", 4: "blend", 5: "hold", 7: "shift"}.get(mode, ""),
                failed.failure_type.replace("_", " ") if failed is not None else "",
            )  # fmt: skip


def _nearest(source: Iterator[tuple[int, Any]], times: NDArray[np.int64]) -> Iterator[Any]:
    """For each time the newest item that is not later; None before the first. Reads the source once."""
    current: Any = None
    pending = next(source, None)
    for moment in times:
        while pending is not None and pending[0] <= moment:
            current, pending = pending[1], next(source, None)
        yield current


class _Views:
    """Draws ground-truth messages, rebuilding the scene when it changes."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._renderer: SceneRenderer | None = None
        self._shown: tuple[str, str, int, str] | None = None

    def draw(self, scene: Any) -> NDArray[np.uint8] | None:
        wanted = (scene.task, scene.variant, int(scene.seed), scene.instruction)
        try:
            if wanted != self._shown:
                spec = sample_scene(scene.task, scene.variant, int(scene.seed), parse_instruction(scene.instruction))
                if self._renderer is None:
                    self._renderer = self._stack.enter_context(SceneRenderer(spec))
                else:
                    self._renderer.reset(spec)
                self._shown = wanted
            assert self._renderer is not None
            self._renderer.update(scene_state(scene))
            return self._renderer.render(VIEW)
        except (UnknownTaskError, ValueError):
            # A scene of another version, or of a robot: what the cameras saw is shown instead.
            return None


def scene_state(scene: Any) -> SceneState:
    """Renderer's form of a ``SceneState`` message read from a bag."""

    def vector(value: Any, names: str) -> NDArray[np.float64]:
        return np.array([getattr(value, name) for name in names], dtype=float)

    return SceneState(
        joint_positions=np.array(scene.joint_positions, dtype=float),
        objects={
            item.name: (vector(item.pose.position, "xyz"), vector(item.pose.orientation, "xyzw"))
            for item in scene.objects
        },
        articulation=np.array(scene.articulation, dtype=float),
    )


def _lay_out(moment: _Moment, record: EpisodeRecord, window: EpisodeWindow) -> Image.Image:
    width, height = VIEW_SIZE
    small = [picture for picture in (moment.front, moment.wrist) if picture is not None]
    main = moment.view
    if main is None:
        main, small = small[0], small[1:]
    side = SIDE if small else 0
    canvas = Image.new("RGB", (width + side, height + BAR), _PAPER)
    canvas.paste(_fit(main, (width, height)), (0, 0))
    for index, picture in enumerate(small):
        canvas.paste(_fit(picture, (side - 6, height // 2 - 3)), (width + 6, index * (height // 2 + 3)))
    draw = ImageDraw.Draw(canvas)
    text, tiny = ImageFont.load_default(15), ImageFont.load_default(12)
    top = height + 7
    draw.text((10, top), record.instruction or record.task.replace("_", " "), fill=_INK, font=text)
    ended = moment.at_s >= record.duration
    state, colour = (moment.phase or "ready", _PHASES.get(moment.phase, _SOFT))
    if moment.failed:
        state, colour = moment.failed, _BAD
    elif ended:
        state, colour = record.outcome, _GOOD if record.succeeded else _BAD
    right = f"{min(moment.at_s, record.duration):4.1f} s"
    draw.text((width + side - 10, top), right, fill=_INK, font=text, anchor="ra")
    place = width + side - 74
    if moment.memory and not ended:
        label = f"memory: {moment.memory}"
        place -= _chip(draw, place, top, label, _MEMORY, tiny) + 8
    _chip(draw, place, top, state, colour, tiny)
    _course(draw, record, moment.at_s, width + side, height + BAR - 7)
    return canvas


def _chip(draw: ImageDraw.ImageDraw, right: int, top: int, label: str, colour: tuple[int, int, int], font: Any) -> int:
    wide = int(draw.textlength(label, font=font)) + 16
    draw.rounded_rectangle((right - wide, top, right, top + 18), 9, fill=colour)
    draw.text((right - wide / 2, top + 9), label, fill=(255, 255, 255), font=font, anchor="mm")
    return wide


def _course(draw: ImageDraw.ImageDraw, record: EpisodeRecord, at_s: float, width: int, top: int) -> None:
    """The phases so far along the bottom edge."""
    total = max(record.duration, 1e-6)
    draw.rectangle((0, top, width, top + 7), fill=_LINE)
    for span in record.phases:
        if span.start <= at_s:
            left, right = width * span.start / total, width * min(span.end, at_s) / total
            draw.rectangle((left, top, right, top + 7), fill=_PHASES.get(span.name, _SOFT))


def _fit(pixels: NDArray[np.uint8], size: tuple[int, int]) -> Image.Image:
    """Scaled to cover ``size``, the rest cut off evenly."""
    image = Image.fromarray(pixels)
    if image.size == size:
        return image
    scale = max(size[0] / image.width, size[1] / image.height)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)
    left, top = (image.width - size[0]) // 2, (image.height - size[1]) // 2
    return image.crop((left, top, left + size[0], top + size[1]))


def _save(path: Path, frames: Sequence[Image.Image], rate: float) -> None:
    """One palette for all frames and no dithering: still pixels stay still, which is what makes a GIF small."""
    step = max(1, len(frames) // 6)
    sample = frames[::step]
    mosaic = Image.new("RGB", (sample[0].width, sample[0].height * len(sample)))
    for index, frame in enumerate(sample):
        mosaic.paste(frame, (0, index * frame.height))
    palette = mosaic.quantize(192, method=Image.Quantize.MEDIANCUT)
    indexed = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    period = round(1000 / rate / 10) * 10
    indexed[0].save(
        path,
        format="GIF",
        save_all=True,
        append_images=indexed[1:],
        # The last picture stays long enough to be read.
        duration=[period] * (len(indexed) - 1) + [1500],
        loop=0,
        optimize=False,
        disposal=1,
    )
