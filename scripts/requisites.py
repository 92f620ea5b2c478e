# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What set-up needs from the machine, and what to say when a step fails.

Each message names the thing and how to get it. Standard library only: it runs before anything is installed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

# The finished environment holds 2.3 GB with a CPU build of torch; pip unpacks beside it.
FREE_BYTES_NEEDED = 4 * 10**9
CMAKE_NEEDED = (3, 20)
GLIBC_NEEDED = (2, 28)

# What pip, cmake and compilers print -> what was wrong and what to do, the most specific first.
KNOWN_FAILURES: tuple[tuple[str, str], ...] = (
    (
        r"No space left on device|Disk quota exceeded|Errno 28\b|Errno 122\b",
        "The disk is full. Free 4 GB (old pip downloads: `pip cache purge`), then run `make setup` again.",
    ),
    (
        r"CERTIFICATE_VERIFY_FAILED|SSLError",
        "The package index's certificate is not trusted. Install the certificates (sudo apt-get install "
        "ca-certificates) or name your proxy's: PIP_CERT=/path/to/ca.pem make setup",
    ),
    (
        r"Temporary failure in name resolution|Name or service not known|NewConnectionError|Network is unreachable"
        r"|Connection refused|ConnectTimeout|Read timed out|Connection reset by peer|ProxyError|RemoteDisconnected",
        "The package index cannot be reached. Check the network and the proxy (HTTPS_PROXY), then run `make setup` "
        "again: it goes on where it stopped.",
    ),
    (
        r"requirement (?P<package>\S+).*\(from versions: none\)",
        "No index that pip asked knows {package}: it cannot be reached, or it is one of your own that lacks it. Check "
        "the network and the proxy (HTTPS_PROXY), or name an index that holds every line of requirements/lock.txt: "
        "PIP_INDEX_URL=https://... make setup",
    ),
    (
        r"No matching distribution found for (?P<package>\S+)",
        "The index has no {package} for this Python and processor. The ROS wheels need glibc 2.28 (Debian 10, Ubuntu "
        "20.04 or newer) on x86_64; an index of your own (PIP_INDEX_URL) must hold every line of "
        "requirements/lock.txt.",
    ),
    (
        r"Python\.h: No such file",
        "The headers of Python are missing. Get them: sudo apt-get install python3-dev (python3.11-dev for a second "
        "Python).",
    ),
    (
        r"Cannot allocate memory|Killed signal terminated program|virtual memory exhausted|MemoryError",
        "The machine ran out of memory. 2 GB free are needed; close something or add swap, then run `make setup` "
        "again.",
    ),
    (
        r"Permission denied|Errno 13\b|Read-only file system",
        'A file cannot be written. The checkout must belong to you: sudo chown -R "$USER" . '
        "(never run make with sudo).",
    ),
    (
        r"Failed building wheel for (?P<package>\S+)",
        "{package} has no wheel for this Python and processor and did not compile. Python 3.11 has wheels for "
        "everything: sudo apt-get install python3.11 python3.11-venv python3.11-dev, then "
        "make clean setup PYTHON=python3.11",
    ),
)


class SetUpError(Exception):
    """Set-up cannot go on; the message says what is missing and how to get it."""


def explain(log: str) -> str:
    """Return the advice for the failure that ``log`` (the output of pip, colcon or a compiler) shows, or ''."""
    for pattern, advice in KNOWN_FAILURES:
        match = re.search(pattern, log)
        if match:
            package = next((group for group in match.groups() if group), "") if match.groups() else ""
            return advice.replace("{package}", package)
    return ""


def cmake_version(executable: str) -> tuple[int, int]:
    """Return the major and minor version of a cmake, (0, 0) when it does not answer."""
    try:
        output = subprocess.run([executable, "--version"], capture_output=True, text=True, check=False).stdout
    except OSError:
        return (0, 0)
    match = re.search(r"(\d+)\.(\d+)", output)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def compiler(variable: str, names: tuple[str, ...]) -> str | None:
    """Return the path of a compiler: the one that the environment variable names, else the first on PATH."""
    chosen = os.environ.get(variable, "").split()
    return shutil.which(chosen[0]) if chosen else next(filter(None, map(shutil.which, names)), None)


