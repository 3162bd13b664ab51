"""Which pages of other origins may use the clients' routes.

Rules:
1. An origin that is not allowed gets none of the headers, whatever it asks: its page sees
   nothing, and learns nothing of what is set here.
2. A preflight needs no credential: browsers send none with it.
3. Errors carry the headers too: a page must be able to read that its ticket has expired. Not
   those of what is refused before it is a request (414, 431, 408): no browser sends that.
4. No cookies: a ticket travels in the Authorization header, so a page that has none can do
   nothing in anybody's name.

Starlette's middleware is not used: it names the methods and headers to a refused origin, and
its wrapper of the send would lie in memory for each open stream.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from starlette.responses import Response
from starlette.types import Scope

from sigmgr.model.addresses import ANY, every_port

Headers = tuple[tuple[bytes, bytes], ...]

#: What clients send, and what of an answer their code reads beside the body.
_SENT = b"authorization, content-type, if-none-match, last-event-id"
_READ = b"etag, retry-after"
_METHODS = b"GET, POST"
#: Seconds for which a browser asks no second time.
_KEPT = b"600"


class Cors:
    """``origins`` as :func:`sigmgr.model.addresses.origin_of` answers them."""

    def __init__(self, origins: Sequence[str]) -> None:
        self._any = ANY in origins
        self._exact = frozenset(origins)
        bases = [re.escape(one[:-2]) for one in origins if every_port(one)]
        self._loopback = re.compile(rf"(?:{'|'.join(bases)})(?::\d{{1,5}})?") if bases else None
        self.headers_for = lru_cache(maxsize=1024)(self._headers_for)

    def headers(self, scope: Scope) -> Headers:
        """What an answer to this request has besides."""
        return self.headers_for(_header(scope, b"origin"))

    def preflight(self, scope: Scope) -> Response:
        """The answer to a preflight."""
        answer = Response(status_code=204)
        headers = self.headers(scope)
        if len(headers) > 1:
            headers = (
                *headers[:2],
                (b"access-control-allow-methods", _METHODS),
                (b"access-control-allow-headers", _SENT),
                (b"access-control-max-age", _KEPT),
            )
        answer.raw_headers += headers
        return answer

    def _headers_for(self, origin: bytes) -> Headers:
        vary = (b"vary", b"Origin")
        if not self._allows(origin.decode("latin-1")):
            return (vary,)
        allowed = b"*" if self._any else origin
        return (
            vary,
            (b"access-control-allow-origin", allowed),
            (b"access-control-expose-headers", _READ),
        )

    def _allows(self, origin: str) -> bool:
        if not origin:
            return False
        if self._any or origin in self._exact:
            return True
        return self._loopback is not None and self._loopback.fullmatch(origin) is not None


def is_preflight(scope: Scope) -> bool:
    """A browser asks what its page may send."""
    return scope["method"] == "OPTIONS" and bool(_header(scope, b"access-control-request-method"))


def _header(scope: Scope, wanted: bytes) -> bytes:
    value: bytes
    for name, value in scope["headers"]:
        if name == wanted:
            return value
    return b""
