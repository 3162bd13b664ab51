"""The app: one ASGI callable for everything that this process serves over HTTP.

A front in raw ASGI stands before the framework and
1. answers the two hot routes without it: the single get, and the stream;
2. settles who asks before a byte of the body is read;
3. bounds bodies, and hands the path on undecoded, so that ``%2F`` stays part of a user id;
   a body for a route that takes none is not read;
4. answers pages of other origins on the clients' routes, as far as they are allowed;
5. turns whatever is raised into a problem document.

Routes are chosen by role: ``api`` serves backends, ``gateway`` clients, all serve health and
the documents of what they serve.
"""

from __future__ import annotations

from collections.abc import Awaitable
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sigmgr.http import backend, health, pages, problems, stream
from sigmgr.http.bodies import ClientGone, read_body, replay
from sigmgr.http.cors import Cors, with_headers
from sigmgr.http.documents import finish
from sigmgr.http.doors import API, GATEWAY, Doors
from sigmgr.http.sig import SigRoute
from sigmgr.model import errors
from sigmgr.model.bearer import bearer
from sigmgr.push.sse import HEADERS_KEY


def create_app(doors: Doors) -> ASGIApp:
    """Everything that ``doors.roles`` asks for, behind the front."""
    return _Front(doors, _framework(doors))


def _framework(doors: Doors) -> FastAPI:
    app = FastAPI(
        title="sigmgr",
        version="1",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    problems.install(app)
    app.include_router(health.router(doors))
    if API in doors.roles:
        app.include_router(backend.router(doors))
    if GATEWAY in doors.roles:
        app.include_router(stream.router(doors))
    _documents(app, doors.roles)
    return app


#: Where to look, for whoever comes without a path.
_PLACES = {
    "documents": "/docs",
    "openapi": "/openapi.json",
    "ready": "/readyz",
    "alive": "/livez",
}


def _documents(app: FastAPI, roles: frozenset[str]) -> None:
    """``/``, ``/openapi.json`` and ``/docs``: no token, no secret, nothing from another host."""

    @app.get("/", include_in_schema=False)
    async def start() -> JSONResponse:
        return JSONResponse({"service": "sigmgr", "roles": sorted(roles), **_PLACES})

    @app.get("/openapi.json", include_in_schema=False)
    async def openapi() -> JSONResponse:
        return JSONResponse(finish(app))

    @app.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> HTMLResponse:
        page = pages.render(finish(app), str(request.base_url).rstrip("/"), roles)
        return HTMLResponse(page, headers={"content-security-policy": pages.POLICY})


class _Front:
    """See the module. The gateway answers its own errors."""

    def __init__(self, doors: Doors, inner: ASGIApp) -> None:
        self._doors = doors
        self._inner = inner
        self._sig = SigRoute(doors) if API in doors.roles else None
        self._gateway = doors.gateway if GATEWAY in doors.roles else None
        self._cors = Cors(doors.allowed_origins) if doors.allowed_origins else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await _no_request(scope, receive, send)
        raw: bytes | None = scope.get("raw_path")
        if raw is None:  # a server may leave it out
            raw = scope["raw_path"] = quote(scope["path"]).encode("ascii")
        if raw.startswith(b"/v1/stream") and self._gateway is not None:
            return await self._for_client(raw, scope, receive, send)
        hot = raw.endswith(b"/sig") and raw.startswith(b"/v1/apps/") and scope["method"] == "GET"
        if hot and self._sig is not None:
            return await self._guarded(self._sig, scope, receive, send)
        return await self._guarded(self._cool, scope, receive, Watched(send))

    def _for_client(
        self, raw: bytes, scope: Scope, receive: Receive, send: Send
    ) -> Awaitable[None]:
        """Who answers a request under ``/v1/stream``. Nothing of this frame lies in memory for
        as long as a stream is open."""
        if self._cors is not None:
            scope[HEADERS_KEY] = self._cors.headers(scope)
            preflight = self._cors.preflight(scope)
            if preflight is not None:
                return preflight(scope, receive, send)
        if raw == b"/v1/stream" and scope["method"] == "GET" and self._gateway is not None:
            return self._gateway(scope, receive, send)
        if self._cors is not None:
            send = with_headers(send, scope[HEADERS_KEY])
        return self._guarded(self._cool, scope, receive, Watched(send))

    async def _guarded(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await app(scope, receive, send)
        except errors.SigmgrError as error:
            await problems.response(error, scope)(scope, receive, send)
        except ClientGone:
            pass
        except Exception as error:  # noqa: BLE001  # crash() logs it
            answer = problems.crash(scope, error)
            if not (isinstance(send, Watched) and send.started):
                await answer(scope, receive, send)

    async def _cool(self, scope: Scope, receive: Receive, send: Send) -> None:
        raw: bytes = scope["raw_path"]
        doors, shown = self._doors, bearer(scope["headers"])
        scheme = doors.credentials.peers.scheme(scope)
        inner = dict(scope, path=raw.decode("latin-1"), state={}, scheme=scheme)
        body = b""
        if raw.startswith(b"/v1/apps/") and API in doors.roles:
            inner["state"]["token"] = await doors.credentials.token(scope, shown)
            body = await read_body(scope, receive)
        elif raw.startswith(b"/v1/stream") and GATEWAY in doors.roles:
            inner["state"]["ticket"] = doors.credentials.ticket(scope, shown, doors.clock())
            body = await read_body(scope, receive)
        await self._inner(inner, replay(body, receive), send)


class Watched:
    """A ``send`` that knows whether an answer has begun."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.started = False

    async def __call__(self, message: Message) -> None:
        self.started = True
        await self._send(message)


async def _no_request(scope: Scope, receive: Receive, send: Send) -> None:
    """WebSockets are not taken here. Parts are started and stopped by the composition root,
    so nothing happens at the lifespan's messages."""
    if scope["type"] != "lifespan":
        await send({"type": "websocket.close", "code": 1008})
        return
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
