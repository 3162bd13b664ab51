"""The statements over ``holders``, one function each.

Every function returns a statement without values; its bind parameters are named in its docstring.
It is built once per dialect and kept, so that SQLAlchemy compiles it once.

Due rows are found at bounded cost, whatever the backlog: ``limit`` rows are wanted, and no
statement reads more than a *lookahead* of index entries.

- A backlog within the lookahead is read whole and sorted by expiry (:func:`backlog`): exact.
- A larger one is read in expiry order from the expiry index, up to a horizon one lookahead away
  (:func:`urgent`); what is missing then comes from the longest overdue (:func:`overdue`). What is
  in emergency expires first, so it comes first.

What this module does not do: run them, or decide what is due.
"""

from __future__ import annotations

from functools import cache
from operator import itemgetter
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Double,
    Select,
    Text,
    Update,
    and_,
    bindparam,
    case,
    func,
    literal_column,
    or_,
    select,
    tuple_,
)

from sigmgr.model.holder import Holder
from sigmgr.model.policy import EMERGENCY_LEAST, EMERGENCY_MOST, FULL_LIFE
from sigmgr.model.sig import Record
from sigmgr.store.dialect import TRUE, Dialect
from sigmgr.store.tables import FORGET_AT, holders

h = holders.c
KEY = tuple(holders.primary_key.columns)
KEY_COLUMNS = tuple((column.name, int if column is h.sdkappid else str) for column in KEY)
ALL_COLUMNS = tuple((c.name, str if isinstance(c.type, Text) else int) for c in h)
MUTABLE = tuple(name for name, _ in ALL_COLUMNS if name not in Holder._fields)
#: With a new sig these columns stay; further ones follow from the rest of the record.
_STAY = {"acked", "acked_at", "revoked_at"}
_FOLLOW = {"expires_at", "due_at", "failures", "last_error", "warned"}
SIG_COLUMNS = tuple(
    column for column in ALL_COLUMNS if column[0] not in {*Holder._fields, *_STAY, *_FOLLOW}
)
#: The fields of a record that go into a batch of :func:`renewed`.
sig_cells = itemgetter(*(Record._fields.index(name) for name, _ in (*KEY_COLUMNS, *SIG_COLUMNS)))

#: A horizon beyond every row.
ENDLESS = (2**62, 2**62)

_app = h.sdkappid == bindparam("sdkappid")
_due = h.due_at <= bindparam("now")
_position = tuple_(h.expires_at, h.due_at)
_remaining = h.expires_at - bindparam("now", type_=BigInteger)


def _horizon(at: str) -> ColumnElement[Any]:
    return tuple_(
        bindparam(f"{at}_expiry", type_=BigInteger), bindparam(f"{at}_due", type_=BigInteger)
    )


def _limit() -> ColumnElement[int]:
    return bindparam("limit", type_=BigInteger)


def _same_holder(batch: Any) -> ColumnElement[bool]:
    return and_(*(column == batch.c[column.name] for column in KEY))


# Reading


@cache
def named(dialect: Dialect, *, lock: bool = False, skip: bool = False) -> Select[Any]:
    """The rows of a batch of holders.

    Locked in the order of the batch, which the caller has sorted, so that two callers with common
    holders cannot deadlock. ``skip``: without rows that are locked already.
    """
    batch = dialect.batch(*KEY_COLUMNS)
    found = select(*h).join_from(batch, holders, _same_holder(batch))
    if lock:
        return found.order_by(batch.c.n).with_for_update(of=holders, skip_locked=skip)
    return found


@cache
def of_users(dialect: Dialect) -> Select[Any]:
    """All rows of a batch of users (sdkappid, userid), in no order."""
    batch = dialect.batch(("sdkappid", int), ("userid", str))
    mine = and_(h.sdkappid == batch.c.sdkappid, h.userid == batch.c.userid)
    return select(*h).join_from(batch, holders, mine)


