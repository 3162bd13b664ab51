"""Tickets: whatever is changed in one, it opens nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigmgr.model import errors
from sigmgr.model.holder import Holder
from sigmgr.model.ticket import Tickets

TICKETS = Tickets(b"k" * 32)
userids = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=32)
u32 = st.integers(1, 2**32 - 1)


@given(u32, userids, st.integers(1, 2**31), st.integers(1, 2**31 - 1))
def test_a_ticket_opens_to_what_it_was_made_of(app: int, user: str, at: int, ttl: int) -> None:
    text = TICKETS.issue(app, user, at, at + ttl)
    assert text == TICKETS.issue(app, user, at, at + ttl)
    opened = TICKETS.open(text, at)
    assert opened == (Holder(app, user), at, at + ttl)
    with pytest.raises(errors.TicketExpired):
        TICKETS.open(text, at + ttl)


@given(st.integers(3, 90), st.integers(0, 7))
def test_no_flipped_bit_opens_anything(place: int, bit: int) -> None:
    text = TICKETS.issue(1400000000, "alice", 100, 200)
    place %= len(text)
    flipped = text[:place] + chr(ord(text[place]) ^ (1 << bit)) + text[place + 1 :]
    try:
        opened = TICKETS.open(flipped, 150)
    except (errors.TicketInvalid, errors.TicketExpired):
        return
    # The unused bits of the last base64 character carry nothing.
    assert opened == TICKETS.open(text, 150)


@pytest.mark.parametrize("text", ["", "t1.", "t1.x", "t2.AAAA", "t1." + "A" * 500, "t1.é", "t1.=="])
def test_what_is_no_ticket_is_refused(text: str) -> None:
    with pytest.raises(errors.TicketInvalid):
        TICKETS.open(text, 1)


def test_a_ticket_of_another_service_is_foreign() -> None:
    text = Tickets(b"o" * 32).issue(1, "alice", 100, 200)
    with pytest.raises(errors.TicketInvalid):
        TICKETS.open(text, 150)
