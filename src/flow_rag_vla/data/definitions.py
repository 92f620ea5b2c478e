# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Message definitions without ROS: from the installed interface files into a rosbags type store."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.interfaces import Nodetype
from rosbags.serde.errors import SerdeError
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

INTERFACES = "flow_rag_vla_interfaces"

SLACK = 64
"""Bytes behind the last field that any message may have; a longer one up to a quarter of its length."""


class UnknownTypeError(LookupError):
    """A message type whose definition is nowhere to be found; the text says where it was looked for."""


class Definitions:
    """A type store that grows as types are asked for.

    Standard messages come with rosbags. Any other ``package/msg/Name`` is read from ``share/package/msg/Name.msg``
    below the folders of AMENT_PREFIX_PATH, and this project's own also from the source checkout.
    """

    def __init__(self, folders: Sequence[str | Path] | None = None) -> None:
        """Look for definitions below ``folders`` (each holds ``share/``); default AMENT_PREFIX_PATH."""
        if folders is None:
            folders = [part for part in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if part]
        self._folders = tuple(Path(folder) for folder in folders)
        self.store: Typestore = get_typestore(Stores.ROS2_KILTED)

    def ensure(self, msgtype: str) -> str:
        """Make ``msgtype`` and every type inside it known; return it.

        Raises:
            UnknownTypeError: if a definition is not found or not understood.
        """
        wanted = [msgtype]
        while wanted:
            name = wanted.pop()
            if name in self.store.fielddefs:
                continue
            path = self._find(name)
            try:
                types = get_types_from_msg(path.read_text(encoding="utf-8"), name)
                self.store.register(types)
            except Exception as error:  # rosbags raises several kinds for text that is no definition
                raise UnknownTypeError(f"{path} is not understood as a message definition: {error}") from error
            for _, fields in types.values():
                wanted.extend(_referenced(description for _, description in fields))
        return msgtype

    def definition(self, msgtype: str) -> tuple[str, str]:
        """Full text of a type with all it contains, and its RIHS01 hash.

        Raises:
            UnknownTypeError: as :meth:`ensure`.
        """
        self.ensure(msgtype)
        text, _ = self.store.generate_msgdef(msgtype, ros_version=2)
        return text, self.store.hash_rihs01(msgtype)

    def message(self, msgtype: str, **fields: Any) -> Any:
        """A message with the named fields set and every other at its ROS default.

        Raises:
            UnknownTypeError: as :meth:`ensure`.
            AttributeError: if the type has no such field.
        """
        self.ensure(msgtype)
        definitions = self.store.fielddefs[msgtype][1]
        unknown = sorted(set(fields) - {name for name, _ in definitions})
        if unknown:
            raise AttributeError(f"{msgtype} has no field {unknown[0]!r}; it has {[name for name, _ in definitions]}")
        values = {
            name: fields[name] if name in fields else self.default(description) for name, description in definitions
        }
        return self.store.types[msgtype](**values)

    def serialize(self, message: Any, msgtype: str) -> bytes:
        """CDR bytes of a message."""
        self.ensure(msgtype)
        return bytes(self.store.serialize_cdr(message, msgtype))

    def deserialize(self, data: bytes | memoryview, msgtype: str) -> Any:
        """Message of CDR bytes.

        Fast CDR counts alignment for empty sequences that it then does not write, so messages of ROS end with bytes
        that mean nothing; rosbags takes those for a wrong definition.

        Raises:
            SerdeError: if the bytes do not fit the definition.
        """
        self.ensure(msgtype)
        try:
            return self.store.deserialize_cdr(data, msgtype)
        except SerdeError:
            return self._with_slack(bytes(data), msgtype)

    def _with_slack(self, data: bytes, msgtype: str) -> Any:
        if len(data) < 4 or data[:2] not in (b"\x00\x00", b"\x00\x01"):
            raise SerdeError(f"no CDR header in a message of {msgtype}")
        definition = self.store.get_msgdef(msgtype)
        read = definition.deserialize_cdr_le if data[1] else definition.deserialize_cdr_be
        try:
            message, end = read(data[4:], 0, definition.cls, self.store)
        except (struct.error, UnicodeDecodeError, ValueError) as error:
            raise SerdeError(f"a message does not fit {msgtype}: {error}") from error
        slack = len(data) - 4 - end
        if slack > max(SLACK, len(data) // 4):
            raise SerdeError(f"a message of {msgtype} ends {slack} bytes before its data do")
        return message

    def register_text(self, msgtype: str, text: str) -> None:
        """Take the definition that a bag carries; one that is known already is kept."""
        if msgtype not in self.store.fielddefs:
            types = get_types_from_msg(text, msgtype)
            self.store.register({name: value for name, value in types.items() if name not in self.store.fielddefs})

    def _find(self, msgtype: str) -> Path:
        parts = msgtype.split("/")
        if len(parts) == 3 and parts[1] == "msg":
            candidates = [folder / "share" / parts[0] / "msg" / f"{parts[2]}.msg" for folder in self._folders]
            if parts[0] == INTERFACES:
                candidates.append(Path(__file__).resolve().parents[2] / INTERFACES / "msg" / f"{parts[2]}.msg")
            for path in candidates:
                if path.is_file():
                    return path
        looked = ", ".join(str(folder) for folder in self._folders) or "no folder: AMENT_PREFIX_PATH is empty"
        raise UnknownTypeError(
            f"no definition of {msgtype!r} (looked in {looked}); source the workspace that builds it"
        )

    def default(self, description: Any) -> Any:
        """The ROS default of a field, given rosbags' description of it."""
        kind, value = description
        if kind == Nodetype.BASE:
            name = value[0]
            return "" if name in ("string", "wstring") else False if name == "bool" else 0.0 if "float" in name else 0
        if kind == Nodetype.NAME:
            return self.message(value)
        element, count = value
        dtype = _dtype(element)
        if kind == Nodetype.ARRAY:
            return [self.default(element) for _ in range(count)] if dtype is None else np.zeros(count, dtype)
        return [] if dtype is None else np.zeros(0, dtype)


@lru_cache(maxsize=1)
def installed_definitions() -> Definitions:
    """The definitions of this environment, read once."""
    return Definitions()


def _referenced(descriptions: Iterable[Any]) -> list[str]:
    names = []
    for kind, value in descriptions:
        if kind == Nodetype.NAME:
            names.append(value)
        elif kind in (Nodetype.ARRAY, Nodetype.SEQUENCE):
            names.extend(_referenced([value[0]]))
    return names


def _dtype(description: Any) -> Any:
    kind, value = description
    if kind != Nodetype.BASE or value[0] in ("string", "wstring"):
        return None
    return np.dtype({"bool": "bool", "octet": "uint8", "byte": "uint8", "char": "uint8"}.get(value[0], value[0]))
