"""An error as an answer: its status, and the headers that tell a client what to do."""

from __future__ import annotations

import json
from http import HTTPStatus

import pytest

from sigmgr.model import errors
from sigmgr.model.problem import (
    BadContentType,
    BodyTooLarge,
    HeadersTooLarge,
    MethodDenied,
    TooSlow,
    UriTooLong,
    brief,
    instance,
    problem,
    status_of,
)

ALWAYS = {"content-type", "content-length", "cache-control"}


def answered(error: errors.SigmgrError) -> tuple[int, dict[str, str]]:
    """The status, and the headers that not every problem has."""
    status, headers, body = problem(error, "/v1/x")
    told = {name.decode(): value.decode() for name, value in headers}
    assert len(told) == len(headers)
    assert int(told["content-length"]) == len(body)
    assert told["cache-control"] == "no-store"
    assert json.loads(body)["status"] == status
    return status, {name: value for name, value in told.items() if name not in ALWAYS}


@pytest.mark.parametrize(
    ("error", "status", "headers"),
    [
        (errors.BadUserId("no"), 400, {}),
        (errors.TokenUnknown(), 401, {"www-authenticate": 'Bearer realm="sigmgr"'}),
        (errors.RoleDenied(), 403, {}),
        (errors.HolderUnknown(), 404, {}),
        (MethodDenied("GET"), 405, {"allow": "GET"}),
        (BodyTooLarge(), 413, {"connection": "close"}),
        (errors.StoreUnavailable("no"), 503, {"retry-after": "1"}),
        (errors.StoreUnavailable("no", retry_after=7), 503, {"retry-after": "7"}),
        (errors.BadUserId("no", retry_after=7), 400, {"retry-after": "7"}),
    ],
)
def test_a_status_and_its_headers(
    error: errors.SigmgrError, status: int, headers: dict[str, str]
) -> None:
    assert answered(error) == (status, headers)


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (errors.InputError, "400 Bad Request"),
        (errors.DeniedError, "401 Unauthorized"),
        (errors.RoleDenied, "403 Forbidden"),
        (errors.AppDenied, "403 Forbidden"),
        (errors.NotFoundError, "404 Not Found"),
        (MethodDenied, "405 Method Not Allowed"),
        (TooSlow, "408 Request Timeout"),
        (errors.ConflictError, "409 Conflict"),
        (errors.CursorExpired, "410 Gone"),
        (BodyTooLarge, "413"),
        (UriTooLong, "414"),
        (BadContentType, "415 Unsupported Media Type"),
        (errors.LimitedError, "429 Too Many Requests"),
        (HeadersTooLarge, "431 Request Header Fields Too Large"),
        (errors.SetupError, "500 Internal Server Error"),
        (errors.SigmgrError, "500 Internal Server Error"),
        (errors.RevokePause, "503 Service Unavailable"),
        (errors.UnavailableError, "503 Service Unavailable"),
    ],
)
def test_each_kind_of_error_has_the_status_that_http_has_for_it(
    kind: type[errors.SigmgrError], status: str
) -> None:
    assert status.startswith(str(status_of(kind)))
    number, _, phrase = status.partition(" ")
    assert not phrase or HTTPStatus(int(number)).phrase == phrase


def test_who_is_limited_is_told_when_to_come_again() -> None:
    class Limited(errors.LimitedError):
        """Too many."""

    assert answered(Limited("no")) == (429, {"retry-after": "1"})
    assert answered(Limited("no", retry_after=9)) == (429, {"retry-after": "9"})


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/v1/apps/1/users/alice/sig", "/v1/apps/1/users/alice/sig"),
        (f"/v1/{'u' * 32}", f"/v1/{'u' * 32}"),
        (f"/v1/{'u' * 33}", "/v1/..."),
        (f"/v1/{'%75' * 32}", f"/v1/{'%75' * 32}"),
        (f"/v1/{'%75' * 33}", "/v1/..."),
        (f"/v1/{'0a' * 16}", f"/v1/{'0a' * 16}"),
        ("/v1/smt_0123456789abcdefghij", "/v1/..."),
        ("/a" * 15, "/a" * 15),
        ("/a" * 16, "/a" * 15),
    ],
)
def test_of_a_path_so_much_is_repeated_as_may_name_a_route_and_a_user(path: str, shown: str):
    assert instance(path) == shown


def test_a_problem_in_a_batch_says_when_to_come_again_where_it_knows() -> None:
    assert "retry_after" not in brief(errors.StoreUnavailable("no"))
    assert brief(errors.StoreUnavailable("no", retry_after=7))["retry_after"] == 7
