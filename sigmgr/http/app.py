"""The app: one ASGI callable for everything that this process serves over HTTP.

Routes are declared in their modules and chosen here by role: ``api`` serves backends,
``gateway`` clients, all serve health and the documents of what they serve. See ``routes`` for
what a declaration is, and for the way of a request.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Coroutine, Sequence
from functools import cached_property
from typing import Any
from urllib.parse import quote

from starlette.routing import Match
from starlette.types import Receive, Scope, Send

from sigmgr.http import backend, ops, problems, sig, stream
from sigmgr.http.access import ANYBODY, PREFLIGHT
from sigmgr.http.cors import Cors
from sigmgr.http.openapi import openapi_of
from sigmgr.http.routes import Declaration, Route, Routes, Watched
from sigmgr.http.services import Services
from sigmgr.model import errors

#: In the order in which a path is compared with them: what is asked most comes first.
MODULES = (sig.routes, stream.routes, backend.routes, ops.routes)


class App:
    """What a process with ``services.roles`` serves. Its routes are compared in their order with
    the path as it was sent: undecoded, so that ``%2F`` stays part of a user id.

    Starlette's own router is not used: it is a coroutine, and its frame with what it holds
    takes half a kilobyte for each stream that is open. The server here sends requests only:
    no WebSockets, and no lifespan.
    """

    def __init__(self, services: Services, modules: Sequence[Routes] = MODULES) -> None:
        served = [one for one in modules if not one.role or one.role in services.roles]
        declared = [declaration for one in served for declaration in one]
        self._services = services
        self._cors = Cors(services.allowed_origins) if services.allowed_origins else None
        if self._cors is None:
            declared = [one for one in declared if one.access is not PREFLIGHT]
        methods: defaultdict[str, list[str]] = defaultdict(list)
        for one in declared:
            methods[one.path].append(one.method)
        self.routes = [self._route(one, ", ".join(methods[one.path])) for one in declared]

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Coroutine[Any, Any, None]:
        raw: bytes | None = scope.get("raw_path")
        if raw is None:  # a server may leave it out
            raw = scope["raw_path"] = quote(scope["path"]).encode("ascii")
        scope["path"] = raw.decode("latin-1")
        partial: tuple[Route, Scope] | None = None
        for route in self.routes:
            match, found = route.matches(scope)
            if match is Match.FULL:
                break
            if match is Match.PARTIAL and partial is None:
                partial = route, found
        else:
            if partial is None:
                return self._unknown(scope, receive, send)
            route, found = partial
        scope.update(found, route=route, router=self)
        return route.handle(scope, receive, send)

    @cached_property
    def document(self) -> dict[str, Any]:
        """The OpenAPI document."""
        return openapi_of([route.documented for route in self.routes])

    def _route(self, declared: Declaration, allow: str) -> Route:
        cors = self._cors if declared.cross_origin else None
        return Route(declared, self._services, allow=allow, cors=cors)

    async def _unknown(self, scope: Scope, receive: Receive, send: Send) -> None:
        """No route. Pages of allowed origins may read so: it may be their misspelling."""
        error: errors.SigmgrError = errors.RouteUnknown()
        try:
            ANYBODY.check(self._services, scope)
        except errors.BadRequest as refused:
            error = refused
        headers = self._cors.headers(scope) if self._cors is not None else ()
        await problems.answer(error, scope)(scope, receive, Watched(send, headers))
