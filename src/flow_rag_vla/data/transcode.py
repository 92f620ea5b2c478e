# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Brings messages of a bag into the definitions that are installed here: bags outlive the versions of their types."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from rosbags.interfaces import Nodetype
from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from flow_rag_vla.data.definitions import Definitions, UnknownTypeError, installed_definitions
from flow_rag_vla.data.mcap_scan import McapChannel

Transcoding = Callable[[bytes], bytes]


class TranscodeError(ValueError):
    """Messages of a topic cannot be brought into the installed definition; the text says why."""


def transcoding(channel: McapChannel, installed: Definitions | None = None) -> Transcoding | None:
    """How to bring messages of a channel into the installed definition; None if they fit as they are.

    Fields are matched by name: what is new takes its default, what is gone is dropped.

    Raises:
        UnknownTypeError: if the type is not installed.
        TranscodeError: if the definition in the bag is not understood.
    """
    definitions = installed or installed_definitions()
    definitions.ensure(channel.msgtype)
    if not channel.definition:
        return None
    store = get_typestore(Stores.EMPTY)
    try:
        parse = get_types_from_idl if channel.encoding == "ros2idl" else None
        types = parse(channel.definition) if parse else get_types_from_msg(channel.definition, channel.msgtype)
        store.register(types)
        same = store.hash_rihs01(channel.msgtype) == definitions.store.hash_rihs01(channel.msgtype)
    except Exception as error:  # text of any writer
        raise TranscodeError(f"the definition of {channel.msgtype} in the bag is not understood: {error}") from error
    if same:
        return None

    def convert(data: bytes) -> bytes:
        definition = store.get_msgdef(channel.msgtype)
        read = definition.deserialize_cdr_le if data[1] else definition.deserialize_cdr_be
        message, _ = read(data[4:], 0, definition.cls, store)
        return definitions.serialize(_matched(message, store, channel.msgtype, definitions), channel.msgtype)

    return convert


def _matched(message: Any, source: Typestore, msgtype: str, target: Definitions) -> Any:
    """A message of the installed definition with every field of the same name and kind taken over."""
    target.ensure(msgtype)
    before = dict(source.fielddefs[msgtype][1])
    fields: dict[str, Any] = {}
    for name, wanted in target.store.fielddefs[msgtype][1]:
        if name in before:
            value = _value(getattr(message, name), before[name], wanted, source, target)
            if value is not None:
                fields[name] = value
    return target.message(msgtype, **fields)


def _value(value: Any, before: Any, wanted: Any, source: Typestore, target: Definitions) -> Any:
    kind, description = wanted
    if kind != before[0]:
        return None
    if kind == Nodetype.NAME:
        same = description == before[1]
        return _matched(value, source, description, target) if same else None
    if kind == Nodetype.BASE:
        text = "string" in description[0]
        return value if text == isinstance(value, str) else None
    element, count = description
    if kind == Nodetype.ARRAY and before[1][1] != count:
        return None
    if element[0] == Nodetype.NAME:
        if before[1][0] != element:
            return None
        return [_matched(item, source, element[1], target) for item in value]
    if isinstance(value, np.ndarray):
        sample = np.asarray(target.default(wanted))
        return value.astype(sample.dtype) if sample.dtype != object else None
    return value


__all__ = ["TranscodeError", "Transcoding", "UnknownTypeError", "transcoding"]
