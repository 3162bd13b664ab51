"""Database, keys and apps, for commands that manage."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from sigmgr.flow.look import Look
from sigmgr.flow.registry import Apps
from sigmgr.flow.revocations import Revocations
from sigmgr.http import auth
from sigmgr.keys.ring import KeyRing
from sigmgr.keys.sealing import MasterKey, key_context
from sigmgr.model import errors, pasted
from sigmgr.model.app import KeyInfo, SealedKey, Token
from sigmgr.model.holder import check_sdkappid
from sigmgr.model.sig import KeyState, Record
from sigmgr.model.usersig.formats import Doubt
from sigmgr.settings import Settings
from sigmgr.store import migrate
from sigmgr.store.catalog import Catalog
from sigmgr.store.dialect import SQLITE
from sigmgr.store.engine import Engine, Patience, open_engine
from sigmgr.store.feeds import SqlEventReader
from sigmgr.store.outbox import SqlOutbox
from sigmgr.store.revocations import SqlLooks
from sigmgr.store.stores import SqlJanitor, SqlStore
from sigmgr.wiring.clock import monotonic_seconds
from sigmgr.wiring.master import open_master
from sigmgr.wiring.reference_clock import ReferenceClock, open_clock

CHECK = "master-key-check"


def open_database(settings: Settings, *, create: bool = False) -> Engine:
    """The database alone, whatever its schema; the caller closes it. ``create``: make a missing
    SQLite file."""
    return open_engine(
        settings.database.url.get_secret_value(),
        pool_size=settings.database.pool_size,
        statement_timeout_ms=int(settings.database.statement_timeout * 1000),
        create=create,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """Database, keys and apps. ``store`` and ``looks`` are for requests, ``jobs_store`` for jobs,
    whose limits are longer."""

    settings: Settings
    clock: ReferenceClock
    engine: Engine
    store: SqlStore
    jobs_store: SqlStore
    looks: SqlLooks
    revocations: Revocations
    outbox: SqlOutbox
    events: SqlEventReader
    janitor: SqlJanitor
    catalog: Catalog
    master: MasterKey
    ring: KeyRing
    apps: Apps

    async def add_key(
        self,
        sdkappid: int,
        format_: str | None,
        content: bytes,
        *,
        activate: bool,
        sure: bool = False,
    ) -> KeyInfo:
        """Seal a pasted signing key into the database. Raises BadKey, OddKey unless the caller is
        ``sure``, KeyExists, AppUnknown."""
        found = pasted.read(content, format_)
        if found.odd and not sure:
            raise errors.OddKey(found.odd)
        await _recognise(self.master, self.catalog, first=True)
        key, material = found.key, found.material
        return await self.catalog.add_key(
            sdkappid,
            format=key.format,
            curve=key.curve,
            fingerprint=key.fingerprint,
            state=KeyState.ACTIVE if activate else KeyState.PREPARED,
            seal=lambda key_id: self.master.seal(material, context=key_context(sdkappid, key_id)),
            now=self.clock(),
        )

    def doubt(self, sealed: SealedKey) -> Doubt | None:
        info = sealed.info
        material = self.master.open(sealed.sealed, key_context(info.sdkappid, info.key_id))
        return pasted.doubt(info.format, material)

    async def add_token(self, role: str, *, sdkappid: int, name: str) -> tuple[str, Token]:
        """A new token's text, which is not stored, and its facts. Raises AppUnknown."""
        if sdkappid:
            await self.catalog.get_app(check_sdkappid(sdkappid))
        await _recognise(self.master, self.catalog, first=True)
        text, digest = auth.new_token(self.master.derive("tokens"))
        token = await self.catalog.add_token(
            name, role=role, sdkappid=sdkappid, digest=digest, now=self.clock()
        )
        return text, token

    async def token_of(self, digest: bytes) -> Token | None:
        token = await self.catalog.token_by_digest(digest)
        return None if token is None or token.revoked_at else token

    async def load_revocations(self) -> None:
        """Learn what is revoked, in a process without a look. Raises StoreUnavailable."""
        look = Look(
            looks=self.looks,
            revocations=self.revocations,
            signer=self.ring,
            monotonic=monotonic_seconds(),
        )
        await look.load(self.clock())

    async def holders_of(self, sdkappid: int, userid: str) -> tuple[list[Record], int]:
        """A user's records, and now. Raises AppUnknown, HolderUnknown."""
        await self.catalog.get_app(sdkappid)
        await self.load_revocations()
        records = await self.store.of_user(sdkappid, userid)
        if not records:
            raise errors.HolderUnknown
        return records, self.clock()


@asynccontextmanager
async def open_base(settings: Settings, *, serving: bool = False) -> AsyncIterator[Base]:
    """``serving``: for requests, with shorter limits than for commands. Raises NotMigrated,
    MasterKeyMissing, WrongMasterKey, StoreUnavailable."""
    master = open_master(settings)
    async with AsyncExitStack() as stack:
        engine = open_database(settings)
        stack.push_async_callback(engine.close)
        await migrate.check(engine)
        catalog = Catalog(engine)
        clock = await open_clock(settings, engine)
        await _recognise(master, catalog, first=serving)
        ring = KeyRing(catalog.sealed_keys, master, monotonic=time.monotonic)
        stack.push_async_callback(ring.aclose)
        await ring.refresh()
        apps = Apps(catalog.list_apps, time.monotonic)
        await apps.refresh()
        revocations = Revocations(monotonic_seconds(), grace=settings.revocation.grace)
        prompt = _prompt(engine, settings) if serving else engine
        yield Base(
            settings=settings,
            clock=clock,
            engine=engine,
            store=SqlStore(prompt, revocations.until),
            jobs_store=SqlStore(engine, revocations.until),
            looks=SqlLooks(prompt),
            revocations=revocations,
            outbox=SqlOutbox(engine),
            events=SqlEventReader(prompt),
            janitor=SqlJanitor(engine),
            catalog=catalog,
            master=master,
            ring=ring,
            apps=apps,
        )


def _prompt(engine: Engine, settings: Settings) -> Engine:
    """With the limits of requests. SQLite has none: a file does not hang, and callers queue."""
    if engine.dialect is SQLITE:
        return engine
    return engine.with_patience(Patience.of_requests(settings.database.request_timeout))


async def _recognise(master: MasterKey, catalog: Catalog, *, first: bool) -> None:
    """Raises WrongMasterKey where another was the first. ``first``: where there is none yet,
    this one is; only what serves or seals says so, and who looks at a database does not."""
    kept = await catalog.get_meta(CHECK)
    if kept is None and first:
        kept = await catalog.put_meta(CHECK, master.check_value().encode())
    if kept is not None and not master.matches(kept.decode("ascii", "replace")):
        raise errors.WrongMasterKey
