"""``/livez`` and ``/readyz``: is the process alive, and can it do its work?

``/livez`` asks nobody, so that a dead database does not get every process restarted.
``/readyz`` asks each part, all at once, and gives each a moment only. Who answers "degraded"
stays in the load balancer: where every process misses the same part, taking all of them out
would be the outage.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from sigmgr.http import shapes
from sigmgr.http.doors import Doors, ReadyCheck
from sigmgr.model.errors import SigmgrError

log = logging.getLogger("sigmgr.http")

_PATIENCE = 2.0


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
        """Each part by name: `ok`, `failed: ...` (and then 503), or `degraded: ...` where
        the process goes on without it, as it does without Redis."""
        said = await asyncio.gather(*map(_ask, doors.ready))
        checks = dict(said)
        if doors.health is not None:
            checks |= doors.health.checks()
        good = not any(text.startswith("failed") for text in checks.values())
        answer: dict[str, Any] = {"status": "ok" if good else "failed", "checks": checks}
        return JSONResponse(answer, 200 if good else 503, {"cache-control": "no-store"})

    return routes


async def _ask(check: ReadyCheck) -> tuple[str, str]:
    name, ask = check
    try:
        async with asyncio.timeout(_PATIENCE):
            said = await ask()
    except SigmgrError as error:
        return name, f"failed: {error.text}"
    except TimeoutError:
        return name, f"failed: no answer within {_PATIENCE:g} s"
    except Exception as error:  # a check must never take the others down
        log.warning("the check %s failed", name, exc_info=error)
        return name, f"failed: {type(error).__name__}"
    return name, said or "ok"
