# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Where files lie, told as far as it concerns somebody who is not at this machine: never from its root.

What people see over HTTP names a source by its place below a folder that the server shows, or below the registry's own,
and in sentences a file by its name. The registry, the log and the command line keep whole paths.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

_FOLDERS = re.compile(
    # Not inside a word, a relative path, a tag or an address (https://...), and not a route of this server.
    r"(?<![\w.~<-])(?<!:/)/(?!api/)"
    # Folders may hold spaces, but do not end with one: "/a/b and /c/d" are two paths.
    r"(?:[^/\n'\"<>:;,()|]*[^/\s'\"<>:;,()|]/)*"
    # The last name is what is kept.
    r"(?=[^/\s'\"<>:;,()|])"
)


def without_folders(text: str) -> str:
    """A sentence in which absolute paths are cut down to their last names."""
    return _FOLDERS.sub("", text)


class Places:
    """The folders that a server shows; any thread may ask."""

    def __init__(self, roots: Sequence[Path]) -> None:
        """Take the folders that paths are told relative to; of nested ones the innermost counts."""
        whole = {root.expanduser().resolve() for root in roots}
        self._roots = sorted(whole, key=lambda root: -len(root.parts))

    def shown(self, path: str) -> str:
        """A path of this machine, relative to the folder that it is below; of one elsewhere, the last name."""
        place = PurePosixPath(path)
        if not place.is_absolute():
            return path
        for root in self._roots:
            if place.is_relative_to(root):
                return str(place.relative_to(root))
        return place.name
