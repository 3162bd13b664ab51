"""Sig formats behind one protocol, and their registry.

A format defines how its sigs and keys look. All other code uses :data:`FORMATS` and knows no format
by name. To add one, write a :class:`SigFormat` and register it in ``usersig/__init__``:

    FORMATS.register(MyFormat())

Rules:
1. A format's name is stored in rows of keys and holders, and its code in cached values. Neither is
   ever given to another format.
2. A name from outside, an option or a row, goes through :meth:`Formats.named`.
3. A format is light: what needs ``cryptography`` is imported when ``keys`` is first used, so that
   the command line lists formats without it.
4. One format is the fallback: it takes a text or a key that no other recognises, and reports what
   is wrong with it.

What this module does not do: know a format.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple, Protocol

from sigmgr.model.errors import BadKey, BadSig, SigReason
from sigmgr.model.shown import shown
from sigmgr.model.sig import Format, SigFacts
from sigmgr.model.usersig.claims import Claims, claims
from sigmgr.model.usersig.decoded import Decoded

#: Far above the size of any key; bounds the work on a wrong file.
MAX_KEY_BYTES: Final = 16384
#: The largest code of a format.
MAX_CODE: Final = 17

#: Returns as many random bytes as asked for.
Draw = Callable[[int], bytes]
#: A text's fields, unverified; None for a text of another form. Raises BadSig for a damaged text of
#: this form. The fallback's reader never returns None.
Reader = Callable[[str], Decoded | None]


class VerifyingKey(Protocol):
    """A key that verifies. ``curve`` is the kind of key within its format, empty where there is
    one; ``fingerprint`` is public; ``public_pem`` is empty where there is no public half. Neither
    errors nor ``repr`` show key material."""

    format: Format
    curve: str
    fingerprint: str
    public_pem: bytes

    def verify(self, text: bytes, signature: bytes, /) -> bool:
        """Whether this key made that signature over the text."""
        ...


class SigningKey(VerifyingKey, Protocol):
    """A key that signs, and verifies too. ``cost``: about the microseconds of CPU to make and check
    a sig; a key ring shares out its threads by it."""

    cost: int

    def sign(self, text: bytes, /) -> bytes:
        """The signature; the same for the same text."""
        ...


class Pasted(NamedTuple):
    """A pasted signing key. ``material`` is sealed: the key in the normal form of its format.
    ``odd`` is a sentence where the key works but probably is not the intended one, else empty."""

    format: Format
    material: bytes
    key: SigningKey
    odd: str


class Doubt(NamedTuple):
    """Why a key is perhaps not the intended one; ``certain``: it is something else."""

    text: str
    certain: bool


class Hints(NamedTuple):
    #: ``PEM``: a key that verifies. ``private PEM``: one that signs. ``the app's PEM``: its place.
    noun: str
    private_noun: str
    wanted: str
    #: What to do with a new key in files named ``{private}`` and ``{public}``.
    made_file: str
    #: A note on a key that was made inside sigmgr, for app ``{sdkappid}``.
    made_inside: str


class KeyKind(Protocol):
    """The keys of one format: parse, make and recognise them. Methods that take bytes raise
    :class:`BadKey` with a sentence that names what the bytes are instead."""

    def recognises(self, content: bytes, /) -> bool:
        """Whether it certainly is, or was meant to be, a key of this kind."""
        ...

    def read(self, content: bytes, /) -> Pasted:
        """A pasted signing key: normalised, marked as odd, or refused."""
        ...

    def read_verifier(self, content: bytes, /) -> tuple[VerifyingKey, str]:
        """A key that verifies (a public half is enough), and the reason why it is odd."""
        ...

    def signer(self, material: bytes, /) -> SigningKey:
        """The key from sealed material; takes every key that signs."""
        ...

    def doubt(self, material: bytes, /) -> Doubt | None:
        """Judge sealed material."""
        ...

    def generate(self, draw: Draw, curve: str | None, /) -> bytes:
        """Material of a new key; the format's first curve where none is named."""
        ...

    def is_signature(self, signature: bytes, /) -> bool:
        """Whether these bytes have the form of a signature."""
        ...


