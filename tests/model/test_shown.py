"""What errors repeat of what was sent: never a credential, nothing long, nothing unprintable."""

from __future__ import annotations

import base64
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigmgr.http.auth import new_token
from sigmgr.keys.generate import generate
from sigmgr.model import usersig
from sigmgr.model.holder import Holder
from sigmgr.model.shown import credential, masked, shown
from sigmgr.model.sig import SigFacts
from sigmgr.model.ticket import Tickets
from sigmgr.model.usersig.secret import load_secret

SECRET = "0123456789abcdef" * 4
PEM = generate("v1")
BARE = b"".join(PEM.splitlines()[1:-1])
FACTS = SigFacts(Holder(1400000001, "alice"), "v2", 0, 1_900_000_000, 86400, 0)

CREDENTIALS = {
    "token": (new_token(bytes(32))[0], "an API token"),
    "cut token": (new_token(bytes(32))[0][:24], "an API token"),
    "ticket": (Tickets(bytes(32)).issue(1400000001, "alice", 1, 2), "a ticket"),
    "sig": (usersig.sign(FACTS, load_secret(SECRET)), "a sig"),
    "jwt": ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl", "a JSON web token"),
    "pem": (PEM.decode(), "a PEM"),
    "headerless": (BARE.decode(), "a key"),
    "base64 of a PEM": (base64.b64encode(PEM).decode(), "a key"),
    "secret": (SECRET, "a key or another secret"),
    "half a secret": (SECRET[:32], "a key or another secret"),
    "secret in capitals": (SECRET.upper(), "a key or another secret"),
    "master key": (base64.b64encode(bytes(range(32))).decode(), "a key or another secret"),
    "url": ("postgresql+psycopg://me:hunter2@db.example.com/sigmgr", "a URL with a password"),
    "redis url": ("redis://:hunter2@cache:6379/0", "a URL with a password"),
    "header": ("Bearer hunter2hunter2", "an Authorization header"),
    "account": ("AKIDz8krbsJ5yKBZQpn74WFkmLPx3gnPhESA", "a cloud account's SecretId"),
}


@pytest.mark.parametrize("name", CREDENTIALS)
def test_a_credential_is_named_and_not_repeated(name):
    text, kind = CREDENTIALS[name]
    assert credential(text) == kind
    for around in ("{}", " {} ", "--role={}", "'{}' is no role", "see {}\nand more"):
        said = around.format(text)
        assert credential(said) == kind
        for line in text.split():
            for at in range(len(line) - 12):
                piece = line[at : at + 12]
                assert piece not in shown(said)
                assert piece not in masked(said) or piece in around
    assert shown(text) == f"what looks like {kind}"


@pytest.mark.parametrize(
    "text",
    [
        "alice", "", "no privilege", "production", "10.0.0.1", str(uuid.UUID(int=2**127)),
        "a-user-of-32-characters_exactly", "SIGMGR_MASTER_KEY_FILE", "renew_from=0.9",
        "test_a_key_that_cannot_sign_tru0/key", "https://sigmgr.example.com/v1/stream",
        "fbf3f09798eb2b63", "t1.short", "smt_x", "bearer", "eyes-on-the-prize",
    ],
)  # fmt: skip
def test_an_ordinary_value_is_repeated(text):
    assert credential(text) is None
    assert shown(text) == repr(text)
    assert masked(text) == text


def test_a_long_value_is_told_by_its_length():
    assert shown("a b " * 16) == repr("a b " * 16)
    assert shown("a b " * 16 + "c") == "a value of 65 characters"
    assert shown("xy" * 5000) == "a value of 10000 characters"


def test_a_number_is_written_as_one():
    assert shown(42) == "42"
    assert shown(-1) == "-1"
    assert shown(10**20) == shown(-(10**5000)) == "a number of too many digits"


def test_a_long_word_is_masked_and_a_long_path_is_not():
    assert masked(f"the file {'n' * 65} is none") == "the file *** is none"
    path = "/".join(["var", "lib", "sigmgr", "n" * 64] * 3)
    assert masked(f"the file {path} is none") == f"the file {path} is none"


@given(st.text(max_size=200))
def test_what_is_said_is_printable_and_short(text):
    said = shown(text)
    assert said.isprintable()
    assert len(text) <= 64 or len(said) <= 64
    assert said.startswith(("'", '"', "a value of ", "what looks like "))


@given(st.text(max_size=80), st.binary(min_size=24, max_size=60))
def test_masking_takes_out_every_random_base64url(around, raw):
    secret = "smt_" + base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
    assert secret not in masked(f"{around} {secret} {around}")
