"""Answers whatever a route raises; the mapping is :mod:`sigmgr.model.problem`'s.

An error that nobody expected is answered as "internal" and nothing else; the log has the rest.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from http import HTTPStatus

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Scope

from sigmgr.http import fields
from sigmgr.model import errors
from sigmgr.model.problem import Header, instance, problem

log = logging.getLogger("sigmgr.http")

SEE_DOCS = "Correct what is named and send it again; /docs shows every route with its fields."


def answer(error: Exception, scope: Scope) -> Response:
    """The problem document, with a log line where the fault is on this side."""
    known = _known(error, scope)
    path = scope["raw_path"].decode("latin-1")
    status, headers, body = problem(known or errors.SigmgrError("Something went wrong here."), path)
    if known is None:
        log.error("%s %s failed", scope["method"], instance(path), exc_info=error)
    elif status >= 500:
        log.warning("%s %s: %s (%s)", scope["method"], instance(path), known.text, known.code)
    response = Response(body, status)
    response.raw_headers = headers
    return response


def wire_answer(error: errors.SigmgrError, default_headers: Iterable[Header]) -> bytes:
    """The whole answer as it goes over the wire, for what is refused before there is a
    request to answer; its connection is closed after it."""
    status, headers, body = problem(error, "")
    lines = [b"HTTP/1.1 %d %b" % (status, HTTPStatus(status).phrase.encode())]
    lines += [b"%b: %b" % header for header in (*default_headers, *headers)]
    return b"\r\n".join([*lines, b"connection: close", b"", body])


def _known(error: Exception, scope: Scope) -> errors.SigmgrError | None:
    if isinstance(error, errors.SigmgrError):
        return error
    if isinstance(error, RequestValidationError):
        text = fields.sentence(error.errors(), scope["route"].body_model)
        return errors.BadRequest(text, advice=SEE_DOCS)
    if isinstance(error, HTTPException) and error.status_code == 400:
        # FastAPI's word for a body that is no JSON at all. No route raises these by itself.
        return errors.BadRequest("the body cannot be read as JSON", advice=SEE_DOCS)
    return None
