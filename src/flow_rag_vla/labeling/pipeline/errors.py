# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What can go wrong in labeling, each with a code that programs read and a text that people read."""

from __future__ import annotations


class LabelingError(ValueError):
    """Something that was given cannot be labelled, or not with this model.

    code: short and stable, for HTTP and ROS answers; the text names the value, the place and the remedy.
    """

    code = "labeling_error"

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        if code:
            self.code = code


class ImageError(LabelingError):
    """A picture cannot be used.

    Codes: ``image_missing``, ``image_corrupt``, ``image_too_large``, ``image_empty``, ``image_shape``, ``image_dtype``.
    """

    code = "image_corrupt"


class PromptError(LabelingError):
    """A prompt cannot be used: ``prompt_empty``, ``prompt_unknown`` or ``prompt_missing``."""

    code = "prompt_unknown"


class SettingError(LabelingError):
    """A threshold, size or other setting is out of its range: ``setting_out_of_range``."""

    code = "setting_out_of_range"


class ModelError(LabelingError):
    """A model cannot be made: ``model_missing``, ``model_damaged``, ``model_unknown`` or ``extra_missing``."""

    code = "model_missing"


class SourceError(LabelingError):
    """A folder, video or bag cannot be read: ``source_missing``, ``source_empty`` or ``source_corrupt``."""

    code = "source_missing"
