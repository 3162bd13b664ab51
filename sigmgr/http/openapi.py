"""The OpenAPI document: what each route takes and answers, with codes and credentials. It is the
framework's, made true for this service: bearer schemes, one Problem schema, no 422.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from sigmgr.http import shapes
from sigmgr.model import errors
from sigmgr.model.problem import MEDIA_TYPE, status_of

ABOUT = (
    "Keeps every user of a Tencent Cloud IM / TRTC application signed in: issues the users'"
    " sigs, knows when each expires, and gets the next one to the client in time.\n\n"
    "Errors are RFC 9457 problem documents; branch on `code`, which is stable. Times are whole"
    " Unix seconds, UTC. Numbers in requests are whole and written in digits: where a schema says"
    " `integer`, 1.0 and 1e3 are refused. Sigs, tickets and tokens travel in headers and bodies,"
    " never in URLs."
)
_SCHEMES = {
    "token": {
        "type": "http",
        "scheme": "bearer",
        "description": "A token made with `sigmgr token create --role backend|ops|admin`.",
    },
    "ticket": {
        "type": "http",
        "scheme": "bearer",
        "description": "The ticket that comes with a sig; it lives as long as the sig.",
    },
}
_PROBLEM = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}

#: A good answer of server-sent events.
EVENT_STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Messages, until either side closes.",
        "content": {
            "text/event-stream": {
                "schema": {"type": "string"},
                "example": (
                    'event: sig.current\nid: 1900000000\ndata: {"type":"sig.current",'
                    '"sdkappid":1400000000,"userid":"alice","issued_at":1900000000,...}\n\n'
                ),
            }
        },
    }
}


def errors_of(kinds: Iterable[type[errors.SigmgrError]]) -> dict[int | str, dict[str, Any]]:
    """The responses of a route that may raise these, each status with its codes."""
    lines: defaultdict[int, dict[str, None]] = defaultdict(dict)
    for kind in kinds:
        text = " ".join((kind.__doc__ or "").split())
        lines[status_of(kind)][f"`{kind.code}`: {text}"] = None
    return {
        status: {"description": "\n".join(of_status), "content": _PROBLEM}
        for status, of_status in sorted(lines.items())
    }


def openapi_of(routes: Sequence[APIRoute]) -> dict[str, Any]:
    """The document of these routes."""
    made = get_openapi(title="sigmgr", version="1", description=ABOUT, routes=routes)
    schemas = made.setdefault("components", {}).setdefault("schemas", {})
    made["components"]["securitySchemes"] = _SCHEMES
    schemas["Problem"] = shapes.Problem.model_json_schema()
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    for operations in made["paths"].values():
        for operation in operations.values():
            operation["responses"].pop("422", None)
            operation["responses"] = dict(sorted(operation["responses"].items()))
    return made
