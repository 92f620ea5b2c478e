# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""How alembic runs a revision: on the connection that it was given, inside the transaction that is open there."""

from __future__ import annotations

from alembic import context

from flow_rag_vla.labeling.registry.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
