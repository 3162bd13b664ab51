r"""Extracts the one key block of a PEM from a pasted text.

Rules:
1. Text around the block is skipped: comments, quotation marks, the name of a variable.
2. Line ends are restored: CRLF, the two characters ``\n``, spaces, or none at all; with them the
   indents, quotation marks and backslashes of source code. The rest of the body must be base64, so
   only line ends can be lost.
3. An ``EC PARAMETERS`` block before a key is skipped unread: some official key files name a curve
   there that is not the key's (format notes, section 1.5).

What this module does not do: parse the key. Errors never show the content of the block.
"""

from __future__ import annotations

import re

from sigmgr.model.errors import BadKey
from sigmgr.model.shown import shown
from sigmgr.model.usersig.formats import MAX_KEY_BYTES

_URL_ENCODED = "the PEM is URL-encoded; decode it first"
WANTED = "v1 needs an EC key on P-256 or secp256k1"

_BLOCK = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----(.*?)-----END \1-----", re.DOTALL)
_WRITTEN_END = re.compile(r"(?<!\\)\\+[rn]")
#: In source code a plus may join the quoted lines.
_BETWEEN_LINES = re.compile(r"([\"'`]\s*\+\s*[\"'`]|[\s\\\"'`])+")
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")
_COLUMNS = 64


def key_block(pem: bytes) -> tuple[str, bytes]:
    """The label and the normalised text of the one key. Raises :class:`BadKey`."""
    if len(pem) > MAX_KEY_BYTES:
        raise BadKey(f"the PEM has more than {MAX_KEY_BYTES} bytes; that is no EC key")
    text = _WRITTEN_END.sub("\n", pem.decode("latin-1"))
    blocks = [found for found in _BLOCK.findall(text) if found[0] != "EC PARAMETERS"]
    if len(blocks) != 1:
        raise BadKey(_no_single_block(text, [label for label, _ in blocks]))
    label, body = blocks[0]
    if label == "ENCRYPTED PRIVATE KEY" or "Proc-Type: 4,ENCRYPTED" in body:
        raise BadKey("the private key is encrypted; decrypt it first")
    if label == "OPENSSH PRIVATE KEY":
        raise BadKey("the key is in OpenSSH's own form; turn it: ssh-keygen -p -m PKCS8 -f FILE")
    if not label.endswith(("PRIVATE KEY", "PUBLIC KEY")):
        raise BadKey(f"the PEM holds a block {shown(label)}, which is no key; {WANTED}")
    return label, _written(label, _BETWEEN_LINES.sub("", body))


def _written(label: str, body: str) -> bytes:
    if body.startswith("+"):  # no key in base64 begins so; a plus stands for each line end
        raise BadKey(_URL_ENCODED)
    if not _BASE64.fullmatch(body):
        raise BadKey(_URL_ENCODED if "%" in body else "the PEM is damaged: its body is no base64")
    lines = [body[at : at + _COLUMNS] for at in range(0, len(body), _COLUMNS)]
    whole = [f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""]
    return "\n".join(whole).encode("ascii")


def _no_single_block(text: str, labels: list[str]) -> str:
    if labels:
        what = "keys" if all(label.endswith("KEY") for label in labels) else "blocks"
        kinds = ", ".join(dict.fromkeys(map(shown, labels)))
        return f"the PEM holds {len(labels)} {what} ({kinds}); give exactly one key"
    if "-----END EC PARAMETERS-----" in text and text.count("-----BEGIN") == 1:
        return "the PEM holds curve parameters and no key"
    if "-----BEGIN%20" in text or "-----BEGIN+" in text:
        return _URL_ENCODED
    if "-----BEGIN" in text:
        return "the PEM is cut off or damaged: no block has both its BEGIN and its END line"
    return "the text holds no PEM block: no line of it says BEGIN"
