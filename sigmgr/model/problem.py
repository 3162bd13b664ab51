"""The one mapping from errors to HTTP: status, headers and an RFC 9457 document.

All error answers use it: of routes, streams, items of a batch, and of requests that are refused
before they are read.

Rules:
1. ``code`` is stable and part of the contract, ``detail`` is what happened, ``advice`` what to do
   next. None of them ever holds a sig, key, token or ticket.
2. ``instance`` is the path without its query. A segment longer than any user id, or one that begins
   like a token, is left out: it may be a secret in the wrong place.
3. A batch out of range is a 400 and not a 413: its bytes are within limits, its content is not.
4. A revoke pause is a 503 with Retry-After: it passes within seconds, and HTTP clients know how to
   wait for it.

What this module does not do: log, or send anything.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

import msgspec

from sigmgr.model import errors
from sigmgr.model.holder import MAX_USERID_BYTES
from sigmgr.model.shown import credential

Header = tuple[bytes, bytes]

MEDIA_TYPE = "application/problem+json"

_MAY_BE_IDS = (None, "a key or another secret")

_encode = msgspec.json.Encoder().encode


class MethodDenied(errors.InputError):
    """The route does not know this method."""

    code = "method-not-allowed"
    advice = "See /docs for the methods of this route."

    def __init__(self, allow: str) -> None:
        """``allow``: the methods that the path has, as the Allow header lists them."""
        self.allow = allow
        super().__init__()


class BodyTooLarge(errors.InputError):
    """The request body is larger than 256 KiB."""

    code = "body-too-large"
    advice = "Send less in one request."


class BadContentType(errors.InputError):
    """The request body is not declared as JSON."""

    code = "bad-content-type"
    advice = "Send JSON with 'Content-Type: application/json'."


class TooSlow(errors.InputError):
    """The request did not come in time."""

    code = "request-timeout"
    advice = "Send the whole request at once; a header has 10 s, a body goes on every 30 s."


class UriTooLong(errors.InputError):
    """The request line is longer than 8 KiB."""

    code = "uri-too-long"
    advice = "Send data in the body; no route needs a path or query as long as this."


class HeadersTooLarge(errors.InputError):
    """The request's header fields are larger than 32 KiB."""

    code = "headers-too-large"
    advice = "Send fewer and shorter headers; a ticket or token takes less than 200 bytes."


_STATUS: dict[type[errors.SigmgrError], int] = {
    MethodDenied: 405,
    TooSlow: 408,
    BodyTooLarge: 413,
    UriTooLong: 414,
    BadContentType: 415,
    HeadersTooLarge: 431,
    errors.InputError: 400,
    errors.RoleDenied: 403,
    errors.AppDenied: 403,
    errors.DeniedError: 401,
    errors.NotFoundError: 404,
    errors.ConflictError: 409,
    errors.GoneError: 410,
    errors.LimitedError: 429,
    errors.RevokePause: 503,
    errors.UnavailableError: 503,
    errors.SetupError: 500,
}


def status_of(error: errors.SigmgrError | type[errors.SigmgrError]) -> int:
    """The status of the nearest class in the table."""
    kind = error if isinstance(error, type) else type(error)
    return next((_STATUS[base] for base in kind.__mro__ if base in _STATUS), 500)


def problem(error: errors.SigmgrError, path: str) -> tuple[int, list[Header], bytes]:
    """Status, headers and body. ``path`` is that of the request, still percent-encoded."""
    status = status_of(error)
    body = _encode(document(error, path))
    headers = [
        (b"content-type", MEDIA_TYPE.encode()),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
    ]
    if status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="sigmgr"'))
    if status in (429, 503) or error.retry_after is not None:
        headers.append((b"retry-after", b"%d" % (error.retry_after or 1)))
    if status == 413:
        headers.append((b"connection", b"close"))
    if isinstance(error, MethodDenied):
        headers.append((b"allow", error.allow.encode()))
    return status, headers, body


def document(error: errors.SigmgrError, path: str) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "type": f"urn:sigmgr:problem:{error.code}",
        "title": (type(error).__doc__ or "").strip().splitlines()[0],
        "status": status_of(error),
        "detail": error.text,
        "instance": instance(path),
        "code": error.code,
        "advice": error.advice,
    }
    if isinstance(error, errors.BadSig):
        fields["reason"] = error.reason.value
    return fields


def brief(error: errors.SigmgrError) -> dict[str, Any]:
    fields: dict[str, Any] = {"code": error.code, "detail": error.text, "advice": error.advice}
    if error.retry_after is not None:
        fields["retry_after"] = error.retry_after
    return fields


def instance(path: str) -> str:
    """The path as answers and logs may repeat it; see rule 2."""
    return "/".join(map(_segment, path.split("/")[:16]))


def _segment(text: str) -> str:
    """The segment where it may be a user id or part of a route. 32 hex digits are a common user id;
    no user id begins like a token."""
    plain = unquote(text, "latin-1")
    may_be_id = len(plain) <= MAX_USERID_BYTES and credential(plain) in _MAY_BE_IDS
    return text if may_be_id else "..."
