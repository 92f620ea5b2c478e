# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What can be wrong with a policy elsewhere; each text names the value, the place and, if there is one, the remedy."""

from __future__ import annotations


class RemotePolicyError(ValueError):
    """A policy elsewhere cannot be used as it is."""


class WireError(RemotePolicyError):
    """Bytes that are no message of the protocol, or a value that cannot become one."""


class ContractError(RemotePolicyError):
    """A description of what a server takes and gives cannot be used."""


class ObservationError(RemotePolicyError):
    """What was seen does not give what the server takes."""


class ActionError(RemotePolicyError):
    """An answer that cannot be followed."""


class MissingLibraryError(RemotePolicyError):
    """A library of the extra ``openpi`` is not installed."""


def missing_library(error: ImportError) -> MissingLibraryError:
    """The error for a library that is not there."""
    return MissingLibraryError(
        f"a remote policy needs the package {error.name!r}, which is not installed: pip install 'flow_rag_vla[openpi]'"
    )
