"""A row of the outbox holds several events, as a JSON list.

Events that wait are kept in both directions, and so is the count of ids: a process that
still runs may delete by an id that it got before.

Revision: 0002, after 0001
"""

from __future__ import annotations

import json

import sqlalchemy as sa

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

BYTES = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
SERIAL = sa.BigInteger().with_variant(sa.Integer, "sqlite")

#: What an event says, in the order of the list that it becomes: its holder in a list within.
FIELDS = (
    "type",
    "sdkappid",
    "userid",
    "kind",
    "scope",
    "issued_at",
    "expires_at",
    "reason",
    "at",
    "note",
)


def _text(name: str) -> sa.Column:
    return sa.Column(name, BYTES, nullable=False)


def _number(name: str) -> sa.Column:
    return sa.Column(name, sa.BigInteger, nullable=False)


def _create(*columns: sa.Column, vacuum_after: int) -> sa.Table:
    return op.create_table(
        "outbox",
        sa.Column("id", SERIAL, primary_key=True, autoincrement=True),
        *columns,
        sqlite_autoincrement=True,
        postgresql_with={
            "autovacuum_vacuum_scale_factor": "0",
            "autovacuum_vacuum_threshold": str(vacuum_after),
            "autovacuum_vacuum_insert_scale_factor": "0",
            "autovacuum_vacuum_insert_threshold": str(10 * vacuum_after),
            "autovacuum_vacuum_cost_delay": "0",
        },
    )


def _on_postgres() -> bool:
    return op.get_bind().dialect.name == "postgresql"


def _set_aside() -> int:
    """Move what waits out of the way; answers the last id that was given."""
    last_given = "SELECT seq FROM sqlite_sequence WHERE name = 'outbox'"
    if _on_postgres():
        # Who would add an event now waits, and then finds another table.
        op.execute("LOCK TABLE outbox IN ACCESS EXCLUSIVE MODE")
        last_given = "SELECT last_value FROM outbox_id_seq"
    last = op.get_bind().scalar(sa.text(last_given))
    op.execute("CREATE TABLE outbox_aside AS SELECT * FROM outbox")
    op.execute("CREATE INDEX ix_outbox_aside ON outbox_aside (id)")
    op.drop_table("outbox")
    return int(last or 0)


def _count_on_from(last: int) -> None:
    """The next id is one that was never given."""
    if _on_postgres():
        count = sa.text("SELECT setval('outbox_id_seq', greatest(:last, 1))")
    else:
        op.execute("DELETE FROM sqlite_sequence WHERE name = 'outbox'")
        count = sa.text("INSERT INTO sqlite_sequence (name, seq) VALUES ('outbox', :last)")
    op.get_bind().execute(count, {"last": last})


def upgrade() -> None:
    last = _set_aside()
    outbox = _create(
        _number("at"), _number("sdkappid"), _number("size"), _text("events"), vacuum_after=500
    )
    a = sa.table("outbox_aside", *map(sa.column, ("id", *FIELDS))).c
    array = sa.func.json_build_array if _on_postgres() else sa.func.json_array
    holder = array(a.sdkappid, a.userid, a.kind, a.scope)
    event = array(a.type, holder, a.issued_at, a.expires_at, a.reason, a.at, a.note)
    row = sa.select(a.id, a.at, a.sdkappid, sa.literal_column("1"), sa.cast(array(event), sa.Text))
    op.execute(outbox.insert().from_select(list(outbox.columns), row))
    op.drop_table("outbox_aside")
    _count_on_from(last)


def downgrade() -> None:
    last = _set_aside()
    outbox = _create(
        _number("at"),
        _text("type"),
        _number("sdkappid"),
        _text("userid"),
        _text("kind"),
        _text("scope"),
        _number("issued_at"),
        _number("expires_at"),
        _text("reason"),
        _text("note"),
        vacuum_after=5000,
    )
    _count_on_from(last)
    texts = sa.text("SELECT id, events FROM outbox_aside WHERE id > :after ORDER BY id LIMIT 1000")
    after = 0
    while rows := op.get_bind().execute(texts, {"after": after}).all():
        after = rows[-1].id
        if events := [event for row in rows for event in _events(row.events)]:
            op.bulk_insert(outbox, events)
    op.drop_table("outbox_aside")


def _events(text: str) -> list[dict[str, str | int]]:
    """The events of a row, without what a later version may have added; none where it cannot
    be read, which no relay could tell either."""
    try:
        return [
            dict(zip(FIELDS, (kind, *holder[:4], *rest[:5]), strict=True))
            for kind, holder, *rest in json.loads(text)
        ]
    except (ValueError, TypeError):
        return []
