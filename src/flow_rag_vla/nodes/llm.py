# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The language model node: questions in, checked answers out.

Threads. The executor only takes requests and hands out answers. A loop on a thread of its own waits for providers; one
job thread computes text embeddings. No callback blocks, and nothing of the 40 Hz loop waits for this node.

Models that run here (of the local provider, the text embedder, the translator) are held as leases within the memory of
two parameters: each is loaded by its first use, and an idle one leaves when another needs its room.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from sensor_msgs.msg import CompressedImage

from flow_rag_vla.bringup import topics
from flow_rag_vla.bringup.model_memory import ModelMemory
from flow_rag_vla.bringup.parameters.llm import LlmParameters
from flow_rag_vla.core.processes import give_way
from flow_rag_vla.llm.accounting import Ledger, parse_prices
from flow_rag_vla.llm.cache import ResponseCache
from flow_rag_vla.llm.embedding.base import EmbedderSettings, TextEmbedder, unread
from flow_rag_vla.llm.embedding.choice import make_embedder
from flow_rag_vla.llm.errors import BadRequestError, LlmError, RateLimitedError
from flow_rag_vla.llm.limits import RetryPolicy, TokenBucket
from flow_rag_vla.llm.pictures import SentPicture, shown
from flow_rag_vla.llm.prompts import make_request
from flow_rag_vla.llm.provider import ProviderSettings, sees
from flow_rag_vla.llm.redaction import RedactingFilter
from flow_rag_vla.llm.registry import chosen_provider, make_provider, provider_names
from flow_rag_vla.llm.request import Answer, CancelToken, Message, Piece, Request, Sampling, deadline_in
from flow_rag_vla.llm.schemas import TaskPlan, schema_named
from flow_rag_vla.llm.service import LanguageModel, ServiceSettings
from flow_rag_vla.llm.tools import ask_with_servers
from flow_rag_vla.llm.translation import sequence_translators, translated
from flow_rag_vla.nodes.complaints import Complaints
from flow_rag_vla.nodes.diagnostics import OK, WARN, Diagnostics, Health
from flow_rag_vla.nodes.event_loop import EventLoopThread
from flow_rag_vla.nodes.jobs import BusyError, JobThread
from flow_rag_vla.nodes.parameters import NodeParameters
from flow_rag_vla.nodes.permission import permitted
from flow_rag_vla.nodes.runtime import StartError, run
from flow_rag_vla_interfaces import msg, srv
from flow_rag_vla_interfaces.action import Generate

MOST_TEXTS = 256
"""Texts embedded by one call."""


