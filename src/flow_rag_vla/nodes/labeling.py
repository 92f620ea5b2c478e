# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The labeling node: what the cameras see becomes labels, and labels can be found and corrected.

Threads. The executor only takes requests and hands out answers. One job thread runs models, one reads from the registry
and one writes to it, which may wait for other programs; ``labeling_actions`` has one for the long runs. The models make
way for the control loop: while it reports late ticks, pictures wait or are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from sensor_msgs.msg import Image

from flow_rag_vla.bringup import labeling as names
from flow_rag_vla.bringup import topics
from flow_rag_vla.bringup.labeling_models import LabelingModels
from flow_rag_vla.bringup.parameters.labeling import LabelingParameters
from flow_rag_vla.core.processes import give_way
from flow_rag_vla.data.message_values import MessageError, image_pixels
from flow_rag_vla.gateway.errors import GatewayError
from flow_rag_vla.gateway.labeling.box_masks import masks_in_boxes
from flow_rag_vla.gateway.labeling.labels import kept_upload, searched_vector
from flow_rag_vla.gateway.labeling.uploads import upload_of
from flow_rag_vla.labeling.backends import BackendSettings, make_pipeline
from flow_rag_vla.labeling.datasets.store import DatasetStore
from flow_rag_vla.labeling.detections import Detections
from flow_rag_vla.labeling.overlay import overlay
from flow_rag_vla.labeling.pipeline import Image as Pixels
from flow_rag_vla.labeling.pipeline import LabelingError, LabelRequest
from flow_rag_vla.labeling.registry.errors import RegistryError
from flow_rag_vla.labeling.registry.queries import ObjectFilter, SearchAnswer, parse_attributes
from flow_rag_vla.labeling.registry.registry import Registry
from flow_rag_vla.labeling.registry.values import DEFAULT_PROJECT, LabelledObject
from flow_rag_vla.nodes import qos
from flow_rag_vla.nodes.complaints import Complaints
from flow_rag_vla.nodes.conversions import image_message
from flow_rag_vla.nodes.diagnostics import OK, WARN, Diagnostics, Health
from flow_rag_vla.nodes.jobs import BusyError, JobThread
from flow_rag_vla.nodes.labeling_actions import LabelingActions
from flow_rag_vla.nodes.labeling_messages import (
    boxes_of,
    detections_message,
    detections_of,
    object_message,
    tell_statistics,
)
from flow_rag_vla.nodes.labeling_pace import LoopWatch
from flow_rag_vla.nodes.labeling_requests import (
    embedder_named,
    label_request,
    object_change,
    search_filter,
    search_order,
)
from flow_rag_vla.nodes.labeling_runs import CanceledError, RefusedError, SharedPipeline
from flow_rag_vla.nodes.labeling_training import TrainingActions
from flow_rag_vla.nodes.parameters import NodeParameters
from flow_rag_vla.nodes.permission import permitted
from flow_rag_vla.nodes.polling import PolledSubscription
from flow_rag_vla.nodes.runtime import StartError, run
from flow_rag_vla.nodes.stamps import to_ns
from flow_rag_vla.nodes.torch_runtime import prepare_torch
from flow_rag_vla_interfaces import msg, srv

USUAL_PAGE = 50


