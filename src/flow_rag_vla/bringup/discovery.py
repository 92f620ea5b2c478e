# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""How a process is found by others: how often it says that it is there, and over what.

Two processes of Fast DDS know each other once each has heard the other. A standing one answers a new one once, and the
new one announces itself before it listens: an answer that comes at once is lost. They then wait for the next
announcement of the standing one, up to the 3 s that are Fast DDS's own period. So ours is shorter.

Fast DDS 3 also asks other processes for the layout of the types that they use, in two more threads of each process.
ROS 2 has no use for the answer, since it compares types by hash, and the thread that reads answers has brought a
process down as it started ("dds.tls.replies", general protection fault in libfastdds 3.2). So our profiles turn it off.

A node that must be in time speaks over the loopback interface alone: memory that is shared with other processes has
locks, and one that a process of lower priority holds keeps the loop from publishing, whatever its own priority is.
rmw_fastrtps makes its transports itself while discovery is kept on this host, and FASTDDS_BUILTIN_TRANSPORTS says
nothing there. A profile that keeps to the loopback interface takes its place, under the range that leaves all to it.

Every other node does so too. A publisher over shared memory has been seen to fall silent for minutes, after processes
that had read from it were killed, and of raw pictures above its 512 kB hardly one came; a socket whose buffer is large
enough takes them all. Commands, which end soon, use what there is.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from enum import Enum
from pathlib import Path

from flow_rag_vla.bringup.resources import share_folder

PROFILES_VARIABLE = "FASTDDS_DEFAULT_PROFILES_FILE"
"""Names the file that Fast DDS reads when a process makes its first node."""

DISCOVERY_RANGE = "ROS_AUTOMATIC_DISCOVERY_RANGE"
HERE, LEFT_TO_PROFILE = "LOCALHOST", "SYSTEM_DEFAULT"

ORDINARY, LOOPBACK, PICTURES = "fastdds.xml", "fastdds_loopback.xml", "fastdds_pictures.xml"
"""The profiles that ship, in ``config/``."""

LARGEST_BUFFER = Path("/proc/sys/net/core/rmem_max")
"""What the system lets a process ask for, bytes; Linux only."""

WANTED_BUFFER = 4 * 1024 * 1024
"""What the profiles ask for. Pairs of raw pictures of 1280 x 720, 30 a second, all came with it."""


class Transport(Enum):
    """What the messages of a process go over while discovery is kept on this host."""

    ANY = ORDINARY
    """Shared memory between processes that both have it, else any interface."""
    LOOPBACK = LOOPBACK
    """The loopback interface alone."""
    PICTURES = PICTURES
    """The same, but it sends over shared memory too: others' sockets have buffers too small for raw pictures."""


_DIGESTS = {
    ORDINARY: "c2207e400efe17dfbc0f4e50f333170e41eb98efad06dfe42fc963cf819a9836",
    LOOPBACK: "08fbc4f4a834a28c65b3eb30d3f4afbd153288d229e8b186d82375a3ab79d8ad",
    PICTURES: "096b196f1a322e7b54eba600afe026b5a40ae9b9e64f86b8daa3e8db0b235627",
}
"""SHA-256 of what is in them: nothing that lets anybody on another host in."""

_OLD_VARIABLE = "FASTRTPS_DEFAULT_PROFILES_FILE"
_ANNOUNCED_ELSEWHERE = (PROFILES_VARIABLE, _OLD_VARIABLE, "ROS_DISCOVERY_SERVER")
_BESIDE = "DEFAULT_FASTDDS_PROFILES.xml"
_NOT_BESIDE = "SKIP_DEFAULT_XML_FILE"
_TRANSPORTS = "FASTDDS_BUILTIN_TRANSPORTS"
_OTHER_REACH = ("ROS_STATIC_PEERS", "ROS_LOCALHOST_ONLY", "ROS_SECURITY_ENABLE", _TRANSPORTS)
"""Where one of these is set, the range that a person chose stays."""

_OLD_DISTRIBUTIONS = frozenset({"humble", "iron", "jazzy"})
"""Their Fast DDS reads the variable by its old name."""


