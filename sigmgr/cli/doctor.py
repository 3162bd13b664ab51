"""``sigmgr doctor``: checks what a service needs, and advises."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import typer

from sigmgr.cli import calls, keychange, output
from sigmgr.cli.clock_check import Clocks, Finding
from sigmgr.cli.frame import NEGATIVE, command_app
from sigmgr.model.app import KeyInfo, SealedKey
from sigmgr.model.errors import BadSettings, SigmgrError
from sigmgr.model.shown import masked
from sigmgr.model.sig import KeyState

if TYPE_CHECKING:
    from sigmgr.model.usersig.formats import Doubt
    from sigmgr.settings import Settings
    from sigmgr.store.engine import Engine
    from sigmgr.wiring.base import Base

app = command_app("Check the set-up.")

#: Errors whose general advice is to run the doctor.
_ADVICE = {
    "store-unavailable": "Is the database overloaded or stopped? database.url"
    " (SIGMGR_DATABASE__URL) says where it is.",
}

#: Advice on a part that refuses writes, by how the reason begins.
_REFUSED = {
    "database": {
        "read-only": "Is it a replica, or is default_transaction_read_only on? Let database.url"
        " name the primary. A SQLite file: may this user write it and its directory?",
        "full": "Free or add space where the database keeps its files.",
        "refuses": "May the user of database.url write to every table (GRANT)? The database's own"
        " log says more.",
        "does not write": "Who holds a lock for so long? PostgreSQL: SELECT * FROM"
        " pg_stat_activity WHERE state <> 'idle'.",
    },
    "redis": {
        "full": "Raise maxmemory, or let it evict (maxmemory-policy volatile-lru): all that sigmgr"
        " keeps there can be made again.",
        "read-only": "redis.url names a replica. Name the primary, or use redis+sentinel://.",
        "refuses the login": "Are user and password in redis.url (SIGMGR_REDIS__URL) right?",
        "refuses": "May this user write keys that begin with sm: (ACL)? Redis's own log says more.",
    },
}


@app.command("doctor")
def doctor(config: calls.Config = None, as_json: calls.AsJson = False) -> None:
    """Check settings, database, schema, master key, keys, Redis and clocks.

    Exit status 1 where something is wrong; each finding says what to do.
    """
    settings = calls.settings_of(config)
    findings = [_unsecret(finding) for finding in asyncio.run(_examine(settings))]
    if as_json:
        output.print_json([finding._asdict() for finding in findings])
    else:
        for finding in findings:
            label = f"{finding.verdict:<5} {finding.part:<11} "
            output.print_line(output.wrapped(finding.text, label))
            if finding.advice:
                output.print_line(output.wrapped(finding.advice, f"{'':<17} -> "))
    if any(finding.verdict == "fail" for finding in findings):
        raise typer.Exit(NEGATIVE)


def _unsecret(finding: Finding) -> Finding:
    """The finding with everything masked that looks like a credential."""
    return finding._replace(text=masked(finding.text), advice=masked(finding.advice))


async def _examine(settings: Settings) -> list[Finding]:
    from sigmgr.wiring.base import open_database

    clocks = Clocks(settings.clock.tolerance)
    found = await _run("master key", lambda: _master_key(settings))
    usable = not any(one.verdict == "fail" for one in found)
    try:
        engine = open_database(settings)
    except BadSettings as error:
        found += [
            _failed("database", error),
            *await _run("redis", lambda: _redis(settings, clocks)),
        ]
        return found
    try:
        chain: list[tuple[str, Callable[[], AsyncIterator[Finding]]]] = [
            ("database", lambda: _database(engine, clocks)),
            ("schema", lambda: _schema(engine)),
            ("writes", lambda: _writes(engine)),
        ]
        if usable:
            chain += [("keys", lambda: _keys(settings))]
        for part, check in chain:
            answer = await _run(part, check)
            found += answer
            if answer[-1].part == part and answer[-1].verdict == "fail":
                break  # the next would fail for the same reason
        found += await _run("redis", lambda: _redis(settings, clocks))
    finally:
        await engine.close()
    return [*found, *clocks.findings()]


async def _run(part: str, check: Callable[[], AsyncIterator[Finding]]) -> list[Finding]:
    found: list[Finding] = []
    try:
        async for finding in check():
            found.append(finding)  # noqa: PERF401  what was found before an error counts
    except SigmgrError as error:
        found.append(_failed(part, error))
    return found


def _failed(part: str, error: SigmgrError) -> Finding:
    advice = getattr(error, "remedy", "") or _ADVICE.get(error.code, error.advice)
    return Finding(part, "fail", f"{error} ({error.code})", advice)


async def _master_key(settings: Settings) -> AsyncIterator[Finding]:
    from sigmgr.wiring.master import find_master, narrowing

    found = find_master(settings)
    yield Finding("master key", "ok", f"32 bytes, out of {found.source}")
    if found.concern:
        yield Finding("master key", "warn", found.concern, narrowing(settings))


async def _database(engine: Engine, clocks: Clocks) -> AsyncIterator[Finding]:
    from sigmgr.store.engine import database_time
    from sigmgr.wiring.clock import wall_seconds

    theirs = await database_time(engine)
    clocks.database = theirs - wall_seconds()
    yield Finding("database", "ok", f"answers ({type(engine.dialect).__name__})")


async def _schema(engine: Engine) -> AsyncIterator[Finding]:
    from sigmgr.store import migrate

    await migrate.check(engine)
    yield Finding("schema", "ok", f"revision {await migrate.current(engine)}")


async def _writes(engine: Engine) -> AsyncIterator[Finding]:
    from sigmgr.store.probe import WITHOUT, probe

    yield _written("database", await probe(engine), WITHOUT, "reads and writes")


def _written(part: str, wrong: str, without: str, well: str) -> Finding:
    """A part that answers may still refuse writes: what is ``wrong``, and what goes on so."""
    if not wrong:
        return Finding(part, "ok", well)
    known = (advice for how, advice in _REFUSED[part].items() if wrong.startswith(how))
    return Finding(part, "fail", f"{wrong}: {without}", next(known, ""))


async def _keys(settings: Settings) -> AsyncIterator[Finding]:
    from sigmgr.wiring.base import open_base

    async with open_base(settings) as base:
        yield Finding("master key", "ok", "opens every sealed key")
        apps = await base.catalog.list_apps()
        if not apps:
            yield Finding("apps", "warn", "there are none", "sigmgr app add SDKAPPID")
        for app_ in apps:
            sealed = await base.catalog.sealed_keys(app_.sdkappid)
            for finding in _keys_of(base, app_.sdkappid, sealed):
                yield finding
        pending, oldest = await base.outbox.depth(base.clock())
        late = oldest > 60
        waiting = "1 event waits" if pending == 1 else f"{pending} events wait"
        yield Finding(
            "outbox",
            "warn" if late else "ok",
            f"{waiting}, the oldest for {oldest} s" if pending else "no event waits",
            "Is a worker running, and does Redis answer it?" if late else "",
        )


def _keys_of(base: Base, app: int, sealed: Sequence[SealedKey]) -> Iterator[Finding]:
    """Which key signs for an app, and doubts about it and about prepared keys."""
    states = (KeyState.ACTIVE, KeyState.PREPARED)
    doubts = {
        key.info: base.doubt(key) for state in states for key in sealed if key.info.state is state
    }
    signs = next((key for key in doubts if key.state is KeyState.ACTIVE), None)
    if signs is not None:
        yield Finding("apps", "ok", f"app {app} signs with key {signs.key_id}")
    else:
        usable = (key for key, doubt in doubts.items() if doubt is None or not doubt.certain)
        following = next(usable, None)
        advice = f"sigmgr key add {app} --file FILE --activate"
        if following:
            advice = f"sigmgr key activate {app} {following.key_id}"
        yield Finding("apps", "fail", f"app {app} has no active key", advice)
    for key, doubt in doubts.items():
        if doubt is not None:
            yield _doubted(key, doubt)


def _doubted(key: KeyInfo, doubt: Doubt) -> Finding:
    text = f"app {key.sdkappid}, key {key.key_id} ({key.state.value}): {doubt.text}"
    if not doubt.certain:
        return Finding("apps", "warn", text, "Compare it with what the Tencent console shows.")
    if key.state is not KeyState.ACTIVE:
        return Finding("apps", "warn", text, keychange.instead_of(key))
    advice = (
        "The cloud refuses sigs of it. Add the right one: sigmgr key add"
        f" {key.sdkappid} --file FILE --activate --yes"
    )
    return Finding("apps", "fail", text, advice)


async def _redis(settings: Settings, clocks: Clocks) -> AsyncIterator[Finding]:
    from sigmgr.cache.connect_errors import why
    from sigmgr.cache.probe import WITHOUT, probe
    from sigmgr.model.errors import CacheUnavailable
    from sigmgr.model.redis_layout import Layout
    from sigmgr.wiring.clock import wall_seconds
    from sigmgr.wiring.parts import redis_of

    url = settings.redis.url.get_secret_value()
    if url.startswith("memory:"):
        yield Finding("redis", "ok", "memory://, inside the serving process")
        return
    parts = await redis_of(settings)
    try:
        clocks.redis = await parts.time() - wall_seconds()
        layout = Layout(settings.redis.shards)
        yield _written("redis", await probe(parts, layout), WITHOUT, "answers and writes")
    except CacheUnavailable as error:
        text, remedy = why(error, url)
        advice = f"{remedy} Without Redis the service goes on, more slowly.".strip()
        yield Finding("redis", "fail", f"{text} ({error.code})", advice)
    finally:
        await parts.aclose()
