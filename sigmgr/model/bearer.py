"""The bearer credential of a request, read by one rule for all routes."""

from __future__ import annotations

from collections.abc import Iterable

from sigmgr.model import errors

_SCHEME = b"bearer "


def bearer(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The credential of the Authorization header; None where there is none.

    Header names are in lower case, as ASGI has them. Raises BadRequest where there are two such
    headers: a proxy may have checked the other one.
    """
    found: bytes | None = None
    for name, value in headers:
        if name == b"authorization":
            if found is not None:
                raise errors.BadRequest("the request has more than one Authorization header")
            found = value
    if found is None or found[: len(_SCHEME)].lower() != _SCHEME:
        return None
    return found[len(_SCHEME) :].strip().decode("latin-1") or None
