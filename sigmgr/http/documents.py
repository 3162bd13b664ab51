"""``/``, ``/openapi.json`` and ``/docs``: no token, no secret, nothing from another host."""

from __future__ import annotations

from fastapi import Request
from fastapi.responses import HTMLResponse, JSONResponse

from sigmgr.http import docs_page
from sigmgr.http.access import ANYBODY
from sigmgr.http.routes import Routes
from sigmgr.http.services import Services

routes = Routes("ops")

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
