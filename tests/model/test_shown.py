"""What errors repeat of what was sent: never a credential, nothing long, nothing unprintable."""

from __future__ import annotations

import ast
import base64
import random
import uuid
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import sigmgr
from sigmgr.http.auth import new_token
from sigmgr.keys.keychain import generate
from sigmgr.model import usersig
from sigmgr.model.holder import Holder
from sigmgr.model.mistaken import no_ticket, no_token
from sigmgr.model.shown import credential, masked, shown
from sigmgr.model.sig import SigFacts
from sigmgr.model.ticket import Tickets
from sigmgr.model.usersig.secret import load_secret
from tests.growth import MOST, growth, repeated

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
        answer = around.format(text)
        assert credential(answer) == kind
        for line in text.split():
            for at in range(len(line) - 12):
                piece = line[at : at + 12]
                assert piece not in shown(answer)
                assert piece not in masked(answer) or piece in around
    assert shown(text) == f"what looks like {kind}"


@pytest.mark.parametrize(
    "text",
    [
        "alice", "", "no privilege", "production", "10.0.0.1", str(uuid.UUID(int=2**127)),
        "a-user-of-32-characters_exactly", "SIGMGR_MASTER_KEY_FILE", "renew_from=0.9",
        "test_a_key_that_cannot_sign_tru0/key", "https://sigmgr.example.com/v1/stream",
        "fbf3f09798eb2b63", "t1.short", "smt_x", "bearer", "eyes-on-the-prize",
        "Prod-App-1400000001-SigningKey-2026.pem", "TencentIM_SecretKey_AppID1400000001_v2",
        "MyCompanyChatProductionSigningKey2026", "AppV2KeyForIosAndAndroidV3Of2026Q4",
        "Backup_2026-11-23_11-34-47_DB01_EU_West_1a_Rev2.db",
        "sigmgr-IM-App1400000001-ProdEU-SigningKeyV2-2026Q4-rotated",
        "/etc/sigmgr/Prod-App-1400000001-SigningKey-2026.pem",
        "/Users/Jane/MyDocs/2026-11-23T11-34-47Z/KeyV2.pem",
        "/srv/MEDIA-SERVER-PRODUCTION/KEYS-OF-TENCENT-IM/key.pem",
        "/var/folders/9b/4kx2_7bd1gz5lq8r0000gn/T/tmpq3z",
        "Db01-Primary.EU-West-1a.Internal.Example.Com:5432",
    ],
)  # fmt: skip
def test_an_ordinary_value_is_repeated(text):
    assert credential(text) is None
    assert shown(text) == repr(text)
    assert masked(text) == text


def test_a_long_value_is_reported_by_its_length():
    assert shown("a b " * 16) == repr("a b " * 16)
    assert shown("a b " * 16 + "c") == "a value of 65 characters"
    assert shown("xy" * 5000) == "a value of 10000 characters"


def test_a_value_is_repeated_in_its_own_script_and_what_is_unprintable_escaped():
    assert shown("用户é") == "'用户é'"
    assert shown("a\nb\x1b[0m") == r"'a\nb\x1b[0m'"
    assert shown("é\n") == r"'\xe9\n'"


def test_a_number_is_written_as_one():
    assert shown(42) == "42"
    assert shown(-1) == "-1"
    assert shown(10**20 - 1) == "9" * 20
    assert shown(1 - 10**20) == "-" + "9" * 20
    assert shown(10**20) == shown(-(10**5000)) == "a number of too many digits"


def test_a_long_word_is_masked_and_a_long_path_is_not():
    assert masked(f"the file {'n' * 65} is none") == "the file *** is none"
    path = "/".join(["var", "lib", "sigmgr", "n" * 64] * 3)
    assert masked(f"the file {path} is none") == f"the file {path} is none"


def test_of_a_path_the_part_with_a_secret_is_masked():
    secret = "x9Qb7Zk2Wd5Rt8Lp3Vn6Hs4Jg1Fc0My"
    assert masked(f"{secret}/etc/hosts") == "***/etc/hosts"
    assert masked(f"/etc/{secret}/hosts") == "/etc/***/hosts"


def test_a_secret_within_another_makes_no_part_of_it_shown():
    hexes, more = "3fA9c2Be7d1F4a8C0b6E5dA3f9C2bE7d1", "Zk2Wd5Rt8Lp3Vn6Hs4J"
    assert masked(f"x{hexes}/{more}") == "***"
    assert masked(f"in {hexes}/{more} it is") == "in *** it is"


@given(st.text(max_size=200))
def test_what_is_reported_is_printable_and_short(text):
    answer = shown(text)
    assert answer.isprintable()
    assert len(text) <= 64 or len(answer) <= 64
    assert answer.startswith(("'", '"', "a value of ", "what looks like "))


@given(st.text(max_size=80), st.binary(min_size=24, max_size=60))
def test_masking_takes_out_every_random_base64url(around, raw):
    secret = "smt_" + base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
    assert secret not in masked(f"{around} {secret} {around}")