def profile_file(name: str = ORDINARY) -> Path:
    """A profile that ships.

    Raises:
        FileNotFoundError: if the package's files are in none of the known places.
    """
    return share_folder() / "config" / name


def choose_profile(
    environment: MutableMapping[str, str], *, fast_dds: bool = True, transport: Transport = Transport.ANY
) -> bool:
    """Have Fast DDS read a profile that ships, unless this environment or the working folder holds another.

    Args:
        environment: of this process, before it makes its first node; the variables are set in it.
        fast_dds: whether this process speaks through Fast DDS.
        transport: what its messages should go over.

    Returns:
        Whether it keeps to this host; see ``beyond_loopback``.
    """
    if keeps_here(environment):
        # From a parent that was such a node.
        environment[DISCOVERY_RANGE] = HERE
        del environment[PROFILES_VARIABLE]
    elif _shipped(environment.get(PROFILES_VARIABLE, "")):
        del environment[PROFILES_VARIABLE]
    own = any(environment.get(name) for name in _ANNOUNCED_ELSEWHERE) or _beside(environment)
    if not own and fast_dds:
        old = environment.get("ROS_DISTRO") in _OLD_DISTRIBUTIONS
        free = not (old or any(environment.get(name) for name in _OTHER_REACH))
        name = transport.value if free and environment.get(DISCOVERY_RANGE) == HERE else ORDINARY
        # A node needs none of the package's files to run: without them it is found later, and nothing else.
        with suppress(FileNotFoundError):
            path = str(profile_file(name))
            if _shipped(path):
                environment[_OLD_VARIABLE if old else PROFILES_VARIABLE] = path
                if name != ORDINARY:
                    environment[DISCOVERY_RANGE] = LEFT_TO_PROFILE
                    return True
    if transport is Transport.LOOPBACK:
        environment.setdefault(_TRANSPORTS, "UDPv4")
    return False


def short_buffer() -> int | None:
    """Bytes that a socket can keep where the system lets it ask for fewer than wanted; None: enough, or not known."""
    try:
        largest = int(LARGEST_BUFFER.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    # The kernel doubles what is asked for, to have room for its own bookkeeping (man 7 socket, SO_RCVBUF).
    return 2 * largest if largest < WANTED_BUFFER else None


def keeps_here(environment: Mapping[str, str]) -> bool:
    """Whether the profile that this environment names keeps to this host, whatever the range says."""
    return _shipped(environment.get(PROFILES_VARIABLE, "")) in (LOOPBACK, PICTURES) and not _beside(environment)


def foreign_profile(environment: Mapping[str, str]) -> str:
    """What names a profile of Fast DDS that does not ship: a variable or a file; empty if nothing does."""
    for name in (PROFILES_VARIABLE, _OLD_VARIABLE):
        path = environment.get(name, "")
        if path and not _shipped(path):
            return name
    return _BESIDE if _beside(environment) else ""


def beyond_loopback(process: int | str = "self") -> list[str]:
    """Local addresses at which sockets of a process hear other hosts: as the kernel writes them. Linux only."""
    own = set()
    with suppress(OSError):
        for entry in os.scandir(f"/proc/{process}/fd"):
            with suppress(OSError):
                own.add(os.readlink(entry.path))
    found = []
    for table, loopback in (("udp", "0100007F:"), ("udp6", "00000000000000000000000001000000:")):
        with suppress(OSError):
            for line in Path(f"/proc/{process}/net/{table}").read_text(encoding="ascii").splitlines()[1:]:
                fields = line.split()
                if f"socket:[{fields[9]}]" in own and not fields[1].startswith(loopback):
                    found.append(fields[1])
    return found


def _shipped(path: str) -> str:
    """Which of the profiles that ship a file is, by what is in it; empty if none."""
    if not path:
        return ""
    try:
        digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError:
        return ""
    return next((name for name, known in _DIGESTS.items() if known == digest), "")


def _beside(environment: Mapping[str, str]) -> bool:
    """Whether Fast DDS would read a file of the working folder."""
    return not environment.get(_NOT_BESIDE, "").startswith("1") and Path(_BESIDE).is_file()
