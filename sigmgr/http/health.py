"""``/livez`` and ``/readyz``: is the process alive, and can it do its work?

``/livez`` asks nobody, so that a dead database does not get every process restarted.
``/readyz`` asks nobody either: it reads what each part last said of itself (``Health``), so
that a part that hangs keeps it waiting for nothing. Who answers "degraded" stays in the load
balancer: where every process misses the same part, taking all of them out would be the outage.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from sigmgr.health import OK, is_bad
from sigmgr.http import shapes
from sigmgr.http.doors import Doors


def router(doors: Doors) -> APIRouter:
    """The two health routes; they need no token and tell no secret."""
    routes = APIRouter(tags=["ops"])

    @routes.get("/livez", summary="Is the process alive?")
    async def livez() -> shapes.Alive:
        """Answers as long as the event loop turns."""
        return shapes.Alive(status="ok")

    @routes.get(
        "/readyz",
        summary="Can it do its work?",
        response_model=shapes.Readiness,
        responses={503: {"model": shapes.Readiness, "description": "A check failed."}},
    )
    async def readyz() -> Response:
        """Each part by name: `ok`, `degraded: ...` where the process goes on without it, or
        `failed: ...` (and then 503) where it can serve nobody because of it."""
        checks = doors.health.checks() if doors.health is not None else {}
        failed = any(map(is_bad, checks.values()))
        status = "failed" if failed else "ok" if {*checks.values()} <= {OK} else "degraded"
        answer: dict[str, Any] = {"status": status, "checks": checks}
        return JSONResponse(answer, 503 if failed else 200, {"cache-control": "no-store"})

    return routes