@cache
def live_rooms() -> Select[Any]:
    """How many room keys of ``userid`` in ``sdkappid`` are live ``now``, and their earliest expiry;
    the user is revoked up to ``revoked_at``. Rows of one user are adjacent in the primary key."""
    wanted: tuple[Any, ...] = (func.count(), func.min(h.expires_at))
    return select(*wanted).where(
        _app,
        h.userid == bindparam("userid"),
        h.kind == literal_column("'room'"),
        h.expires_at > bindparam("now"),
        h.issued_at > h.revoked_at,
        h.issued_at > bindparam("revoked_at", type_=BigInteger),
    )


@cache
def count() -> Select[Any]:
    """The rows of ``sdkappid``, counted up to ``limit``; by the primary key alone."""
    counted = select(h.sdkappid).where(_app).limit(_limit()).subquery()
    found: Select[Any] = select(func.count()).select_from(counted)
    return found


@cache
def page(*, first: bool) -> Select[Any]:
    """``limit`` rows in holder order, after the holder given as the key columns."""
    rows = select(*h).order_by(*KEY).limit(_limit())
    if first:
        return rows
    return rows.where(tuple_(*KEY) > tuple_(*(bindparam(column.name) for column in KEY)))


@cache
def apps_tracked() -> Select[Any]:
    """The apps with rows that have a due time, one index probe for each; with each its expiry among
    the longest overdue and among what expires first, both NULL where nothing is due ``now``."""
    tracked = h.due_at.is_not(None)
    lowest = select(func.min(h.sdkappid).label("sdkappid")).where(tracked)
    found = lowest.cte("found", recursive=True)
    following = (
        select(func.min(h.sdkappid))
        .where(tracked, h.sdkappid > found.c.sdkappid)
        .correlate(found)
        .scalar_subquery()
    )
    found = found.union_all(select(following).where(found.c.sdkappid.is_not(None)))
    mine = h.sdkappid == found.c.sdkappid
    overdue = select(h.expires_at).where(mine, _due).order_by(h.due_at).limit(16)
    ahead = select(h.expires_at, h.due_at).where(mine, tracked)
    ahead = ahead.order_by(h.expires_at, h.due_at).limit(16)
    first = overdue.correlate(found).subquery()
    second = ahead.correlate(found).subquery()
    return select(
        found.c.sdkappid,
        select(func.min(first.c.expires_at)).scalar_subquery().label("overdue"),
        select(func.min(second.c.expires_at))
        .where(second.c.due_at <= bindparam("now"))
        .scalar_subquery()
        .label("ahead"),
    ).where(found.c.sdkappid.is_not(None))


# Claiming


@cache
def due_beyond() -> Select[Any]:
    """One row if more than ``lookahead`` rows of ``sdkappid`` are due ``now``."""
    probe = select(h.due_at).where(_app, _due).order_by(h.due_at)
    return probe.offset(bindparam("lookahead", type_=BigInteger)).limit(1)


@cache
def expiry_horizon(*, resumed: bool = False) -> Select[Any]:
    """(expires_at, due_at) of the tracked row ``lookahead`` positions on in expiry order.
    ``resumed``: between the positions ``from_expiry``, ``from_due`` and ``to_expiry``, ``to_due``.
    """
    probe = select(h.expires_at, h.due_at).where(_app, h.due_at.is_not(None))
    if resumed:
        probe = probe.where(_position > _horizon("from"), _position <= _horizon("to"))
    probe = probe.order_by(h.expires_at, h.due_at)
    return probe.offset(bindparam("lookahead", type_=BigInteger)).limit(1)


def _between() -> Select[Any]:
    return select(*h).where(_app, _due, _position >= _horizon("from"), _position <= _horizon("to"))


def _earliest_locked(rows: Select[Any]) -> Select[Any]:
    rows = rows.order_by(h.expires_at, h.due_at).limit(_limit())
    return rows.with_for_update(skip_locked=True)


