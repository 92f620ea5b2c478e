# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The embedded provider: a closed grammar, no model, no network.

It plans what the simulator can do from English and Korean commands and refuses everything else by name. It has no
knowledge of the world, holds no conversation, and reads only the user's last message: what a scene or a document says
cannot reach it.
"""

from __future__ import annotations

from flow_rag_vla.llm.errors import UnsupportedSchemaError
from flow_rag_vla.llm.provider import Emit, ProviderSettings
from flow_rag_vla.llm.request import RawAnswer, Request
from flow_rag_vla.llm.schemas import TaskPlan
from flow_rag_vla.llm.task_language.reader import read_command


class RulesProvider:
    """The grammar of ``task_language`` as a provider."""

    name = "rules"
    model = "task-language-1"
    deterministic = True

    async def answer(self, request: Request, emit: Emit | None = None) -> RawAnswer:
        """The plan as JSON for schema TaskPlan, in words without a schema.

        Raises:
            UnsupportedSchemaError: for any other schema.
        """
        if request.schema is not None and request.schema is not TaskPlan:
            raise UnsupportedSchemaError(
                f"provider 'rules' is a grammar of commands and cannot fill {request.schema.__name__}; choose claude, "
                "openai or local, by parameter or LLM_PROVIDER"
            )
        plan = read_command(request.question)
        text = in_words(plan) if request.schema is None else plan.model_dump_json()
        if emit is not None:
            emit(text)
        return RawAnswer(text)

    async def close(self) -> None:
        """Nothing to give back."""


def in_words(plan: TaskPlan) -> str:
    """A plan as one sentence."""
    if not plan.accepted:
        return f"Refused ({plan.refusal}): {plan.reason}."
    return "; then ".join(step.spoken for step in plan.steps) + "."


def make(_settings: ProviderSettings) -> RulesProvider:
    """The provider; it has no settings."""
    return RulesProvider()
