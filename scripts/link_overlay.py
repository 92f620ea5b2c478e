# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Make the built packages part of the virtual environment, so that nothing has to be sourced.

The ROS wheels install one merged prefix: libraries in ``lib``, the ament index in ``share``. ``colcon build`` puts our
packages into ``install/<package>`` instead, which a shell must source. This script links the second into the first:

- ``site-packages/flow_rag_vla.pth`` names the sources, the generated messages and the package's metadata;
- ``lib/*.so`` of the messages appear in the environment's ``lib``, which the wheels put on the loader's path;
- ``share/<package>`` and the ament index entries appear in the environment's ``share``;
- ``bin/flow_rag_vla`` is the console command.

After that ``.venv/bin/python -m flow_rag_vla.nodes.controller`` finds everything, and so does each child process, with
nothing in its environment. The script is idempotent and removes links that no longer lead anywhere.

Run it with the environment's own interpreter: ``.venv/bin/python scripts/link_overlay.py``.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
INTERFACES = "flow_rag_vla_interfaces"
TRANSFORMS = "tf2_msgs"
PACKAGE = "flow_rag_vla"

CONSOLE_COMMAND = """#!{python}
import os
import sys

os.environ.setdefault("AMENT_PREFIX_PATH", sys.prefix)

from flow_rag_vla.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
"""


class LinkError(Exception):
    """The packages cannot be linked; the message says what is missing and how to get it."""


def write_if_different(path: Path, text: str, mode: int = 0o644) -> None:
    """Replace ``path`` atomically unless it holds ``text`` already."""
    if path.is_file() and not path.is_symlink() and path.read_text(encoding="utf-8") == text:
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.chmod(mode)
    os.replace(temporary, path)


def link(target: Path, link_path: Path) -> None:
    """Make ``link_path`` a symbolic link to ``target``, replacing an older link but never a real file.

    Raises:
        LinkError: A file that is not a link is in the way.
    """
    if link_path.is_symlink():
        if os.readlink(link_path) == str(target):
            return
    elif link_path.exists():
        raise LinkError(f"{link_path} is in the way of a link to {target}. Remove it and run `make setup` again.")
    link_path.parent.mkdir(parents=True, exist_ok=True)
    temporary = link_path.with_name(f".{link_path.name}.{os.getpid()}.tmp")
    temporary.symlink_to(target)
    os.replace(temporary, link_path)


def remove_dangling_links(folder: Path, install: Path) -> None:
    """Remove links in ``folder`` that lead into ``install`` but to nothing (a message that was renamed, say)."""
    for path in folder.iterdir():
        if path.is_symlink() and os.readlink(path).startswith(f"{install}{os.sep}") and not path.exists():
            path.unlink()


def link_package(package: str, install: Path, prefix: Path) -> None:
    """Link the shared libraries, the share folder and the ament index entries of one installed package."""
    installed = install / package
    for library in sorted((installed / "lib").glob("*.so")):
        link(library, prefix / "lib" / library.name)
    if (installed / "share" / package).is_dir():
        link(installed / "share" / package, prefix / "share" / package)
    if (installed / "lib" / package).is_dir():
        link(installed / "lib" / package, prefix / "lib" / package)
    index = installed / "share" / "ament_index" / "resource_index"
    for marker in sorted(index.glob(f"*/{package}")):
        link(marker, prefix / "share" / "ament_index" / "resource_index" / marker.parent.name / package)


def message_folder(install: Path, package: str) -> Path:
    """Return the folder that holds the generated Python package of some messages.

    Raises:
        LinkError: They are not built.
    """
    found = sorted((install / package).glob(f"l*/python3*/*-packages/{package}/__init__.py"))
    if not found:
        raise LinkError(f"{install / package} holds no built messages. Run `make setup`.")
    return found[-1].parent.parent


def link_overlay(root: Path, prefix: Path, site_packages: Path) -> None:
    """Link everything that ``colcon build`` made under ``root/install`` into the environment ``prefix``.

    Raises:
        LinkError: The messages are not built, or a real file is in the way of a link.
        OSError: A link cannot be made.
    """
    install = root / "install"
    messages = [message_folder(install, package) for package in (INTERFACES, TRANSFORMS)]
    # The executables that `ros2 run` starts look their entry point up in the metadata, which lies in the build folder.
    metadata = root / "build" / PACKAGE / "src"
    write_if_different(site_packages / f"{PACKAGE}.pth", "\n".join(map(str, [root / "src", *messages, metadata, ""])))
    for package in (INTERFACES, TRANSFORMS, PACKAGE):
        link_package(package, install, prefix)
    for folder in (prefix / "lib", prefix / "share", *(prefix / "share/ament_index/resource_index").iterdir()):
        if folder.is_dir() and not folder.is_symlink():
            remove_dangling_links(folder, install)
    command = CONSOLE_COMMAND.format(python=prefix / "bin" / "python")
    write_if_different(prefix / "bin" / PACKAGE, command, 0o755)


def main() -> int:
    """Link the overlay into the environment of the running interpreter; return the exit code."""
    if sys.prefix == sys.base_prefix:
        print(f"link_overlay: {sys.executable} is not in a virtual environment. Run `make setup`.", file=sys.stderr)
        return 1
    try:
        link_overlay(ROOT, Path(sys.prefix), Path(sysconfig.get_path("purelib")))
    except LinkError as error:
        print(f"link_overlay: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
