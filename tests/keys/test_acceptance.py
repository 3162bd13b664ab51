"""A sig leaves only if it is exactly the sig of its facts."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from sigmgr.keys.acceptance import acceptable
from sigmgr.keys.keychain import generate
from sigmgr.model import errors, usersig
from sigmgr.model.usersig import ecdsa, secret
from sigmgr.model.usersig.container import unpack
from tests.keys.kit import facts

# Fixed, so that a failing example can be played again.
KEYS = {
    "v1": ecdsa.EcdsaSigner(ec.derive_private_key(20190719, ec.SECP256R1())),
    "v2": secret.load_secret("0123456789abcdef" * 4),
}
ROOM = facts(kind="room", scope="id:10000", mask=42)

formats = pytest.mark.parametrize("format_", ["v1", "v2"])


@formats
@pytest.mark.parametrize("one", [facts(), ROOM, ROOM._replace(holder=facts().holder)])
def test_the_right_sig_is_accepted(format_, one):
    one = one._replace(format=format_)
    acceptable(one, usersig.sign(one, KEYS[format_]), KEYS[format_])


@formats
@pytest.mark.parametrize(
    "other",
    [
        ROOM._replace(holder=ROOM.holder._replace(userid="bob")),
        ROOM._replace(holder=ROOM.holder._replace(sdkappid=1400000001)),
        ROOM._replace(holder=ROOM.holder._replace(scope="id:10001")),
        ROOM._replace(holder=ROOM.holder._replace(scope="name:10000")),
        ROOM._replace(privileges=43),
        ROOM._replace(issued_at=ROOM.issued_at + 1),
        ROOM._replace(issued_at=ROOM.issued_at - 1),
        ROOM._replace(ttl=ROOM.ttl + 1),
        facts(),
    ],
)
def test_a_sig_of_other_facts_is_refused_both_ways(format_, other):
    one, other = ROOM._replace(format=format_), other._replace(format=format_)
    key = KEYS[format_]
    for asked, made in ((one, other), (other, one)):
        with pytest.raises(errors.SigningFailed):
            acceptable(asked, usersig.sign(made, key), key)


@formats
def test_a_sig_of_another_key_is_refused(format_):
    one = facts(format_=format_)
    with pytest.raises(errors.SigningFailed, match="wrong-key"):
        acceptable(
            one,
            usersig.sign(one, usersig.FORMATS.named(format_).keys.signer(generate(format_))),
            KEYS[format_],
        )


@formats
@given(data=st.data())
def test_a_damaged_sig_is_refused_and_not_repeated(format_, data):
    one = facts(format_=format_)
    text = usersig.sign(one, KEYS[format_])
    at = data.draw(st.integers(0, len(text) - 1))
    put = data.draw(st.sampled_from("Aa0*-_!"))
    damaged = text[:at] + put + text[at + 1 :]
    if holds_the_same(text, damaged):
        return
    with pytest.raises(errors.SigningFailed) as caught:
        acceptable(one, damaged, KEYS[format_])
    assert damaged[:40] not in caught.value.text


def holds_the_same(text, damaged):
    """A few bits between the end of the deflated data and its checksum mean nothing."""
    try:
        return unpack(damaged) == unpack(text)
    except errors.BadSig:
        return False


@formats
@pytest.mark.parametrize("text", ["", "eJ", "*" * 5000])
def test_no_sig_at_all_is_refused(format_, text):
    with pytest.raises(errors.SigningFailed):
        acceptable(facts(format_=format_), text, KEYS[format_])
