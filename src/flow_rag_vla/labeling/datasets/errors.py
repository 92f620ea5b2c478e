# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What can go wrong with datasets of labels, each with a code that programs read."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from flow_rag_vla.labeling.pipeline.errors import LabelingError


class DatasetError(LabelingError):
    """A dataset cannot be made, read or written.

    Codes: ``dataset_invalid`` (a value makes no sense), ``dataset_missing``, ``dataset_corrupt``, ``dataset_exists``,
    ``dataset_empty`` (nothing passes the filter), ``split_impossible``, ``unsafe_path``, ``image_missing``,
    ``image_mismatch``, ``image_corrupt``, ``box_outside_image``, ``box_without_area``, ``mask_invalid``,
    ``unknown_category``, ``unknown_format``, ``vectors_missing`` (nothing to tell duplicates by), ``extra_missing``,
    ``disk_full``, ``storage_failed``, ``canceled``.
    """

    code = "dataset_invalid"


class CanceledError(DatasetError):
    """Somebody withdrew the work; nothing of it is left."""

    code = "canceled"


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def disk_checked(place: object) -> Iterator[None]:
    """Turn an ``OSError`` inside into a DatasetError: ``disk_full`` or ``storage_failed``."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            text = f"{place}: no space is left ({error.strerror}); nothing was kept: free space and do it again"
            raise DatasetError(text, "disk_full") from error
        text = f"{place} cannot be read or written ({error}): check the disk and the permissions"
        raise DatasetError(text, "storage_failed") from error