def missing_tools() -> list[str]:
    """Return one message for each thing that building the messages needs and this machine lacks."""
    found = []
    cmake = shutil.which("cmake")
    wanted = ".".join(map(str, CMAKE_NEEDED))
    if cmake is None:
        found.append(f"cmake {wanted} or newer is not on PATH.\n  Get it: sudo apt-get install cmake")
    elif cmake_version(cmake) < CMAKE_NEEDED:
        version = ".".join(map(str, cmake_version(cmake)))
        found.append(f"{cmake} is version {version}; {wanted} is needed.\n  Get it: pipx install cmake")
    for variable, names in (("CC", ("cc", "gcc", "clang")), ("CXX", ("c++", "g++", "clang++"))):
        if compiler(variable, names) is None:
            language = "C" if variable == "CC" else "C++"
            looked_for = os.environ.get(variable) or ", ".join(names)
            found.append(
                f"no {language} compiler is on PATH (looked for {looked_for}).\n"
                "  Get it: sudo apt-get install build-essential"
            )
    if shutil.which("ninja") is None and shutil.which("make") is None:
        found.append("neither ninja nor make is on PATH.\n  Get one: sudo apt-get install ninja-build")
    return found


def check_platform() -> list[str]:
    """Return a message when there are no ROS wheels for this machine."""
    machine = os.uname().machine
    try:
        libc = os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (OSError, ValueError):
        libc = ""
    match = re.fullmatch(r"glibc (\d+)\.(\d+)", libc)
    if sys.platform == "linux" and machine == "x86_64" and match and (int(match[1]), int(match[2])) >= GLIBC_NEEDED:
        return []
    wanted = ".".join(map(str, GLIBC_NEEDED))
    return [
        f"this is {sys.platform} on {machine} with {libc or 'no glibc'}; PyPI has ROS 2 wheels for Linux on x86_64 "
        f"with glibc {wanted} or newer only.\n  Install ROS 2 from apt instead (Jazzy or Kilted), then: "
        "pip install -r requirements/apt-ros.txt && colcon build"
    ]


def missing_python_parts() -> list[str]:
    """Return one message for each part of the running Python that set-up needs and that is not installed."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    found = []
    # Debian ships `venv` without `ensurepip`; only the import of both shows that an environment will get its pip.
    check = subprocess.run([sys.executable, "-Ic", "import ensurepip, venv"], capture_output=True, check=False)
    if check.returncode != 0:
        found.append(
            f"{sys.executable} cannot make virtual environments (venv and ensurepip are a package of their own).\n"
            f"  Get them: sudo apt-get install python{version}-venv"
        )
    include = sysconfig.get_config_var("INCLUDEPY") or sysconfig.get_path("include")
    if not (Path(include) / "Python.h").is_file():
        found.append(
            f"Python.h of Python {version} is not in {include}.\n  Get it: sudo apt-get install python{version}-dev"
        )
    return found


def check_disk(root: Path) -> list[str]:
    """Return a message when the disk of ``root`` has too little room for the environment."""
    free = shutil.disk_usage(root).free
    if free >= FREE_BYTES_NEEDED:
        return []
    return [
        f"the disk of {root} has {free / 1e9:.1f} GB free; {FREE_BYTES_NEEDED / 1e9:.0f} GB are needed.\n"
        "  Free some (old pip downloads: `pip cache purge`) or check out on a larger disk."
    ]


def require(messages: list[str]) -> None:
    """Raise one error with every message.

    Raises:
        SetUpError: ``messages`` is not empty.
    """
    if messages:
        raise SetUpError("\n".join(messages))
