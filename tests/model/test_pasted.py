"""What is pasted where a key belongs: taken as the right key, asked about, or named."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
from urllib.parse import quote, quote_plus

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from hypothesis import given
from hypothesis import strategies as st

from sigmgr.http.auth import new_token
from sigmgr.model import pasted, usersig
from sigmgr.model.errors import BadKey
from sigmgr.model.ticket import Tickets
from sigmgr.model.usersig import ecdsa
from sigmgr.model.usersig.formats import MAX_KEY_BYTES
from tests.growth import MOST, TIMES, growth, repeated
from tests.model.usersig_kit import HMAC, K1_KEY, P256_KEY, SECRET, V2, VECTORS, pem

Encoding, Private = serialization.Encoding, serialization.PrivateFormat
OPEN = serialization.NoEncryption()
LOCKED = serialization.BestAvailableEncryption(b"pw")

PEM = pem(P256_KEY)
SEC1 = P256_KEY.private_bytes(Encoding.PEM, Private.TraditionalOpenSSL, OPEN)
DER = P256_KEY.private_bytes(Encoding.DER, Private.PKCS8, OPEN)
PUBLIC = P256_KEY.public_key().public_bytes(
    Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)
SECRET_BYTES = SECRET.encode()
#: What a PEM's own lines and our sentences have in common.
OUR_WORDS = (
    "PRIVATE KEY, EC PRIVATE KEY, PUBLIC KEY, EC PARAMETERS, OPENSSH PRIVATE KEY,"
    " the text holds no PEM block: no line of it says BEGIN"
)
FINGERPRINT = ecdsa.load_private(PEM).fingerprint


def inside(text: bytes) -> bytes:
    return b"\n".join(text.splitlines()[1:-1])


def bundle() -> bytes:
    return pkcs12.serialize_key_and_certificates(None, P256_KEY, None, None, OPEN)


# Taken as it is meant

TAKEN = {
    "pkcs8": PEM,
    "sec1": SEC1,
    "crlf": PEM.replace(b"\n", b"\r\n"),
    "old mac": PEM.replace(b"\n", b"\r"),
    "byte order mark": b"\xef\xbb\xbf" + PEM,
    "literal \\n": PEM.replace(b"\n", b"\\n"),
    "literal \\r\\n": PEM.replace(b"\n", b"\\r\\n"),
    "literal \\\\n": PEM.replace(b"\n", b"\\\\n"),
    "spaces": PEM.replace(b"\n", b" "),
    "tabs": PEM.replace(b"\n", b"\t"),
    "one line": PEM.replace(b"\n", b""),
    "indented": PEM.replace(b"\n", b"\n    "),
    "json": json.dumps({"key": PEM.decode()}).encode(),
    "assignment": b'KEY="' + PEM.replace(b"\n", b"\\n") + b'"',
    "shell lines": PEM.replace(b"\n", b"\\\n"),
    "source lines": b'"' + PEM.replace(b"\n", b'\\n" +\n    "') + b'";',
    "source lines in python": b'("' + PEM.replace(b"\n", b'\\n"\n    "') + b'")',
    "parameters on one line": b"-----BEGIN EC PARAMETERS----- BgUrgQQACg== "
    b"-----END EC PARAMETERS----- " + SEC1.replace(b"\n", b" "),
}


@pytest.mark.parametrize("name", TAKEN)
def test_a_private_key_is_mended_and_sealed_in_one_form(name):
    for reported in (None, "v1"):
        found = pasted.read(TAKEN[name], reported)
        assert (found.format, found.key.fingerprint, found.odd) == ("v1", FINGERPRINT, "")
        assert found.material == PEM


@pytest.mark.parametrize(
    "around",
    [
        b"%s", b"%s\n", b"\r\n %s\r\n\r\n", b"\xef\xbb\xbf%s", b"\xef\xbb\xbf%s\r\n",
        "\u00a0%s\u00a0".encode(), b"\x0b%s\x1c",
    ],
)  # fmt: skip
def test_a_secret_is_taken_without_what_editors_put_around_it(around):
    for reported in (None, "v2"):
        found = pasted.read(around.replace(b"%s", SECRET_BYTES), reported)
        assert (found.format, found.material, found.odd) == ("v2", SECRET_BYTES, "")


# Another thing

TOKEN = new_token(bytes(32))[0]
TICKET = Tickets(bytes(32)).issue(1400000001, "alice", 1, 2)
SIG = usersig.sign(V2, HMAC)
NAMED = {
    # The lines of the report: each was sealed as a secret, without a word.
    "headerless": (inside(PEM), "this is a PKCS#8 private key without its BEGIN and END lines"),
    "base64 of a PEM": (base64.b64encode(PEM), "this is base64 of a PEM; decode it first"),
    "quoted": (b'"' + SECRET_BYTES + b'"', "a text in quotation marks"),
    "assignment": (b"SECRET=" + SECRET_BYTES, "an assignment, NAME=VALUE"),
    # Their kin.
    "headerless, one line": (inside(PEM).replace(b"\n", b""), "without its BEGIN and END lines"),
    "headerless, literal \\n": (inside(PEM).replace(b"\n", b"\\n"), "without its BEGIN and END"),
    "headerless, url-safe": (inside(PEM).translate(bytes.maketrans(b"+/", b"-_")), "a PKCS#8"),
    "headerless sec1": (inside(SEC1), "this is a private key without its BEGIN and END lines"),
    "no BEGIN": (PEM.split(b"\n", 1)[1], "a PKCS#8 private key without its BEGIN line"),
    "no END": (PEM.rsplit(b"-----END", 1)[0], "cut off or damaged"),
    "headerless and locked": (
        inside(P256_KEY.private_bytes(Encoding.PEM, Private.PKCS8, LOCKED)),
        "an encrypted private key without its BEGIN and END lines",
    ),
    "headerless and public": (inside(PUBLIC), "a public key without its BEGIN and END lines"),
    "headerless and cut": (inside(PEM)[:100], "a part of a private key"),
    "headerless and damaged": (base64.b64encode(DER[:20] + bytes(len(DER) - 20)), "a damaged"),
    "another kind of key": (
        base64.b64encode(
            rsa.generate_private_key(65537, 2048).private_bytes(
                Encoding.DER, Private.TraditionalOpenSSL, OPEN
            )
        ),
        "a private key without its BEGIN and END lines",
    ),
    "base64 twice": (base64.b64encode(base64.b64encode(PEM)), "base64 of base64 of a PEM"),
    "base64 twice, of a key": (
        base64.b64encode(base64.b64encode(DER)),
        "base64 of base64 of a PKCS#8 private key",
    ),
    "base64 of a secret": (base64.b64encode(SECRET_BYTES + b"\n"), "base64 of a secret"),
    "hex of a secret": (SECRET_BYTES.hex().encode(), "hex of a secret"),
    "hex of a key": (DER.hex().encode(), "hex of a PKCS#8 private key"),
    "DER": (DER, "a PKCS#8 private key in binary form (DER)"),
    "PKCS#12": (bundle(), "a PKCS#12 file in binary form (DER)"),
    "URL-encoded PEM": (quote(PEM).encode(), "URL-encoded"),
    "URL-encoded lines": (PEM.replace(b"\n", b"%0A"), "URL-encoded"),
    "export": (b"export SECRET='" + SECRET_BYTES + b"'", "an assignment, NAME=VALUE"),
    "PowerShell": (b'$env:SIGMGR_SECRET = "' + SECRET_BYTES + b'"', "an assignment"),
    "assignment of nothing": (b"APP_SECRET=", "an assignment of nothing"),
    "YAML": (b"secret: " + SECRET_BYTES, "a line 'NAME: VALUE'"),
    "JSON": (json.dumps({"key": SECRET}).encode(), "JSON"),
    "JWK": (b'{"kty":"EC","crv":"P-256","d":"x"}', "a JSON web key"),
    "single quotes": (b"'" + SECRET_BYTES + b"'", "a text in quotation marks"),
    "curly quotes": (f"\u201c{SECRET}\u201d".encode(), "a text in quotation marks"),
    "one quote": (SECRET_BYTES + b'"', "a text in quotation marks"),
    "trailing comma": (SECRET_BYTES + b",", "a secret with something around it"),
    "literal line end": (SECRET_BYTES + b"\\n", "a secret with something around it"),
    "comment": (b"# production\n" + SECRET_BYTES, "a secret with something around it"),
    "label": (b"Key " + SECRET_BYTES, "a secret with something around it"),
    "twice": (SECRET_BYTES * 2, "a secret pasted twice"),
    "wrapped": (SECRET_BYTES[:40] + b"\n" + SECRET_BYTES[40:], "a secret with white space in it"),
    "invisible": (SECRET.replace("8", "8\u200b", 1).encode(), "an invisible character"),
    "UTF-16": (SECRET.encode("utf-16"), "a text in UTF-16"),
    "UTF-16 without a mark": (SECRET.encode("utf-16-be"), "a text in UTF-16"),
    "PEM in UTF-16": (PEM.decode().encode("utf-16"), "a text in UTF-16"),
    "binary": (bytes(range(256)), "binary data"),
    "URL": (b"https://console.cloud.tencent.com/im", "a URL"),
    "token": (TOKEN.encode(), "an API token of sigmgr"),
    "ticket": (TICKET.encode(), "a ticket of sigmgr"),
    "sig": (SIG.encode(), "a sig"),
    "sdkappid": (b"1400000001\n", "an application's sdkappid"),
    "file name": (b"/etc/sigmgr/app.pem\n", "the name of a file"),
    "placeholder": (b"<your secret>", "a placeholder"),
    "masked": (b"****************", "masked or cut"),
    "shortened": (SECRET_BYTES[:8] + b"..." + SECRET_BYTES[-8:], "masked or cut"),
    "SSH": (b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA me@host", "a public key of SSH"),
    "OpenSSH": (
        P256_KEY.private_bytes(Encoding.PEM, Private.OpenSSH, OPEN),
        "OpenSSH's own form",
    ),
    "four hyphens": (PEM.replace(b"-----", b"----"), "BEGIN line is missing or damaged"),
    "dashes": (PEM.decode().replace("--", "\u2014").encode(), "BEGIN line is missing or damaged"),
    "public": (PUBLIC, "a public key; signing needs the private key"),
    "both halves": (PEM + PUBLIC, "2 keys"),
    "lines": (b"alpha\nbeta", "a text of 2 lines"),
    "quoted and URL-encoded": (
        b"%22" + SECRET_BYTES + b"%22",
        "the URL encoding of a secret with something around it",
    ),
    "JSON in base64": (
        base64.b64encode(json.dumps({"key": SECRET}).encode()),
        "base64 of a secret with something around it",
    ),
    "colons": (":".join(re.findall("..", SECRET)).encode(), "marks between its digits"),
    "colons and capitals": (":".join(re.findall("..", SECRET.upper())).encode(), "marks between"),
    "hyphens": ("-".join(re.findall(".{8}", SECRET)).encode(), "a secret with marks between"),
    "dots": (".".join(re.findall(".{16}", SECRET)).encode(), "a secret with marks between"),
    "long number": (b"14000000010", "a number such as"),
    "account": (b"1300000001234567", "a number such as"),
    "public file": (b"app.pem.pub", "the name of a file"),
    "file for curl": (b"@a.pem", "the name of a file"),
    "backup file": (b"~/keys/secret.txt.bak", "the name of a file"),
    "file of Windows": (b"C:\\keys\\app.pem", "the name of a file"),
    "file: path": (b"file:/etc/app.pem", "the name of a file"),
    "folder of secrets": (b"/run/secrets/sigmgr_key", "the name of a file"),
    "variable": (b"$SECRET", "a variable that nothing has filled in"),
    "braced variable": (b"${SECRET}", "a variable that nothing has filled in"),
    "variable with a default": (b"${SECRET:-none}", "a variable that nothing has filled in"),
    "command": (b"$(cat secret.txt)", "a variable that nothing has filled in"),
    "Windows variable": (b"%SECRET%", "a variable that nothing has filled in"),
    "template": (b"{{ secret }}", "a variable that nothing has filled in"),
    "GitHub": (b"${{ secrets.KEY }}", "a variable that nothing has filled in"),
    "vault": (b"vault:secret/data/im#key", "a reference to where a secret is kept"),
    "ARN": (
        b"arn:aws:secretsmanager:eu-west-1:123456789012:secret:im-AbCdEf",
        "a reference to where a secret is kept",
    ),
    "ssm": (b"ssm:/prod/im/key", "a reference to where a secret is kept"),
    "env": (b"env:SECRET", "a reference to where a secret is kept"),
    "tail of a key": (inside(PEM).replace(b"\n", b"")[64:], "the end of a key"),
    "tail of a key, cut anywhere": (inside(PEM).replace(b"\n", b"")[77:], "the end of a key"),
    "point of a key": (inside(PEM).replace(b"\n", b"")[-88:], "the end of a key"),
    "tail of a public key": (inside(PUBLIC).replace(b"\n", b"")[30:], "the end of a key"),
    "tail of a secp256k1 key": (inside(pem(K1_KEY)).replace(b"\n", b"")[50:], "the end of a key"),
    "plus for line ends": (PEM.replace(b"\n", b"+"), "URL-encoded"),
    "plus for line ends and blanks": (PEM.replace(b"\n", b"+").replace(b" ", b"+"), "URL-encoded"),
    "form": (quote_plus(PEM).encode(), "URL-encoded"),
    "nothing": (b" \n", "nothing in it"),
    "long": (b"0" * 20000, "more than 16384 bytes"),
}


@pytest.mark.parametrize("name", NAMED)
def test_what_is_another_thing_is_refused_by_its_name(name):
    content, phrase = NAMED[name]
    with pytest.raises(BadKey) as caught:
        pasted.read(content)
    assert phrase in caught.value.text
    check_nothing_shown(caught.value.text, content)


@pytest.mark.parametrize("name", sorted(set(NAMED) - {"public"}))
def test_another_thing_verifies_nothing_either(name):
    with pytest.raises(BadKey):
        pasted.read_verifier(NAMED[name][0])


def test_each_format_names_the_other():
    with pytest.raises(BadKey, match=r"a secret, which belongs to format v2"):
        pasted.read(SECRET_BYTES, "v1")
    with pytest.raises(BadKey, match=r"a PEM, which belongs to format v1"):
        pasted.read(PEM, "v2")


# Odd

ODD = {
    "60": (SECRET[:60], "60 hex digits instead of 64"),
    "63": (SECRET[:63], "63 hex digits instead of 64"),
    "65": (SECRET + "0", "65 hex digits instead of 64"),
    "upper case": (SECRET.upper(), "upper case"),
    "mixed case": (SECRET[:-1] + "F", "upper case"),
    "short": ("short", "5 characters: was it pasted whole?"),
    "no hex": ("shell-secret-".ljust(64, "0"), "not 64 hex digits"),
    "master key": (base64.b64encode(os.urandom(32)).decode(), "as a master key is"),
    "another secret": ("s3cret-of_an.emulator!", "22 characters: was it pasted whole?"),
    "words": ("correct horse battery", "21 characters"),
    "zeros": ("0" * 64, "one character, repeated"),
    "demo": ("5bd2850f" + "0" * 50 + "b93b5e", "anybody can sign with it"),
}


@pytest.mark.parametrize("name", ODD)
def test_what_is_odd_works_and_reports_why(name):
    secret, phrase = ODD[name]
    found = pasted.read(secret.encode() + b"\n")
    assert phrase in found.odd
    assert found.material == secret.encode()
    check_nothing_shown(found.odd, secret.encode())
    assert pasted.read_verifier(secret.encode())[1] == found.odd
    assert pasted.doubt("v2", secret.encode()) == (found.odd, False)


def test_a_published_pair_is_odd():
    vector = next(one for one in VECTORS if one["name"].startswith("published"))
    assert "anybody" in pasted.read_verifier(vector["public_key_pem"].encode())[1]


def test_public_pems_verify():
    for content in (PUBLIC, PUBLIC.replace(b"\n", b"\\n"), PEM):
        key, odd = pasted.read_verifier(content)
        assert (key.fingerprint, odd) == (FINGERPRINT, "")


@pytest.mark.parametrize("name", ["headerless", "base64 of a PEM", "quoted", "assignment", "YAML"])
def test_what_was_sealed_before_is_doubted(name):
    content = NAMED[name][0].replace(b"\n", b"") if name == "headerless" else NAMED[name][0]
    found = pasted.doubt("v2", content)
    assert found is not None
    assert found.certain
    check_nothing_shown(found.text, content)


def test_a_good_key_is_not_doubted():
    assert pasted.doubt("v2", SECRET_BYTES) is None
    assert pasted.doubt("v1", PEM) is None
    assert pasted.doubt("v1", SEC1) is None


# Any of it, twisted at will

K1_PEM = pem(K1_KEY)
SOURCES = (PEM, SEC1, K1_PEM, PUBLIC, SECRET_BYTES)
TRUE_PRINTS = {ecdsa.load_private(one).fingerprint for one in (PEM, K1_PEM)}


def somewhere(text, draw) -> int:
    return draw(st.integers(0, max(len(text) - 1, 0)))


def cut(text: bytes, draw) -> bytes:
    at = somewhere(text, draw)
    return text[:at] if draw(st.booleans()) else text[at:]


def without_a_line(text: bytes, draw) -> bytes:
    lines = text.split(b"\n")
    del lines[somewhere(lines, draw)]
    return b"\n".join(lines)


def with_a_byte_changed(text: bytes, draw) -> bytes:
    at = somewhere(text, draw)
    return text[:at] + bytes([draw(st.integers(0, 255))]) + text[at + 1 :]


def twist(text: bytes, draw) -> bytes:
    """One thing that happens to keys between a console and a command."""
    how = draw(st.sampled_from(sorted(TWISTS)))
    return TWISTS[how](text, draw)


TWISTS = {
    "base64": lambda text, _: base64.b64encode(text),
    "base64 with lines": lambda text, _: base64.encodebytes(text),
    "urlsafe": lambda text, _: text.translate(bytes.maketrans(b"+/", b"-_")),
    "hex": lambda text, _: text.hex().encode(),
    "first line lost": lambda text, _: text.split(b"\n", 1)[-1],
    "last line lost": lambda text, _: text.rstrip().rsplit(b"\n", 1)[0],
    "a line lost": without_a_line,
    "lines swapped": lambda text, _: b"\n".join(sorted(text.split(b"\n"))),
    "cut": cut,
    "quoted": lambda text, draw: draw(st.sampled_from([b'"%s"', b"'%s'", b'"%s",'])) % text,
    "assigned": lambda text, draw: (
        draw(st.sampled_from([b"KEY=%s", b"export K=%s", b"key: %s", b"K = '%s'"])) % text
    ),
    "json": lambda text, _: json.dumps({"k": text.decode("latin-1")}).encode(),
    "literal line ends": lambda text, _: text.replace(b"\n", b"\\n"),
    "spaces for lines": lambda text, _: text.replace(b"\n", b" "),
    "crlf": lambda text, _: text.replace(b"\n", b"\r\n"),
    "indented": lambda text, _: text.replace(b"\n", b"\n\t"),
    "marked": lambda text, _: b"\xef\xbb\xbf" + text,
    "utf-16": lambda text, _: text.decode("latin-1").encode("utf-16"),
    "url": lambda text, _: quote(text).encode(),
    "plus to space": lambda text, _: text.replace(b"+", b" "),
    "upper": lambda text, _: text.upper(),
    "lower": lambda text, _: text.lower(),
    "twice": lambda text, _: text * 2,
    "a byte changed": with_a_byte_changed,
}  # fmt: skip


@given(st.data())
def test_a_twisted_key_is_itself_or_asked_about_or_refused(data):
    source = data.draw(st.sampled_from(SOURCES))
    content = source
    for _ in range(data.draw(st.integers(0, 4))):
        content = twist(content, data.draw)
    try:
        found = pasted.read(content)
    except BadKey as error:
        check_nothing_shown(error.text, content, source)
        return
    check_nothing_shown(found.odd, content, source)
    if found.format == "v1":
        assert found.key.fingerprint in TRUE_PRINTS
        assert found.material in {PEM, K1_PEM}
    elif not found.odd:
        # One digit for another cannot be told from the true one; nothing else is silent.
        assert source == SECRET_BYTES
        assert len(found.material) == 64
        assert sum(a != b for a, b in zip(found.material, SECRET_BYTES, strict=True)) <= 4
    again = pasted.read(found.material)
    assert (again.format, again.material, again.key.fingerprint) == (
        found.format,
        found.material,
        found.key.fingerprint,
    )


@given(st.binary(max_size=300), st.sampled_from([None, "v1", "v2"]))
def test_any_bytes_are_answered(content, reported):
    try:
        found = pasted.read(content, reported)
    except BadKey as error:
        assert error.text.isprintable()
        return
    assert found.odd or len(found.material) == 64
    assert pasted.doubt(found.format, found.material) == (
        pasted.Doubt(found.odd, certain=False) if found.odd else None
    )


@given(st.text("0123456789abcdef", min_size=64, max_size=64))
def test_every_secret_of_the_console_is_taken_in_silence(secret):
    found = pasted.read(secret.encode())
    odd = len(set(secret)) == 1
    assert (found.format, found.material, bool(found.odd)) == ("v2", secret.encode(), odd)


@given(st.sampled_from([ec.SECP256R1(), ec.SECP256K1()]), st.sampled_from([0, 1, 2]))
def test_every_key_that_lost_its_lines_is_named(curve, form):
    key = ec.generate_private_key(curve)
    clothing = (Private.PKCS8, Private.TraditionalOpenSSL)[form % 2]
    der = key.private_bytes(Encoding.DER, clothing, OPEN)
    with pytest.raises(BadKey, match="private key without its BEGIN and END lines"):
        pasted.read(base64.b64encode(der))


def check_nothing_shown(answer: str, *contents: bytes) -> None:
    """No eight characters of the input are in the error."""
    for content in contents:
        text = content.decode("latin-1")
        for at in range(len(text) - 8):
            piece = text[at : at + 8]
            assert piece not in answer or piece in OUR_WORDS, piece


@pytest.mark.parametrize("piece", ["\\", "KEY", "[a", "' ", "0a "])
def test_a_paste_is_judged_in_work_that_grows_with_its_length(piece):
    def judge(text: str) -> None:
        with contextlib.suppress(BadKey):
            pasted.read(text.encode(), None)

    assert growth(judge, repeated(piece, "\x01"), MAX_KEY_BYTES // TIMES - 1) < MOST