@pytest.mark.parametrize(
    ("piece", "end"),
    [
        ("a.", ""), ("a://:", ""), ("x://a:b/", ""), (":", "@"), ("eyJ-", ""), ("eyJaaaaaaaa.", ""),
        ("A", "b1"), ("bearer ", ""), ("-----BEGIN ", ""), ("-----END ", ""), ("smt_", ""),
        ("MIIx", ""), ("t1.", ""), ("Xk9Qz2Lw8Rt5Vb1Nm4Hj7Gf3Dd0Ss6Aq/some-words/", ""),
        ("Xk9Qz2Lw8Rt5Vb1Nm4Hj7Gf3Dd0Ss6Aq", ""), ("0" * 32 + "/words-and-more-words/", ""),
    ],
)  # fmt: skip
def test_the_work_grows_with_the_length_at_most(piece, end):
    assert growth(masked, repeated(piece, end), 1500) < MOST
    for work in (credential, shown, no_ticket, no_token):
        assert growth(work, repeated(piece, end), 6000) < 3


# -- both ways -------------------------------------------------------------------------------

WORDS = st.sampled_from(
    [
        "Prod", "production", "App", "Signing", "Key", "Secret", "Tencent", "IM", "TRTC", "EU",
        "West", "Backup", "sigmgr", "Chat", "Users", "MASTER", "Old", "rotated", "database",
    ]
)  # fmt: skip
NUMBERS = st.one_of(st.integers(0, 99).map(str), st.integers(2000, 1_600_000_000).map(str))
PART = st.builds("".join, st.lists(st.one_of(WORDS, NUMBERS), min_size=1, max_size=2))
NAME = st.builds(
    lambda parts, mark: mark.join(parts),
    st.lists(PART, min_size=1, max_size=5),
    st.sampled_from("-_."),
)
ENDS = st.sampled_from(["", ".pem", ".txt", ".db", ".key", ".pem.pub"])
PATHS = st.builds(
    lambda start, parts, end: start + "/".join(parts) + end,
    st.sampled_from(["/", "", "./", "~/"]),
    st.lists(NAME, min_size=1, max_size=5),
    ENDS,
)
RAW = st.integers(0, 2**64).map(lambda seed: random.Random(seed).randbytes(32))
SECRETS = st.one_of(
    RAW.map(lambda raw: base64.b64encode(raw).decode()),
    RAW.map(lambda raw: base64.urlsafe_b64encode(raw).decode()),
    RAW.map(bytes.hex),
    RAW.map(lambda raw: raw.hex().upper()),
    RAW.map(lambda raw: "smt_" + base64.urlsafe_b64encode(raw).decode().rstrip("=")),
    RAW.map(lambda raw: Tickets(raw).issue(1400000001, "alice", 1, 2)),
    RAW.map(lambda raw: usersig.sign(FACTS, load_secret(raw.hex()))),
)


@given(PATHS)
def test_an_ordinary_path_is_shown(path):
    assert credential(path) is None
    answer = f"the key file {path} cannot be read"
    assert masked(answer) == answer or any(len(part) > 64 for part in path.split("/"))


@given(SECRETS, st.one_of(st.just(""), PATHS.map(lambda path: path + "/")), ENDS)
def test_a_credential_is_shown_nowhere_in_a_path(secret, before, end):
    path = before + secret + end
    assert credential(path)
    assert shown(path).startswith("what looks like ")
    answer = masked(f"the key file {path} cannot be read: no such file")
    for at in range(len(secret) - 8):
        assert secret[at : at + 8] not in answer
    assert answer.endswith("cannot be read: no such file")


def test_of_a_key_that_is_all_slashes_nothing_is_shown():
    key = "Ab3/dE9/fGh1/Kq8w/Zx0/pLm5/tR7v/Yb2/nC4/sD6="
    assert credential(key)
    assert "Kq8w" not in masked(f"the file {key} is none")


def test_what_has_no_form_of_its_own_is_known_by_having_no_words():
    """Base64 without its padding: of a thousand, a few look like a name by chance."""
    chance = random.Random(7)
    texts = [base64.b64encode(chance.randbytes(32)).decode().rstrip("=") for _ in range(2000)]
    assert sum(credential(text) is None for text in texts) <= 10


def sentences() -> list[str]:
    """Every text in the program that could be a sentence for people, in one line."""
    found: set[str] = set()
    for path in Path(sigmgr.__file__).parent.rglob("*.py"):
        tree = ast.parse(path.read_text())
        forms = [one for one in ast.walk(tree) if is_docstring(one) or is_pattern(one)]
        unsaid = {id(inner) for one in forms for inner in ast.walk(one)}
        texts = [one for one in ast.walk(tree) if isinstance(one, ast.Constant)]
        found |= {str(one.value) for one in texts if id(one) not in unsaid}
    return [text for text in found if text.count(" ") > 1 and "\n" not in text]


def is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def is_pattern(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func) == "re.compile"


def test_no_text_of_our_own_is_taken_for_a_credential():
    texts = sentences()
    assert len(texts) > 1000
    assert [text for text in texts if masked(text) != text] == []
