"""Compression for documents that differ in a few places only.

The JSON of a v2 sig is the same text every time, but for five gaps. zlib, which does not know
that, took two thirds of the time of making one: setting up, looking for repetitions, weighing
codes. Here the fixed pieces are compressed once for all documents with gaps of the same
lengths; what is left is to move each gap's bits into place.

Rules (RFC 1951):
1. The stream is one block with the fixed codes, which is also what zlib chooses for a text as
   short as a v2 sig.
2. Every ASCII character is 8 bits there, so where things lie depends on lengths alone.
3. Repetitions are looked for in the fixed pieces only. That makes a user's v2 sig 5 to 9 % longer.
   With a userbuf it would be 12 %, and for v1, where a signature takes several times as long
   as zlib, 10 %: those are left to zlib.
4. The same document gives the same bytes in every process, whatever zlib is installed.

What this module does not do: read (zlib does), or frame the stream (``container`` does).
"""

from __future__ import annotations

from itertools import zip_longest
from typing import Final, NamedTuple

from sigmgr.model import errors

Gaps = tuple[bytes, ...]

#: Layouts that a form remembers; user ids have 32 lengths, numbers ten, userbufs some dozens.
_KEPT: Final = 4096
_SHORTEST: Final = 3
_LONGEST: Final = 258


def _reversed(code: int, bits: int) -> int:
    """Codes lie in the stream with their highest bit first, all else with the lowest."""
    return int(f"{code:0{bits}b}"[::-1], 2)


#: A character's code; only those of ASCII are used (section 3.2.6).
_LITERALS: Final = bytes(_reversed(0x30 + c, 8) if c < 128 else 0 for c in range(256))
_END_BITS: Final = 7  # all of them 0
_FINAL_FIXED: Final = (0b011, 3)


def _ranges(first: int, alike: int, most_extra: int) -> list[tuple[int, int]]:
    """(smallest value, extra bits) of each code of a table in section 3.2.5: the first
    ``2 * alike`` codes have none, after that each ``alike`` codes have one more."""
    table, value = [(first + i, 0) for i in range(2 * alike)], first + 2 * alike
    for extra in range(1, most_extra + 1):
        for _ in range(alike):
            table.append((value, extra))
            value += 1 << extra
    return table


#: Code 285 means 258, with no extra bits; the table before it could say that too.
_LENGTHS: Final = [*_ranges(3, 4, 5), (_LONGEST, 0)]
_DISTANCES: Final = _ranges(1, 2, 13)


class Bits(NamedTuple):
    """Bits of a stream, the first one lowest."""

    value: int
    size: int

    def and_then(self, value: int, size: int) -> Bits:
        return Bits(self.value | value << self.size, self.size + size)


def _repetition(length: int, distance: int) -> Bits:
    """What says: as many characters as ``length``, from so far back."""
    code = max(i for i, (least, _) in enumerate(_LENGTHS) if least <= length)
    least, extra = _LENGTHS[code]
    # 257 + code; those up to 279 have 7 bits from 0 on, the others 8 bits from 192 on.
    head = Bits(_reversed(code + 1, 7), 7) if code < 23 else Bits(_reversed(169 + code, 8), 8)
    said = head.and_then(length - least, extra)
    code = max(i for i, (least, _) in enumerate(_DISTANCES) if least <= distance)
    least, extra = _DISTANCES[code]
    return said.and_then(_reversed(code, 5), 5).and_then(distance - least, extra)


class _Layout(NamedTuple):
    """A document with its gaps empty, where each gap begins in bits, and the size in bytes."""

    fixed: int
    starts: tuple[int, ...]
    size: int


class Form:
    """A text of fixed pieces with a gap between each and the next; all of it ASCII."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = pieces
        self._text = b"%b".join(piece.replace(b"%", b"%%") for piece in pieces)
        self._layouts: dict[tuple[int, ...], _Layout] = {}

    def fill(self, gaps: Gaps) -> bytes:
        """The document with these gaps."""
        return self._text % gaps

    def deflate(self, gaps: Gaps) -> bytes:
        """The document with these gaps as a DEFLATE stream. Raises BadRequest for a gap that
        is not ASCII."""
        lengths = tuple(map(len, gaps))
        layout = self._layouts.get(lengths)
        if layout is None:
            if len(self._layouts) >= _KEPT:
                self._layouts.clear()
            layout = self._layouts[lengths] = self._laid_out(lengths)
        stream, starts, size = layout
        for gap, start in zip(gaps, starts, strict=True):
            if not gap.isascii():
                raise errors.BadRequest("a sig's document is ASCII")
            stream |= int.from_bytes(gap.translate(_LITERALS), "little") << start
        return stream.to_bytes(size, "little")

    def _laid_out(self, lengths: tuple[int, ...]) -> _Layout:
        bits = Bits(*_FINAL_FIXED)
        text: list[int | None] = []  # None is a character of a gap
        starts: list[int] = []
        for piece, length in zip_longest(self._pieces, lengths):
            bits = _compressed(piece, text, bits)
            if length is not None:
                starts.append(bits.size)
                bits = bits.and_then(0, 8 * length)
                text += [None] * length
        return _Layout(bits.value, tuple(starts), (bits.size + _END_BITS + 7) // 8)


def _compressed(piece: bytes, text: list[int | None], bits: Bits) -> Bits:
    """The bits with this piece behind them, and the text with it behind."""
    at = 0
    while at < len(piece):
        length, distance = _longest_repetition(piece[at : at + _LONGEST], text)
        said = _repetition(length, distance) if length >= _SHORTEST else None
        if said is None or said.size >= 8 * length:
            said, length = Bits(_LITERALS[piece[at]], 8), 1
        bits = bits.and_then(*said)
        text += piece[at : at + length]
        at += length
    return bits


def _longest_repetition(wanted: bytes, text: list[int | None]) -> tuple[int, int]:
    """(length, distance) of the longest beginning of ``wanted`` that the text has, the nearest
    one of several; (0, 0) where it has none."""
    best = (0, 0)
    for start in reversed(range(max(0, len(text) - 32768), len(text))):
        length = 0
        for here, there in zip(wanted, text[start:], strict=False):
            if here != there:
                break
            length += 1
        if length > best[0]:
            best = (length, len(text) - start)
    return best
