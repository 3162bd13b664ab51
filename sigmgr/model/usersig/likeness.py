"""Recognises what is given in place of a v2 secret and certainly is something else.

Any text works as a v2 secret, so a wrong paste makes a key whose sigs look right and are all
refused by the cloud. So a text that has the form of something else is refused with its name and
what to do.

Rules:
1. A secret as the console shows it (64 lower-case hex digits, alone) is never refused.
2. A name is certain by form, such as base64 that decodes to a private key. What is merely unlikely
   is judged by ``ecdsa`` and ``secret``.
3. Neither name nor advice shows any of the text.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_private_key, load_der_public_key

from sigmgr.model.errors import BadKey, BadSig
from sigmgr.model.usersig.formats import decode

CONSOLE_SECRET = re.compile(r"[0-9a-f]{64}")


class Thing(NamedTuple):
    """``name`` has its article: ``a URL``. ``advice``: what to give instead."""

    name: str
    advice: str


_ALONE = "give the secret alone, the 64 hex digits that the Tencent console shows"
_AROUND = "something around it"
_A_KEY = "the application's signing key belongs here"
_WHOLE_PEM = "give the file as it was made, from its BEGIN line to its END line"
_PEM = "v1 takes an EC key as PEM, v2 the secret that the Tencent console shows"

_ENDS = "(pem|key|txt|crt|cer|der|p8|p12|pfx|json|env)"

_FORMS = tuple(
    (re.compile(form, re.DOTALL), Thing(name, advice))
    for form, name, advice in (
        (r"smt_[\w-]{8,}", "an API token of sigmgr", _A_KEY),
        (r"t1\.[\w-]{24,}", "a ticket of sigmgr", _A_KEY),
        (r"eyJ[\w-]+\.[\w-]+\.[\w-]*", "a JSON web token", _A_KEY),
        (r"AKID[0-9A-Za-z]{12,}", "the SecretId of a cloud account", _A_KEY),
        (r"(ssh-|ecdsa-sha2-)[\w@.-]+ .*", "a public key of SSH", _PEM),
        (r"PuTTY-User-Key-File.*", "a key of PuTTY", _PEM),
        (r"\{.*\"kty\".*\}", "a JSON web key", _PEM),
        (r"\$(\w+|\{.*\}|\(.*\))|%\w+%|\{\{.*\}\}",
         "a variable that nothing has filled in", "put in what it stands for"),
        (r"[{\[].*[}\]]", "JSON", _ALONE),
        (r"<.*>", "XML, or a placeholder", _ALONE),
        (r"[A-Za-z][\w+.-]*://.*", "a URL", _A_KEY),
        (r"(vault|arn|ssm|env|sops|op|ref|keyring|kms):\S+",
         "a reference to where a secret is kept", "give what is kept there"),
        (r"[0-9]{1,20}", "a number such as an application's sdkappid", _ALONE),
        (r".*([*\u2022\u25cf]{3}|\.\.\.|\u2026).*", "a secret that is masked or cut", _ALONE),
        (rf"(@|file:|[A-Za-z]:)?[\w.\\/~-]*[\w-]\.{_ENDS}(\.\w{{1,5}})?|(/[a-z0-9._-]+){{2,}}",
         "the name of a file", "name the file itself with the option"),
        (r"((export|set|setx|env)\s+|\$env:)?[A-Za-z_][\w.-]*\s*:?=\s*(?!=*\Z).*",
         "an assignment, NAME=VALUE", "give the value alone"),
        (r"(?=\w*(KEY|SECRET))\w+\s*=", "an assignment of nothing", _ALONE),
        (r"[A-Za-z_][\w .-]*:\s.*", "a line 'NAME: VALUE'", "give the value alone"),
        (r"[\"'`\u2018-\u201f\u00ab\u00bb].*|.*[\"'`\u2018-\u201f\u00ab\u00bb]",
         "a text in quotation marks", "take the quotation marks away"),
    )
)  # fmt: skip
_PART_OF_A_PEM = re.compile(r"-----END|(PRIVATE|PUBLIC) KEY|BEGIN CERTIFICATE")
_INVISIBLE = re.compile("[\u00a0\u00ad\u200b-\u200f\u2028-\u202f\u2060-\u2064\ufeff]")
_SECRET_INSIDE = re.compile(r"(?<![0-9A-Fa-f])[0-9a-f]{64}(?![0-9A-Fa-f])")
_BASE64 = re.compile(r"[A-Za-z0-9+/]{20,}={0,2}")
_WRITTEN_END = re.compile(r"(?<!\\)\\+[rn]")
_HEX = re.compile(r"([0-9A-Fa-f]{2}){16,}")
_HEX_SECRET = re.compile(r"[0-9A-Fa-f]{64}")
_MARKS = re.compile(r"[\W_]+")
#: Both coordinates of the public point at the end of a private key.
_POINT_BYTES = 64
_WIDE_MARKS = (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")
_UTF8_MARK = b"\xef\xbb\xbf"
#: Text contains no bytes below it (the tabulator).
_FIRST_OF_A_TEXT = 9
#: How often encoded text is decoded again.
_DEPTH = 3


def refuse_likeness(content: bytes) -> None:
    """Raises BadKey for content that certainly is no key."""
    if thing := likeness(content):
        raise BadKey(f"this is {thing.name}; {thing.advice}")


def published(name: str) -> str:
    """The error text for a key that is published on the internet under that name."""
    return f"this key is {name}: anybody can sign with it, so it protects nobody"


def without_mark(content: bytes) -> bytes:
    """The content without a UTF-8 byte order mark."""
    return content.removeprefix(_UTF8_MARK)


def likeness(content: bytes) -> Thing | None:
    """What it certainly is; None for a secret, for a PEM, and where it is not certain."""
    if _is_wide(content):
        return Thing("a text in UTF-16", "save it as UTF-8 or plain ASCII")
    if kind := _der(content):
        return Thing(f"{kind} in binary form (DER)", _PEM)
    try:
        text = without_mark(content).decode().strip()
    except UnicodeDecodeError:
        return Thing("binary data", _PEM) if min(content) < _FIRST_OF_A_TEXT else None
    if not text or CONSOLE_SECRET.fullmatch(text) or "-----BEGIN" in text:
        return None
    return _in_clothes(text) or _by_form(text) or _disturbed(text)


def _is_wide(content: bytes) -> bool:
    """Whether it has two bytes a character, by its byte order mark or plainly so."""
    if content.startswith(_WIDE_MARKS):
        return True
    return len(content) > 3 and (not any(content[1::2]) or not any(content[::2]))


# Encoded forms of the right thing


def _in_clothes(text: str) -> Thing | None:
    """Base64, hex or URL encoding of something known, such as the DER of a key."""
    body = text.split("-----END", maxsplit=1)[0]
    lacking = "BEGIN line" if body != text else "BEGIN and END lines"
    for encoding, raw in _decoded(body):
        kind = _der(raw)
        if kind and encoding == "base64":
            return Thing(f"{kind} without its {lacking}", _WHOLE_PEM)
        if inner := kind or _known(raw, _DEPTH):
            return Thing(f"{encoding} of {inner}", "decode it first")
    if _ends_with_a_point("".join(body.split())):
        return Thing("the end of a key whose beginning is missing", _WHOLE_PEM)
    return None


def _ends_with_a_point(text: str) -> bool:
    """Base64 that was cut in front, of a key on a curve of v1."""
    for _, raw in _decoded(text[len(text) % 4 :]):
        point = b"\x04" + raw[-_POINT_BYTES:]
        for curve in (ec.SECP256R1(), ec.SECP256K1()):
            try:
                ec.EllipticCurvePublicKey.from_encoded_point(curve, point)
            except ValueError:
                continue
            return True
    return False


def _known(raw: bytes, depth: int) -> str | None:
    """The name of what belongs to keys: a PEM, DER, a secret, or an encoding of one."""
    if kind := _der(raw):
        return kind
    try:
        text = without_mark(raw).decode("ascii").strip()
    except UnicodeDecodeError:
        return None
    if "-----BEGIN" in text:
        return "a PEM"
    if CONSOLE_SECRET.fullmatch(text):
        return "a secret"
    if depth:
        for encoding, inside in _decoded(text):
            if inner := _known(inside, depth - 1):
                return f"{encoding} of {inner}"
    return f"a secret with {_AROUND}" if _SECRET_INSIDE.search(text) else None


def _decoded(text: str) -> Iterator[tuple[str, bytes]]:
    joined = "".join(_WRITTEN_END.sub(" ", text).split())
    if _HEX.fullmatch(joined):
        yield "hex", bytes.fromhex(joined)
    standard = joined.replace("-", "+").replace("_", "/")
    if _BASE64.fullmatch(standard):
        bare = standard.rstrip("=")
        if len(bare) % 4 != 1:
            yield "base64", b64decode(bare + "=" * (-len(bare) % 4))
    if "%" in text:
        yield "the URL encoding", unquote_to_bytes(text)


def _der(raw: bytes) -> str | None:
    """The kind of key or certificate in these bytes, or in a part of its DER."""
    head = _der_head(raw)
    if head is None:
        return None
    start, end = head
    whole, inside = raw[:end], raw[start : start + 4]
    try:
        load_der_private_key(whole, password=None)
    except TypeError:
        return "an encrypted private key"
    except (ValueError, UnsupportedAlgorithm):
        return _other_der(whole, inside, cut=end > len(raw))
    return "a PKCS#8 private key" if inside == b"\x02\x01\x00\x30" else "a private key"


def _other_der(raw: bytes, inside: bytes, *, cut: bool) -> str | None:
    for load, name in (
        (load_der_public_key, "a public key"),
        (x509.load_der_x509_certificate, "a certificate"),
    ):
        try:
            load(raw)
        except (ValueError, UnsupportedAlgorithm):
            continue
        return name
    if inside == b"\x02\x01\x03\x30":
        return "a PKCS#12 file"
    if inside[:2] == b"\x02\x01":
        return "a part of a private key" if cut else "a damaged private key"
    return None


def _der_head(raw: bytes) -> tuple[int, int] | None:
    """The bounds of a DER SEQUENCE's content; None where there is none."""
    if len(raw) < 16 or raw[0] != 0x30:
        return None
    if raw[1] < 0x80:
        return 2, 2 + raw[1]
    size = raw[1] & 0x7F
    if size not in {1, 2}:
        return None
    return 2 + size, 2 + size + int.from_bytes(raw[2 : 2 + size])


