"""An error as an answer: its status, and the headers that tell a client what to do."""

from __future__ import annotations

import json

import pytest

from sigmgr.model import errors
from sigmgr.model.problem import BodyTooLarge, MethodDenied, brief, problem

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


def test_a_problem_in_a_batch_says_when_to_come_again_where_it_knows() -> None:
    assert "retry_after" not in brief(errors.StoreUnavailable("no"))
    assert brief(errors.StoreUnavailable("no", retry_after=7))["retry_after"] == 7
