# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""XML that others wrote, without the entities by which a small file becomes a large one or reads others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from flow_rag_vla.labeling.datasets.errors import DatasetError
from flow_rag_vla.labeling.datasets.parsing import corrupt, read_bytes

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element


def read_xml(path: Path) -> Element:
    """The root of an XML file.

    Raises:
        DatasetError: ``dataset_missing``, ``dataset_corrupt`` (also for entities and references to other files), or
            ``extra_missing`` without defusedxml.
    """
    try:
        from defusedxml.common import DefusedXmlException
        from defusedxml.ElementTree import ParseError, fromstring
    except ImportError as error:
        raise DatasetError(
            f"XML is read with defusedxml ({error}); install it: pip install 'flow_rag_vla[labeling]'", "extra_missing"
        ) from error
    data = read_bytes(path)
    try:
        root: Element = fromstring(data, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:
        raise corrupt(path, f"it is no plain XML ({error or type(error).__name__})") from error
    return root