@cache
def urgent() -> Select[Any]:
    """Due rows from the position ``from_expiry``, ``from_due`` up to the horizon ``to_expiry``,
    ``to_due``, earliest expiry first, locked."""
    return _earliest_locked(_between())


@cache
def emergencies() -> Select[Any]:
    """As :func:`urgent`, only rows in the emergency of :func:`sigmgr.model.policy.emergency_of`
    with the given ``share`` of life; ``longest`` is that of the longest life. ``left < int(x)`` for
    whole ``left`` is ``left + 1 <= x``."""
    left = _remaining + literal_column("1")
    share = h.ttl * bindparam("share", type_=Double)
    least: ColumnElement[int] = literal_column(str(EMERGENCY_LEAST))
    most: ColumnElement[int] = literal_column(str(EMERGENCY_MOST))
    longest = bindparam("now", type_=BigInteger) + bindparam("longest", type_=BigInteger)
    # No emergency is longer, so the index ends the walk there.
    rows = _between().where(h.expires_at < longest, or_(left <= share, left <= least))
    return _earliest_locked(rows.where(left * most <= h.ttl))


@cache
def backlog() -> Select[Any]:
    """Due rows, earliest expiry first, locked; for a small backlog. They are sorted here: the index
    in that order also holds all rows that are not due, so the planner must not use it."""
    expiry = h.expires_at + literal_column("0")
    rows = select(*h).where(_app, _due).order_by(expiry, h.userid, h.kind, h.scope)
    return rows.limit(_limit()).with_for_update(skip_locked=True)


@cache
def overdue() -> Select[Any]:
    """Due rows beyond the horizon ``from_expiry``, ``from_due``, longest overdue first, locked."""
    rows = select(*h).where(_app, _due, _position > _horizon("from")).order_by(h.due_at)
    return rows.limit(_limit()).with_for_update(skip_locked=True)


def _rungs_crossed(rungs: int) -> ColumnElement[Any]:
    """The count of :func:`sigmgr.model.timing.rungs_crossed`, for a ladder of so many rungs.

    A rung is given for a full life; scaled it is ``rung * life // FULL_LIFE``, and left out where
    that is 0. ``left <= floor(x)`` for whole ``left`` is ``left <= x``.
    """
    full: ColumnElement[int] = literal_column(str(FULL_LIFE))
    life = case((h.ttl < full, h.ttl), else_=full)
    crossed: ColumnElement[Any] = case((_remaining <= 0, 1), else_=0)
    for i in range(rungs):
        scaled = bindparam(f"rung_{i}", type_=BigInteger) * life
        crossed += case((and_(scaled >= full, _remaining * full <= scaled), 1), else_=0)
    return crossed


@cache
def unwarned(rungs: int) -> Select[Any]:
    """Live tracked rows between two positions of the expiry order that have crossed more rungs than
    ``warned`` counts, locked. The ladder is ``rung_0``, ``rung_1``, ..."""
    rows = select(*h).where(
        _app,
        h.due_at.is_not(None),
        _position > _horizon("from"),
        _position <= _horizon("to"),
        h.issued_at > h.revoked_at,
        _rungs_crossed(rungs) > h.warned,
    )
    return _earliest_locked(rows)


# Writing


@cache
def make_missing(dialect: Dialect) -> Any:
    """Insert rows with nothing but their key, for a batch of holders; existing ones stay. Answers
    the keys of those inserted."""
    batch = dialect.batch(*KEY_COLUMNS)
    rows = select(*(batch.c[column.name] for column in KEY)).where(TRUE).order_by(batch.c.n)
    insert = dialect.insert(holders).from_select([column.name for column in KEY], rows)
    return insert.on_conflict_do_nothing(index_elements=list(KEY)).returning(*KEY)


def _fenced(batch: Any) -> Update:
    """Updates the rows of a batch's holders that still have the given issued_at."""
    return holders.update().where(_same_holder(batch), h.issued_at == batch.c.replaces)


