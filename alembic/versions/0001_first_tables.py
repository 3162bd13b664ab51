"""Holders, outbox, apps, keys, tokens and named values.

What each index is for stands in ``sigmgr/store/tables.py``. A migration repeats the schema
of its day and does not import it: tables change, history does not.

Revision: 0001, after none
"""

from __future__ import annotations

import sqlalchemy as sa

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

BYTES = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
SERIAL = sa.BigInteger().with_variant(sa.Integer, "sqlite")

FORGET_AT = (
    "CASE WHEN issued_at = 0 THEN revoked_at + 86400"
    " WHEN kind = 'room' AND ttl >= 21600 THEN expires_at + 86400"
    " WHEN kind = 'room' THEN expires_at + 4 * ttl"
    " WHEN ttl >= 7776000 THEN expires_at + 15552000"
    " ELSE expires_at + 2 * ttl END"
)


def _text(name: str, default: str | None = None) -> sa.Column:
    text = None if default is None else sa.text(f"'{default}'")
    return sa.Column(name, BYTES, nullable=False, server_default=text)


def _number(name: str, default: int | None = None) -> sa.Column:
    text = None if default is None else sa.text(str(default))
    return sa.Column(name, sa.BigInteger, nullable=False, server_default=text)


def _id() -> sa.Column:
    return sa.Column("id", SERIAL, primary_key=True, autoincrement=True)


def upgrade() -> None:
    _create_holders()
    _create_outbox()
    _create_catalog()


def _create_holders() -> None:
    op.create_table(
        "holders",
        _number("sdkappid"),
        _text("userid"),
        _text("kind"),
        _text("scope"),
        _text("format", ""),
        _number("key_id", 0),
        _number("issued_at", 0),
        _number("ttl", 0),
        _number("renew_at", 0),
        _number("warn_after", 0),
        _number("expires_at", 0),
        _number("privileges", 0),
        _text("reason", ""),
        sa.Column("due_at", sa.BigInteger),
        _number("failures", 0),
        _text("last_error", ""),
        _number("seen_at", 0),
        _number("acked", 0),
        _number("acked_at", 0),
        _number("revoked_at", 0),
        _number("warned", 0),
        _text("past", "[]"),
        sa.PrimaryKeyConstraint("sdkappid", "userid", "kind", "scope", name="pk_holders"),
        postgresql_with={
            "fillfactor": "70",
            "autovacuum_vacuum_scale_factor": "0.05",
            "autovacuum_analyze_scale_factor": "0.05",
        },
    )
    for name, columns, condition in (
        ("ix_holders_due", ["sdkappid", "due_at"], "due_at IS NOT NULL"),
        ("ix_holders_expiry", ["sdkappid", "expires_at", "due_at"], "due_at IS NOT NULL"),
        ("ix_holders_past", [sa.text(f"({FORGET_AT})")], "due_at IS NULL"),
    ):
        where = sa.text(condition)
        op.create_index(name, "holders", columns, postgresql_where=where, sqlite_where=where)


def _create_outbox() -> None:
    op.create_table(
        "outbox",
        _id(),
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
        sqlite_autoincrement=True,
        postgresql_with={
            "autovacuum_vacuum_scale_factor": "0",
            "autovacuum_vacuum_threshold": "5000",
            "autovacuum_vacuum_insert_scale_factor": "0",
            "autovacuum_vacuum_insert_threshold": "50000",
            "autovacuum_vacuum_cost_delay": "0",
        },
    )


def _create_catalog() -> None:
    op.create_table(
        "apps",
        sa.Column("sdkappid", sa.BigInteger, primary_key=True, autoincrement=False),
        _text("name"),
        _text("policy"),
        sa.Column("paused", sa.Boolean, nullable=False),
        _number("created_at"),
    )
    op.create_table(
        "keys",
        _id(),
        _number("sdkappid"),
        _text("format"),
        _text("curve"),
        _text("state"),
        _text("fingerprint"),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        _number("created_at"),
        _number("changed_at"),
        sa.ForeignKeyConstraint(["sdkappid"], ["apps.sdkappid"], name="fk_keys_app"),
        sa.UniqueConstraint("sdkappid", "fingerprint", name="uq_keys_fingerprint"),
        sqlite_autoincrement=True,
    )
    active = sa.text("state = 'active'")
    op.create_index(
        "uq_keys_active",
        "keys",
        ["sdkappid"],
        unique=True,
        postgresql_where=active,
        sqlite_where=active,
    )
    op.create_table(
        "tokens",
        _id(),
        _text("name"),
        _text("role"),
        _number("sdkappid"),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        _number("created_at"),
        _number("revoked_at"),
        sa.UniqueConstraint("digest", name="uq_tokens_digest"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "meta",
        sa.Column("name", BYTES, primary_key=True),
        sa.Column("value", sa.LargeBinary, nullable=False),
    )


def downgrade() -> None:
    for table in ("meta", "tokens", "keys", "apps", "outbox", "holders"):
        op.drop_table(table)
