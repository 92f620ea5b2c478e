# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Providers by name: built-in ones, those of other packages through an entry point, and models of one's own.

A new provider is one file with a function ``make(settings) -> Provider`` and, in its package's metadata, an entry point
of the group ``flow_rag_vla.llm_providers`` with the provider's name. A model of one's own is registered by name; see
:mod:`flow_rag_vla.llm.fine_tuning.registration`.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.metadata import entry_points
from typing import cast

from flow_rag_vla.llm.errors import MissingPackageError, UnknownProviderError
from flow_rag_vla.llm.fine_tuning.registration import OwnModel, own_models
from flow_rag_vla.llm.provider import Provider, ProviderSettings

GROUP = "flow_rag_vla.llm_providers"
VARIABLE = "LLM_PROVIDER"
DEFAULT = "rules"

Factory = Callable[[ProviderSettings], Provider]

_BUILT_IN: Mapping[str, str] = {
    "rules": "flow_rag_vla.llm.providers.rules:make",
    "claude": "flow_rag_vla.llm.providers.claude:make",
    "openai": "flow_rag_vla.llm.providers.openai:make",
    "local": "flow_rag_vla.llm.providers.local:make",
}


def provider_names() -> tuple[str, ...]:
    """Every name that can be chosen, whether or not its package is installed."""
    added = sorted({point.name for point in entry_points(group=GROUP)} - set(_BUILT_IN))
    own = [name for name in own_models() if name not in _BUILT_IN and name not in added]
    return (*_BUILT_IN, *added, *own)


def chosen_provider(name: str = "", environment: Mapping[str, str] | None = None) -> str:
    """The name given, else that in LLM_PROVIDER, else ``rules``.

    Raises:
        UnknownProviderError: with the known ones.
    """
    environment = os.environ if environment is None else environment
    chosen = name.strip() or environment.get(VARIABLE, "").strip() or DEFAULT
    if chosen not in provider_names():
        source = "" if name.strip() else f" (from {VARIABLE})"
        raise UnknownProviderError(f"unknown provider {chosen!r}{source}; known: {', '.join(provider_names())}")
    return chosen


def make_provider(name: str, settings: ProviderSettings | None = None) -> Provider:
    """Set up a provider. Nothing is sent and nothing is loaded before the first question.

    Raises:
        UnknownProviderError: for a name that nobody registered.
        MissingPackageError: if a package that it needs is not installed, with how to get it.
        MissingKeyError: if it needs a key that is not there, naming the variable.
    """
    chosen = chosen_provider(name)
    return _factory(chosen)(settings or ProviderSettings())


def _factory(name: str) -> Factory:
    # The built-in ones first: an installed package must not take the place of one silently.
    if name in _BUILT_IN:
        module, _, attribute = _BUILT_IN[name].partition(":")
        return cast(Factory, getattr(importlib.import_module(module), attribute))
    point = next((point for point in entry_points(group=GROUP) if point.name == name), None)
    if point is None:
        return _factory_of(own_models()[name])
    try:
        return cast(Factory, point.load())
    except (ImportError, AttributeError) as error:
        raise MissingPackageError(f"provider {name!r} of {point.value!r} cannot be loaded: {error}") from error


def _factory_of(model: OwnModel) -> Factory:
    """The local provider under the model's own name, behind its translator if it has one."""

    def make(settings: ProviderSettings) -> Provider:
        from flow_rag_vla.llm.providers import local
        from flow_rag_vla.llm.translation import sequence_translators, translated

        own = replace(settings, model=model.folder, english_only=model.english_only)
        there, back = sequence_translators(
            model.translator, model.translator_back, model.translator_codes, settings.holder
        )
        return translated(local.make(own, model.name), there, back)

    return make
