"""An error as an RFC 9457 problem document.

``code`` and ``advice`` are the stable words of the error's class; the text is for people.
What this module does not do: log, or know of any web framework.
"""

from __future__ import annotations

from http import HTTPStatus

import msgspec

from sigmgr.model import errors

Header = tuple[bytes, bytes]

#: The first class that fits decides.
_STATUS: tuple[tuple[type[errors.SigmgrError], HTTPStatus], ...] = (
    (errors.InputError, HTTPStatus.BAD_REQUEST),
    (errors.RoleDenied, HTTPStatus.FORBIDDEN),
    (errors.AppDenied, HTTPStatus.FORBIDDEN),
    (errors.DeniedError, HTTPStatus.UNAUTHORIZED),
    (errors.NotFoundError, HTTPStatus.NOT_FOUND),
    (errors.ConflictError, HTTPStatus.CONFLICT),
    (errors.LimitedError, HTTPStatus.TOO_MANY_REQUESTS),
    (errors.RevokePause, HTTPStatus.SERVICE_UNAVAILABLE),
    (errors.UnavailableError, HTTPStatus.SERVICE_UNAVAILABLE),
)


def status_of(error: errors.SigmgrError) -> HTTPStatus:
    """The status with which this error is told."""
    for kind, status in _STATUS:
        if isinstance(error, kind):
            return status
    return HTTPStatus.INTERNAL_SERVER_ERROR


def problem(
    error: errors.SigmgrError, path: str, default_retry: int = 1
) -> tuple[int, list[Header], bytes]:
    """Status, headers and body. ``path`` is a route's own, with nothing in it that was sent.
    What may be tried again says when: ``Retry-After``."""
    status = status_of(error)
    body = msgspec.json.encode(
        {
            "type": f"urn:sigmgr:problem:{error.code}",
            "title": (type(error).__doc__ or status.phrase).strip().splitlines()[0],
            "status": status.value,
            "detail": error.text,
            "instance": path,
            "code": error.code,
            "advice": error.advice,
        }
    )
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
    ]
    if status is HTTPStatus.UNAUTHORIZED:
        headers.append((b"www-authenticate", b'Bearer realm="sigmgr"'))
    if error.retryable or error.retry_after is not None:
        headers.append((b"retry-after", b"%d" % (error.retry_after or default_retry)))
    return status.value, headers, body
