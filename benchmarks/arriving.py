"""Clients that come all at once: what it costs to open a stream, and to make an ack durable.

``opens``. Ours: ``sigmgr serve --role gateway`` on PostgreSQL and Valkey; 5,000 clients come
back, 1,000 dialling at a time: each ticket checked, each state read from the database, each sig
that Valkey holds taken from there. Bare: a raw ASGI endpoint that sends one message of the
same size. Both on uvicorn with the same options; counted is the CPU time of the server's
process alone, which wall-clock figures of a shared machine would drown.

``acks``. Ours: the flow as a gateway process runs it, PostgreSQL with fsync, and Valkey: 20,000
acks, so many at a time as there are streams that got one message, each answered when it is
durable: rows locked, judged and written, an event each in the outbox, announced to the shard
channels meanwhile. Bare: one connection that writes as many rows in batches of 1,000, one
UPDATE from arrays each, committed. HTTP is in neither.
"""

from __future__ import annotations

import time
from contextlib import ExitStack

from benchmarks.children import Child
from benchmarks.rows import Options, Row, alternate
from benchmarks.stage import SDKAPPID, House, build, valkey
from benchmarks.streams import STREAMS, tickets_of

ROUNDS = 3
DIALS = 1000
ACKS = 20_000
BATCH = 1000
#: Until a server has let go of the streams that were closed.
SETTLE_SECONDS = 1.5

_ACK = """
UPDATE holders SET acked = batch.issued_at, acked_at = %s
FROM unnest(%s::text[], %s::bigint[]) AS batch (userid, issued_at)
WHERE holders.sdkappid = %s AND holders.userid = batch.userid AND holders.kind = 'user'
  AND holders.scope = ''
"""


def opens(_: Options) -> Row:
    """Streams opened per second of the server's CPU."""
    with ExitStack() as stack:
        house = build()
        stack.callback(house.drop)
        house.seed(STREAMS, due=False)
        valkey().wipe()
        tickets = tickets_of(house)
        client = stack.enter_context(Child("listener"))
        gateway = {"settings": house.settings, "roles": ["gateway"]}
        ours = stack.enter_context(Child("service", **gateway))
        size = client.ask("open", port=ours.ready["port"], tickets=tickets[:1])["size"]
        client.ask("close")
        bare = stack.enter_context(Child("bare_stream", size=size))
        found = alternate(
            ROUNDS, lambda: _opened(client, ours, tickets), lambda: _opened(client, bare, tickets)
        )
    return Row(
        "opens",
        found.ratio,
        f"{found.ours:,.0f} streams a CPU second, bare {found.bare:,.0f}; {STREAMS:,} at once",
    )


def _opened(client: Child, server: Child, tickets: list[str]) -> float:
    before = server.cpu_seconds()
    answer = client.ask("open", port=server.ready["port"], tickets=tickets, dials=DIALS)
    spent = server.cpu_seconds() - before
    client.ask("close")
    if answer["open"] != len(tickets):
        raise RuntimeError(f"{answer['open']} of {len(tickets)} streams were opened")
    time.sleep(SETTLE_SECONDS)
    return len(tickets) / spent


def acks(_: Options) -> Row:
    """Durable acks a second."""
    with ExitStack() as stack:
        house = build()
        stack.callback(house.drop)
        valkey().wipe()
        gateway = stack.enter_context(Child("acker", settings=house.settings))
        found = alternate(ROUNDS, lambda: _ours_acked(house, gateway), lambda: _bare_acked(house))
    return Row(
        "acks",
        found.ratio,
        f"{found.ours:,.0f}/s durable, bare {found.bare:,.0f}/s; {ACKS:,} at once",
    )


def _ours_acked(house: House, gateway: Child) -> float:
    house.seed(ACKS, due=False)
    answer = gateway.ask("ack", sdkappid=SDKAPPID, sigs=_sigs(house))
    durable = house.one("SELECT count(*) FROM holders WHERE acked = issued_at")
    if durable != ACKS or answer["refused"]:
        raise RuntimeError(f"{durable} of {ACKS} acks are durable, {answer['refused']} refused")
    return ACKS / float(answer["seconds"])


def _bare_acked(house: House) -> float:
    house.seed(ACKS, due=False)
    sigs = _sigs(house)
    with house.connect() as connection:
        started = time.monotonic()
        for at in range(0, ACKS, BATCH):
            userids, issued = zip(*sigs[at : at + BATCH], strict=True)
            connection.execute(_ACK, (int(time.time()), list(userids), list(issued), SDKAPPID))
        return ACKS / (time.monotonic() - started)


def _sigs(house: House) -> list[tuple[str, int]]:
    """In no order that rows lie in, as clients come."""
    with house.connect() as connection:
        return connection.execute(
            "SELECT userid, issued_at FROM holders ORDER BY hashtext(userid)"
        ).fetchall()