class LlmNode(Node):
    """Serves one provider at a time; see the module."""

    def __init__(self) -> None:
        super().__init__("llm")
        self._complain = Complaints(self.get_logger())
        # Libraries log through Python's logging, and may name a key in an error.
        handler = logging.StreamHandler()
        handler.addFilter(RedactingFilter())
        logging.basicConfig(level=logging.WARNING, handlers=[handler])
        self._node_parameters = NodeParameters(self, LlmParameters)
        settings = self._node_parameters.value
        # A generation must not take the processor from the control loop; threads started from here on inherit it.
        give_way(settings.niceness)
        self._memory = ModelMemory(int(settings.host_memory * 1e6), int(settings.gpu_memory * 1e6))
        try:
            self._service_settings = _service_settings(settings)
            self._model = self._made(_provider_settings(settings), settings.provider)
        except (LlmError, ValueError) as error:
            raise StartError(f"parameters provider, model, key_variable or prices: {error}") from error
        self._embedder: TextEmbedder | None = None
        self._users: dict[LanguageModel, int] = {}
        self._tokens: dict[bytes, CancelToken] = {}
        self._answered = self._failed = 0
        self._last_failure = ""
        self._loop = EventLoopThread(self, "language model")
        self._embedding = JobThread(self, "text embedding")
        group = ReentrantCallbackGroup()
        self.create_service(srv.Ask, topics.ASK, self._on_ask, callback_group=group)
        self.create_service(srv.EmbedText, topics.EMBED_TEXT, self._on_embed, callback_group=group)
        self.create_service(srv.ListProviders, topics.LIST_PROVIDERS, self._on_list, callback_group=group)
        self.create_service(srv.SetProvider, topics.SET_PROVIDER, permitted(self, self._on_set), callback_group=group)
        self._action = ActionServer(
            self,
            Generate,
            topics.GENERATE,
            self._on_generate,
            callback_group=group,
            goal_callback=lambda _goal: GoalResponse.ACCEPT,
            cancel_callback=self._on_cancel,
        )
        self._diagnostics = Diagnostics(self, "language model", self._health)
        self.get_logger().info(f"provider {self._model.provider.name}, model {self._model.provider.model}")

    def destroy_node(self) -> None:
        """Withdraw what is under way, then end."""
        if hasattr(self, "_loop"):
            for token in self._tokens.values():
                token.cancel()
            self._loop.close()
            self._embedding.abandon()
            self._action.destroy()
        super().destroy_node()

    async def _on_ask(self, request: srv.Ask.Request, response: srv.Ask.Response) -> srv.Ask.Response:
        settings = self._node_parameters.value
        try:
            ends = deadline_in(float(request.deadline or settings.deadline))
            images = await self._images(request)
            asked = _request(request, ends, Sampling(settings.max_tokens), images)
            await self._answer(asked, None, response)
        except LlmError as error:
            self._fail(response, error)
        return response

    async def _on_generate(self, handle: ServerGoalHandle[Any, Any, Any]) -> Generate.Result:
        settings = self._node_parameters.value
        goal: Generate.Goal = handle.request
        result = Generate.Result()
        token = self._tokens.setdefault(bytes(handle.goal_id.uuid), CancelToken())

        def on_piece(piece: Piece) -> None:
            self._loop.post(lambda: self._feed(handle, piece))

        try:
            if math.isnan(goal.temperature):
                raise BadRequestError("temperature is nan; below 0 leaves it to the provider")
            temperature = None if goal.temperature < 0.0 else float(goal.temperature)
            sampling = Sampling(int(goal.max_tokens) or settings.max_tokens, temperature)
            ends = deadline_in(float(goal.deadline or settings.deadline))
            images = await self._images(goal)
            await self._answer(_request(goal, ends, sampling, images, token), on_piece, result)
            handle.succeed()
        except LlmError as error:
            self._fail(result, error)
            if handle.is_cancel_requested:
                handle.canceled()
            else:
                handle.abort()
        finally:
            self._tokens.pop(bytes(handle.goal_id.uuid), None)
        return result

    def _on_cancel(self, handle: ServerGoalHandle[Any, Any, Any]) -> CancelResponse:
        self._tokens.setdefault(bytes(handle.goal_id.uuid), CancelToken()).cancel()
        return CancelResponse.ACCEPT

    def _feed(self, handle: ServerGoalHandle[Any, Any, Any], piece: Piece) -> None:
        if handle.is_active:
            handle.publish_feedback(Generate.Feedback(piece=piece.text, attempt=piece.attempt))

    async def _images(self, asked: Any) -> tuple[Message, ...]:
        if not asked.images:
            return ()
        return await self._loop.submit(_beside(_shown, asked.images))

    async def _answer(self, request: Request, on_piece: Any, reply: Any) -> None:
        """Fill in the fields that Ask's response and Generate's result have in common."""
        limit = self._node_parameters.value.concurrency
        under_way = sum(self._users.values())
        if under_way >= limit:
            raise RateLimitedError(f"{under_way} requests are under way; ask again later, or raise concurrency")
        model = self._model
        self._users[model] = self._users.get(model, 0) + 1
        try:
            answer = await self._loop.submit(self._asked(model, request, on_piece))
        finally:
            self._users[model] -= 1
            self._retire(model)
        self._answered += 1
        _fill(reply, answer)
        images = sum(len(message.pictures) for message in request.messages)
        if sees(model.provider):
            reply.images_shown = images
        elif images:
            self._complain(f"images were named, not shown: provider {answer.provider!r} takes text alone")

    async def _asked(self, model: LanguageModel, request: Request, on_piece: Any) -> Answer:
        settings = self._node_parameters.value
        if not settings.tools:
            return await model.ask(request, on_piece)
        allowed = settings.allowed_tools or None
        answer, calls = await ask_with_servers(model, request, settings.tools, allowed, on_piece)
        for call in calls:
            self.get_logger().info(f"tool {call.tool} {'failed' if call.failed else 'answered'}")
        return answer

    async def _on_embed(
        self, request: srv.EmbedText.Request, response: srv.EmbedText.Response
    ) -> srv.EmbedText.Response:
        texts = list(request.texts)
        try:
            if not 1 <= len(texts) <= MOST_TEXTS:
                raise BadRequestError(f"{len(texts)} texts are given, 1 to {MOST_TEXTS} are taken at once")
            stamp, vectors = await self._embedding.submit(lambda: self._embed(texts))
        except (LlmError, BusyError) as error:
            response.message = str(error)
            self._complain(f"{topics.EMBED_TEXT}: {error}")
            return response
        told = "" if self._embedder is None else unread(self._embedder, texts)
        if told:
            self._complain(f"{topics.EMBED_TEXT}: {told}")
        response.ok, response.embedder, response.revision = True, stamp.embedder, stamp.revision
        response.dimension, response.values = stamp.dimension, vectors.ravel()
        return response

    def _embed(self, texts: list[str]) -> Any:
        settings = self._node_parameters.value
        if self._embedder is None:
            wanted = EmbedderSettings(settings.embedder_model, holder=self._memory)
            self._embedder = make_embedder(settings.embedder, wanted)
        return self._embedder.stamp, self._embedder.embed(texts)

    async def _on_list(
        self, _request: srv.ListProviders.Request, response: srv.ListProviders.Response
    ) -> srv.ListProviders.Response:
        settings = _provider_settings(self._node_parameters.value)

        async def problems() -> list[str]:
            return [await _beside(_problem, name, settings) for name in names]

        names = list(provider_names())
        response.names, response.problems = names, await self._loop.submit(problems())
        response.usable = [not problem for problem in response.problems]
        response.provider, response.model = self._model.provider.name, self._model.provider.model
        return response

    async def _on_set(
        self, request: srv.SetProvider.Request, response: srv.SetProvider.Response
    ) -> srv.SetProvider.Response:
        base = self._node_parameters.value
        variable = kept_key_variable(base, request.provider, request.base_url)
        settings = ProviderSettings(
            request.model, request.base_url, variable, base.device, base.load_in_4bit, base.english_only
        )
        try:
            made = await self._loop.submit(_beside(self._made, settings, request.provider))
        except LlmError as error:
            response.message = str(error)
            self._complain(f"{topics.SET_PROVIDER}: {error}")
        else:
            before, self._model = self._model, made
            self._users.setdefault(before, 0)
            self._retire(before)
            response.ok = True
            self.get_logger().info(f"provider {made.provider.name}, model {made.provider.model}")
        response.provider, response.model = self._model.provider.name, self._model.provider.model
        return response

    def _made(self, settings: ProviderSettings, name: str) -> LanguageModel:
        settings = replace(settings, holder=self._memory)
        own = self._node_parameters.value
        there, back = sequence_translators(own.translator, own.translator_back, own.translator_codes, self._memory)
        # A registered model with a translator of its own is behind that already.
        provider = translated(make_provider(chosen_provider(name), settings), there, back)
        return LanguageModel(provider, self._service_settings)

    def _retire(self, model: LanguageModel) -> None:
        """Close a model that was replaced once nobody uses it."""
        if model is not self._model and not self._users.get(model, 0):
            self._users.pop(model, None)
            self._loop.submit(model.close())

    def _fail(self, reply: Any, error: LlmError) -> None:
        self._failed += 1
        self._last_failure = f"{error.kind}: {error}"
        reply.ok, reply.kind, reply.message, reply.cost = False, error.kind, str(error), math.nan
        reply.provider, reply.model = self._model.provider.name, self._model.provider.model
        self._complain(f"no answer: {self._last_failure}")

    def _health(self) -> Health:
        provider = self._model.provider
        accounts = self._service_settings.ledger.accounts
        figures: dict[str, object] = {
            "provider": provider.name,
            "model": provider.model,
            "answered": self._answered,
            "failed": self._failed,
            "under_way": sum(self._users.values()),
            "last_failure": self._last_failure,
            **self._memory.figures(),
        }
        for (name, model), account in accounts.items():
            figures[f"{name}/{model}"] = (
                f"{account.calls} calls, {account.failures} failed, {account.usage.input_tokens} tokens in, "
                f"{account.usage.output_tokens} out, cost {account.cost:.4f}, {account.unpriced} unpriced"
            )
        if self._failed and not self._answered:
            return WARN, "every request so far failed; see last_failure", figures
        return OK, f"answers by {provider.name}", figures


