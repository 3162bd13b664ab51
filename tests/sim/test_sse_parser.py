"""The event-stream parser: the standard's examples, and any chunking gives the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigmgr.sim.sse_parser import SseParser

WHOLE = [
    (b"data: a\n\n", [("message", "a", "")]),
    (b"data: a\r\ndata:b\r\r", [("message", "a\nb", "")]),
    (b"\xef\xbb\xbfdata: a\n\n", [("message", "a", "")]),
    (b": a comment\n\ndata:  two\n\n", [("message", " two", "")]),
    (b"event: x\nid: 7\ndata: a\n\ndata\n\n", [("x", "a", "7"), ("message", "", "7")]),
    (b"event: x\n\ndata: a\n\n", [("message", "a", "")]),
    (b"id: 1\0\nid:2\nid: a\0b\ndata: x\n\n", [("message", "x", "2")]),
    (b"id: 1\ndata: x\n\nid\ndata: y\n\n", [("message", "x", "1"), ("message", "y", "")]),
    (b"data: lost", []),
    (b"data: lost\n", []),
    (b"unknown: 1\ndata: a:b: c\n\n", [("message", "a:b: c", "")]),
    ("data: é\u2028\x0b\x85\n\n".encode(), [("message", "é\u2028\x0b\x85", "")]),
]


@pytest.mark.parametrize(("stream", "events"), WHOLE, ids=lambda value: str(value)[:30])
@pytest.mark.parametrize("size", [1, 2, 1000])
def test_events(stream, events, size):
    parser = SseParser()
    got = [e for i in range(0, len(stream), size) for e in parser.feed(stream[i : i + size])]
    assert got == events


def test_retry_takes_digits_only():
    parser = SseParser()
    parser.feed("retry: 10s\nretry: -1\nretry: ٣\nretry:\n".encode())
    assert parser.retry_ms is None
    parser.feed(b"retry: 1500\n")
    assert parser.retry_ms == 1500


LINE = st.sampled_from(
    [
        "data: a",
        "data",
        "data:é",
        "id: 3",
        "id: \0",
        "event: e",
        "retry: 5",
        ": c",
        "",
        "",
        "data: \ufeff",
    ]
)
STREAM = st.builds(
    lambda bom, lines: bom + b"".join(text.encode() + end for text, end in lines),
    st.sampled_from([b"", b"\xef\xbb\xbf", b"\xef\xbb"]),
    st.lists(st.tuples(LINE, st.sampled_from([b"\n", b"\r", b"\r\n"])), max_size=25),
)


@given(STREAM, st.lists(st.integers(1, 7), max_size=80))
def test_any_chunking_gives_the_same_events(stream, sizes):
    whole, cut = SseParser(), SseParser()
    expected = whole.feed(stream)
    got, at = [], 0
    for size in sizes:
        got += cut.feed(stream[at : at + size])
        at += size
    got += cut.feed(stream[at:])
    assert got == expected
    assert (cut.last_id, cut.retry_ms) == (whole.last_id, whole.retry_ms)
