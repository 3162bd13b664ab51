"""Parts that never answer: every route answers 503 and when to come back, within its limit."""

from __future__ import annotations

import asyncio
import time

import pytest

from sigmgr.http import routes
from sigmgr.http.app import App
from tests.http.scripted import APP, SECRET_SIG, House, call, problem

USER = f"/v1/apps/{APP}/users/alice"


class Hung:
    """Stands for any of the services: whatever is called never answers, until ``go``."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.called = 0

    def __getattr__(self, name: str):
        return self

    async def __call__(self, *args, **kwargs):
        self.called += 1
        await self.go.wait()
        raise ZeroDivisionError("late")


ROUTES = [
    ("POST", f"{USER}/sig/reissue", "issue", None),
    ("POST", f"{USER}/sig/revoke", "revoke", None),
    ("POST", f"{USER}/room-keys", "room_keys", {"room_id": 7}),
    ("GET", USER, "find", None),
    ("POST", f"/v1/apps/{APP}/verify", "verify", {"usersig": SECRET_SIG}),
]


@pytest.mark.parametrize(("method", "path", "part", "body"), ROUTES, ids=lambda x: str(x)[-12:])
async def test_a_route_whose_part_hangs_answers_503_in_time(method, path, part, body, monkeypatch):
    monkeypatch.setattr(routes, "WITHIN", 0.05)
    assert part in House().services.__dataclass_fields__
    hung = Hung()
    house = House(**{part: hung})
    app = App(house.services)
    began = time.monotonic()
    for _ in range(6):
        answer = await call(app, method, path, token=house.backend, body=body)
        output = problem(answer, 503, "store-unavailable")
        assert answer.headers["retry-after"] == "1"
        assert "database" in output["detail"]
    assert time.monotonic() - began < 10
    assert hung.called == 4, "while so many hang nobody is sent after them"
    hung.go.set()
    await asyncio.sleep(0.01)


def test_the_limit_leaves_some_of_the_two_seconds():
    assert routes.WITHIN < 1.9
