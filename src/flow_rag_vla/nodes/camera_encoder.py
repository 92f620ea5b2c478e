# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Camera images in, one unit-length embedding out, with the stamp of the images passed on."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import Image

from flow_rag_vla.bringup import topics
from flow_rag_vla.bringup.held_model import HeldModel
from flow_rag_vla.bringup.parameters.camera_encoder import CameraEncoderParameters
from flow_rag_vla.data.message_values import MessageError, image_pixels
from flow_rag_vla.nodes import qos
from flow_rag_vla.nodes.complaints import Complaints
from flow_rag_vla.nodes.conversions import floats
from flow_rag_vla.nodes.diagnostics import OK, WARN, Health
from flow_rag_vla.nodes.lifecycle import ManagedNode, run_managed
from flow_rag_vla.nodes.parameters import NodeParameters
from flow_rag_vla.nodes.runtime import StartError
from flow_rag_vla.nodes.stamps import to_ns, to_stamp
from flow_rag_vla.nodes.torch_runtime import prepare_torch
from flow_rag_vla.policy.encoders import Encoder, EncoderError, make_encoder
from flow_rag_vla.residency.errors import ResidencyError
from flow_rag_vla_interfaces.msg import Embedding

IMAGE_TOPICS = {"front": topics.FRONT_IMAGE, "wrist": topics.WRIST_IMAGE}


class CameraEncoder(ManagedNode):
    """Pairs the cameras' images by stamp and encodes the newest complete set."""

    def __init__(self) -> None:
        super().__init__("camera_encoder")
        self._complain = Complaints(self.get_logger())
        self._settings = NodeParameters(self, CameraEncoderParameters, may_reload=self.may_reload)
        self._model: HeldModel[Encoder] = HeldModel("encoder")
        self._newest: dict[str, tuple[int, NDArray[np.uint8]]] = {}
        self._last_stamp_ns = -1
        self._encoded = 0
        self._last_ms = 0.0
        self._publisher = self.create_lifecycle_publisher(Embedding, topics.EMBEDDING, qos.SENSOR)

    def load(self) -> None:
        """Load the encoder."""
        settings = self._settings.value
        device = prepare_torch(settings.device, settings.threads)
        try:
            encoder = self._model.load(
                lambda place: make_encoder(settings.encoder, place), device, int(settings.model_memory * 1e6)
            )
        except EncoderError as error:
            raise StartError(f"parameter encoder: {error}") from error
        except ResidencyError as error:
            raise StartError(f"parameter model_memory: {error}") from error
        self._report.hardware_id = f"{encoder.name}:{encoder.revision}"
        self.get_logger().info(f"encoder {encoder.name} {encoder.revision}, {encoder.dimension} numbers, on {device}")

    def free(self) -> None:
        """Free the encoder."""
        self._model.release()

    def begin(self) -> None:
        """Take images."""
        for camera in self._model.value.cameras:
            self.create_subscription(Image, IMAGE_TOPICS[camera], self._receiver(camera), qos.NEWEST)

    def rest(self) -> None:
        """Forget the images."""
        self._newest.clear()
        self._last_stamp_ns = -1

    def _receiver(self, camera: str) -> Callable[[Image], None]:
        return lambda image: self._on_image(camera, image)

    def _on_image(self, camera: str, image: Image) -> None:
        stamp_ns = to_ns(image.header.stamp)
        age = (to_ns(self.get_clock().now().to_msg()) - stamp_ns) * 1e-9
        limit = self._settings.value.max_image_age
        if abs(age) > limit:
            when = "old" if age > 0 else "in the future"
            self._complain(f"image of camera {camera!r} is {abs(age):.3f} s {when}, limit {limit} s; check the clocks")
            return
        try:
            self._newest[camera] = stamp_ns, image_pixels(image)
        except MessageError as error:
            self._complain(f"image of camera {camera!r} refused: {error}; check the camera driver")
            return
        cameras = self._model.value.cameras
        stamps = [self._newest[name][0] for name in cameras if name in self._newest]
        complete = len(stamps) == len(cameras)
        if not complete or max(stamps) - min(stamps) > self._settings.value.pairing_tolerance * 1e9:
            return
        # The oldest image says how fresh the observation is.
        observed_ns = min(stamps)
        if observed_ns <= self._last_stamp_ns and self._last_stamp_ns - observed_ns < 1_000_000_000:
            return
        self._last_stamp_ns = observed_ns
        self._encode(observed_ns)

    def _encode(self, stamp_ns: int) -> None:
        encoder, started = self._model.value, time.perf_counter()
        try:
            values = encoder.encode({name: self._newest[name][1] for name in encoder.cameras})
        except EncoderError as error:
            self._complain(f"images not encoded: {error}")
            return
        self._last_ms = 1e3 * (time.perf_counter() - started)
        message = Embedding(
            encoder=encoder.name,
            revision=encoder.revision,
            cameras=list(encoder.cameras),
            inference_ms=self._last_ms,
        )
        message.header.stamp = to_stamp(stamp_ns)
        message.values = floats(values)
        self._publisher.publish(message)
        self._encoded += 1

    def health(self) -> Health:
        """Whether images come and are encoded."""
        figures = {
            "encoded": self._encoded,
            "refused": self._complain.count,
            "inference_ms": round(self._last_ms, 2),
            "dimension": self._model.value.dimension,
            "model_mb": round(self._model.megabytes, 1),
            "last_problem": self._complain.last,
        }
        if not self._encoded:
            return WARN, "waiting for the first images", figures
        return OK, "encoding", figures


def main(args: Sequence[str] | None = None) -> int:
    """Run the camera encoder node."""
    return run_managed(CameraEncoder, args)


if __name__ == "__main__":
    raise SystemExit(main())
