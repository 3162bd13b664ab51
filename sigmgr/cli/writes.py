"""The write findings of ``sigmgr doctor``: a part that answers may still refuse writes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from sigmgr.cli.clock_check import CheckResult

if TYPE_CHECKING:
    from sigmgr.cache.client import RedisParts
    from sigmgr.model.redis_layout import Layout
    from sigmgr.store.engine import Engine

#: Advice by the beginning of what is wrong.
_DATABASE: Final = {
    "read-only": "Is it a replica, or is default_transaction_read_only on? Let database.url name"
    " the primary. A SQLite file: may this user write it and its directory?",
    "full": "Free or add space where the database keeps its files.",
    "refuses": "May the user of database.url write to every table (GRANT)? The database's own"
    " log says more.",
    "does not write": "Who holds a lock for so long? PostgreSQL: SELECT * FROM"
    " pg_stat_activity WHERE state <> 'idle'.",
}
_REDIS: Final = {
    "full": "Raise maxmemory, or let it evict (maxmemory-policy volatile-lru): all that sigmgr"
    " keeps there can be made again.",
    "read-only": "redis.url names a replica. Name the primary, or use redis+sentinel://.",
    "refuses the login": "Are user and password in redis.url (SIGMGR_REDIS__URL) right?",
    "refuses": "May this user write keys that begin with sm: (ACL)? Redis's own log says more.",
}


async def of_database(engine: Engine) -> CheckResult:
    from sigmgr.store.probe import WITHOUT, probe

    wrong = await probe(engine)
    return _verdict(wrong, WITHOUT, _DATABASE) if wrong else CheckResult("ok", "reads and writes")


async def of_redis(redis: RedisParts, layout: Layout) -> CheckResult:
    from sigmgr.cache.probe import WITHOUT, probe

    wrong = await probe(redis, layout)
    return _verdict(wrong, WITHOUT, _REDIS) if wrong else CheckResult("ok", "answers and writes")


def _verdict(wrong: str, without: str, advice: Mapping[str, str]) -> CheckResult:
    known = (what for how, what in advice.items() if wrong.startswith(how))
    return CheckResult("fail", f"{wrong}: {without}", next(known, ""))