@cache
def save(dialect: Dialect) -> Update:
    """Update a batch of whole records, each with the issued_at that its row must still have."""
    batch = dialect.batch(*ALL_COLUMNS, ("replaces", int))
    return _fenced(batch).values({name: batch.c[name] for name in MUTABLE})


@cache
def renewed(dialect: Dialect) -> Update:
    """Update a batch of new sigs (:data:`sig_cells`), each with the issued_at that its row must
    still have. Acks and revocations stay."""
    batch = dialect.batch(*KEY_COLUMNS, *SIG_COLUMNS, ("replaces", int))
    new = batch.c
    none: ColumnElement[int] = literal_column("0")
    return _fenced(batch).values(
        {name: new[name] for name, _ in SIG_COLUMNS}
        | {"expires_at": new.issued_at + new.ttl, "due_at": new.renew_at}
        | {"failures": none, "last_error": literal_column("''"), "warned": none}
    )


@cache
def confirm(dialect: Dialect) -> Update:
    """Write a batch of acks (sdkappid, userid, ticket, claim) ``now``, where the claim is the
    current sig's second and new, and no revocation reaches the ticket. Answers whose were written,
    and the sigs' facts."""
    batch = dialect.batch(("sdkappid", int), ("userid", str), ("ticket", int), ("claim", int))
    new = batch.c
    return (
        holders.update()
        .where(
            h.sdkappid == new.sdkappid,
            h.userid == new.userid,
            h.kind == literal_column("'user'"),
            h.scope == literal_column("''"),
            h.issued_at == new.claim,
            h.acked < new.claim,
            h.revoked_at < new.ticket,
        )
        .values(acked=new.claim, acked_at=bindparam("now", type_=BigInteger))
        .returning(h.sdkappid, h.userid, h.issued_at, h.expires_at, h.reason)
    )


@cache
def seen_earlier(dialect: Dialect) -> Select[Any]:
    """Every row of a batch of users (sdkappid, userid, at) that was last seen before ``at``, locked
    in holder order."""
    batch = dialect.batch(("sdkappid", int), ("userid", str), ("at", int))
    mine = and_(h.sdkappid == batch.c.sdkappid, h.userid == batch.c.userid)
    rows = select(*KEY, batch.c.at).join_from(batch, holders, mine)
    return rows.where(h.seen_at < batch.c.at).order_by(*KEY).with_for_update(of=holders)


@cache
def mark_seen(dialect: Dialect) -> Update:
    """A batch of holders, each with the time when it was seen. It wakes dormant ones: a living sig
    is renewed again from its renewal time on."""
    batch = dialect.batch(*KEY_COLUMNS, ("at", int))
    asleep = and_(h.due_at.is_(None), h.issued_at > h.revoked_at, h.expires_at > batch.c.at)
    return (
        holders.update()
        .where(_same_holder(batch), h.seen_at < batch.c.at)
        .values(seen_at=batch.c.at, due_at=case((asleep, h.renew_at), else_=h.due_at))
    )


@cache
def forget_past(dialect: Dialect) -> Any:
    """Delete ``limit`` rows that are not due and whose time to be forgotten is past ``now``."""
    forget_at: ColumnElement[int] = literal_column(f"({FORGET_AT})", BigInteger)
    now = bindparam("now", type_=BigInteger)
    past = (
        select(dialect.location(holders))
        .where(
            h.due_at.is_(None),
            forget_at <= now,
            # A revocation is remembered for a day, even one of a sig long expired.
            h.revoked_at + literal_column("86400") <= now,
            # No retention allows it; if one did, a living row would still stay.
            or_(h.expires_at <= now, h.issued_at == 0),
        )
        .order_by(forget_at)
        .limit(_limit())
        .with_for_update(skip_locked=True)
    )
    return holders.delete().where(dialect.located(holders, past))


assert tuple(name for name, _ in ALL_COLUMNS) == Record._fields, "columns follow Record"
