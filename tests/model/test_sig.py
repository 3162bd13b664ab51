"""The next record: what a new sig changes, what it leaves, and what is remembered."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sigmgr.model.holder import Holder
from sigmgr.model.sig import PAST_KEPT, Format, KeyRef, Past, Reason, Record, next_record, past_of
from sigmgr.model.timing import Times

TIMES = Times(1_900_000_100, 1_900_000_160, 1_900_000_170, 1_900_000_200)
KEY = KeyRef(9, Format("v1"))
OLD = Record(
    sdkappid=1, userid="alice", kind="room", scope="name:{x}", format="v2", key_id=3,
    issued_at=1_900_000_000, ttl=90, renew_at=1_900_000_060, warn_after=1_900_000_070,
    expires_at=1_900_000_090, privileges=255, reason="Missing", due_at=None, failures=4,
    last_error="signing-failed", seen_at=5, acked=6, acked_at=7, revoked_at=8, warned=2,
)  # fmt: skip


def following(old: Record, reason: Reason = Reason.FORCED) -> Record:
    return next_record(old, KEY, TIMES, reason=reason, privileges=42, seen_at=11)


def test_what_a_new_sig_changes_and_what_it_leaves() -> None:
    assert following(OLD) == OLD._replace(
        format="v1", key_id=9, issued_at=TIMES.issued_at, ttl=100, renew_at=TIMES.renew_at,
        warn_after=TIMES.warn_after, expires_at=TIMES.expires_at, privileges=42,
        reason="Forced", due_at=TIMES.renew_at, failures=0, last_error="", seen_at=11, warned=0,
        past='[[1900000000,90,3,"Missing"]]',
    )  # fmt: skip


def test_a_first_sig_follows_on_none() -> None:
    assert following(Record(*Holder(1, "alice"))).past == "[]"


@given(st.lists(st.text(max_size=9), max_size=9))
def test_the_last_few_are_remembered_newest_first(reasons: list[str]) -> None:
    """Whatever the reasons read like."""
    record, made = Record(*Holder(1, "alice")), list[Past]()
    for n, reason in enumerate(reasons, start=1):
        record = following(record)._replace(issued_at=n, ttl=n, key_id=n, reason=reason)
        made.insert(0, Past(n, n, n, reason))
    assert past_of(record) == made[1 : 1 + PAST_KEPT]


def test_four_sigs_before_the_current_one_are_remembered() -> None:
    """A client that comes back with one of them is known to have had it."""
    record = Record(*Holder(1, "alice"))
    for n in range(1, 8):
        record = following(record)._replace(issued_at=n)
    assert [past.issued_at for past in past_of(record)] == [6, 5, 4, 3]


def test_a_sig_is_alive_from_after_a_revocation_until_its_expiry() -> None:
    record = OLD._replace(revoked_at=OLD.issued_at - 1)
    assert record.alive(OLD.issued_at)
    assert record.alive(OLD.expires_at - 1)
    assert not record.alive(OLD.expires_at)
    assert not record._replace(revoked_at=OLD.issued_at).alive(OLD.issued_at)
    assert not Record(*Holder(1, "alice"), expires_at=OLD.expires_at).alive(1)