class LabelingNode(Node):
    """One registry, one pipeline; see the module."""

    def __init__(self) -> None:
        super().__init__("labeling")
        self._complain = Complaints(self.get_logger())
        self._node_parameters = NodeParameters(self, LabelingParameters, self._on_parameters)
        settings = self._node_parameters.value
        give_way(settings.niceness)
        device = prepare_torch(settings.device, settings.threads)
        try:
            self._memory = LabelingModels(device, int(settings.host_memory * 1e6), int(settings.gpu_memory * 1e6))
            self._pipeline = SharedPipeline(make_pipeline(_backends(settings, device), self._memory))
        except LabelingError as error:
            raise StartError(f"parameters detector, segmenter or embedder: {error}") from error
        try:
            self._registry = Registry(settings.registry, files=settings.registry_files or None)
        except RegistryError as error:
            raise StartError(f"parameter registry: {error}") from error
        self._watch = LoopWatch()
        self._seen = self._skipped = self._answered = self._failed = 0
        self._last_ms = 0.0
        self._looking = False
        self._models = JobThread(self, "models", limit=16)
        self._store = JobThread(self, "registry")
        self._reads = JobThread(self, "registry reads")
        group = ReentrantCallbackGroup()
        services: tuple[tuple[type, str, Callable[..., Any]], ...] = (
            (srv.Detect, names.DETECT, self._on_detect),
            (srv.Segment, names.SEGMENT, self._on_segment),
            (srv.RegisterObjects, names.REGISTER_OBJECTS, permitted(self, self._on_register)),
            (srv.SearchObjects, names.SEARCH_OBJECTS, self._on_search),
            (srv.GetObject, names.GET_OBJECT, self._on_get),
            (srv.UpdateObject, names.UPDATE_OBJECT, permitted(self, self._on_update)),
            (srv.GetLabelStatistics, names.LABEL_STATISTICS, self._on_statistics),
        )
        for kind, name, callback in services:
            self.create_service(kind, name, callback, callback_group=group)
        self._runs = LabelingActions(self, self._registry, self._pipeline, self._watch, self._request, self._failure)
        self._trainings = TrainingActions(
            self, settings.trainings, DatasetStore.of(self._registry), self._watch, self._failure
        )
        self._detections = self.create_publisher(msg.DetectionArray, names.DETECTIONS, qos.SENSOR)
        self._overlay = self.create_publisher(Image, names.OVERLAY, qos.SENSOR)
        self._images = PolledSubscription(self, Image, settings.image_topic, qos.NEWEST)
        self.create_subscription(msg.LoopStatistics, topics.LOOP_STATISTICS, self._on_loop, qos.STATE)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._look_timer = self.create_timer(1.0 / settings.rate, self._look, clock=steady)
        self._diagnostics = Diagnostics(self, self._pipeline.name, self._health)
        self.get_logger().info(
            f"{self._pipeline.name} {self._pipeline.revision} on {device}, labels in {settings.registry}"
        )

    def destroy_node(self) -> None:
        """Withdraw what is under way, then end."""
        if hasattr(self, "_trainings"):
            self._runs.close()
            for thread in (self._models, self._reads, self._store):
                thread.close()
            self._trainings.close()
            self._registry.close()
        super().destroy_node()

    # Pictures as they come.

    def _look(self) -> None:
        settings = self._node_parameters.value
        if not settings.publish or self._looking:
            return
        if self._watch.paused:
            self._skipped += 1
            return
        waiting = self._images.take()
        if not waiting:
            return
        image = waiting[-1][0]
        try:
            pixels = image_pixels(image)
            done = self._models.submit(lambda: self._label(pixels, LabelRequest((), settings.threshold)))
        except (MessageError, BusyError) as error:
            self._complain(f"image on {settings.image_topic}: {error}")
            return
        self._looking = True
        done.add_done_callback(lambda finished: self._seen_one(image, pixels, finished))

    def _seen_one(self, image: Image, pixels: Pixels, finished: Any) -> None:
        self._looking = False
        error = finished.exception()
        if error is not None:
            self._complain(f"image on {self._node_parameters.value.image_topic}: {error}")
            return
        found, seconds = finished.result()
        self._seen, self._last_ms = self._seen + 1, 1e3 * seconds
        self._detections.publish(detections_message(found, image.header))
        if self._overlay.get_subscription_count():
            drawn = image_message(overlay(pixels, found), to_ns(image.header.stamp), image.header.frame_id)
            self._overlay.publish(drawn)

    def _label(self, pixels: Pixels, request: LabelRequest) -> tuple[Detections, float]:
        done = self._pipeline.label([pixels], request)[0]
        return done.detections, done.times.total

    def _on_loop(self, message: msg.LoopStatistics) -> None:
        settings = self._node_parameters.value
        self._watch.report(int(message.late_ticks + message.skipped_ticks), settings.late_ticks, settings.pause)

    def _on_parameters(self, settings: LabelingParameters) -> None:
        self._look_timer.timer_period_ns = int(1e9 / settings.rate)

    # Services.

    async def _on_detect(self, request: srv.Detect.Request, response: srv.Detect.Response) -> srv.Detect.Response:
        async def work() -> None:
            self._make_way()
            pixels, asked = image_pixels(request.image), self._request(request)
            detections, response.seconds = await self._models.submit(
                lambda: self._pipeline.look(pixels, asked, masks=bool(request.masks))
            )
            response.detections = detections_message(detections, request.image.header)

        return await self._served(names.DETECT, response, work())

    async def _on_segment(self, request: srv.Segment.Request, response: srv.Segment.Response) -> srv.Segment.Response:
        async def work() -> None:
            self._make_way()
            pixels = image_pixels(request.image)
            asked = boxes_of(request.boxes, request.image.width, request.image.height)

            def segmented() -> tuple[Detections, float]:
                with self._pipeline.turn:
                    return masks_in_boxes(self._pipeline, pixels, asked)

            detections, response.seconds = await self._models.submit(segmented)
            response.detections = detections_message(detections, request.image.header)

        return await self._served(names.SEGMENT, response, work())

    async def _on_register(
        self, request: srv.RegisterObjects.Request, response: srv.RegisterObjects.Response
    ) -> srv.RegisterObjects.Response:
        async def work() -> None:
            found = detections_of(request.detections)
            pixels = image_pixels(request.image) if len(request.image.data) else None
            if pixels is not None and pixels.shape[:2] != (found.height, found.width):
                raise MessageError(
                    f"image is {pixels.shape[1]} x {pixels.shape[0]} pixels, the detections are in one of "
                    f"{found.width} x {found.height}"
                )
            if (pixels is None) == (not request.image_id):
                raise RefusedError("invalid_message", "send either an image or an image_id")
            if request.tracks and len(request.tracks) != len(found):
                raise MessageError(f"{len(request.tracks)} tracks for {len(found)} detections: name one each, or none")
            project, who = request.project or DEFAULT_PROJECT, request.person or found.origin.model
            attributes = [parse_attributes(request.attributes)] * len(found)
            embedder = embedder_named(request.embedder, found)

            def registered() -> tuple[str, str, Any]:
                if pixels is None:
                    image = self._registry.image(request.image_id)
                else:
                    image = kept_upload(self._registry, upload_of(pixels), project)[1]
                batch = self._registry.register_detections(
                    image.image_id,
                    found,
                    who=who,
                    embedder=embedder,
                    tracks=request.tracks,
                    attributes=attributes,
                    key=request.batch_key,
                )
                return image.source_id, image.image_id, batch

            response.source_id, response.image_id, batch = await self._store.submit(registered)
            response.object_ids, response.repeated = list(batch.object_ids), batch.repeated

        return await self._served(names.REGISTER_OBJECTS, response, work())

    async def _on_search(
        self, request: srv.SearchObjects.Request, response: srv.SearchObjects.Response
    ) -> srv.SearchObjects.Response:
        async def work() -> None:
            where, order = search_filter(request), search_order(request.order)
            limit = int(request.limit) or USUAL_PAGE
            if request.similar_to or request.embedding:
                answer = await self._reads.submit(lambda: self._alike(request, limit, where))
                response.objects = [object_message(hit.object, hit.similarity) for hit in answer.hits]
                response.answered, response.index = answer.answered.way.value, answer.answered.index
                response.matching, response.compared = answer.answered.matching, answer.answered.compared
                return
            page = await self._reads.submit(
                lambda: self._registry.list_objects(where, order=order, limit=limit, cursor=request.cursor)
            )
            response.objects, response.next_cursor = [object_message(item) for item in page.objects], page.cursor

        return await self._served(names.SEARCH_OBJECTS, response, work())

    def _alike(self, request: srv.SearchObjects.Request, count: int, where: ObjectFilter) -> SearchAnswer:
        if not request.embedding:
            return self._registry.similar(request.similar_to, k=count, where=where)
        if request.similar_to:
            raise MessageError("similar_to and embedding exclude each other: give one of them")
        vector, embedder = searched_vector(self._registry, request.embedding, request.embedder or None, where.project)
        return self._registry.search(vector, embedder, k=count, where=where)

    async def _on_get(self, request: srv.GetObject.Request, response: srv.GetObject.Response) -> srv.GetObject.Response:
        async def work() -> None:
            response.object = object_message(await self._reads.submit(lambda: self._registry.get(request.object_id)))

        return await self._served(names.GET_OBJECT, response, work())

    async def _on_update(
        self, request: srv.UpdateObject.Request, response: srv.UpdateObject.Response
    ) -> srv.UpdateObject.Response:
        async def work() -> None:
            asked, name = object_change(request), request.object_id

            def updated() -> LabelledObject:
                version = int(request.version) or None
                return self._registry.update(name, asked, who=request.person, expected_version=version, reopen=True)

            response.object = object_message(await self._store.submit(updated))

        return await self._served(names.UPDATE_OBJECT, response, work())

    async def _on_statistics(
        self, request: srv.GetLabelStatistics.Request, response: srv.GetLabelStatistics.Response
    ) -> srv.GetLabelStatistics.Response:
        async def work() -> None:
            tell_statistics(await self._reads.submit(lambda: self._registry.statistics(request.project)), response)

        return await self._served(names.LABEL_STATISTICS, response, work())

    async def _served(self, name: str, response: Any, work: Coroutine[Any, Any, None]) -> Any:
        """The response, with what went wrong in it; nothing that is sent ends the node."""
        try:
            await work
        except Exception as error:
            response.code, response.message = self._failure(name, error)
        else:
            response.ok = True
            self._answered += 1
        return response

    def _failure(self, name: str, error: Exception) -> tuple[str, str]:
        """Code and text of what went wrong."""
        self._failed += 1
        self._complain(f"{name}: {error or type(error).__name__}")
        if isinstance(error, RegistryError):
            return error.code.value, str(error)
        if isinstance(error, (LabelingError, RefusedError, GatewayError)):
            return error.code, str(error)
        if isinstance(error, MessageError):
            return "invalid_message", str(error)
        if isinstance(error, BusyError):
            return "busy", str(error)
        if isinstance(error, CanceledError):
            return "canceled", "the run was withdrawn; what was stored stays"
        return "internal", f"{type(error).__name__}: {error}; report it with the node's log"

    def _make_way(self) -> None:
        if self._watch.paused:
            raise RefusedError("yielding", "the control loop reports late ticks and has the machine; ask again later")

    def _request(self, asked: Any) -> LabelRequest:
        return label_request(asked, self._node_parameters.value.threshold)

    def _health(self) -> Health:
        figures = {
            "model": self._pipeline.name,
            "published": self._seen,
            "inference_ms": round(self._last_ms, 1),
            "answered": self._answered,
            "failed": self._failed,
            "runs": self._runs.under_way + self._trainings.under_way,
            "paused": self._watch.paused,
            "pauses": self._watch.pauses,
            "skipped": self._skipped,
            "last_problem": self._complain.last,
            **self._memory.figures(),
        }
        if self._watch.paused:
            return WARN, "pauses: the control loop reports late ticks", figures
        return OK, "labels", figures


def _backends(settings: LabelingParameters, device: str) -> BackendSettings:
    return BackendSettings(
        settings.detector,
        settings.segmenter,
        settings.embedder,
        settings.detector_model,
        settings.segmenter_model,
        settings.embedder_model,
        device,
        settings.precision,
        calibration=settings.calibration,
    )


def main(args: Sequence[str] | None = None) -> int:
    """Run the labeling node."""
    return run(LabelingNode, None if args is None else list(args))


if __name__ == "__main__":
    raise SystemExit(main())
