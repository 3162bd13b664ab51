"""The policy of an app, for those that must not wait for it."""

from __future__ import annotations

from sigmgr.model.policy import Policy
from sigmgr.wiring.parts import policies


class NoApps:
    def known(self, sdkappid: int) -> None:
        return None


def test_an_app_that_was_removed_under_its_open_streams_has_the_default():
    assert policies(NoApps())(1400000001) == Policy()  # type: ignore[arg-type]
