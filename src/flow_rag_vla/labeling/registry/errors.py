# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Every refusal of the registry: a code for programs, a sentence for people, and what to do about it.

The gateway answers with ``http_status``, ``code``, ``message`` and ``remedy``; a ROS response carries the same code.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum


class ErrorCode(str, Enum):
    """What went wrong, in one word that does not change between versions."""

    INVALID_VALUE = "invalid_value"
    BOX_WITHOUT_AREA = "box_without_area"
    BOX_OUTSIDE_IMAGE = "box_outside_image"
    BOX_NOT_FINITE = "box_not_finite"
    INVALID_SCORE = "invalid_score"
    INVALID_MASK = "invalid_mask"
    MASK_TOO_LARGE = "mask_too_large"
    INVALID_EMBEDDING = "invalid_embedding"
    WRONG_DIMENSION = "wrong_dimension"
    UNSAFE_PATH = "unsafe_path"
    INVALID_CURSOR = "invalid_cursor"
    UNKNOWN_CATEGORY = "unknown_category"
    UNKNOWN_PROJECT = "unknown_project"
    UNKNOWN_SOURCE = "unknown_source"
    UNKNOWN_IMAGE = "unknown_image"
    UNKNOWN_OBJECT = "unknown_object"
    UNKNOWN_TRACK = "unknown_track"
    UNKNOWN_CHANGE = "unknown_change"
    UNKNOWN_DATASET = "unknown_dataset"
    UNKNOWN_SEQUENCE = "unknown_sequence"
    NO_MASK = "no_mask"
    NO_EMBEDDING = "no_embedding"
    ALREADY_EXISTS = "already_exists"
    OBJECT_DELETED = "object_deleted"
    STALE_VERSION = "stale_version"
    BATCH_KEY_REUSED = "batch_key_reused"
    UNDO_CONFLICT = "undo_conflict"
    IMAGE_LABELLED = "image_labelled"
    EMBEDDER_MISMATCH = "embedder_mismatch"
    MASK_LOST = "mask_lost"
    DISK_FULL = "disk_full"
    BUSY = "busy"
    STORAGE_FAILED = "storage_failed"
    CORRUPT = "corrupt"
    SCHEMA_TOO_NEW = "schema_too_new"
    UNAVAILABLE = "unavailable"


class RegistryError(Exception):
    """A refusal; ``str(error)`` is the message and the remedy in one line.

    Args:
        code: see :class:`ErrorCode`.
        message: what was wrong, with the value and the place.
        remedy: what to do.
    """

    http_status = 500
    """What the gateway answers with."""

    def __init__(self, code: ErrorCode, message: str, remedy: str) -> None:
        super().__init__(f"{message}; {remedy}")
        self.code, self.message, self.remedy = code, message, remedy

    def __reduce__(self) -> tuple[type[RegistryError], tuple[ErrorCode, str, str]]:
        """An error reaches the parent of a worker process whole."""
        return type(self), (self.code, self.message, self.remedy)


class InvalidInputError(RegistryError, ValueError):
    """A value that makes no sense; the same request never succeeds."""

    http_status = 422


class UnknownError(RegistryError, LookupError):
    """Something that is not there."""

    http_status = 404


class ConflictError(RegistryError):
    """The present state forbids it: a stale version, a reused key, a deleted object, mixed embedders."""

    http_status = 409


class BusyError(RegistryError):
    """Others wrote for longer than the limit, or a server is away; the same request may succeed a moment later."""

    http_status = 503


class DiskFullError(RegistryError):
    """No space was left; nothing of the request was stored."""

    http_status = 507


class StorageError(RegistryError):
    """The database or a file cannot be read or written, or is damaged."""

    http_status = 500


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def disk_error(error: OSError, place: str) -> RegistryError:
    """What an operating system's error means here."""
    if error.errno in _FULL:
        remedy = "free space or raise the quota, then send the same batch again"
        return DiskFullError(ErrorCode.DISK_FULL, f"{place}: no space is left ({error.strerror})", remedy)
    return StorageError(ErrorCode.STORAGE_FAILED, f"{place}: {error}", "check the disk and the folder's permissions")


@contextmanager
def files_checked(place: str) -> Iterator[None]:
    """Turn an ``OSError`` inside into a typed error.

    Raises:
        DiskFullError: no space is left.
        StorageError: any other reason.
    """
    try:
        yield
    except OSError as error:
        raise disk_error(error, place) from error
