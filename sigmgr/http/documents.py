"""The OpenAPI document: what each route may answer, with codes and security.

Helpers for route decorators, and :func:`finish`, which makes the framework's document true
for this service: bearer schemes, one Problem schema, no 422.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from sigmgr.http import shapes
from sigmgr.http.problems import MEDIA_TYPE, BadContentType, BodyTooLarge, status_of
from sigmgr.model import errors

ABOUT = (
    "Keeps every user of a Tencent Cloud IM / TRTC application signed in: issues the users'"
    " sigs, knows when each expires, and gets the next one to the client in time.\n\n"
    "Errors are RFC 9457 problem documents; branch on `code`, which is stable. Times are whole"
    " Unix seconds, UTC. Numbers in requests are whole and written in digits: where a schema says"
    " `integer`, 1.0 and 1e3 are refused. Sigs, tickets and tokens travel in headers and bodies,"
    " never in URLs."
)
_WHO: dict[str, tuple[type[errors.SigmgrError], ...]] = {
    "token": (
        errors.BadRequest,
        errors.TooManyWrong,
        errors.TokenMissing,
        errors.TokenUnknown,
        errors.RoleDenied,
        errors.AppDenied,
        errors.BadSdkAppId,
    ),
    "ticket": (
        errors.BadRequest,
        errors.TicketInvalid,
        errors.TicketExpired,
        errors.TooManyWrong,
    ),
}
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


def errors_of(*kinds: type[errors.SigmgrError]) -> dict[int | str, dict[str, Any]]:
    """The responses of a route that may raise these, each status with its codes."""
    said: defaultdict[int, list[str]] = defaultdict(list)
    for kind in kinds:
        said[status_of(kind)].append(_line(kind))
    return {
        status: {"description": "\n".join(lines), "content": _PROBLEM}
        for status, lines in said.items()
    }


def secured(scheme: str) -> dict[str, Any]:
    """The route wants this kind of bearer credential."""
    return {"security": [{scheme: []}]}


def body_of(model: type[BaseModel]) -> dict[str, Any]:
    """A request body that the route reads by itself."""
    schema = {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}
    return {"requestBody": {"required": True, "content": {"application/json": schema}}}


def stream_answer() -> dict[int | str, dict[str, Any]]:
    """A 200 of server-sent events."""
    example = (
        'event: sig.current\nid: 1900000000\ndata: {"type":"sig.current","sdkappid":1400000000,'
        '"userid":"alice","issued_at":1900000000,...}\n\n'
    )
    content = {"text/event-stream": {"schema": {"type": "string"}, "example": example}}
    return {200: {"description": "Messages, until either side closes.", "content": content}}


def finish(app: FastAPI) -> dict[str, Any]:
    """The document, made once and kept."""
    if app.openapi_schema is None:
        made = get_openapi(
            title=app.title, version=app.version, description=ABOUT, routes=app.routes
        )
        schemas = made.setdefault("components", {}).setdefault("schemas", {})
        made["components"]["securitySchemes"] = _SCHEMES
        for model in (shapes.Problem, shapes.BatchRequest):
            schemas[model.__name__] = model.model_json_schema()
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        for operations in made["paths"].values():
            for operation in operations.values():
                _complete(operation)
        app.openapi_schema = made
    return app.openapi_schema


def _complete(operation: dict[str, Any]) -> None:
    """Add what every route of its kind may answer."""
    responses: dict[str, Any] = operation["responses"]
    responses.pop("422", None)
    common: list[type[errors.SigmgrError]] = [
        kind for need in operation.get("security", ()) for name in need for kind in _WHO[name]
    ]
    if "requestBody" in operation:
        common += [errors.BadRequest, BodyTooLarge, BadContentType]
    elif any(parameter["in"] != "path" for parameter in operation.get("parameters", ())):
        common.append(errors.BadRequest)
    if not operation.get("security"):
        common = []
    for kind in common:
        status, line = str(status_of(kind)), _line(kind)
        answer = responses.setdefault(status, {"description": "", "content": _PROBLEM})
        lines = answer["description"].splitlines()
        if line not in lines:
            answer["description"] = "\n".join([*lines, line])
    operation["responses"] = dict(sorted(responses.items()))


def _line(kind: type[errors.SigmgrError]) -> str:
    said = " ".join((kind.__doc__ or "").split())
    return f"`{kind.code}`: {said}"
