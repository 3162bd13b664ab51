"""Apps and tokens of which no more is known than that they were made."""

from __future__ import annotations

from sigmgr.model.app import App, Token
from sigmgr.model.policy import Policy


def test_a_new_app_renews_and_has_no_feed() -> None:
    app = App(1400000000, "chat", Policy())
    assert not app.paused
    assert not app.feed


def test_a_new_token_is_not_revoked() -> None:
    assert not Token(1, "ci", "ops", 0, 1_900_000_000).revoked_at
