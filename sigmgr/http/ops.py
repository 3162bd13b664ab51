"""What every process serves: is it alive (``/livez``), can it do its work (``/readyz``), and what
can it be asked (``/``, ``/openapi.json``, ``/docs``). No token, no secret, nothing from another
host.

``/livez`` asks nobody, so that a dead database does not get every process restarted.
``/readyz`` asks nobody either: it reads what each part last reported; see :mod:`sigmgr.health`.
"""

from __future__ import annotations

from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse, JSONResponse

from sigmgr.health import OK, is_bad
from sigmgr.http import docs_page, shapes
from sigmgr.http.access import ANYBODY
from sigmgr.http.routes import Routes
from sigmgr.http.services import Services

routes = Routes("ops")

_FAILED: dict[int | str, dict[str, Any]] = {
    503: {"model": shapes.Readiness, "description": "A check failed."}
}


@routes.get("/livez", ANYBODY, raises=[], patient=True)
async def livez(services: Services) -> shapes.Alive:
    """Is the process alive?

    Answers as long as the event loop turns."""
    return shapes.Alive(status="ok")


@routes.get(
    "/readyz", ANYBODY, raises=[], answers=shapes.Readiness, responses=_FAILED, patient=True
)
async def readyz(services: Services) -> JSONResponse:
    """Can it do its work?

    Each part by name: `ok`, `degraded: ...` where the process goes on without it, or
    `failed: ...` (and then 503) where it can serve nobody because of it."""
    checks = services.health.checks() if services.health is not None else {}
    failed = any(map(is_bad, checks.values()))
    status = "failed" if failed else "ok" if {*checks.values()} <= {OK} else "degraded"
    answer: dict[str, Any] = {"status": status, "checks": checks}
    return JSONResponse(answer, 503 if failed else 200, {"cache-control": "no-store"})


#: Where to look, for a request without a path.
_WHERE = {
    "documents": "/docs",
    "openapi": "/openapi.json",
    "ready": "/readyz",
    "alive": "/livez",
}


@routes.get("/", ANYBODY, raises=[], hidden=True, patient=True)
async def start(services: Services) -> JSONResponse:
    """Where to look."""
    return JSONResponse({"service": "sigmgr", "roles": sorted(services.roles), **_WHERE})


@routes.get("/openapi.json", ANYBODY, raises=[], hidden=True, patient=True)
async def openapi(services: Services, request: Request) -> JSONResponse:
    """The OpenAPI document of the routes of this process."""
    return JSONResponse(request.scope["router"].document)


@routes.get("/docs", ANYBODY, raises=[], hidden=True, patient=True)
async def docs(services: Services, request: Request) -> HTMLResponse:
    """The same as a page."""
    scheme = services.credentials.peers.scheme(request.scope)
    base = str(request.base_url.replace(scheme=scheme)).rstrip("/")
    page = docs_page.render(request.scope["router"].document, base, services.roles)
    return HTMLResponse(page, headers={"content-security-policy": docs_page.POLICY})
