"""The tables, their indexes, and why each index exists.

- ``holders``: one row per holder, the columns of :class:`sigmgr.model.sig.Record` in order.
- ``revocations``: who is revoked, up to which second, while it matters.
- ``outbox``: events that wait to be announced, or for their numbers, some of one commit a row;
  usually empty.
- ``feeds``: the apps with durable readers, each with the counter of its events. ``events``: the
  numbered events, for a week.
- ``apps``, ``keys``, ``tokens``: what operators manage. ``meta``: a few named values.

Texts compare by byte on both databases (collation C on PostgreSQL, SQLite's default), so that the
database, ``sorted()`` and cursors agree on the order of holders.

What this module does not do: build statements, and migrate (``alembic/versions``; a test compares
the two).
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    TextClause,
    UniqueConstraint,
    text,
)

metadata = MetaData()

#: Text that sorts by byte, which is SQLite's default; it has no collation named C.
ByteText = Text().with_variant(Text(collation="C"), "postgresql")
#: SQLite counts up without reuse only for a column declared INTEGER.
Serial = BigInteger().with_variant(Integer, "sqlite")


def _text(name: str) -> Column[str]:
    return Column(name, ByteText, nullable=False, server_default=text("''"))


def _number(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, server_default=text("0"))


def _where(
    condition: ColumnElement[bool] | TextClause, sqlite: TextClause | None = None
) -> dict[str, Any]:
    """The condition of an index; ``sqlite``: where it is written otherwise there."""
    return {"postgresql_where": condition, "sqlite_where": condition if sqlite is None else sqlite}


#: When a row without a due time may be deleted: users 180 d after expiry and rooms 1 d, for a life
#: of 90 d and 6 h, in proportion for shorter lives; a row that exists for a revocation only, 1 d
#: after that.
FORGET_AT = (
    "CASE WHEN issued_at = 0 THEN revoked_at + 86400"
    " WHEN kind = 'room' AND ttl >= 21600 THEN expires_at + 86400"
    " WHEN kind = 'room' THEN expires_at + 4 * ttl"
    " WHEN ttl >= 7776000 THEN expires_at + 15552000"
    " ELSE expires_at + 2 * ttl END"
)

holders = Table(
    "holders",
    metadata,
    Column("sdkappid", BigInteger, nullable=False),
    Column("userid", ByteText, nullable=False),
    Column("kind", ByteText, nullable=False),
    Column("scope", ByteText, nullable=False),
    _text("format"),
    _number("key_id"),
    _number("issued_at"),
    _number("ttl"),
    _number("renew_at"),
    _number("warn_after"),
    _number("expires_at"),
    _number("privileges"),
    _text("reason"),
    Column("due_at", BigInteger),
    _number("failures"),
    _text("last_error"),
    _number("seen_at"),
    _number("acked"),
    _number("acked_at"),
    _number("revoked_at"),
    _number("warned"),
    Column("past", ByteText, nullable=False, server_default=text("'[]'")),
    # The order of cursors and of row locks.
    PrimaryKeyConstraint("sdkappid", "userid", "kind", "scope", name="pk_holders"),
    # Space for the next version of a row on its page, so that a write of ``seen_at`` changes no
    # index. Vacuum runs before a twentieth of the rows are dead: claims walk over those.
    postgresql_with={
        "fillfactor": "70",
        "autovacuum_vacuum_scale_factor": "0.05",
        "autovacuum_analyze_scale_factor": "0.05",
    },
)

_tracked = _where(holders.c.due_at.is_not(None))

# What is due, the longest overdue first: one probe shows whether an app has work, and a small
# backlog is read through it.
Index("ix_holders_due", holders.c.sdkappid, holders.c.due_at, **_tracked)
# What expires next: a large backlog is read in this order, without sorting; due_at lets rows that
# are not due be skipped inside the index. Warnings use it, too.
Index("ix_holders_expiry", holders.c.sdkappid, holders.c.expires_at, holders.c.due_at, **_tracked)
# What may be deleted, for the janitor. By expires_at alone it would walk over dormant users of
# several months to find yesterday's rooms.
Index(
    "ix_holders_past",
    text(f"({FORGET_AT})"),
    **_where(holders.c.due_at.is_(None)),
    _table=holders,
)

revocations = Table(
    "revocations",
    metadata,
    # 0 is every app, an empty userid every user.
    Column("sdkappid", BigInteger, nullable=False),
    Column("userid", ByteText, nullable=False),
    # Sigs issued in or before this second are revoked.
    Column("until", BigInteger, nullable=False),
    # When the last of them has expired, and the row may be deleted.
    Column("forget_at", BigInteger, nullable=False),
    # The database's own second of the last write, by which readers ask for new rows.
    Column("at", BigInteger, nullable=False),
    PrimaryKeyConstraint("sdkappid", "userid", name="pk_revocations"),
)

Index("ix_revocations_at", revocations.c.at)
Index("ix_revocations_forget", revocations.c.forget_at)

outbox = Table(
    "outbox",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("at", BigInteger, nullable=False),
    Column("sdkappid", BigInteger, nullable=False),
    # How many events, and the JSON list of them.
    Column("size", BigInteger, nullable=False),
    Column("events", ByteText, nullable=False),
    # These events are announced and wait for their numbers.
    Column("waits", Boolean, nullable=False, server_default=text("false")),
    Column("announced", Boolean, nullable=False, server_default=text("false")),
    # Ids are never used again: a late mark must not meet a newer event.
    sqlite_autoincrement=True,
    # A queue turns over many times its size: vacuum by count, not by share, and without cost
    # limits; otherwise every poll walks over deleted rows.
    postgresql_with={
        "autovacuum_vacuum_scale_factor": "0",
        "autovacuum_vacuum_threshold": "500",
        "autovacuum_vacuum_insert_scale_factor": "0",
        "autovacuum_vacuum_insert_threshold": "5000",
        "autovacuum_vacuum_cost_delay": "0",
    },
)

# What waits for numbers, in their order. Only rows of apps with durable readers.
Index("ix_outbox_waits", outbox.c.sdkappid, outbox.c.id, **_where(text("waits"), text("waits = 1")))

apps = Table(
    "apps",
    metadata,
    Column("sdkappid", BigInteger, primary_key=True, autoincrement=False),
    Column("name", ByteText, nullable=False),
    # JSON of the policy's fields that differ from the defaults.
    Column("policy", ByteText, nullable=False),
    Column("paused", Boolean, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)

feeds = Table(
    "feeds",
    metadata,
    Column(
        "sdkappid",
        BigInteger,
        ForeignKey("apps.sdkappid", name="fk_feeds_app"),
        primary_key=True,
        autoincrement=False,
    ),
    # Random, in every cursor; empty while the feed is off.
    _text("feed"),
    # The last number given; and the last one of an earlier feed of the app.
    _number("number"),
    _number("start"),
    # The database that gave the numbers: see ``outbox``.
    _text("history"),
    # The counter changes all the time, in place; every commit reads the row.
    postgresql_with={"fillfactor": "20", "autovacuum_vacuum_threshold": "200"},
)

events = Table(
    "events",
    metadata,
    Column("sdkappid", BigInteger, nullable=False),
    # The number of the row's last event; the others have those before it.
    Column("number", BigInteger, nullable=False),
    Column("size", BigInteger, nullable=False),
    # The second in which the numbers were given.
    Column("at", BigInteger, nullable=False),
    Column("events", ByteText, nullable=False),
    PrimaryKeyConstraint("sdkappid", "number", name="pk_events"),
)

keys = Table(
    "keys",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("sdkappid", BigInteger, ForeignKey("apps.sdkappid", name="fk_keys_app"), nullable=False),
    Column("format", ByteText, nullable=False),
    Column("curve", ByteText, nullable=False),
    Column("state", ByteText, nullable=False),
    Column("fingerprint", ByteText, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("changed_at", BigInteger, nullable=False),
    UniqueConstraint("sdkappid", "fingerprint", name="uq_keys_fingerprint"),
    # The id is bound into the sealed material, so it is never used again.
    sqlite_autoincrement=True,
)

# One key signs for an app; the database guarantees it for concurrent operators.
Index("uq_keys_active", keys.c.sdkappid, unique=True, **_where(keys.c.state == text("'active'")))

tokens = Table(
    "tokens",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("name", ByteText, nullable=False),
    Column("role", ByteText, nullable=False),
    # 0 means every app.
    Column("sdkappid", BigInteger, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("revoked_at", BigInteger, nullable=False),
    UniqueConstraint("digest", name="uq_tokens_digest"),
    sqlite_autoincrement=True,
)

meta = Table(
    "meta",
    metadata,
    Column("name", ByteText, primary_key=True),
    Column("value", LargeBinary, nullable=False),
)
