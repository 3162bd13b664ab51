"""``sigmgr sig``: sigs made, checked and read by hand, against other implementations' sigs."""

from __future__ import annotations

import json
from base64 import b64encode
from pathlib import Path
from urllib.parse import quote

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from sigmgr.keys.keychain import generate
from sigmgr.model import usersig
from sigmgr.model.usersig import ecdsa
from tests.cli.kit import process
from tests.model.usersig_kit import wrap

APP = 1400000000
NOW = 1_900_000_000
SECRET = "0123456789abcdef" * 4
VECTORS = json.loads((Path(__file__).parents[1] / "data" / "usersig.json").read_text())
MACS = [one for one in VECTORS if "mac_base64" in one]
SIGS = [one for one in VECTORS if "sig" in one]


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A directory with one key of each kind, as short names."""
    monkeypatch.chdir(tmp_path)
    pem = generate("v1")
    Path("v2.txt").write_text(SECRET + "\n")
    Path("v1.pem").write_bytes(pem)
    Path("v1.pem.pub").write_bytes(ecdsa.load_private(pem).public_pem)
    Path("k1.pem").write_bytes(generate("v1", "secp256k1"))
    return tmp_path


def sign(shell, key="v2.txt", *more, userid="alice", format_="v2"):
    done = shell(
        "sig", "sign", "--format", format_, "--sdkappid", APP, "--userid", userid,
        "--key", key, "--at", NOW, *more,
    )  # fmt: skip
    assert done.status == 0, done.err
    return done.out.strip()


# Against other implementations


@pytest.mark.parametrize("vector", MACS, ids=lambda one: one["name"])
def test_a_sig_has_the_mac_that_other_implementations_make(shell, files, vector):
    Path("key").write_text(vector["secret_key"])
    room = {
        "mac room 10000, mask 255": ["--room", 10000, "--privileges", 255],
        "mac room 10000, mask 171": ["--room", 10000, "--privileges", "0xAB"],
        "mac string room room-1, mask 42": ["--room-name", "room-1", "--privileges", "0x2a"],
        "frozen-v2 f4b10f5e": ["--room", 10000, "--privileges", 171],
    }.get(vector["name"], [])
    done = shell(
        "sig", "sign", "--format", "v2", "--sdkappid", vector["sdkappid"],
        "--userid", vector["identifier"], "--ttl", vector["ttl"], "--at", vector["issued_at"],
        "--key", "key", *room,
    )  # fmt: skip
    mac = usersig.decode(done.out).signature
    assert b64encode(mac).decode() == vector["mac_base64"]
    assert vector["secret_key"] not in done.out + done.err


@pytest.mark.parametrize("vector", SIGS, ids=lambda one: one["name"])
def test_a_sig_of_another_implementation_is_valid_until_it_expires(shell, files, vector):
    Path("key").write_text(vector.get("public_key_pem") or vector["secret_key"])
    end = vector["issued_at"] + vector["ttl"]
    asked = ["--userid", vector["identifier"], "--sdkappid", vector["sdkappid"], "--at"]
    done = shell("sig", "verify", vector["sig"], "--key", "key", *asked, end - 1)
    assert (done.status, done.json["valid"], done.json["reason"]) == (0, True, None)
    assert done.json["format"] == vector["format"]
    assert done.json["expires_at"] == end
    done = shell("sig", "verify", "-", "--key", "key", *asked, end, stdin=vector["sig"] + "\n")
    assert (done.status, done.json["valid"], done.json["reason"]) == (1, False, "expired")
    assert done.json["userid"] == vector["identifier"]


# Making


@pytest.mark.parametrize(("format_", "key"), [("v1", "v1.pem"), ("v1", "k1.pem"), ("v2", "v2.txt")])
def test_what_is_made_is_valid_and_stands_alone(shell, files, format_, key):
    done = shell(
        "sig", "sign", "--format", format_, "--sdkappid", APP, "--userid", "alice", "--key", key
    )
    assert (done.err, done.out.count("\n")) == ("", 1)
    again = shell("sig", "verify", done.out.strip(), "--key", key)
    assert again.json["valid"]
    assert again.json["ttl"] == 90 * 86400


def test_a_key_comes_from_standard_input(shell, files):
    done = shell(
        "sig", "sign", "--format", "v2", "--sdkappid", APP, "--userid", "alice",
        "--key", "-", "--at", NOW, stdin=SECRET,
    )  # fmt: skip
    assert done.out.strip() == sign(shell)


def test_json_has_the_sig_and_its_fields(shell, files):
    found = json.loads(sign(shell, "v2.txt", "--json", "--ttl", "6h"))
    assert found["usersig"] == sign(shell, "v2.txt", "--ttl", 21600)
    assert (found["ttl"], found["expires_at"]) == (21600, NOW + 21600)


def test_privileges_by_name_are_those_by_number(shell, files):
    by_name = sign(
        shell, "v2.txt", "--room", 1, "--privileges", "enter, receive_audio,receive_video"
    )
    assert by_name == sign(shell, "v2.txt", "--room", 1, "--privileges", 42)


def test_the_mask_that_is_not_what_it_is_called_is_warned_of(shell, files):
    def warned(mask):
        return shell(
            "sig", "sign", "--format", "v2", "--sdkappid", APP, "--userid", "alice", "--key",
            "v2.txt", "--room", 1, "--privileges", mask,
        ).err  # fmt: skip

    assert "warning: 0xab" in warned("0xab")
    assert warned(255) == warned(42) == ""


@pytest.mark.parametrize(
    ("secret", "words"),
    [
        ("5bd2850f" + "0" * 50 + "b93b5e", "anybody can sign with it"),
        ("too-short", "was it pasted whole?"),
    ],
)
def test_a_doubtful_secret_is_warned_of(shell, files, secret, words):
    Path("key").write_text(secret)
    done = shell(
        "sig", "sign", "--format", "v2", "--sdkappid", APP, "--userid", "alice", "--key", "key"
    )
    assert done.status == 0
    assert words in " ".join(done.err.split())
    assert secret not in done.err


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (["--userid", "x" * 33], "bad-userid"),
        (["--userid", ""], "bad-userid"),
        (["--userid", "line\nend"], "bad-userid"),
        (["--sdkappid", 0], "bad-sdkappid"),
        (["--sdkappid", 2**32], "bad-sdkappid"),
        (["--sdkappid", "abc"], "usage"),
        (["--format", "v3"], "usage"),
        (["--ttl", 0], "bad-ttl"),
        (["--ttl", "soon"], "usage"),
        (["--ttl", "-5"], "usage"),
        (["--ttl", 9], "bad-ttl"),
        (["--ttl", 2**32 - 1], "bad-ttl"),
        (["--at", 2**32 - 9], "bad-time"),
        (["--at", -1], "usage"),
        (["--room", 0, "--privileges", 1], "bad-room"),
        (["--room-name", "", "--privileges", 1], "bad-room"),
        (["--room", 1, "--room-name", "a", "--privileges", 1], "bad-room"),
        (["--room", 1], "usage"),
        (["--privileges", 255], "usage"),
        (["--room", 1, "--privileges", 0], "bad-privileges"),
        (["--room", 1, "--privileges", 256], "bad-privileges"),
        (["--room", 1, "--privileges", "fly"], "bad-privileges"),
        (["--room", 1, "--privileges", ""], "bad-privileges"),
        (["--key", "v1.pem"], "bad-key"),
        (["--no-such-option"], "usage"),
    ],
    ids=str,
)
def test_wrong_input_to_sign_is_reported_with_status_2(shell, files, change, code):
    done = shell(
        "sig", "sign", "--format", "v2", "--sdkappid", APP, "--userid", "alice",
        "--key", "v2.txt", "--at", NOW, *change,
    )  # fmt: skip
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith("error: ")
    assert f"  code: {code}\n" in done.err
    assert "  what to do: " in done.err


ODD_NUMBERS = [
    "1.0",
    "1e3",
    "1_0",
    "+1",
    "01",
    " 1",
    "1 ",
    "0x1",
    "\u0661",
    "\uff11",
    "1\u00b2",
    "",
]


@pytest.mark.parametrize("number", ODD_NUMBERS)
@pytest.mark.parametrize(
    "command",
    [
        ["sig", "sign", "--format", "v2", "--userid", "a", "--key", "v2.txt", "--sdkappid"],
        ["sig", "verify", "eJ", "--key", "v2.txt", "--sdkappid"],
        ["sig", "verify", "eJ", "--key", "v2.txt", "--at"],
        ["sig", "decode", "eJ", "--at"],
        ["issue", "1", "alice", "--room"],
        ["reissue", "1", "alice", "--replaces"],
        ["token", "create", "--role", "ops", "--app"],
        ["token", "revoke"],
        ["key", "activate", "1"],
        ["app", "show"],
        ["show"],
    ],
    ids=" ".join,
)
def test_a_number_is_digits_and_nothing_else(shell, files, command, number):
    more = ["alice"] if command == ["show"] else []
    done = shell(*command, number, *more)
    assert (done.status, done.out) == (2, "")
    assert "it is no number in plain digits" in done.err
    assert "  code: usage\n" in done.err


# Checking


@pytest.mark.parametrize("key", ["v1.pem", "v1.pem.pub"])
def test_either_half_of_a_key_pair_verifies(shell, files, key):
    text = sign(shell, "v1.pem", format_="v1")
    assert shell("sig", "verify", text, "--key", key, "--at", NOW).status == 0


def test_any_of_several_keys_may_fit(shell, files):
    text = sign(shell, "v1.pem", format_="v1")
    keys = ["--key", "v2.txt", "--key", "k1.pem", "--key", "v1.pem.pub"]
    assert shell("sig", "verify", text, *keys, "--at", NOW).status == 0


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (["--key", "v2.txt", "--userid", "bob"], "wrong-user"),
        (["--key", "v2.txt", "--sdkappid", APP + 1], "wrong-app"),
        (["--key", "v2.txt", "--userid", "caf\u00e9" * 20], "wrong-user"),
        (["--key", "v2.txt", "--at", NOW + 90 * 86400], "expired"),
        (["--key", "v2.txt", "--at", NOW - 86401], "issued-in-future"),
        (["--key", "v1.pem"], "wrong-format"),
        (["--key", "other.txt"], "wrong-key"),
    ],
)
def test_a_sig_that_is_not_valid_is_status_1_and_reports_why(shell, files, more, reason):
    Path("other.txt").write_text("fedcba9876543210" * 4)
    done = shell("sig", "verify", sign(shell), "--at", NOW, *more)
    assert (done.status, done.err) == (1, "")
    assert (done.json["valid"], done.json["reason"]) == (False, reason)
    assert done.json["userid"] == "alice"


def test_a_sig_of_a_second_to_come_is_valid_and_reported(shell, files):
    text = sign(shell)
    done = shell("sig", "verify", text, "--key", "v2.txt", "--at", NOW - 3600)
    assert (done.status, done.json["valid"], done.json["issued_in_future"]) == (0, True, 3600)
    done = shell("sig", "verify", text, "--key", "v2.txt", "--at", NOW)
    assert done.json["issued_in_future"] == 0
    shown = shell("sig", "decode", text, "--at", NOW - 3600).out
    assert f"({NOW}), 1 h in the future" in shown
    assert "in the future" not in shell("sig", "decode", text, "--at", NOW).out
    assert shell("sig", "decode", text, "--json", "--at", NOW - 9).json["issued_in_future"] == 9


DAMAGED = {
    "has-tail": lambda sig: f"{sig}&contenttype=json",
    "url-encoded": lambda sig: quote(sig.replace("_", "%5F")),
    "quoted": lambda sig: f'"{sig}"',
    "wrapped": lambda sig: f"{sig[:76]}\n{sig[76:]}",
    "other-alphabet": lambda sig: sig.replace("*", "+").replace("-", "/").replace("_", "="),
    "encoded-twice": lambda sig: b64encode(sig.encode()).decode(),
    "cut-off": lambda sig: sig[:100],
}


@pytest.mark.parametrize("reason", DAMAGED)
def test_a_damaged_sig_learns_what_happened_to_it(shell, files, reason):
    text = DAMAGED[reason](sign(shell, "v2.txt", "--room", 1, "--privileges", 42))
    done = shell("sig", "verify", "-", "--key", "v2.txt", "--at", NOW, stdin=text)
    assert (done.status, done.json["valid"], done.json["reason"]) == (1, False, reason)
    assert done.json["advice"]
    shown = shell("sig", "decode", text)
    assert (shown.status, shown.out) == (2, "")
    answer = " ".join(shown.err.split())
    assert done.json["detail"] in answer
    assert done.json["advice"] in answer


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not-zlib"),
        ("rubbish!", "not-base64"),
        ("eJw_", "not-zlib"),
        ("A" * 5000, "too-long"),
    ],
)
def test_rubbish_is_a_negative_answer_too(shell, files, text, reason):
    done = shell("sig", "verify", "-", "--key", "v2.txt", stdin=text)
    assert (done.status, done.json["valid"], done.json["reason"]) == (1, False, reason)


def test_bytes_that_are_no_text_are_a_negative_answer(shell, files):
    done = shell("sig", "verify", "-", "--key", "v2.txt", stdin=b"\xff\x00\x80")
    assert (done.status, done.json["reason"]) == (1, "not-base64")


def test_standard_input_is_read_for_one_thing(shell, files):
    done = shell("sig", "verify", "-", "--key", "-", stdin=SECRET)
    assert (done.status, "given twice" in done.err) == (2, True)


# Bad key files


def _rsa_pem():
    return rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


BAD_FILES = {
    "empty": b"",
    "junk": bytes(range(256)),
    "truncated": generate("v1")[:120],
    "rsa": _rsa_pem(),
    "two": generate("v1") * 2,
    "huge": b"a" * 100_000,
}


@pytest.mark.parametrize("bad", BAD_FILES)
@pytest.mark.parametrize("format_", ["v1", "v2"])
def test_a_bad_key_file_is_reported_by_name(shell, files, bad, format_):
    Path("bad.key").write_bytes(BAD_FILES[bad])
    signing = ["sign", "--format", format_, "--sdkappid", APP, "--userid", "alice"]
    for command in (signing, ["verify", sign(shell)]):
        done = shell("sig", *command, "--key", "bad.key")
        assert done.status == 2
        assert "error: bad.key: " in done.err
        assert "  code: bad-key\n" in done.err


@pytest.mark.parametrize("name", ["missing.pem", ".", "v2.txt/below", "", "n" * 300, "with\0nul"])
def test_a_key_file_that_cannot_be_read_is_reported(shell, files, name):
    done = shell("sig", "verify", sign(shell), "--key", name)
    assert (done.status, "  code: usage\n" in done.err) == (2, True)


@pytest.mark.parametrize(
    ("secret", "kind"),
    [
        (SECRET, "a key or another secret"),
        (generate("v1").decode(), "a PEM"),
        ("smt_" + "Ab3dEf9" * 6, "an API token"),
        ("t1." + "Ab3dEf9" * 6, "a ticket"),
    ],
    ids=["secret", "pem", "token", "ticket"],
)
def test_a_secret_where_a_file_name_belongs_is_named_and_not_repeated(shell, files, secret, kind):
    done = shell("sig", "verify", sign(shell), "--key", secret)
    assert done.status == 2
    text = " ".join(done.err.split())
    assert f"--key takes the name of a file; what is given looks like {kind}" in text
    assert ("Put the key into a file with mode 0600" in text) is (kind[:6] in {"a key ", "a PEM"})
    assert secret[12:32] not in done.err


@pytest.mark.parametrize("there", [False, True])
def test_a_file_with_a_descriptive_name_is_named(shell, files, tmp_path, there):
    file = tmp_path / "Prod-App-1400000001-SigningKey-2026.pem"
    if there:
        file.write_text("no key\nat all")
    done = shell("sig", "sign", "--format", "v1", "--sdkappid", APP, "--userid", "a", "--key", file)
    assert done.status == 2
    assert file.name in done.err
    assert ("cannot be read: No such file" in " ".join(done.err.split())) is not there


def test_our_own_words_are_not_masked(shell, files, tmp_path):
    (tmp_path / "short").write_text("short")
    words = ["--format", "v1", "--sdkappid", APP, "--userid", "a", "--key", tmp_path / "short"]
    done = shell("sig", "sign", *words)
    assert "***" not in done.err
    assert done.err.partition("  code:")[0].strip().endswith("says BEGIN")


def test_a_public_key_signs_nothing(shell, files):
    done = shell(
        "sig", "sign", "--format", "v1", "--sdkappid", APP, "--userid", "a", "--key", "v1.pem.pub"
    )
    assert (done.status, "signing needs the private key" in " ".join(done.err.split())) == (2, True)


# Reading


def test_what_a_sig_contains_is_shown_to_people(shell, files):
    text = sign(shell, "v2.txt", "--room", 10000, "--privileges", 42)
    done = shell("sig", "decode", text, "--at", NOW + 86400)
    shown = dict(line.split(None, 1) for line in done.out.splitlines())
    assert (done.status, done.err) == (0, "")
    assert shown["user"] == "alice"
    assert shown["issued"] == f"2030-03-17T17:46:40Z ({NOW})"
    assert shown["remaining"] == "89 d"
    assert shown["may"] == "enter, receive_audio, receive_video (mask 42, 0x2a)"
    assert "Nothing was verified" in done.out
    assert max(map(len, done.out.splitlines())) <= 80
    expired = shell("sig", "decode", text, "--at", NOW + 91 * 86400)
    assert "expired 1 d ago" in expired.out


def test_what_a_sig_contains_is_json_for_programs(shell, files):
    done = shell("sig", "decode", "-", "--json", "--at", NOW, stdin=sign(shell))
    assert done.json["verified"] is False
    assert (done.json["userid"], done.json["remaining"]) == ("alice", 90 * 86400)


@pytest.mark.parametrize("vector", SIGS, ids=lambda one: one["name"])
def test_every_known_sig_is_shown(shell, vector):
    done = shell("sig", "decode", vector["sig"], "--at", NOW)
    assert (done.status, vector["identifier"] in done.out) == (0, True)


def test_a_sig_cannot_steer_the_terminal(shell):
    members = {
        "TLS.ver": "2.0", "TLS.identifier": "\x9b31m\u202eeve", "TLS.sdkappid": 1,
        "TLS.time": 2**32 - 1, "TLS.expire": 2**32 - 1, "TLS.sig": b64encode(b"x" * 32).decode(),
    }  # fmt: skip
    text = wrap(json.dumps(members).encode())
    for more in ([], ["--json"]):
        done = shell("sig", "decode", text, "--at", NOW, *more)
        assert done.status == 0
        assert not {"\x9b", "\u202e"} & set(done.out)


@pytest.mark.parametrize("text", ["", "rubbish", "eJw_", "A" * 5000])
def test_rubbish_cannot_be_shown(shell, text):
    done = shell("sig", "decode", "-", stdin=text)
    assert (done.status, "  code: bad-sig\n" in done.err) == (2, True)


# As a program


def test_sign_and_verify_through_a_pipe(files):
    made = process(
        "sig", "sign", "--format", "v1", "--sdkappid", APP, "--userid", "alice",
        "--key", "v1.pem", "--at", NOW,
    )  # fmt: skip
    assert (made.status, made.err) == (0, "")
    checked = process(
        "sig", "verify", "-", "--key", "v1.pem.pub", "--at", NOW, stdin=made.out.encode()
    )
    assert (checked.status, checked.err, checked.json["valid"]) == (0, "", True)


def test_a_negative_answer_and_an_error_as_a_program(files):
    refused = process("sig", "verify", "-", "--key", "v2.txt", "--at", NOW, stdin=b"rubbish")
    assert (refused.status, refused.json["valid"]) == (1, False)
    wrong = process("sig", "verify", "-", "--key", "missing")
    assert (wrong.status, wrong.out, wrong.err.count("\n")) == (2, "", 3)
