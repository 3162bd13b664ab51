"""Apps, keys, tokens and a few named values: what operators manage.

Rules:
1. One key signs for an app. A change of an app's keys locks the app's row, so that two operators
   wait for each other.
2. ``model.app`` has the rules for a key's states. Activating a key makes the former active one old
   in the same transaction. A change of state waits for the transactions that share-lock the key
   (rule 13 of the design).
3. Key material arrives and leaves sealed. It is bound to the id of its key, so the id is taken
   first and the sealing done inside the transaction.

What this module does not do: seal, sign, hash tokens, or write the events of a key change.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from sqlalchemy import Column, delete, exists, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from sigmgr.model import errors
from sigmgr.model.app import App, KeyInfo, SealedKey, Token, check_step
from sigmgr.model.policy import Policy
from sigmgr.model.sig import KeyState
from sigmgr.store import feeds as feed_switch
from sigmgr.store import policies
from sigmgr.store.engine import Engine
from sigmgr.store.locks import queue_for_keys
from sigmgr.store.tables import apps, events, feeds, holders, keys, meta, outbox, tokens
from sigmgr.telemetry import get_logger

#: The columns of a KeyInfo and of a Token, in order.
_INFO = tuple(column for column in keys.c if column is not keys.c.sealed)
_TOKEN = tuple(column for column in tokens.c if column is not tokens.c.digest)

_APP = select(
    *apps.c, select(feeds.c.feed).where(feeds.c.sdkappid == apps.c.sdkappid).scalar_subquery()
)

log = get_logger("sigmgr.catalog")

#: Rows that are deleted at once where an app is removed.
_BATCH = 1000


class Catalog:
    """Each method is one transaction."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    # Apps

    async def add_app(
        self, sdkappid: int, name: str = "", *, policy: Policy | None = None, now: int
    ) -> App:
        """Raises AppExists."""
        app = App(sdkappid, name, policy or Policy(), paused=False, created_at=now)
        row = app._asdict() | {"policy": policies.dump(app.policy)}
        del row["feed"]
        new = self._engine.dialect.insert(apps).values(row).on_conflict_do_nothing()
        async with self._engine.write() as connection:
            if await connection.scalar(new.returning(apps.c.sdkappid)) is None:
                raise errors.AppExists(f"app {sdkappid} is already known")
        return app

    async def set_app(
        self,
        sdkappid: int,
        *,
        name: str | None = None,
        policy: Callable[[Policy], Policy] | None = None,
        paused: bool | None = None,
    ) -> App:
        """Change what is given; ``policy`` makes the new one out of the one that is held. Raises
        AppUnknown, and what ``policy`` raises."""
        changes: dict[str, Any] = {"name": name, "paused": paused}
        changes = {field: value for field, value in changes.items() if value is not None}
        async with self._engine.write() as connection:
            app = await _app(connection, sdkappid, lock=True)
            if policy is not None:
                changes["policy"] = policies.dump(policy(app.policy))
            if changes:
                await connection.execute(
                    update(apps).where(apps.c.sdkappid == sdkappid).values(changes)
                )
                app = await _app(connection, sdkappid)
        return app

    async def set_feed(self, sdkappid: int, *, on: bool) -> App:
        """Keep numbered events of the app for durable readers, from now on, or no longer. Raises
        AppUnknown, StoreUnavailable."""
        await self.get_app(sdkappid)
        await feed_switch.switch(self._engine, sdkappid, on=on)
        return await self.get_app(sdkappid)

    async def get_app(self, sdkappid: int) -> App:
        return await self._engine.reading(lambda connection: _app(connection, sdkappid))

    async def list_apps(self) -> list[App]:
        """Every app whose policy can be read; a damaged one does not stop the others."""
        rows = await self._engine.rows(_APP.order_by(apps.c.sdkappid))
        readable = []
        for row in rows:
            try:
                readable.append(_as_app(row))
            except errors.BadSettings as error:
                log.error(  # noqa: TRY400  the text is enough, a traceback would not help
                    "an app is left out: its policy is not valid",
                    action="bad-policy",
                    app=row[0],
                    why=error.text,
                )
        return readable

    async def remove_app(self, sdkappid: int, *, force: bool = False) -> None:
        """With its keys, tokens, waiting and numbered events and, by ``force`` only, its holders.
        These go first, in small batches; where that was interrupted, the next call goes on.

        Raises AppUnknown, or ConflictError while there are holders.
        """
        await self.get_app(sdkappid)
        if force:
            await self._forget(holders.c.userid, sdkappid)
        else:
            await self._engine.reading(partial(_check_unused, sdkappid))
        await feed_switch.switch(self._engine, sdkappid, on=False)
        await self._forget(events.c.number, sdkappid)
        async with self._engine.write() as connection:
            await _app(connection, sdkappid, lock=True)
            if not force:
                await _check_unused(sdkappid, connection)
            for table in (holders, outbox, events, feeds, tokens, keys, apps):
                await connection.execute(delete(table).where(table.c.sdkappid == sdkappid))

    async def _forget(self, column: Column[Any], sdkappid: int) -> None:
        """Delete the app's rows of the column's table in its order, but those that others hold."""
        table, dialect = column.table, self._engine.dialect
        rest = select(dialect.location(table)).where(table.c.sdkappid == sdkappid)
        rest = rest.order_by(column).limit(_BATCH).with_for_update(skip_locked=True)
        found = rest
        while True:
            gone = delete(table).where(dialect.located(table, found)).returning(column)
            async with self._engine.write() as connection:
                values = (await connection.scalars(gone)).all()
            if not values:
                return
            found = rest.where(column >= max(values))

    # Keys

    async def add_key(
        self,
        sdkappid: int,
        *,
        format: str,  # noqa: A002 - the word of the design
        curve: str,
        fingerprint: str,
        state: KeyState = KeyState.PREPARED,
        seal: Callable[[int], bytes],
        now: int,
    ) -> KeyInfo:
        """Add a key, prepared or active. ``seal`` gets the new id and returns the sealed material.
        Raises AppUnknown, KeyExists, KeyStateConflict."""
        if state not in {KeyState.PREPARED, KeyState.ACTIVE}:
            raise errors.KeyStateConflict(f"a new key is prepared or active, not {state.value}")
        row = {"sdkappid": sdkappid, "format": format, "curve": curve, "state": "prepared"}
        row |= {"fingerprint": fingerprint, "sealed": b"", "created_at": now, "changed_at": now}
        new = self._engine.dialect.insert(keys).values(row)
        new = new.on_conflict_do_nothing(index_elements=["sdkappid", "fingerprint"])
        async with self._engine.write() as connection:
            await _app(connection, sdkappid, lock=True)
            key_id: int | None = await connection.scalar(new.returning(keys.c.id))
            if key_id is None:
                raise errors.KeyExists(f"app {sdkappid} already has the key {fingerprint}")
            await connection.execute(
                update(keys).where(keys.c.id == key_id).values(sealed=seal(key_id))
            )
            if state is KeyState.ACTIVE:
                await _queue_for_all(self._engine, connection, sdkappid)
                await _activate(connection, sdkappid, key_id, now)
            return await _key(connection, sdkappid, key_id)

    async def list_keys(self, sdkappid: int) -> list[KeyInfo]:
        """Oldest first; empty where the app is not known."""
        mine = select(*_INFO).where(keys.c.sdkappid == sdkappid).order_by(keys.c.id)
        return [_as_key(row) for row in await self._engine.rows(mine)]

    async def sealed_keys(self, sdkappid: int | None = None) -> list[SealedKey]:
        """Every key in any state with its sealed material; of one app where it is given."""
        wanted = select(*_INFO, keys.c.sealed).order_by(keys.c.id)
        if sdkappid is not None:
            wanted = wanted.where(keys.c.sdkappid == sdkappid)
        rows = await self._engine.rows(wanted)
        return [SealedKey(_as_key(row[:-1]), bytes(row[-1])) for row in rows]

    async def set_key_state(self, sdkappid: int, key_id: int, state: KeyState, now: int) -> KeyInfo:
        """One step of a key's states; the same state again changes nothing. Raises KeyUnknown,
        KeyStateConflict, AppUnknown."""
        async with self._engine.write() as connection:
            await _app(connection, sdkappid, lock=True)
            key = await _key(connection, sdkappid, key_id)
            if key.state is state:
                return key
            check_step(key, state)
            await _queue_for_all(self._engine, connection, sdkappid)
            if state is KeyState.ACTIVE:
                await _activate(connection, sdkappid, key_id, now)
            else:
                changed = {"state": state.value, "changed_at": now}
                await connection.execute(update(keys).where(keys.c.id == key_id).values(changed))
            return await _key(connection, sdkappid, key_id)

    async def key_reach(self, sdkappid: int, key_id: int, now: int) -> tuple[int, int]:
        """How many sigs of this key live, and when the last of them expires (0 for none). Reads all
        of the app's holders; for operators."""
        h = holders.c
        living = select(func.count(), func.coalesce(func.max(h.expires_at), 0)).where(
            h.sdkappid == sdkappid,
            h.key_id == key_id,
            h.issued_at > h.revoked_at,
            h.expires_at > now,
        )
        [(count, latest)] = await self._engine.rows(living)
        return int(count), int(latest)

    # Tokens

    async def add_token(
        self, name: str, *, role: str, sdkappid: int = 0, digest: bytes, now: int
    ) -> Token:
        """Raises ConflictError where the digest is known."""
        row = {"name": name, "role": role, "sdkappid": sdkappid, "digest": digest}
        row |= {"created_at": now, "revoked_at": 0}
        async with self._engine.write() as connection:
            token_id = await connection.scalar(insert(tokens).values(row).returning(tokens.c.id))
        return Token(int(token_id or 0), name, role, sdkappid, now)

    async def list_tokens(self) -> list[Token]:
        """All, also revoked ones, oldest first."""
        rows = await self._engine.rows(select(*_TOKEN).order_by(tokens.c.id))
        return [Token(*row) for row in rows]

    async def revoke_token(self, token_id: int, now: int) -> Token:
        """A second revocation changes nothing. Raises TokenNotFound."""
        mine = tokens.c.id == token_id
        async with self._engine.write() as connection:
            live = update(tokens).where(mine, tokens.c.revoked_at == 0)
            await connection.execute(live.values(revoked_at=now))
            row = (await connection.execute(select(*_TOKEN).where(mine))).first()
        if row is None:
            raise errors.TokenNotFound(f"there is no token {token_id}")
        return Token(*row)

    async def token_by_digest(self, digest: bytes) -> Token | None:
        """The token, also a revoked one (``revoked_at``)."""
        rows = await self._engine.rows(select(*_TOKEN).where(tokens.c.digest == digest))
        return Token(*rows[0]) if rows else None

    # Named values

    async def get_meta(self, name: str) -> bytes | None:
        rows = await self._engine.rows(select(meta.c.value).where(meta.c.name == name))
        return bytes(rows[0][0]) if rows else None

    async def put_meta(self, name: str, value: bytes) -> bytes:
        """Keep the value unless there is one; answers the one that is kept, so that two processes
        that start at once get the same."""
        new = self._engine.dialect.insert(meta).values(name=name, value=value)
        new = new.on_conflict_do_nothing()
        async with self._engine.write() as connection:
            await connection.execute(new)
            kept = await connection.scalar(select(meta.c.value).where(meta.c.name == name))
        return bytes(kept or b"")


