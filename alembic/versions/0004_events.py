"""Events get numbers, and are kept, for apps that have durable readers.

No app has any before it is switched on. Going back: what was announced already and waited for
its numbers only is forgotten, as it would have been without; the numbered events are gone.

Revision: 0004, after 0003
"""

from __future__ import annotations

import sqlalchemy as sa

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

BYTES = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def _flag(name: str) -> sa.Column:
    return sa.Column(name, sa.Boolean, nullable=False, server_default=sa.text("false"))


def _number(name: str) -> sa.Column:
    return sa.Column(name, sa.BigInteger, nullable=False)


def _zero(name: str) -> sa.Column:
    return sa.Column(name, sa.BigInteger, nullable=False, server_default=sa.text("0"))


def _text(name: str) -> sa.Column:
    return sa.Column(name, BYTES, nullable=False, server_default=sa.text("''"))


def upgrade() -> None:
    op.add_column("outbox", _flag("waits"))
    op.add_column("outbox", _flag("announced"))
    op.create_index(
        "ix_outbox_waits",
        "outbox",
        ["sdkappid", "id"],
        postgresql_where=sa.text("waits"),
        sqlite_where=sa.text("waits = 1"),
    )
    app = sa.ForeignKey("apps.sdkappid", name="fk_feeds_app")
    op.create_table(
        "feeds",
        sa.Column("sdkappid", sa.BigInteger, app, primary_key=True, autoincrement=False),
        _text("feed"),
        _zero("number"),
        _zero("start"),
        _text("history"),
        postgresql_with={"fillfactor": "20", "autovacuum_vacuum_threshold": "200"},
    )
    op.create_table(
        "events",
        _number("sdkappid"),
        _number("number"),
        _number("size"),
        _number("at"),
        sa.Column("events", BYTES, nullable=False),
        sa.PrimaryKeyConstraint("sdkappid", "number", name="pk_events"),
    )


def downgrade() -> None:
    op.drop_table("events")
    op.drop_table("feeds")
    op.execute(sa.text("DELETE FROM outbox WHERE announced"))
    op.drop_index("ix_outbox_waits", "outbox")
    op.drop_column("outbox", "announced")
    op.drop_column("outbox", "waits")
