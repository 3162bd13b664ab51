"""Whatever credential is put wherever it does not belong, no answer and no log repeats it.

Every operation of the OpenAPI document is walked, and every place in it that takes a text, so
that a route added later is tried as soon as it is documented.
"""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest

from sigmgr.http.app import App
from sigmgr.keys.keychain import generate
from sigmgr.model import usersig
from sigmgr.model.ticket import Tickets
from tests.http.scripted import APP, NOW, House, call
from tests.model.usersig_kit import HMAC, P256, V1, V2_ROOM

HOUSE = House()
SECRETS = {
    "token": HOUSE.backend,
    "ticket": Tickets(b"another house's key, 32 bytes long").issue(APP, "mallory", NOW, NOW + 9),
    "v1 sig": usersig.sign(V1, P256),
    "room sig": usersig.sign(V2_ROOM, HMAC),
    "secret": generate("v2").decode(),
    "PEM": generate("v1").decode(),
}
#: A body that each route takes, to be spoilt one place at a time.
BODIES: dict[str, Any] = {
    "/v1/apps/{sdkappid}/sigs/batch-get": {"userids": ["alice"]},
    "/v1/apps/{sdkappid}/users/{userid}/sig/reissue": {"reason": "Forced", "replaces": NOW},
    "/v1/apps/{sdkappid}/users/{userid}/room-keys": {
        "room_id": 1,
        "room_name": "a",
        "privileges": ["enter"],
        "ttl": 60,
    },
    "/v1/apps/{sdkappid}/verify": {"usersig": "eJ", "userid": "alice"},
    "/v1/stream/ack": {"issued_at": NOW},
}


class Request(NamedTuple):
    """One spoilt request; ``place`` says what was spoilt."""

    place: str
    method: str
    path: str
    body: Any = None
    headers: Mapping[str, str] = MappingProxyType({})


@pytest.fixture(scope="module")
def app():
    return App(replace(HOUSE.services, gateway=HOUSE.polls))


@pytest.fixture
async def paths(app) -> dict[str, Any]:
    return (await call(app, "GET", "/openapi.json")).json["paths"]


def filled(path: str, **names: str) -> str:
    values = {"sdkappid": str(APP), "userid": "alice", **names}
    for name, value in values.items():
        path = path.replace(f"{{{name}}}", value)
    return path


def spoilt(value: Any, secret: str) -> Iterator[Any]:
    """The value with the secret in each of its places in turn, and as a name in each object."""
    yield secret
    if isinstance(value, dict):
        yield value | {secret: 1}
        for name in value:
            for other in spoilt(value[name], secret):
                yield copy.deepcopy(value) | {name: other}
    elif isinstance(value, list):
        yield [*value, secret]
        yield [{secret: 1}]


def requests(path: str, method: str, operation: dict[str, Any], secret: str) -> Iterator[Request]:
    encoded = quote(secret, safe="")
    body = BODIES.get(path)
    line = secret.replace("\n", " ")
    for parameter in operation.get("parameters", ()):
        name = parameter["name"]
        if parameter["in"] == "path":
            yield Request(name, method, filled(path, **{name: encoded}), body)
        elif parameter["in"] == "query":
            yield Request(name, method, f"{filled(path)}?{name}={encoded}", body)
        else:
            yield Request(name, method, filled(path), body, {name: line})
    yield Request("a query", method, f"{filled(path)}?{encoded}={encoded}", body)
    yield Request("the end of the path", method, f"{filled(path)}/{encoded}", body)
    yield Request("a word in the path", method, filled(path).replace("/v1/", f"/{encoded}/"), body)
    for header in ("last-event-id", "if-none-match", "content-type", "accept", "cookie"):
        yield Request(header, method, filled(path), body, {header: line})
    if "requestBody" in operation:
        assert path in BODIES, f"this test knows no body for {path}"
        for number, other in enumerate(spoilt(body, secret)):
            yield Request(f"body {number}", method, filled(path), other)
        yield Request("the text of the body", method, filled(path), secret.encode())


def parts(secret: str) -> set[str]:
    """Pieces of it as they would stand in JSON, as they are and percent-encoded."""
    pieces = set()
    for text in (json.dumps(secret)[1:-1], quote(secret, safe="")):
        pieces |= {text[at : at + 14] for at in range(28, len(text) - 14, 7)}
    return pieces


@pytest.mark.parametrize("name", SECRETS)
async def test_no_error_repeats_a_credential(app, paths, name, caplog):
    secret = SECRETS[name]
    pieces = parts(secret)
    tried = 0
    with caplog.at_level(logging.DEBUG):
        for path, operations in paths.items():
            for method, operation in operations.items():
                for asked in requests(path, method.upper(), operation, secret):
                    credentials = (HOUSE.admin, HOUSE.ticket("bob"), secret, f"x{secret}")
                    if asked.path.startswith("/v1/stream"):
                        credentials = credentials[1:]
                    for bearer in credentials:
                        if "\n" in bearer:
                            continue
                        await check(app, asked, bearer, pieces)
                        tried += 1
    assert tried > 200
    assert not any(piece in caplog.text for piece in pieces)


async def check(app, asked: Request, bearer: str, pieces: set[str]) -> None:
    headers = dict(asked.headers)
    if asked.body is not None:
        headers.setdefault("content-type", "application/json")
    where = (asked.place, asked.method, asked.path)
    answer = await call(
        app, asked.method, asked.path, token=bearer, body=asked.body, headers=headers
    )
    assert answer.status != 500, where
    output = answer.body.decode()
    if answer.status == 200 and "room_name" in output:
        # The answer to a room key names its room, and any of these is the name of one.
        output = json.dumps({**answer.json, "room_name": ""})
    reported = output + json.dumps(answer.headers)
    assert not any(piece in reported for piece in pieces), (where, reported)
