"""``sigmgr key``: what is added is the key that was meant, and nothing signs by mistake."""

from __future__ import annotations

import asyncio
import base64
import json

import pytest

from sigmgr import settings
from sigmgr.cli import output
from sigmgr.keys.keychain import generate
from sigmgr.keys.sealing import key_context
from sigmgr.model.sig import KeyState
from sigmgr.model.usersig import FORMATS, ecdsa
from sigmgr.wiring.base import open_base
from tests.cli.kit import APP, SECRET, Done, check_narrow, check_refusal

OTHER = "decade" * 10 + "beef"


def text_of(done: Done) -> str:
    return " ".join(done.err.split())


def states(shell) -> list[str]:
    return [key["state"] for key in shell("key", "list", APP, "--json").json]


def fingerprint(material: bytes) -> str:
    kind = "v1" if material.startswith(b"-----") else "v2"
    return FORMATS.named(kind).keys.signer(material).fingerprint


@pytest.fixture
def empty(ready):
    """A shell over an app without a key."""
    assert ready("app", "add", APP).status == 0
    return ready


def test_keys_go_their_way(ready, tmp_path):
    ready("app", "add", APP)
    done = ready("key", "list", APP)
    assert (done.status, done.out) == (0, "")
    assert "sigmgr key add" in done.err
    done = ready("key", "add", APP, "--file", "-", stdin=SECRET)
    assert done.status == 0
    assert "prepared" in done.out
    assert "sigmgr key activate" in done.err
    assert SECRET not in done.out + done.err
    check_narrow(done)
    first = ready("key", "list", APP, "--json").json[0]
    assert ready("key", "activate", APP, first["key_id"], "--json").json["state"] == "active"

    pem = tmp_path / "key.pem"
    pem.write_bytes(generate("v1"))
    second = ready("key", "add", APP, "--file", pem, "--activate", "--yes", "--json").json
    assert (second["format"], second["curve"], second["state"]) == ("v1", "P-256", "active")
    assert [key["state"] for key in ready("key", "list", APP, "--json").json] == ["old", "active"]

    done = ready("key", "taint", APP, first["key_id"])
    assert (done.status, done.out) == (1, "")
    assert ready("key", "taint", APP, first["key_id"], "--yes", "--json").json["state"] == "tainted"
    done = ready("key", "revoke", APP, first["key_id"])
    assert (done.status, done.out) == (1, "")
    done = ready("key", "revoke", APP, first["key_id"], "--yes", "--json")
    assert done.json["state"] == "revoked"
    check_refusal(ready("key", "activate", APP, first["key_id"]), 3, "key-state", "revoked")
    for words in (["activate", APP, 999], ["taint", APP, 999], ["revoke", APP, 999]):
        check_refusal(ready("key", *words), 3, "key-unknown", "key list")
    check_narrow(ready("key", "list", APP))


@pytest.mark.parametrize(
    ("words", "public"),
    [
        (["--format", "v1"], True),
        (["--format", "v1", "--curve", "secp256k1"], True),
        (["--format", "v2"], False),
    ],
)
def test_generated_keys_show_no_secret(ready, words, public):
    ready("app", "add", APP)
    done = ready("key", "generate", APP, *words, "--activate")
    assert done.status == 0
    assert "PRIVATE" not in done.out
    assert ("BEGIN PUBLIC KEY" in done.out) is public
    # The cloud takes a public key; a v2 secret is the cloud's own.
    assert ("Tencent console" in done.err) is public
    assert (f"sigmgr key add {APP} --file" in " ".join(done.err.split())) is not public
    check_narrow(done)
    assert ready("issue", APP, "alice").status == 0


def test_a_secret_that_the_cloud_does_not_know_is_warned_of_in_json_too(ready):
    ready("app", "add", APP)
    done = ready("key", "generate", APP, "--format", "v2", "--json")
    assert done.json["public_pem"] is None
    assert done.err.startswith("warning: Tencent's cloud does not know ")


