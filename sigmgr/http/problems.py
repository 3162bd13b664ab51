"""The one mapping from errors to HTTP: status, headers and an RFC 9457 document.

Rules:
1. ``code`` is stable and part of the contract, ``advice`` says what to do next, and
   ``detail`` says what happened. None of them ever holds a sig, key, token or ticket.
2. ``instance`` is the path without its query. A segment longer than any user id, or one that
   begins as a token does, is left out of it: it may be a secret in the wrong place.
3. A batch out of range is a 400 and not a 413: its size in bytes is fine, its content is
   not, and nothing was done.
4. A revoke pause is a 503: it passes by itself within seconds, and 503 with Retry-After is
   what every HTTP client already knows how to wait for.
5. An unexpected exception says "internal" and nothing else; the log has the rest.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import Scope

from sigmgr.http import fields
from sigmgr.model import errors
from sigmgr.model.holder import MAX_USERID_BYTES
from sigmgr.model.shown import credential

log = logging.getLogger("sigmgr.http")

MEDIA_TYPE = "application/problem+json"
SEE_DOCS = "Correct what is named and send it again; /docs shows every route with its fields."


class MethodDenied(errors.InputError):
    """The route does not know this method."""

    code = "method-not-allowed"
    advice = "See /docs for the methods of this route."


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
_DEFAULT_RETRY_AFTER = 1
_MAY_BE_IDS = (None, "a key or another secret")


def status_of(error: errors.SigmgrError | type[errors.SigmgrError]) -> int:
    """The nearest class in the table decides."""
    kind = error if isinstance(error, type) else type(error)
    return next((_STATUS[base] for base in kind.__mro__ if base in _STATUS), 500)


def brief(error: errors.SigmgrError) -> dict[str, Any]:
    """The problem of one item in a batch."""
    said: dict[str, Any] = {"code": error.code, "detail": error.text, "advice": error.advice}
    if error.retry_after is not None:
        said["retry_after"] = error.retry_after
    return said


def document(error: errors.SigmgrError, path: str) -> dict[str, Any]:
    """The RFC 9457 problem document."""
    said: dict[str, Any] = {
        "type": f"urn:sigmgr:problem:{error.code}",
        "title": (type(error).__doc__ or "").strip().splitlines()[0],
        "status": status_of(error),
        "detail": error.text,
        "instance": _instance(path),
        "code": error.code,
        "advice": error.advice,
    }
    if isinstance(error, errors.BadSig):
        said["reason"] = error.reason.value
    return said


def response(error: errors.SigmgrError, scope: Scope) -> Response:
    """The answer for an error, logged where the fault is on this side."""
    status = status_of(error)
    path = path_of(scope)
    if status >= 500:
        log.warning("%s %s: %s (%s)", scope["method"], _instance(path), error.text, error.code)
    headers = {"cache-control": "no-store"}
    if status == 401:
        headers["www-authenticate"] = 'Bearer realm="sigmgr"'
    if status in (429, 503) or error.retry_after is not None:
        headers["retry-after"] = str(error.retry_after or _DEFAULT_RETRY_AFTER)
    if status == 413:
        headers["connection"] = "close"
    body = msgspec.json.encode(document(error, path))
    return Response(body, status, headers, MEDIA_TYPE)


def wire_answer(error: errors.SigmgrError, default_headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The whole answer as it goes over the wire, for what is refused before there is a
    request to answer; its connection is closed after it."""
    status = status_of(error)
    body = msgspec.json.encode(document(error, ""))
    headers = [
        *default_headers,
        (b"content-type", MEDIA_TYPE.encode()),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
        (b"connection", b"close"),
    ]
    lines = [b"HTTP/1.1 %d %b" % (status, HTTPStatus(status).phrase.encode())]
    lines += [b"%b: %b" % header for header in headers]
    return b"\r\n".join([*lines, b"", body])


def crash(scope: Scope, error: BaseException) -> Response:
    """The answer for an exception that nobody expected; its traceback goes to the log."""
    log.error("%s %s failed", scope["method"], _instance(path_of(scope)), exc_info=error)
    return _silent(scope)


def path_of(scope: Scope) -> str:
    """The path as it was sent, percent-encoded."""
    raw: bytes | None = scope.get("raw_path")
    return raw.decode("latin-1") if raw is not None else str(scope["path"])


def install(app: FastAPI) -> None:
    """Every error that the framework or a route raises becomes a problem document."""

    @app.exception_handler(errors.SigmgrError)
    async def known(request: Request, error: errors.SigmgrError) -> Response:
        return response(error, request.scope)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        said = fields.sentence(error.errors(), request.scope.get("route"))
        return response(errors.BadRequest(said, advice=SEE_DOCS), request.scope)

    @app.exception_handler(HTTPException)
    async def framework(request: Request, error: HTTPException) -> Response:
        answer = response(_from_status(error.status_code), request.scope)
        answer.headers.update(error.headers or {})
        return answer

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> Response:
        # The framework raises it again once this is sent; the front logs it there.
        del error
        return _silent(request.scope)


def _silent(scope: Scope) -> Response:
    error = errors.SigmgrError("Something went wrong here.")
    body = msgspec.json.encode(document(error, path_of(scope)))
    return Response(body, 500, {"cache-control": "no-store"}, MEDIA_TYPE)


def _from_status(status: int) -> errors.SigmgrError:
    if status == 404:
        return errors.RouteUnknown()
    if status == 405:
        return MethodDenied()
    if status == 413:
        return BodyTooLarge()
    return errors.BadRequest("the body cannot be read as JSON", advice=SEE_DOCS)


def _instance(path: str) -> str:
    return "/".join(map(_segment, path.split("/")[:16]))


def _segment(text: str) -> str:
    """Itself where it may be a user id or a word of a route. 32 hex digits are the user ids
    of many; the beginning of a token is nobody's."""
    plain = unquote(text, "latin-1")
    named = credential(plain)
    return text if len(plain) <= MAX_USERID_BYTES and named in _MAY_BE_IDS else "..."