def kept_key_variable(base: LlmParameters, provider: str, base_url: str) -> str:
    """The key's variable for another model, by the parameters: for the provider and server that it was named for only.

    A key must not reach another server because somebody asks for one; there the provider looks in its own variable.
    """
    return base.key_variable if (provider, base_url) == (base.provider, base.base_url) else ""


async def _beside(call: Any, *arguments: Any) -> Any:
    """Run what imports or reads files beside the loop."""
    return await asyncio.get_running_loop().run_in_executor(None, call, *arguments)


def _problem(name: str, settings: ProviderSettings) -> str:
    try:
        make_provider(name, settings)
    except LlmError as error:
        return str(error)
    return ""


def _shown(images: Sequence[CompressedImage]) -> tuple[Message, ...]:
    return shown([SentPicture(item.header.frame_id, item.format, bytes(item.data)) for item in images])


def _request(
    asked: Any, ends: float, sampling: Sampling, images: Sequence[Message], cancel: CancelToken | None = None
) -> Request:
    schema = schema_named(asked.schema) if asked.schema else None
    data = [*(Message("data", item.text, item.source) for item in asked.data), *images]
    return make_request(asked.question, ends, schema, data=data, sampling=sampling, cancel=cancel)


def _fill(reply: Any, answer: Answer) -> None:
    """The fields that Ask's response and Generate's result have in common."""
    reply.ok, reply.text = True, answer.text
    reply.provider, reply.model = answer.provider, answer.model
    reply.input_tokens, reply.output_tokens = answer.usage.input_tokens, answer.usage.output_tokens
    reply.cost = math.nan if answer.cost is None else answer.cost
    reply.attempts, reply.seconds = answer.attempts, answer.seconds
    if isinstance(answer.value, TaskPlan):
        plan = answer.value
        steps = [
            msg.TaskStep(
                task=step.task, target=step.target, instruction=step.goal.instruction, speed_scale=step.speed_scale
            )
            for step in plan.steps
        ]
        reply.plan = msg.TaskPlan(steps=steps, refusal=plan.refusal, reason=plan.reason)


def _provider_settings(settings: LlmParameters) -> ProviderSettings:
    return ProviderSettings(
        settings.model,
        settings.base_url,
        settings.key_variable,
        settings.device,
        settings.load_in_4bit,
        settings.english_only,
    )


def _service_settings(settings: LlmParameters) -> ServiceSettings:
    tokens = settings.tokens_per_minute
    return ServiceSettings(
        RetryPolicy(settings.attempts),
        settings.structure_attempts,
        TokenBucket(settings.requests_per_minute, settings.burst),
        TokenBucket(tokens, tokens) if tokens else None,
        ResponseCache(settings.cache_size, settings.cache_lifetime),
        Ledger(parse_prices(settings.prices)),
    )


def main(args: Sequence[str] | None = None) -> int:
    """Run the language model node."""
    code = run(LlmNode, None if args is None else list(args))
    here = threading.current_thread()
    if any(one is not here and not one.daemon for one in threading.enumerate()):
        # A model that loads or a server that hangs, for an answer that nobody gets: the interpreter would wait for it.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


if __name__ == "__main__":
    raise SystemExit(main())
