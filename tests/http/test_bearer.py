"""The credential in a request's headers."""

from __future__ import annotations

import pytest

from sigmgr.http.access import bearer
from sigmgr.model import errors


@pytest.mark.parametrize(
    ("value", "text"),
    [(b"Bearer abc", "abc"), (b"bearer  abc ", "abc"), (b"Basic abc", None), (b"Bearer ", None)],
)
def test_the_header(value, text):
    assert bearer([(b"host", b"x"), (b"authorization", value)]) == text


def test_no_header():
    assert bearer([]) is None


@pytest.mark.parametrize("second", [b"Bearer abc", b"Basic abc", b""])
def test_two_are_refused_even_if_they_are_the_same(second):
    two = [(b"authorization", b"Bearer abc"), (b"host", b"x"), (b"authorization", second)]
    for headers in (two, two[::-1]):
        with pytest.raises(errors.BadRequest, match="more than one Authorization"):
            bearer(headers)
