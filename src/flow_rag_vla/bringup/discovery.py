"""How often a node says that it is there, so that one that was started again is heard at once.

Two processes of Fast DDS know each other once each has heard the other. A standing one answers a new one once, and the
new one announces itself before it listens: an answer that comes at once is lost. They then wait for the next
announcement of the standing one, up to the 3 s that are Fast DDS's own period.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, MutableMapping
from pathlib import Path

from flow_rag_vla.bringup.resources import share_folder

PROFILES_VARIABLE = "FASTDDS_DEFAULT_PROFILES_FILE"
"""Names the file that Fast DDS reads when a process makes its first node."""

_ANNOUNCED_ELSEWHERE = (PROFILES_VARIABLE, "FASTRTPS_DEFAULT_PROFILES_FILE", "ROS_DISCOVERY_SERVER")
_BESIDE = "DEFAULT_FASTDDS_PROFILES.xml"
_NOT_BESIDE = "SKIP_DEFAULT_XML_FILE"

_DIGEST = "349507a3ab05537f181be1e787432d07e44e2b9094799f9b2cb4eda571a5ffa1"
"""SHA-256 of the file that ships: what is in it says nothing about how far discovery reaches."""


def profile_file() -> Path:
    """The profile that ships.

    Raises:
        FileNotFoundError: if the package's files are in none of the known places.
    """
    return share_folder() / "config" / "fastdds.xml"


def announce_often(environment: MutableMapping[str, str]) -> None:
    """Have Fast DDS read the profile that ships, unless this environment or the working folder holds another."""
    if any(environment.get(name) for name in _ANNOUNCED_ELSEWHERE) or _beside(environment):
        return
    try:
        environment[PROFILES_VARIABLE] = str(profile_file())
    except FileNotFoundError:
        # A node needs none of the package's files to run: it is found later, and nothing else.
        return


def foreign_profile(environment: Mapping[str, str]) -> str:
    """What names a profile of Fast DDS that is not the one that ships: a variable or a file; empty if nothing does."""
    for name in _ANNOUNCED_ELSEWHERE[:2]:
        path = environment.get(name)
        if path and not _ships(Path(path)):
            return name
    return _BESIDE if _beside(environment) else ""


def _ships(path: Path) -> bool:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() == _DIGEST
    except OSError:
        return False


def _beside(environment: Mapping[str, str]) -> bool:
    """Whether Fast DDS would read a file of the working folder."""
    return not environment.get(_NOT_BESIDE, "").startswith("1") and Path(_BESIDE).is_file()
