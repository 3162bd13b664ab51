"""Tickets: whatever is changed in one, it opens nothing."""

from __future__ import annotations

import base64
import hashlib
import string
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigmgr.model import errors, usersig
from sigmgr.model.holder import Holder
from sigmgr.model.ticket import Tickets
from tests.model.usersig_kit import HMAC, V2

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
    with pytest.raises(errors.TicketInvalid):
        TICKETS.open(flipped, 150)


def test_a_ticket_that_another_release_made_opens() -> None:
    """The layout is what clients hold for weeks: a MAC of 16 bytes, three numbers, the user."""
    body = struct.pack(">III", 1400000000, 100, 200) + b"alice"
    mac = hashlib.blake2b(body, key=b"k" * 32, digest_size=16).digest()
    text = "t1." + base64.urlsafe_b64encode(mac + body).decode().rstrip("=")
    assert TICKETS.issue(1400000000, "alice", 100, 200) == text
    assert TICKETS.open(text, 150) == (Holder(1400000000, "alice"), 100, 200)


def test_the_longest_user_has_a_ticket() -> None:
    text = TICKETS.issue(2**32 - 1, "u" * 32, 2**32 - 2, 2**32 - 1)
    assert TICKETS.open(text, 1).user == Holder(2**32 - 1, "u" * 32)


ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_+/=!# \n\t.\u00e9\u0661"


@given(userids, st.text(ALPHABET, min_size=1, max_size=4), st.data())
def test_no_inserted_character_opens_anything(user: str, more: str, data: st.DataObject) -> None:
    text = TICKETS.issue(1400000000, user, 100, 200)
    at = data.draw(st.integers(0, len(text)))
    with pytest.raises(errors.TicketInvalid):
        TICKETS.open(text[:at] + more + text[at:], 150)


@given(userids, u32)
def test_exactly_one_text_opens(user: str, app: int) -> None:
    """Every other spelling of the same bytes is refused."""
    text = TICKETS.issue(app, user, 100, 200)
    body = text[3:]
    spare = {1: 0, 2: 4, 3: 2, 0: 0}[len(body) % 4]
    order = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"
    last = order.index(body[-1])
    others = {f"{text}{'=' * n}" for n in (1, 2, 3)}
    others |= {text[:-1] + order[last ^ bits] for bits in range(1, 2**spare)}
    others |= {f"{text}#", f"{text}!", f"{text}\n", f" {text}", f"t1.!{body}", f"t1.={body}"}
    others |= {"t1." + body.replace("-", "+").replace("_", "/"), "T1." + body, body} - {text}
    for other in others:
        with pytest.raises(errors.TicketInvalid):
            TICKETS.open(other, 150)
    assert TICKETS.open(text, 150).user == Holder(app, user)


SIG = usersig.sign(V2, HMAC)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("smt_" + "A" * 43, "an API token"),
        (SIG, "a sig"),
        ("0123456789abcdef" * 4, "a key or another secret"),
    ],
)
def test_another_credential_in_its_place_is_named(text: str, kind: str) -> None:
    with pytest.raises(errors.TicketInvalid) as caught:
        TICKETS.open(text, 150)
    answer = caught.value
    assert answer.text == f"what was sent looks like {kind}; this route takes a ticket"
    assert "beside the usersig" in answer.advice
    assert ("token revoke" in answer.advice) is (kind == "an API token")
    assert text[8:20] not in answer.text + answer.advice


@pytest.mark.parametrize("text", ["", "t1.", "t1.x", "t2.AAAA", "t1." + "A" * 500, "t1.é", "t1.=="])
def test_what_is_no_ticket_is_refused(text: str) -> None:
    with pytest.raises(errors.TicketInvalid):
        TICKETS.open(text, 1)


def test_a_ticket_of_another_service_is_foreign() -> None:
    text = Tickets(b"o" * 32).issue(1, "alice", 100, 200)
    with pytest.raises(errors.TicketInvalid):
        TICKETS.open(text, 150)
