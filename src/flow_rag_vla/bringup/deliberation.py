# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The topics of the deliberation node, which is started on request beside any graph."""

from __future__ import annotations

from flow_rag_vla.bringup.endpoints import Topic

DELIBERATION = "deliberation"

PLAN_REVIEW = "deliberation/review"
FAILURE_DIAGNOSIS = "failure_diagnosis"

DELIBERATION_TOPICS: tuple[Topic, ...] = (
    Topic(PLAN_REVIEW, "flow_rag_vla_interfaces/msg/PlanReview", "STATE", (DELIBERATION,), (),
          "a plan that waits for a person, and that it no longer does"),
    Topic(FAILURE_DIAGNOSIS, "flow_rag_vla_interfaces/msg/FailureDiagnosis", "EVENT", (DELIBERATION,), (),
          "why a failure happened, as far as its evidence says, and what might be tried"),
)  # fmt: skip
