# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Write ``requirements/lock.txt``: the exact version of everything that the ``*.in`` files lead to.

The versions are those installed in the running environment, so the lock is what was tested. The file has one section a
group (``# [build]``), because set-up installs the groups side by side. It names no index and no machine: local version
labels (``+cpu``) are dropped.

Run it with the environment's own interpreter: ``make lock``.
"""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Iterable
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "requirements"
GROUPS = ("build", "run", "torch", "test")

# Dependencies that only some interpreters have; the lock serves Python 3.11 to 3.13.
MARKERS = {"backports-zstd": 'python_version < "3.14"'}

HEADER = """\
# Every package at the version that was tested (Linux x86_64, Python 3.11).
# Written by `make lock` from requirements/*.in: edit those. `make setup` installs the sections side by side.
"""


class LockError(Exception):
    """The lock cannot be written; the message says what is missing and how to get it."""


def direct_requirements(path: Path) -> list[Requirement]:
    """Return the requirements that a ``*.in`` file names, comments left out."""
    lines = (line.split("#", 1)[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [Requirement(line) for line in lines if line]


def closure(requirements: Iterable[Requirement], known: frozenset[str]) -> dict[str, str]:
    """Return name -> version of everything that ``requirements`` need here, without the names in ``known``.

    Raises:
        LockError: A package is not installed, or its version is not the one asked for.
    """
    found: dict[str, str] = {}
    visited: set[tuple[str, frozenset[str]]] = set()
    queue = list(requirements)
    while queue:
        requirement = queue.pop()
        name = canonicalize_name(requirement.name)
        extras = frozenset(requirement.extras)
        if name in known or (name, extras) in visited:
            continue
        visited.add((name, extras))
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError as error:
            raise LockError(f"{name} is not installed. Run `.venv/bin/pip install '{requirement}'` first.") from error
        version = Version(distribution.version)
        if not requirement.specifier.contains(version.public, prereleases=True):
            raise LockError(f"{name} {version} is installed, but {requirement} is asked for. Install that first.")
        found[name] = version.public
        for text in distribution.requires or ():
            dependency = Requirement(text)
            environments = [{"extra": extra} for extra in (extras or {""})]
            if dependency.marker is None or any(dependency.marker.evaluate(e) for e in environments):
                queue.append(dependency)
    return found


def lock_text() -> str:
    """Return the text of ``lock.txt`` for the running environment.

    Raises:
        LockError: The environment does not satisfy the ``*.in`` files.
    """
    sections = [HEADER]
    known: frozenset[str] = frozenset()
    for group in GROUPS:
        requirements = direct_requirements(FOLDER / f"{group}.in")
        if group == "torch":
            # Its own dependencies differ between the CPU and the CUDA build, so pip resolves them for this one package;
            # those of the CPU build are pinned with the group that runs before it.
            versions = {canonicalize_name(r.name): str(Version(version_of(r)).public) for r in requirements}
        else:
            wanted = requirements + (direct_requirements(FOLDER / "torch.in") if group == "run" else [])
            versions = closure(wanted, known)
            if group == "run":
                versions.pop("torch")
        known |= frozenset(versions)
        lines = [f"# [{group}]"]
        for name in sorted(versions):
            marker = f" ; {MARKERS[name]}" if name in MARKERS else ""
            lines.append(f"{name}=={versions[name]}{marker}")
        sections.append("\n".join(lines) + "\n")
    return "\n".join(sections)


def version_of(requirement: Requirement) -> str:
    """Return the installed version of one requirement."""
    return importlib.metadata.version(requirement.name)


def main() -> int:
    """Write the lock file; return the exit code."""
    try:
        text = lock_text()
    except LockError as error:
        print(f"lock: {error}", file=sys.stderr)
        return 1
    path = FOLDER / "lock.txt"
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
    print(f"lock: {path.relative_to(ROOT)} names {text.count('==')} packages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
