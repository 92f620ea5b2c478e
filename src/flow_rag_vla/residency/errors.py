# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What can go wrong between asking for a model and holding it, as types; see :mod:`flow_rag_vla.core.errors`."""

from __future__ import annotations

from flow_rag_vla.core.errors import TypedError


class ResidencyError(TypedError):
    """A model cannot be held. The robot holds."""


class UnknownModelError(ResidencyError):
    """No model of that name is registered."""

    kind = "unknown_model"


class DependencyCycleError(ResidencyError):
    """Models need each other in a circle; the text names the circle."""

    kind = "dependency_cycle"


class ModelTooLargeError(ResidencyError):
    """A model, with what it needs, can never fit beside what is pinned."""

    kind = "model_too_large"


class LoadError(ResidencyError):
    """A loader raised, or did not come back before its deadline; the cause is chained."""

    kind = "load"
    retryable = True


class DeadlineError(ResidencyError):
    """The deadline passed before there was room; the text names what held it."""

    kind = "deadline"
    retryable = True


class CanceledError(ResidencyError):
    """The caller withdrew the request, or a loader saw that it was withdrawn."""

    kind = "canceled"


class InUseError(ResidencyError):
    """A model that is leased, pinned or on its way cannot be evicted or forgotten."""

    kind = "in_use"
    retryable = True


class ClosedError(ResidencyError):
    """The manager, or the pipeline, was closed."""

    kind = "closed"


class DeviceMemoryError(ResidencyError):
    """A device has not the bytes that were asked of it."""

    kind = "device_memory"


class QueueFullError(ResidencyError):
    """The pipeline's queue is full of tasks at least as urgent."""

    kind = "queue_full"
    retryable = True