# Other things


def _by_form(text: str) -> Thing | None:
    if _PART_OF_A_PEM.search(text):
        return Thing("a PEM whose BEGIN line is missing or damaged", _WHOLE_PEM)
    try:
        decode(text)
    except BadSig:
        return next((thing for form, thing in _FORMS if form.fullmatch(text)), None)
    return Thing("a sig", _A_KEY)


def _disturbed(text: str) -> Thing | None:
    """A secret with something in it or around it."""
    if _INVISIBLE.search(text):
        return Thing("a text with an invisible character in it", "copy or type it anew")
    if CONSOLE_SECRET.fullmatch("".join(text.split())):
        return Thing("a secret with white space in it", "take the white space out")
    if text[:64] * 2 == text and CONSOLE_SECRET.fullmatch(text[:64]):
        return Thing("a secret pasted twice", _ALONE)
    if _SECRET_INSIDE.search(text):
        return Thing(f"a secret with {_AROUND}", _ALONE)
    if _HEX_SECRET.fullmatch(_MARKS.sub("", text)) and not _HEX_SECRET.fullmatch(text):
        return Thing("a secret with marks between its digits", "take the marks out")
    lines = len(text.splitlines())
    return Thing(f"a text of {lines} lines", _ALONE) if lines > 1 else None
