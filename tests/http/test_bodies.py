"""Bodies: read where a route takes one, whole or not at all."""

from __future__ import annotations

import pytest

from sigmgr.model.holder import Holder
from tests.http.scripted import APP, NOW

REISSUE = f"/v1/apps/{APP}/users/alice/sig/reissue"
NO_CREDENTIAL = ["/livez", "/docs", "/none", "/v1/none", REISSUE, "/v1/stream/ack"]


async def sent(app, path, messages, token=None):
    """The statuses sent, and how many messages were taken."""
    answer, queue = [], list(messages)
    headers = [(b"content-type", b"application/json")]
    if token:
        headers.append((b"authorization", f"Bearer {token}".encode()))

    async def receive():
        return queue.pop(0) if queue else {"type": "http.disconnect"}

    async def send(message):
        if message["type"] == "http.response.start":
            answer.append(message["status"])

    scope = {"type": "http", "http_version": "1.1", "method": "POST", "path": path}
    scope |= {"raw_path": path.encode(), "query_string": b"", "root_path": "", "headers": headers}
    await app(scope, receive, send)
    return answer, len(messages) - len(queue)


@pytest.mark.parametrize("begun", [b"", b'{"reason":"Forced"}', b"{"])
async def test_a_client_that_hangs_up_in_its_body_has_asked_for_nothing(house, app, begun):
    """A reissue may have no body at all, so half of one looks like a whole request."""
    parts = [{"type": "http.request", "body": begun, "more_body": True}]
    assert await sent(app, REISSUE, parts, house.backend) == ([], 1)
    assert house.flows.count("reissue") == 0


async def test_a_whole_body_is_taken(house, app):
    house.flows.make(Holder(APP, "alice"), NOW - 9, "Missing")
    parts = [{"type": "http.request", "body": b"", "more_body": False}]
    assert (await sent(app, REISSUE, parts, house.backend))[0] == [200]


@pytest.mark.parametrize("path", NO_CREDENTIAL)
async def test_nobody_without_a_credential_has_a_body_read(house, app, path):
    parts = [{"type": "http.request", "body": b"x" * 1000, "more_body": True}] * 9
    statuses, taken = await sent(app, path, parts)
    assert statuses[0] in (401, 404, 405)
    assert taken <= 1
