# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Who may do what: bearer tokens with a role and an end.

Only SHA-256 digests are kept, in memory and in the file; a secret is shown once, when it is made. Secrets are 32
random bytes, so a plain digest is enough (RFC 6750 for the header; no password is ever taken).

A token travels in the ``Authorization`` header, or as the first message of a WebSocket. There is no cookie, so a
foreign page has nothing that a browser would send along by itself.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import stat
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from flow_rag_vla.core.files import replaced_file
from flow_rag_vla.gateway.errors import GatewayError, respond


class Role(IntEnum):
    """What somebody may do; each may do what those below may."""

    VIEWER = 1
    """Look at everything."""
    LABELLER = 2
    """Make and correct labels."""
    REVIEWER = 3
    """Accept labels; change what the memory knows."""
    OPERATOR = 4
    """Move and stop the robot; administer everything."""

    @property
    def word(self) -> str:
        """Its name in files and messages."""
        return self.name.lower()


ROLES: tuple[str, ...] = tuple(role.word for role in Role)


class AccessError(ValueError):
    """A token file cannot be used; the message names the file, the fault and the remedy."""


@dataclass(frozen=True, slots=True)
class Person:
    """Whose request it is."""

    name: str
    role: Role
    expires: float | None = None
    """Unix time, seconds, at which the token ends; None: never."""


@dataclass(frozen=True, slots=True)
class Token:
    """One token as it is kept."""

    name: str
    role: Role
    digest: str
    """SHA-256 of the secret, 64 hex digits."""
    expires: float | None = None
    """Unix time, seconds; None: never."""


def digest_of(secret: str) -> str:
    """SHA-256 of a secret, 64 hex digits."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def new_token(name: str, role: Role, lifetime_s: float | None = None) -> tuple[Token, str]:
    """A token and its secret, which is kept nowhere."""
    secret = secrets.token_urlsafe(32)
    expires = None if lifetime_s is None else time.time() + lifetime_s
    return Token(name, role, digest_of(secret), expires), secret


class Access:
    """The tokens of a server. Nothing changes after it is made; any thread may ask."""

    def __init__(self, tokens: Iterable[Token], clock: Callable[[], float] = time.time) -> None:
        self.tokens = tuple(tokens)
        self._clock = clock

    def person(self, secret: str) -> Person:
        """Whose secret it is.

        Raises:
            GatewayError: 401, ``token_unknown`` or ``token_expired``.
        """
        digest = digest_of(secret)
        found: Token | None = None
        # Every token is compared, in constant time: how long it takes says nothing about any of them.
        for token in self.tokens:
            if hmac.compare_digest(token.digest, digest):
                found = token
        if found is None:
            raise GatewayError(401, "token_unknown", "this token is not known here", "use a token of this server")
        person = Person(found.name, found.role, found.expires)
        self.still(person)
        return person

    def still(self, person: Person) -> None:
        """Check that a person's token has not ended meanwhile: a connection may outlive it.

        Raises:
            GatewayError: 401, ``token_expired``.
        """
        left_s = self.left_s(person)
        if left_s is not None and left_s <= 0.0:
            raise GatewayError(401, "token_expired", f"the token {person.name!r} has expired", "ask for a new one")

    def left_s(self, person: Person) -> float | None:
        """Seconds for which a person's token will still be taken; None: without end."""
        return None if person.expires is None else person.expires - self._clock()

    def check(self, secret: str | None, role: Role) -> Person:
        """Whose secret it is, if that person has at least ``role``.

        Raises:
            GatewayError: 401 without a valid token (``token_missing``, ``token_unknown``, ``token_expired``), 403 with
                one whose role is too low (``role_too_low``).
        """
        if not secret:
            raise GatewayError(401, "token_missing", "no token came with this", "send Authorization: Bearer TOKEN")
        person = self.person(secret)
        if person.role < role:
            raise GatewayError(
                403,
                "role_too_low",
                f"{person.name!r} is {person.role.word}; this needs {role.word}",
                f"use the token of a {role.word}",
            )
        return person


