"""What a new sig writes: the same row as the whole record would, and nothing of others."""

from __future__ import annotations

import pytest

from sigmgr.flow.reissuer import Reissue, Reissuer
from sigmgr.model.policy import Policy
from sigmgr.model.sig import Format, KeyRef, Reason, Record
from tests.contract.store_kit import DAY, KINDS, NOW, holder, opened, record, url_of

LATER = NOW + 60 * DAY

ROWS = [
    Record(*holder("never")),
    record("usual"),
    record("failed", failures=3, last_error="signing-failed", due_at=LATER + 7),
    record("warned", warned=4, seen_at=LATER - 5),
    record("acked", acked=NOW, acked_at=NOW + 3),
    record("dormant", due_at=None),
    record("revoked", revoked_at=NOW + 5, due_at=None),
    Record(*holder("only revoked"), revoked_at=NOW + 5),
    record(holder("a room", "room", "name:{x}"), privileges=255, reason='odd, "and" \\'),
    record("past", past='[[1,2,3,"Missing"],[0,2,3,"Forced"]]'),
]


@pytest.fixture(params=KINDS)
async def db(request, tmp_path):
    async with opened(url_of(request, request.param, tmp_path)) as database:
        await database.put(ROWS)
        yield database


def following(row: Record, *, seen: bool = False) -> Record:
    """The next record as a commit makes it."""
    one = Reissue(row, Reason.NEARING_EXPIRY, Policy(), privileges=42 if row.privileges else 0)
    reissuer = Reissuer(store=None, signer=None, draw=lambda: 0.25, publisher=None)  # type: ignore[arg-type]
    planned = reissuer._next(one._replace(seen=seen), KeyRef(9, Format("v1")), LATER)
    assert isinstance(planned, Record)
    return planned


async def saved(db, changes, **how):
    async with db.store.transaction() as tx:
        await tx.save(changes, **how)
    return await db.store.find([row.holder for row in ROWS])


@pytest.mark.parametrize("seen", [False, True])
async def test_it_is_the_row_that_the_whole_record_would_be(db, seen):
    changes = [(following(row, seen=seen), row.issued_at) for row in ROWS]
    whole = await saved(db, changes)
    await db.put(ROWS)
    assert await saved(db, changes, new_sigs=True) == whole == [new for new, _ in changes]
    assert all(new != row for new, row in zip(whole, ROWS, strict=True))


async def test_what_clients_acked_and_what_was_revoked_stays(db):
    """Whatever the record contains; and the times that follow from others do follow."""
    others = {"acked": 1, "acked_at": 2, "revoked_at": 3, "warned": 4, "failures": 5}
    others |= {"last_error": "x", "due_at": None, "expires_at": 6}
    changes = [(following(row)._replace(**others), row.issued_at) for row in ROWS]
    found = await saved(db, changes, new_sigs=True)
    for row, (new, _), now in zip(ROWS, changes, found, strict=True):
        assert (now.acked, now.acked_at, now.revoked_at) == (
            row.acked, row.acked_at, row.revoked_at,
        )  # fmt: skip
        assert (now.warned, now.failures, now.last_error) == (0, 0, "")
        assert now.expires_at == new.issued_at + new.ttl
        assert now.due_at == new.renew_at


async def test_a_row_that_is_not_named_stays(db):
    [_, usual, *rest] = await saved(db, [(following(ROWS[0]), 0)], new_sigs=True)
    assert [usual, *rest] == ROWS[1:]
    assert await saved(db, [], new_sigs=True) == [following(ROWS[0]), *ROWS[1:]]
