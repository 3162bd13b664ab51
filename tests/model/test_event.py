"""What a client is told to do with a sig."""

from __future__ import annotations

import pytest

from sigmgr.model.event import Action, action_for
from sigmgr.model.sig import Reason

DEAD = {Reason.REVOKED, Reason.KEY_TAINTED, Reason.EXPIRED}


@pytest.mark.parametrize("reason", ["", *Reason])
def test_a_user_logs_in_again_only_where_the_old_sig_is_dead(reason: str) -> None:
    expected = Action.RELOGIN if reason in DEAD else Action.KEEP
    assert action_for("user", reason) is expected
    assert action_for("room", reason) is Action.UPDATE_PRIVATE_MAP_KEY