def load_access(path: str | Path) -> Access:
    """Tokens of a file that only its owner can read: ``{"tokens": [{"name", "role", "sha256", "expires"}]}``.

    Raises:
        AccessError: if it is missing, readable by others, or malformed.
    """
    file = Path(path)
    try:
        mode = file.stat().st_mode
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise AccessError(f"token file {file}: {error.strerror}; leave it out and tokens are made anew") from None
    except UnicodeDecodeError:
        raise AccessError(f"token file {file} is no text; write it with flow_rag_vla live --new-token") from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise AccessError(f"token file {file} can be read by others (mode {mode & 0o777:04o}); run: chmod 600 {file}")
    try:
        entries = json.loads(text)["tokens"]
        return Access([_token(entry) for entry in entries])
    except (ValueError, TypeError, KeyError) as error:
        raise AccessError(f"token file {file} is malformed: {error}; see docs/live.md for its form") from None


def save_access(path: str | Path, tokens: Iterable[Token]) -> None:
    """Write tokens to a file that only its owner can read; it is whole or as it was."""
    entries = [
        {"name": token.name, "role": token.role.word, "sha256": token.digest, "expires": token.expires}
        for token in tokens
    ]
    with replaced_file(path) as temporary:
        os.chmod(temporary, 0o600)
        temporary.write_text(json.dumps({"tokens": entries}, indent=2) + "\n", encoding="utf-8")


def _token(entry: Mapping[str, Any]) -> Token:
    name, word, digest, expires = entry["name"], entry["role"], entry["sha256"], entry.get("expires")
    if not isinstance(name, str) or not name:
        raise ValueError(f"name is {name!r}, expected a word")
    if word not in ROLES:
        raise ValueError(f"role of {name!r} is {word!r}, expected one of {', '.join(ROLES)}")
    if not isinstance(digest, str) or len(digest) != 64 or set(digest) - set("0123456789abcdef"):
        raise ValueError(f"sha256 of {name!r} is not 64 lower-case hex digits")
    if expires is not None and (isinstance(expires, bool) or not isinstance(expires, (int, float))):
        raise ValueError(f"expires of {name!r} is {expires!r}, expected Unix seconds or null")
    return Token(name, Role[word.upper()], digest, None if expires is None else float(expires))


def bearer(connection: HTTPConnection) -> str | None:
    """The secret in the Authorization header, or None."""
    scheme, _, secret = connection.headers.get("authorization", "").partition(" ")
    return secret.strip() or None if scheme.lower() == "bearer" else None


def admitted(connection: HTTPConnection, role: Role) -> Person:
    """The person whose request it is, if it brings a token of at least this role.

    Raises:
        GatewayError: see ``Access.check``.
    """
    access: Access = connection.app.state.access
    return access.check(bearer(connection), role)


Requirement = Callable[[HTTPConnection], Awaitable[Person]]
_REQUIRED: dict[object, Role] = {}


def require(role: Role) -> Requirement:
    """Dependency of a route: the person, if the request brings a token of at least this role."""

    async def person(connection: HTTPConnection) -> Person:
        return admitted(connection, role)

    _REQUIRED[person] = role
    return person


def required(dependencies: Iterable[object]) -> Role | None:
    """The role that the first of some dependencies asks for, or None: none of them is from ``require``."""
    return next((_REQUIRED[one] for one in dependencies if one in _REQUIRED), None)


class Door:
    """ASGI middleware: below ``prefix`` a request without a valid token is refused before any of its body is read.

    FastAPI reads and parses a body before it looks at dependencies: without this a stranger would hear what is wrong
    with a body, or have a long one taken in, before being asked who it is.
    """

    def __init__(self, app: ASGIApp, access: Access, prefix: str) -> None:
        self._app, self._access, self._prefix = app, access, prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection (ASGI)."""
        if scope["type"] == "http" and scope["path"].startswith(self._prefix):
            try:
                self._access.check(bearer(HTTPConnection(scope)), Role.VIEWER)
            except GatewayError as error:
                await respond(error)(scope, receive, send)
                return
        await self._app(scope, receive, send)


Viewer = Annotated[Person, Depends(require(Role.VIEWER))]
Labeller = Annotated[Person, Depends(require(Role.LABELLER))]
Reviewer = Annotated[Person, Depends(require(Role.REVIEWER))]
Operator = Annotated[Person, Depends(require(Role.OPERATOR))]
