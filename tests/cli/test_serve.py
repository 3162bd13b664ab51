"""``sigmgr serve`` before it serves: what it warns of."""

from __future__ import annotations

import pytest

from sigmgr.cli.serve import roles_of, stream_url_missing
from sigmgr.settings import Http, Settings

ELSEWHERE = "https://sigmgr.example.com/v1/stream"


@pytest.mark.parametrize(
    ("role", "host", "stream_url", "answer"),
    [
        ("all", "127.0.0.1", "", ""),
        ("all", "192.0.2.1", "", ""),
        ("all", "chat.example.com", "", ""),
        ("all", "0.0.0.0", "", "0.0.0.0, which nobody can reach"),
        ("all", "::", "", "::, which nobody can reach"),
        ("all", "0.0.0.0", ELSEWHERE, ""),
        ("api", "192.0.2.1", "", "this process, which serves none"),
        ("api", "0.0.0.0", ELSEWHERE, ""),
        ("gateway", "0.0.0.0", "", ""),
        ("worker", "0.0.0.0", "", ""),
    ],
)
def test_an_address_of_streams_that_leads_nowhere(role, host, stream_url, answer):
    settings = Settings(http=Http(host=host, stream_url=stream_url))
    found = stream_url_missing(settings, roles_of(role))
    assert bool(found) is bool(answer)
    assert answer in found
