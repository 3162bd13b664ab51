"""The near cache: what may be served from this process, and what a slow reader cannot do."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sigmgr.cache.near import NearCache
from sigmgr.model.revocation import EVERY_USER, Revocation
from sigmgr.ports import EventListener
from tests.contract.cache_kit import NOW, event, holder, revoked

ALICE = holder("alice")
BOB = holder("bob")
FRESH = NOW + 30


def up(**options: int) -> NearCache[str]:
    near: NearCache[str] = NearCache(**options)
    near.channel(True, NOW)
    return near


def test_it_listens() -> None:
    port: EventListener = up()
    port.receive(0, [])


def test_a_value_is_good_until_its_second() -> None:
    near = up()
    near.put(ALICE, "one", NOW, FRESH)
    assert near.get(ALICE, FRESH - 1) == "one"
    assert near.get(ALICE, FRESH) is None
    assert near.get(BOB, NOW) is None


def test_only_newer_replaces() -> None:
    near = up()
    near.put(ALICE, "two", NOW + 2, FRESH)
    near.put(ALICE, "one", NOW + 1, FRESH)
    assert near.get(ALICE, NOW) == "two"
    near.put(ALICE, "three", NOW + 3, FRESH)
    assert near.get(ALICE, NOW) == "three"
    near.put(ALICE, "three, read later", NOW + 3, FRESH + 1)
    assert near.get(ALICE, FRESH) == "three, read later"


def test_an_event_that_changes_no_sig_does_not_hide_those_behind_it() -> None:
    near = up()
    near.put(ALICE, "one", NOW, FRESH)
    near.put(BOB, "one", NOW, FRESH)
    acked = event(ALICE, NOW + 1, "sig.delivered")
    near.receive(0, [acked, event(BOB, NOW + 1)])
    assert near.get(ALICE, NOW) == "one"
    assert near.get(BOB, NOW) is None


def test_the_oldest_goes_first() -> None:
    near = up(max_entries=3)
    for i in range(4):
        near.put(holder(f"user{i}"), f"{i}", NOW, FRESH)
        near.put(holder("user1"), "again", NOW, FRESH)
    assert near.get(holder("user0"), NOW) is None
    assert near.get(holder("user1"), NOW) == "again"
    assert len(near) == 3
    none = up(max_entries=0)
    none.put(ALICE, "x", NOW, FRESH)
    assert none.get(ALICE, NOW) is None


def test_news_drops_what_is_older_only() -> None:
    near = up()
    near.put(ALICE, "one", NOW, FRESH)
    near.put(BOB, "one", NOW, FRESH)
    near.receive(
        0, [event(ALICE, NOW), event(ALICE, NOW - 1), event(BOB, NOW + 9, "sig.delivered")]
    )
    assert near.get(ALICE, NOW) == near.get(BOB, NOW) == "one"
    near.receive(0, [event(ALICE, NOW + 1, "sig.issued")])
    assert near.get(ALICE, NOW) is None


def test_a_revocation_kills_its_own_second_too() -> None:
    near = up()
    near.put(ALICE, "one", NOW, FRESH)
    near.receive(0, [revoked(ALICE, NOW).event])
    assert near.get(ALICE, NOW) is None
    near.put(ALICE, "one", NOW, FRESH)
    assert near.get(ALICE, NOW) is None
    near.put(ALICE, "two", NOW + 1, FRESH)
    assert near.get(ALICE, NOW) == "two"


def test_a_slow_reader_cannot_put_the_old_one_back() -> None:
    near = up()
    near.receive(0, [event(ALICE, NOW + 1)])
    near.receive(0, [event(ALICE, NOW)])
    near.put(ALICE, "old", NOW, FRESH)
    assert near.get(ALICE, NOW) is None
    near.put(ALICE, "new", NOW + 1, FRESH)
    assert near.get(ALICE, NOW) == "new"


def test_floors_are_bounded_and_the_longest_unused_goes_first() -> None:
    near = up(floors=2)
    near.receive(0, [event(ALICE, NOW + 1), event(BOB, NOW + 1), event(ALICE, NOW)])
    near.receive(0, [event(holder("carol"), NOW + 1)])
    near.put(ALICE, "old", NOW, FRESH)
    assert near.get(ALICE, NOW) is None
    near.put(BOB, "old", NOW, FRESH)
    assert near.get(BOB, NOW) == "old"


def test_after_a_loss_it_settles_before_it_trusts_readers_again() -> None:
    near = up(settle=2)
    near.put(ALICE, "old", NOW, FRESH)
    near.resync(3)
    assert len(near) == 0
    near.put(ALICE, "read before the loss", NOW, FRESH)
    for second in (0, 1):
        assert near.get(ALICE, NOW + second) is None
        near.put(ALICE, "read before the loss", NOW, FRESH)
    assert near.get(ALICE, NOW + 2) is None
    near.put(ALICE, "new", NOW, FRESH)
    assert near.get(ALICE, NOW + 2) == "new"


def test_a_second_loss_settles_anew() -> None:
    near = up(settle=2)
    near.resync(1)
    assert near.get(ALICE, NOW) is None
    near.resync(2)
    assert near.get(ALICE, NOW + 2) is None
    near.put(ALICE, "x", NOW, FRESH)
    assert near.get(ALICE, NOW + 3) is None
    assert near.get(ALICE, NOW + 4) is None
    near.put(ALICE, "x", NOW, FRESH)
    assert near.get(ALICE, NOW + 4) == "x"


def test_nothing_is_kept_before_the_channel_was_up() -> None:
    near: NearCache[str] = NearCache()
    near.put(ALICE, "one", NOW, FRESH)
    assert near.get(ALICE, NOW) is None
    near.channel(True, NOW)
    assert near.get(ALICE, NOW) is None


def test_blind_it_serves_a_few_seconds_and_takes_nothing() -> None:
    near = up(blind=5)
    near.put(ALICE, "one", NOW, NOW + 1000)
    near.channel(False, NOW)
    near.channel(False, NOW + 3)
    near.put(BOB, "one", NOW, NOW + 1000)
    assert near.get(ALICE, NOW + 4) == "one"
    assert near.get(ALICE, NOW + 5) is None
    near.channel(True, NOW + 60)
    assert near.get(ALICE, NOW + 60) == "one"
    assert near.get(BOB, NOW + 60) is None


def test_a_loss_while_down_settles_after_it_is_up() -> None:
    near = up(settle=2)
    near.channel(False, NOW)
    near.resync(0)
    assert near.get(ALICE, NOW + 10) is None
    near.channel(True, NOW + 11)
    near.put(ALICE, "early", NOW, FRESH)
    assert near.get(ALICE, NOW + 11) is None
    assert near.get(ALICE, NOW + 13) is None
    near.put(ALICE, "one", NOW, FRESH)
    assert near.get(ALICE, NOW + 13) == "one"


def test_nothing_is_served_longer_than_sql_is_trusted() -> None:
    near = up()
    near.put(ALICE, "one", NOW, NOW + 1000)
    near.trust(NOW + 60)
    assert near.get(ALICE, NOW + 59) == "one"
    assert near.get(ALICE, NOW + 60) is None
    near.channel(False, NOW + 60)
    near.channel(True, NOW + 61)
    assert near.get(ALICE, NOW + 61) is None
    near.trust(NOW + 120)
    assert near.get(ALICE, NOW + 61) == "one"
    near.channel(False, NOW + 61)
    near.trust(NOW + 180)
    assert near.get(ALICE, NOW + 70) is None


def test_a_revoked_user_is_dropped_and_kept_out_and_others_stay() -> None:
    near = up()
    for one in (ALICE, BOB):
        near.put(one, "one", NOW, FRESH)
    near.revoked(Revocation(ALICE.sdkappid, ALICE.userid, NOW, NOW + 1000))
    near.put(ALICE, "one", NOW, FRESH)
    assert [near.get(one, NOW) for one in (ALICE, BOB)] == [None, "one"]
    near.put(ALICE, "two", NOW + 1, FRESH)
    assert near.get(ALICE, NOW) == "two"


def test_the_revocation_of_an_app_drops_all_and_settles() -> None:
    near = up(settle=2)
    near.put(ALICE, "one", NOW, FRESH)
    near.revoked(Revocation(ALICE.sdkappid, EVERY_USER, NOW, NOW + 1000))
    near.put(ALICE, "one", NOW, FRESH)
    assert (len(near), near.get(ALICE, NOW)) == (0, None)
    assert near.get(ALICE, NOW + 2) is None
    near.put(ALICE, "two", NOW + 1, FRESH)
    assert near.get(ALICE, NOW + 2) == "two"


@given(
    st.lists(
        st.one_of(
            st.just(("commit", 0)),
            st.tuples(st.just("read"), st.integers(0, 2)),
            st.tuples(st.just("store"), st.integers(0, 2)),
            st.tuples(st.sampled_from(["receive", "lose", "wait"]), st.just(0)),
        ),
        max_size=40,
    )
)
def test_no_interleaving_serves_what_was_already_known_to_be_old(
    steps: list[tuple[str, int]],
) -> None:
    """Readers read SQL and put the answer later; events come late or are lost, then resync.

    A reader is done before the settling is over; that is what ``settle`` is chosen for.
    """
    near = up(settle=2)
    now, truth, received = NOW, NOW, NOW
    in_flight: list[int] = []
    reading: dict[int, int] = {}
    for what, reader in steps:
        if what == "commit":
            truth += 1
            in_flight.append(truth)
        elif what == "read":
            reading[reader] = truth
        elif what == "store" and reader in reading:
            issued_at = reading.pop(reader)
            near.put(ALICE, str(issued_at), issued_at, now + 1000)
        elif what == "receive" and in_flight:
            received = in_flight.pop(0)
            near.receive(0, [event(ALICE, received)])
        elif what == "lose":
            near.resync(0)
            received, in_flight = truth, []
        elif what == "wait":
            now += 3
            if near.get(ALICE, now) is None:
                reading.clear()
        found = near.get(ALICE, now)
        assert found is None or int(found) >= received
