"""A thief of the database, or of a backup of it, has no sig, ticket, token or key."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import text

from sigmgr.model.ticket import Tickets
from tests.thefts.loot import among, found
from tests.thefts.scene import DAY, NOW, USERS, Scene, opened

#: Nobody listens there, so events stay in the outbox.
NO_REDIS = "redis://127.0.0.1:1/0"


async def every_row(scene: Scene) -> bytes:
    """All columns of all rows of all tables."""
    engine = scene.parts.base.engine
    tables = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"
    if engine.dialect.name == "sqlite":
        tables = "SELECT name FROM sqlite_master WHERE type = 'table'"
    loot = []
    async with engine.read() as connection:
        names = {str(name) for (name,) in await connection.execute(text(tables))}
        assert {"holders", "outbox", "events", "feeds", "apps", "keys", "tokens"} <= names
        for name in names:
            rows = [*await connection.execute(text(f'SELECT * FROM "{name}"'))]
            assert rows or name.startswith("sqlite_"), f"{name} is empty: nothing was looked at"
            loot += [
                part if isinstance(part, bytes) else str(part).encode()
                for row in rows
                for part in row
            ]
    return b"\0".join(loot)


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_no_row_helps_to_sign_in(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    file = tmp_path / "sigmgr.db"
    url = f"sqlite+aiosqlite:///{file}"
    if kind == "postgres":
        url = request.getfixturevalue("postgres_url")
    async with opened(url, NO_REDIS) as scene:
        await scene.parts.base.catalog.set_feed(USERS[0].sdkappid, on=True)
        await scene.issue()
        await scene.renew()
        # Some got their numbers, and some wait.
        assert await scene.parts.base.outbox.number(USERS[0].sdkappid, NOW, 2)
        loot = await every_row(scene)
        # What was deleted or overwritten is still in a file and its log.
        loot += b"".join(path.read_bytes() for path in tmp_path.glob("sigmgr.db*"))
        tickets = Tickets(scene.parts.base.master.derive("tickets"))
    assert len(scene.sigs) > 2 * len(USERS)
    assert b"user3" in loot
    assert not found(loot, scene.sigs)
    assert not among(loot, scene.secrets)
    made = [tickets.issue(u.sdkappid, u.userid, NOW, NOW + 90 * DAY) for u in USERS]
    assert not among(loot, [ticket.removeprefix("t1.") for ticket in made])


def test_the_search_knows_a_secret_by_a_piece_of_it() -> None:
    secret = "0123456789abcdefghijklmnopqrstuvwxyz"
    assert among(b"x 0123456789abcdef y", [secret]) == [secret]
    assert not among(b"x 0123 y", [secret])