def bad_keys() -> dict[str, bytes]:
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    good = generate("v1")
    rsa_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return {
        "empty": b"",
        "blank": b"  \n",
        "truncated PEM": good[: len(good) // 2],
        "public PEM": ecdsa.load_private(good).public_pem,
        "RSA": rsa_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        "binary": bytes(range(256)),
        "two lines": b"secret\nand more\n",
    }


@pytest.mark.parametrize("what", bad_keys())
def test_a_key_that_cannot_sign(ready, what, tmp_path):
    ready("app", "add", APP)
    file = tmp_path / "key"
    file.write_bytes(bad_keys()[what])
    check_refusal(ready("key", "add", APP, "--file", file), 2, "bad-key", str(file))
    assert ready("key", "list", APP, "--json").json == []


def test_key_files_that_cannot_be_read(ready, tmp_path):
    ready("app", "add", APP)
    check_refusal(
        ready("key", "add", APP, "--file", tmp_path / "none"), 2, "usage", "cannot be read"
    )
    check_refusal(ready("key", "add", APP, "--file", tmp_path), 2, "usage", "cannot be read")
    done = ready("key", "add", APP, "--file", SECRET)
    check_refusal(done, 2, "usage", "--file takes the name of a file")
    assert SECRET not in done.err


# -- what is pasted ------------------------------------------------------------------------

PEM = generate("v1")
INSIDE = b"".join(PEM.splitlines()[1:-1])
#: The likeliest wrong pastes: each was once sealed as a v2 secret, without a word.
WRONG = {
    "headerless": (INSIDE, "this is a PKCS#8 private key without its BEGIN and END lines"),
    "base64 of a PEM": (base64.b64encode(PEM), "this is base64 of a PEM; decode it first"),
    "quoted": (f'"{SECRET}"'.encode(), "this is a text in quotation marks"),
    "assignment": (f"SECRET={SECRET}".encode(), "this is an assignment, NAME=VALUE"),
    "json": (json.dumps({"secret": SECRET}).encode(), "this is JSON"),
    "token": (b"smt_" + b"Ab3" * 14 + b"x", "this is an API token of sigmgr"),
    "utf-16": (SECRET.encode("utf-16"), "this is a text in UTF-16"),
}
ODD = {
    "60": (SECRET[:60], "60 hex digits instead of 64"),
    "63": (SECRET[:63], "63 hex digits instead of 64"),
    "65": (SECRET + "0", "65 hex digits instead of 64"),
    "upper case": (SECRET.upper(), "upper case"),
    "short": ("short", "5 characters: was it pasted whole?"),
}


@pytest.mark.parametrize("name", WRONG)
def test_another_thing_is_refused_by_its_name_whatever_is_given(empty, name):
    content, phrase = WRONG[name]
    for more in ([], ["--yes"], ["--activate", "--yes"], ["--format", "v2", "--yes"]):
        done = empty("key", "add", APP, "--file", "-", *more, stdin=content)
        check_refusal(done, 2, "bad-key", f"standard input: {phrase}")
        assert content.decode("latin-1")[8:24] not in done.err
    assert states(empty) == []
    for command in (
        ["sign", "--format", "v2", "--sdkappid", APP, "--userid", "alice"],
        ["verify", "eJw"],
    ):
        check_refusal(empty("sig", *command, "--key", "-", stdin=content), 2, "bad-key", phrase)


@pytest.mark.parametrize("name", ODD)
def test_what_is_odd_is_asked_about(empty, name):
    secret, phrase = ODD[name]
    for more in ([], ["--activate"]):
        done = empty("key", "add", APP, "--file", "-", *more, stdin=secret)
        assert (done.status, done.out) == (1, "")
        assert phrase in text_of(done)
        assert "Nothing was changed. Add --yes to do it." in text_of(done)
        assert len(secret) < 8 or secret[:8] not in done.err
        check_narrow(done)
    assert states(empty) == []
    done = empty("key", "add", APP, "--file", "-", "--yes", "--json", stdin=secret)
    assert done.json["fingerprint"] == fingerprint(secret.encode())


@pytest.mark.parametrize("name", ODD)
def test_what_is_odd_is_warned_of_where_nothing_is_sealed(empty, name):
    secret, phrase = ODD[name]
    signing = ["sign", "--format", "v2", "--sdkappid", APP, "--userid", "alice", "--at", 1800000000]
    made = empty("sig", *signing, "--key", "-", stdin=secret)
    assert made.status == 0
    assert phrase in text_of(made)
    assert made.err.startswith("warning: ")
    done = empty("sig", "verify", made.out.strip(), "--key", "-", "--at", 1800000000, stdin=secret)
    assert (done.status, done.json["valid"]) == (0, True)
    assert done.err.startswith("warning: standard input: ")
    assert phrase in text_of(done)


@pytest.mark.parametrize(
    ("content", "of"),
    [
        (PEM.replace(b"\n", b"\\n"), PEM),
        (PEM.replace(b"\n", b" "), PEM),
        (b"\xef\xbb\xbf" + PEM.replace(b"\n", b"\r\n"), PEM),
        (b"\xef\xbb\xbf" + SECRET.encode() + b"\r\n", SECRET.encode()),
    ],
    ids=["literal line ends", "spaces", "pem with mark and crlf", "secret with mark and crlf"],
)
def test_what_can_be_mended_is_the_key_that_was_meant(empty, content, of):
    done = empty("key", "add", APP, "--file", "-", "--activate", "--json", stdin=content)
    assert (done.status, done.err) == (0, "")
    assert done.json["fingerprint"] == fingerprint(of)
    sig = empty("issue", APP, "alice").out.strip()
    assert empty("sig", "verify", sig, "--key", "-", stdin=of).status == 0


# -- which key signs -----------------------------------------------------------------------


def test_a_key_twice(signing):
    done = signing("key", "add", APP, "--file", "-", stdin=SECRET)
    check_refusal(done, 3, "key-exists", "key list", "it is key 1, active", "signs already")


def test_a_key_that_is_known_is_offered_again(signing):
    assert signing("key", "add", APP, "--file", "-", stdin=OTHER).status == 0
    again = ["key", "add", APP, "--file", "-"]
    offer = f"sigmgr key activate {APP} 2"
    for more in ([], ["--activate"], ["--activate", "--yes"]):
        done = signing(*again, *more, stdin=OTHER)
        check_refusal(done, 3, "key-exists", "it is key 2, prepared", offer)
    assert signing("key", "activate", APP, 2, "--yes").status == 0
    done = signing(*again, "--activate", "--yes", stdin=SECRET)
    check_refusal(done, 3, "key-exists", "it is key 1, old", f"sigmgr key activate {APP} 1")
    assert signing("key", "taint", APP, 1, "--yes").status == 0
    done = signing(*again, stdin=SECRET)
    check_refusal(done, 3, "key-exists", "it is key 1, tainted", "never signs again")
    assert f"key activate {APP} 1" not in text_of(done)


def test_the_first_key_of_an_app_signs_without_a_question(empty):
    done = empty("key", "add", APP, "--file", "-", "--activate", stdin=SECRET)
    assert (done.status, done.err) == (0, "")
    assert states(empty) == ["active"]


@pytest.mark.parametrize("way", ["activate", "add", "generate"])
def test_another_key_signs_only_once_both_were_shown(signing, way):
    add = ["key", "add", APP, "--file", "-"]
    words = {
        "activate": ["key", "activate", APP, 2],
        "add": [*add, "--activate"],
        "generate": ["key", "generate", APP, "--format", "v1", "--activate"],
    }[way]
    if way == "activate":
        assert signing(*add, stdin=OTHER).status == 0
    before = states(signing)
    done = signing(*words, stdin=OTHER)
    assert (done.status, done.out) == (1, "")
    assert f"  now   key 1, v2, {fingerprint(SECRET.encode())}\n" in done.err
    then = "a new key, v1 P-256" if way == "generate" else fingerprint(OTHER.encode())
    assert then in done.err.split("  then  ")[1].splitlines()[0]
    assert "Nothing was changed. Add --yes to do it." in text_of(done)
    check_narrow(done)
    assert states(signing) == before
    done = signing(*words, "--yes", "--json", stdin=OTHER)
    assert (done.status, done.json["state"]) == (0, "active")
    assert states(signing) == ["old", "active"]
    # And back.
    assert f"sigmgr key activate {APP} 1" in text_of(done)
    assert signing("key", "activate", APP, 1).status == 1
    done = signing("key", "activate", APP, 1, "--yes")
    assert (done.status, states(signing)) == (0, ["active", "old"])
    assert signing("issue", APP, "alice", "--json").json["key_id"] == 1


def test_a_key_that_signs_already_stays(signing):
    done = signing("key", "activate", APP, 1)
    assert (done.status, done.err) == (0, "")
    assert states(signing) == ["active"]


def test_what_cannot_come_is_reported_before_it_is_asked_for(signing):
    assert signing("key", "add", APP, "--file", "-", stdin=OTHER).status == 0
    assert signing("key", "taint", APP, 2, "--yes").status == 0
    for words in (["activate", 2], ["revoke", 1]):
        verb, key_id = words
        for more in ([], ["--yes"]):
            done = signing("key", verb, APP, key_id, *more)
            check_refusal(done, 3, "key-state", "cannot become", "'sigmgr key taint'")


# -- no key signs --------------------------------------------------------------------------


def test_the_only_key_is_tainted_by_force_only(signing):
    for user in ("alice", "bob"):
        assert signing("issue", APP, user).status == 0
    latest = max(
        signing("show", APP, user, "--json").json[0]["expires_at"] for user in ("alice", "bob")
    )
    for more, lacking in (
        ([], "--yes and --force"), (["--yes"], "--force"), (["--force"], "--yes"),
    ):  # fmt: skip
        done = signing("key", "taint", APP, 1, *more)
        assert (done.status, done.out) == (1, "")
        text = text_of(done)
        assert f"No key will be left that signs for app {APP}." in text
        assert "no-signing-key (HTTP 503)" in text
        assert "Living sigs of key 1: 2. Each is served and good until it expires" in text
        assert f"the last until {output.iso(latest)}" in text
        assert f"sigmgr key add {APP}" in text
        assert f"Nothing was changed. Add {lacking} to do it." in text
        check_narrow(done)
    assert states(signing) == ["active"]
    done = signing("key", "taint", APP, 1, "--yes", "--force")
    assert (done.status, states(signing)) == (0, ["tainted"])
    # It is as announced.
    check_refusal(signing("issue", APP, "carol"), 3, "no-signing-key")
    assert signing("issue", APP, "alice", "--json").json["expires_at"] <= latest


def test_the_only_key_is_revoked_by_force_only(signing):
    sig = signing("issue", APP, "alice").out.strip()
    assert sig
    assert signing("key", "taint", APP, 1, "--yes", "--force").status == 0
    done = signing("key", "revoke", APP, 1, "--yes")
    assert (done.status, done.out) == (1, "")
    assert "Living sigs of key 1: 1. None is served any more, or verifies." in text_of(done)
    assert "Add --force to do it." in text_of(done)
    check_narrow(done)
    assert states(signing) == ["tainted"]
    assert signing("key", "revoke", APP, 1, "--yes", "--force").status == 0
    assert states(signing) == ["revoked"]
    # It is as announced.
    check_refusal(signing("issue", APP, "alice"), 3, "no-signing-key")


def test_a_key_that_could_sign_is_named_first(signing):
    assert signing("key", "add", APP, "--file", "-", stdin=OTHER).status == 0
    done = signing("key", "taint", APP, 1)
    assert f"Do this first: sigmgr key activate {APP} 2" in text_of(done)
    assert signing("key", "activate", APP, 2, "--yes").status == 0
    # Where another signs, --yes is enough.
    assert signing("key", "taint", APP, 1).status == 1
    assert "--force" not in signing("key", "taint", APP, 1).err
    assert signing("key", "taint", APP, 1, "--yes").status == 0
    assert signing("key", "revoke", APP, 1, "--yes").status == 0
    assert states(signing) == ["revoked", "active"]


def test_a_bad_curve(ready):
    ready("app", "add", APP)
    done = ready("key", "generate", APP, "--format", "v1", "--curve", "P-521")
    check_refusal(done, 2, "bad-key", "P-521")
    done = ready("key", "generate", APP, "--format", "v2", "--curve", "P-256")
    check_refusal(done, 2, "usage", "Leave out --curve")
    assert ready("key", "list", APP, "--json").json == []


# -- what an older version sealed ----------------------------------------------------------


def sealed(material: bytes) -> None:
    """A key as versions sealed it that did not look at it."""

    async def case() -> None:
        async with open_base(settings.load()) as base:
            await base.catalog.add_key(
                APP,
                format="v2",
                curve="",
                fingerprint=fingerprint(material),
                state=KeyState.PREPARED,
                seal=lambda key_id: base.master.seal(material, context=key_context(APP, key_id)),
                now=base.clock(),
            )

    asyncio.run(case())


@pytest.mark.parametrize("signs", [True, False])
@pytest.mark.parametrize("name", ["headerless", "base64 of a PEM", "quoted", "assignment"])
def test_a_key_that_certainly_is_none_is_never_activated(empty, name, signs):
    content, phrase = WRONG[name]
    if signs:
        empty("key", "add", APP, "--file", "-", "--activate", stdin=SECRET)
    sealed(content)
    before, key_id = states(empty), 1 + signs
    for more in ([], ["--yes"]):
        done = empty("key", "activate", APP, key_id, *more)
        answer = phrase.removeprefix("this is ").partition(";")[0]
        check_refusal(done, 2, "bad-key", f"key {key_id} of app {APP}: it is not a secret", answer)
        assert f"sigmgr key add {APP} --file FILE --activate" in text_of(done)
    assert states(empty) == before


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("signs", [True, False])
def test_an_odd_key_is_asked_about_when_it_is_activated(empty, name, signs):
    secret, phrase = ODD[name]
    if signs:
        empty("key", "add", APP, "--file", "-", "--activate", stdin=SECRET)
    sealed(secret.encode())
    key_id = 1 + signs
    done = empty("key", "activate", APP, key_id)
    assert (done.status, done.out) == (1, "")
    assert phrase in text_of(done)
    assert ("  now   key 1" in done.err) is signs
    assert "Nothing was changed. Add --yes to do it." in text_of(done)
    check_narrow(done)
    assert states(empty)[-1] == "prepared"
    assert empty("key", "activate", APP, key_id, "--yes", "--json").json["state"] == "active"


def test_the_doctor_reports_what_is_certain_and_offers_no_such_key(empty):
    sealed(WRONG["quoted"][0])
    done = empty("doctor")
    assert f"app {APP}, key 1 (prepared): it is not a secret, but a text in quotation" in (
        " ".join(done.out.split())
    )
    assert "key activate" not in done.out
    assert "Compare it" not in done.out
    assert f"sigmgr key taint {APP} 1" in " ".join(done.out.split())
    sealed(SECRET.encode())
    assert f"-> sigmgr key activate {APP} 2" in " ".join(empty("doctor").out.split())


def test_no_such_key_is_named_as_the_next_one(signing):
    sealed(WRONG["quoted"][0])
    done = signing("key", "taint", APP, 1)
    assert f"Do this first: sigmgr key add {APP}" in text_of(done)
