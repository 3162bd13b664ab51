"""Sig formats behind one protocol, and the registry of those that there are.

A format says how its sigs and keys look. Whoever issues, stores, pushes, verifies or shows
sigs asks :data:`FORMATS` and knows no format by its name. To add one, write a
:class:`SigFormat` and register it in ``usersig/__init__``:

    FORMATS.register(MyFormat())

Rules:
1. A format's name lies in the database, in rows of keys and of holders, and its code in
   cached values. Neither is ever given to another format.
2. A name that comes from outside, an option or a row, goes through :meth:`Formats.named`.
3. A format is light: what needs ``cryptography`` is behind ``keys``, and is imported when
   they are first asked for. The command line lists formats without it.
4. One format is the fallback: it takes a text or a key that no other recognises, and says
   what is wrong with it.

What this module does not do: know a format.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple, Protocol

from sigmgr.model.errors import BadKey
from sigmgr.model.shown import shown
from sigmgr.model.sig import Format
from sigmgr.model.usersig.claims import Claims
from sigmgr.model.usersig.decoded import Decoded

#: Far above any key, and a bound on the work that a wrong file can cause.
MAX_KEY_BYTES: Final = 16384
#: The largest code of a format.
MAX_CODE: Final = 17

#: As many random bytes as asked for.
Draw = Callable[[int], bytes]
#: A text's fields, unverified; None for a text of another form. Raises BadSig for one of this
#: form that is damaged. The fallback's reader answers or raises, whatever the text.
Reader = Callable[[str], Decoded | None]


class VerifyingKey(Protocol):
    """What verifies. ``curve`` tells apart the kinds of key that a format has, empty where
    there is one; ``fingerprint`` is public; ``public_pem`` is empty where there is no public
    half. Neither errors nor ``repr`` show key material."""

    format: Format
    curve: str
    fingerprint: str
    public_pem: bytes

    def verify(self, text: bytes, signature: bytes, /) -> bool:
        """Whether this key made that signature over the text."""
        ...


class SigningKey(VerifyingKey, Protocol):
    """What signs, and verifies too. ``cost``: about how many microseconds of CPU a sig takes
    that is made and checked; a key ring shares out its threads by it."""

    cost: int

    def sign(self, text: bytes, /) -> bytes:
        """The signature; the same for the same text."""
        ...


class Pasted(NamedTuple):
    """A key that signs, as somebody gave it. ``material`` is what is sealed: the key in the
    one form of its format. ``odd`` is a sentence where the key works and probably is not the
    one that was meant, else empty."""

    format: Format
    material: bytes
    key: SigningKey
    odd: str


class Doubt(NamedTuple):
    """Why a key is perhaps not the one that was meant; ``certain``: it is another thing."""

    text: str
    certain: bool


class Hints(NamedTuple):
    """What people read about a format's keys."""

    #: ``PEM``: what verifies. ``private PEM``: what signs. ``the app's PEM``: where it is.
    noun: str
    private_noun: str
    wanted: str
    #: What to do with a key in files of which ``{private}`` and ``{public}`` are the names.
    made_file: str
    #: What to know of a key that was made inside sigmgr, for app ``{sdkappid}``.
    made_inside: str


class KeyKind(Protocol):
    """The keys of one format: parsed, made, and told from what is pasted in their place. All
    that take bytes raise :class:`BadKey` with a sentence that says what these are instead."""

    def recognises(self, content: bytes, /) -> bool:
        """Whether it certainly is a key of this kind, or was meant to be one."""
        ...

    def read(self, content: bytes, /) -> Pasted:
        """A signing key as it was pasted: mended, doubted or refused."""
        ...

    def read_verifier(self, content: bytes, /) -> tuple[VerifyingKey, str]:
        """A key that verifies, where a public half is enough, and what is odd."""
        ...

    def signer(self, material: bytes, /) -> SigningKey:
        """The key that was sealed; it takes whatever signs."""
        ...

    def doubt(self, material: bytes, /) -> Doubt | None:
        """What is to be thought of material that was sealed."""
        ...

    def generate(self, draw: Draw, curve: str | None, /) -> bytes:
        """Material of a new key; the format's first curve where none is named."""
        ...

    def is_signature(self, signature: bytes, /) -> bool:
        """Whether these bytes have the form of a signature at all."""
        ...


class SigFormat(Protocol):
    """One format. ``algorithm`` is for people; ``code`` is 1 to :data:`MAX_CODE`. Formats
    that are told apart only by their content share one ``reader``."""

    name: Format
    code: int
    algorithm: str
    curves: tuple[str, ...]
    hints: Hints
    reader: Reader

    @property
    def keys(self) -> KeyKind: ...

    def write(self, claims: Claims, key: SigningKey, /) -> str:
        """The sig. The same claims and key give a sig that says and proves the same."""
        ...

    def holds(self, text: str, claims: Claims, key: SigningKey, /) -> bool:
        """A cheap proof that a sig that was just made is right. False says nothing: then it
        is verified. A format that has no such proof answers False."""
        ...


class Formats:
    """The registry."""

    def __init__(self) -> None:
        self._by_name: dict[str, SigFormat] = {}
        self._by_code: dict[int, Format] = {}
        self._fallback = ""

    def register(self, one: SigFormat, *, fallback: bool = False) -> None:
        """Raises ValueError for a name or code that is taken, or a code out of bounds."""
        if one.name in self._by_name or one.code in self._by_code:
            raise ValueError(f"there is a format {one.name} or of code {one.code} already")
        if not 1 <= one.code <= MAX_CODE:
            raise ValueError(f"the code of {one.name} is not 1 to {MAX_CODE}")
        self._by_name[one.name] = one
        self._by_code[one.code] = one.name
        if fallback:
            self._fallback = one.name

    def unregister(self, name: str) -> None:
        """Take out what was registered, as tests do."""
        del self._by_code[self._by_name.pop(name).code]

    def __iter__(self) -> Iterator[SigFormat]:
        """In the order of their registration."""
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

    @property
    def fallback(self) -> SigFormat:
        return self._by_name[self._fallback]

    def readers(self) -> list[Reader]:
        """Each once, the fallback's last."""
        last = self.fallback.reader
        return [*dict.fromkeys(one.reader for one in self if one.reader is not last), last]

    def of_key(self, content: bytes) -> SigFormat:
        """Whose key it is by its looks."""
        return next((one for one in self if one.keys.recognises(content)), self.fallback)


FORMATS: Final = Formats()


def fingerprint(data: bytes) -> str:
    """The first 16 hex digits of a SHA-256."""
    return hashlib.sha256(data).hexdigest()[:16]
