"""The hot route, against the barest route that answers the same, and the batch against it.

Ours: ``sigmgr serve --role api``, one process, with database, Valkey and channels, every
request authorised by its bearer token; 1,000 users, near cache warm. An answer is near for
30 s as by default, so some requests of each run do go to Valkey. Bare: a raw ASGI route that
does one GET on the same Valkey (hiredis) and sends a value of the same size, with neither
token nor checks. Both on uvicorn with the same options; the same client, in a process of its
own, keeps the same connections busy.
"""

from __future__ import annotations

from contextlib import ExitStack
from http.client import HTTPConnection
from statistics import median

from benchmarks.children import Child
from benchmarks.rows import Options, Row, alternate
from benchmarks.stage import SDKAPPID, House, build, valkey

USERS = 1000
CONNECTIONS = 32
SECONDS = 3.0
ROUNDS = 5


def cached_get(_: Options) -> Row:
    """Requests a second."""
    with ExitStack() as stack:
        house, server = _api(stack)
        bare = stack.enter_context(Child("bare_get", url=valkey().url))
        client = stack.enter_context(Child("getter"))
        ours_asked, bare_asked = _gets(house), [_head("GET", f"/bare/{i}") for i in range(USERS)]
        size = _fill(server, ours_asked[0])
        busy: list[float] = []

        def ours() -> float:
            before = server.cpu_seconds()
            rate = _load(client, server, ours_asked, CONNECTIONS)
            busy.append((server.cpu_seconds() - before) / SECONDS)
            return rate

        _load(client, server, ours_asked, CONNECTIONS, seconds=1)
        found = alternate(ROUNDS, ours, lambda: _load(client, bare, bare_asked, CONNECTIONS))
    return Row(
        "cached-get",
        found.ratio,
        f"{found.ours:,.0f}/s (process {median(busy):.0%} busy),"
        f" bare {found.bare:,.0f}/s; {size} bytes, {CONNECTIONS} connections",
    )


def batch_get(_: Options) -> Row:
    """Sigs a second by batches of 1,000, against single gets, over as many connections."""
    with ExitStack() as stack:
        house, server = _api(stack)
        client = stack.enter_context(Child("getter"))
        userids = ",".join(f'"user{i:07}"' for i in range(1, USERS + 1))
        body = f'{{"userids":[{userids}]}}'
        path = f"/v1/apps/{SDKAPPID}/sigs/batch-get"
        batch = [_head("POST", path, house.token, body)]
        single = _gets(house)
        found = alternate(
            ROUNDS,
            lambda: _load(client, server, batch, CONNECTIONS) * USERS,
            lambda: _load(client, server, single, CONNECTIONS),
        )
    return Row(
        "batch-get",
        found.ratio,
        f"{found.ours:,.0f} sigs/s in batches of {USERS:,}, {found.bare:,.0f}/s one by one",
    )


def _api(stack: ExitStack) -> tuple[House, Child]:
    house = build()
    stack.callback(house.drop)
    house.seed(USERS, due=False)
    valkey().wipe()
    return house, stack.enter_context(Child("service", settings=house.settings, roles=["api"]))


def _gets(house: House) -> list[str]:
    place = f"/v1/apps/{SDKAPPID}/users"
    return [_head("GET", f"{place}/user{i:07}/sig", house.token) for i in range(1, USERS + 1)]


def _head(method: str, path: str, token: str = "", body: str = "") -> str:
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", "Accept: application/json"]
    if token:
        lines.append(f"Authorization: Bearer {token}")
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join(lines) + "\r\n\r\n" + body


def _fill(server: Child, asked: str) -> int:
    """Values for the bare route, as large as our answers; answers their size."""
    _, path, _ = asked.split(" ", 2)
    token = asked.partition("Authorization: ")[2].partition("\r")[0]
    connection = HTTPConnection("127.0.0.1", server.ready["port"], timeout=10)
    connection.request("GET", path, headers={"Authorization": token})
    answer = connection.getresponse()
    size = len(answer.read())
    connection.close()
    if answer.status != 200:
        raise RuntimeError(f"the route answers {answer.status}")
    for i in range(USERS):
        valkey().command("SET", f"/bare/{i}", "x" * size)
    return size


def _load(
    client: Child, server: Child, requests: list[str], connections: int, seconds: float = SECONDS
) -> float:
    answer = client.ask(
        "load",
        port=server.ready["port"],
        requests=requests,
        connections=connections,
        seconds=seconds,
    )
    return float(answer["rate"])
