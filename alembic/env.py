"""Runs migrations over the connection that ``sigmgr.store.migrate`` hands in.

The transaction is the caller's: it took the lock and set the timeouts in it.
"""

from __future__ import annotations

from alembic import context
from sigmgr.store.tables import metadata

connection = context.config.attributes.get("connection")
if connection is None:
    raise SystemExit("run migrations with: sigmgr db upgrade")

context.configure(
    connection=connection,
    target_metadata=metadata,
    transactional_ddl=True,
    # SQLite alters a table by copying it.
    render_as_batch=connection.dialect.name == "sqlite",
)
context.run_migrations()