async def _queue_for_all(engine: Engine, connection: AsyncConnection, sdkappid: int) -> None:
    """Queue with signers: they would overtake a mere row lock for ever."""
    mine = select(keys.c.id).where(keys.c.sdkappid == sdkappid).order_by(keys.c.id)
    ids = list((await connection.scalars(mine)).all())
    await queue_for_keys(connection, engine.dialect, ids, shared=False)


async def _app(connection: AsyncConnection, sdkappid: int, *, lock: bool = False) -> App:
    wanted = _APP.where(apps.c.sdkappid == sdkappid)
    row = (await connection.execute(wanted.with_for_update() if lock else wanted)).first()
    if row is None:
        raise errors.AppUnknown(f"app {sdkappid} is not known here")
    return _as_app(row)


async def _check_unused(sdkappid: int, connection: AsyncConnection) -> None:
    if await connection.scalar(select(exists().where(holders.c.sdkappid == sdkappid))):
        raise errors.ConflictError(
            f"app {sdkappid} still has holders; removing it forgets them all"
        )


async def _key(connection: AsyncConnection, sdkappid: int, key_id: int) -> KeyInfo:
    wanted = select(*_INFO).where(keys.c.sdkappid == sdkappid, keys.c.id == key_id)
    row = (await connection.execute(wanted)).first()
    if row is None:
        raise errors.KeyUnknown(f"app {sdkappid} has no key {key_id}")
    return _as_key(row)


async def _activate(connection: AsyncConnection, sdkappid: int, key_id: int, now: int) -> None:
    """The former key first: the index allows one active key at any moment."""
    former = update(keys).where(keys.c.sdkappid == sdkappid, keys.c.state == "active")
    await connection.execute(former.values(state="old", changed_at=now))
    following = update(keys).where(keys.c.id == key_id)
    await connection.execute(following.values(state="active", changed_at=now))


def _as_app(row: Sequence[Any]) -> App:
    sdkappid, name, policy, paused, created_at, feed = row
    loaded = policies.load(policy)
    return App(sdkappid, name, loaded, bool(paused), created_at, feed or "")


def _as_key(row: Sequence[Any]) -> KeyInfo:
    key_id, sdkappid, sig_format, curve, state, *rest = row
    return KeyInfo(key_id, sdkappid, sig_format, curve, KeyState(state), *rest)