class SigFormat(Protocol):
    """One format. ``algorithm`` is for people; ``code`` is 1 to :data:`MAX_CODE`. Formats that
    differ only in content share one ``reader``."""

    name: Format
    code: int
    algorithm: str
    curves: tuple[str, ...]
    hints: Hints
    reader: Reader

    @property
    def keys(self) -> KeyKind: ...

    def write(self, claims: Claims, key: SigningKey, /) -> str:
        """The sig. The same claims and key give the same signed text and signature."""
        ...

    def holds(self, text: str, claims: Claims, key: SigningKey, /) -> bool:
        """A cheap proof that a sig that was just made is correct. False where there is no proof;
        the sig is verified then."""
        ...


class Formats:
    fallback: SigFormat

    def __init__(self) -> None:
        self._by_name: dict[str, SigFormat] = {}
        self._by_code: dict[int, Format] = {}

    def register(self, one: SigFormat, *, fallback: bool = False) -> None:
        """Raises ValueError for a name or code in use, or a code out of bounds."""
        if one.name in self._by_name or one.code in self._by_code:
            raise ValueError(f"there is a format {one.name} or of code {one.code} already")
        if not 1 <= one.code <= MAX_CODE:
            raise ValueError(f"the code of {one.name} is not 1 to {MAX_CODE}")
        self._by_name[one.name] = one
        self._by_code[one.code] = one.name
        if fallback:
            self.fallback = one

    def unregister(self, name: str) -> None:
        del self._by_code[self._by_name.pop(name).code]

    def __iter__(self) -> Iterator[SigFormat]:
        return iter(tuple(self._by_name.values()))

    def named(self, name: str) -> SigFormat:
        """Raises BadKey for a name that is no format's."""
        found = self._by_name.get(name)
        if found is None:
            names = " and ".join(self._by_name)
            raise BadKey(f"{shown(name)} is no format; there are {names}")
        return found

    def code(self, name: str) -> int:
        """Raises KeyError."""
        return self._by_name[name].code

    def coded(self, code: int) -> Format:
        """The name behind a code. Raises KeyError."""
        return self._by_code[code]

    def readers(self) -> list[Reader]:
        """Each reader once, the fallback's last."""
        last = self.fallback.reader
        return [*dict.fromkeys(one.reader for one in self if one.reader is not last), last]

    def of_key(self, content: bytes) -> SigFormat:
        """The format whose key this looks like."""
        return next((one for one in self if one.keys.recognises(content)), self.fallback)


FORMATS: Final = Formats()


def fingerprint(data: bytes) -> str:
    """The first 16 hex digits of a SHA-256."""
    return hashlib.sha256(data).hexdigest()[:16]


def decode(text: str) -> Decoded:
    """The fields of a sig of any origin, unverified. Raises :class:`BadSig` for a structural
    reason: one before ``wrong-format`` in :class:`SigReason`."""
    for reader in FORMATS.readers():
        found = reader(text)
        if found is not None:
            return found
    raise BadSig(SigReason.NO_SIG, "no format has such a text")


def sign(facts: SigFacts, key: SigningKey) -> str:
    """The sig. The same facts and key give the same signed text and signature: v2 by nature, v1 by
    RFC 6979; another zlib-ng may compress to other bytes. Raises an :class:`InputError` that names
    what does not fit.

    ``facts.key_id`` is ignored, and so are privileges where the holder is no room holder.
    """
    return _format_of(facts, key).write(claims(facts), key)


def sign_checked(facts: SigFacts, key: SigningKey) -> tuple[str, bool]:
    """As :func:`sign`; True beside it where the sig is read back and proves to be that of these
    facts and this key, at half the cost of ``verify``. False proves nothing; ``verify`` does."""
    format_, signed = _format_of(facts, key), claims(facts)
    text = format_.write(signed, key)
    return text, format_.holds(text, signed, key)


def _format_of(facts: SigFacts, key: SigningKey) -> SigFormat:
    if key.format != facts.format:
        raise BadKey(f"a {key.format} key cannot make a sig of format {shown(facts.format)}")
    return FORMATS.named(facts.format)
