"""A user is erased by the steps of docs/threat-model.md: nothing comes back by itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import text

from sigmgr.model import errors, values
from sigmgr.wiring.parts import Parts
from sigmgr.wiring.service import open_service
from tests.servers import RedisServer
from tests.thefts.scene import USERS, opened
from tests.thefts.test_redis import memory

ALICE = USERS[0]


_OF_ALICE = "WHERE sdkappid = :sdkappid AND userid = :userid"
_ROWS = {
    "holders": f"SELECT count(*) FROM holders {_OF_ALICE}",
    "revocations": f"SELECT count(*) FROM revocations {_OF_ALICE}",
    "outbox": "SELECT count(*) FROM outbox WHERE sdkappid = :sdkappid"
    " AND events LIKE '%' || :userid || '%'",
}
_WHO = {"sdkappid": ALICE.sdkappid, "userid": ALICE.userid}


async def rows(parts: Parts, table: str) -> int:
    """How many rows of the table name alice."""
    async with parts.base.engine.read() as connection:
        return int(await connection.scalar(text(_ROWS[table]), _WHO) or 0)


async def erase(parts: Parts, now: int) -> None:
    await parts.flows.revoke.user(*ALICE[:2], now)
    await parts.flows.publisher.flush()
    async with parts.base.engine.write() as connection:
        await connection.execute(text(f"DELETE FROM holders {_OF_ALICE}"), _WHO)


@pytest.mark.parametrize("process", ["the same process", "one that starts later"])
async def test_an_erased_user_stays_erased(
    redis_server: RedisServer, tmp_path: Path, process: str
) -> None:
    redis_server.wipe()
    async with opened(f"sqlite+aiosqlite:///{tmp_path}/sigmgr.db", redis_server.url) as scene:
        await scene.issue()
        [sig] = await scene.parts.flows.issue.many([ALICE], scene.clock())
        assert not isinstance(sig, errors.SigmgrError)
        assert await rows(scene.parts, "holders") == 2
        scene.clock.advance(10)
        await erase(scene.parts, scene.clock())
        if process == "the same process":
            await refused(scene.parts, sig.issued_at, scene.clock())
        else:
            settings = scene.parts.base.settings
            async with open_service(settings, frozenset({"api", "gateway"})) as later:
                await refused(later.parts, sig.issued_at, scene.clock())
        left = [await rows(scene.parts, table) for table in ("holders", "outbox", "revocations")]
        assert left == [0, 0, 1]
        await check_redis(scene.parts)


async def refused(parts: Parts, ticket_issued_at: int, now: int) -> None:
    """The ticket that the user's client still has, at the stream, the poll and the ack."""
    deliver = parts.flows.deliver
    for rooms in (True, False):
        with pytest.raises(errors.TicketRevoked):
            await deliver.opened(ALICE, ticket_issued_at, now, rooms=rooms)
    with pytest.raises(errors.SigmgrError):
        await deliver.ack(ALICE, ticket_issued_at, ticket_issued_at, now)


async def check_redis(parts: Parts) -> None:
    """Tombstones, which go by themselves, and no sig, not even a sealed one."""
    assert parts.redis is not None
    key = parts.layout.sig_key(ALICE)
    value = await parts.redis.run(lambda client: client.get(key))
    left = await parts.redis.run(lambda client: client.ttl(key))
    assert values.is_tombstone(value)
    assert 0 < left <= 3600
    assert b"lobby" in await memory(parts.redis)
