"""How long gets take before, while and after a part is away: ``python -m benchmarks.latency``.

One PostgreSQL, one Valkey, and two processes of ``sigmgr serve --role api`` over them: one as
by default, which answers ``hot`` gets from its near cache, and one without a near cache, for
``known`` gets (the token is known and the sig lies in Redis) and ``new`` ones (of users that
nobody has asked for). A client keeps a few connections busy with each kind, with a pause
after every answer, so that nothing here waits for a CPU.

A part is *hung* (every process of it stopped, connections open) or *refused* (stopped: nobody
listens). It is so for longer than API tokens are believed without a look.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, NamedTuple

from benchmarks.children import Child
from benchmarks.rows import Options, Row
from benchmarks.stage import SDKAPPID, House, build, postgres, valkey

HOT, KNOWN = 100, 5000
CONNECTIONS = {"hot": 4, "known": 4, "new": 2}
PAUSE = 0.01
BEFORE, DURING, AFTER = 5.0, 15.0, 5.0
#: Until what was away is found again by all who need it.
RECOVERY = 3.0

Break = Callable[[], None]


class Times(NamedTuple):
    """Of one kind of gets in one phase: milliseconds, and the share that was refused."""

    p50: float
    p99: float
    refused: float

    def __str__(self) -> str:
        refused = f" ({self.refused:.0%} refused)" if self.refused else ""
        return f"{self.p50:.1f} / {self.p99:.1f}{refused}"


class Phases(NamedTuple):
    """By kind of get."""

    before: dict[str, Times]
    during: dict[str, Times]
    after: dict[str, Times]


class Stage:
    """The processes, warm. Use :meth:`measure` for each fault."""

    def __init__(self, stack: ExitStack) -> None:
        self._house = build()
        stack.callback(self._house.drop)
        self._house.seed(KNOWN, due=False)
        valkey().wipe()
        settings = _prompt(self._house)
        bare = {**settings, "http": {**settings["http"], "near_entries": 0}}
        near = stack.enter_context(Child("service", settings=settings, roles=["api"]))
        plain = stack.enter_context(Child("service", settings=bare, roles=["api"]))
        self._ports = {"hot": near, "known": plain, "new": plain}
        self._client = stack.enter_context(Child("asker"))
        self._asked_new = KNOWN + 1
        self._ask("known", 0, seconds=0, once=True)

    def measure(self, fault: Break, mend: Break) -> Phases:
        """Before, while and after."""
        before = self._all(BEFORE)
        fault()
        try:
            during = self._all(DURING)
        finally:
            mend()
        time.sleep(RECOVERY)
        return Phases(before, during, self._all(AFTER))

    def _all(self, seconds: float) -> dict[str, Times]:
        """All kinds at the same time, each over connections of its own."""
        answer = self._client.ask(
            "many", jobs={kind: self._job(kind, seconds) for kind in self._ports}
        )
        self._asked_new += sum(answer["new"]["statuses"].values())
        return {kind: _times(found) for kind, found in answer.items()}

    def _ask(self, kind: str, start: int, *, seconds: float, once: bool) -> None:
        answer = self._client.ask("many", jobs={kind: self._job(kind, seconds, once=once)})
        if set(answer[kind]["statuses"]) != {"200"}:
            raise RuntimeError(f"{kind} gets answer {answer[kind]['statuses']}")

    def _job(self, kind: str, seconds: float, *, once: bool = False) -> dict[str, Any]:
        start, count = {"hot": (1, HOT), "known": (1, KNOWN), "new": (self._asked_new, 10**9)}[kind]
        lines = [
            f"GET /v1/apps/{SDKAPPID}/users/user%07d/sig HTTP/1.1",
            "Host: 127.0.0.1",
            "Accept: application/json",
            f"Authorization: Bearer {self._house.token}",
        ]
        return {
            "port": self._ports[kind].ready["port"],
            "template": "\r\n".join(lines) + "\r\n\r\n",
            "start": start,
            "count": count,
            "connections": 16 if once else CONNECTIONS[kind],
            "seconds": seconds,
            "pause": 0 if once else PAUSE,
            "once": once,
        }


def _prompt(house: House) -> dict[str, Any]:
    """The settings of a production that is asked for latencies: the usual limits."""
    database = {"url": house.settings["database"]["url"]}
    return {**house.settings, "database": database, "redis": {"url": valkey().url}}


def _times(found: dict[str, Any]) -> Times:
    ms = sorted(found["ms"])
    refused = sum(n for status, n in found["statuses"].items() if status != "200")
    return Times(_at(ms, 0.5), _at(ms, 0.99), refused / len(ms))


def _at(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def hung_get(_: Options) -> Row:
    """p99 of known gets before / while PostgreSQL hangs."""
    with ExitStack() as stack:
        phases = Stage(stack).measure(postgres().pause, postgres().resume)
    before, during = phases.before["known"], phases.during["known"]
    hot = phases.before["hot"].p99 / phases.during["hot"].p99
    return Row(
        "hung-get",
        before.p99 / during.p99,
        f"before / while: p99 {before.p99:.1f} ms, then {during.p99:.1f} ms for {DURING:g} s,"
        f" {during.refused:.1%} refused; hot ones {hot:.2f}",
    )


FAULTS: dict[str, tuple[Break, Break]] = {
    "Redis hung": (lambda: valkey().pause(), lambda: valkey().resume()),
    "PostgreSQL hung": (lambda: postgres().pause(), lambda: postgres().resume()),
    "PostgreSQL refused": (lambda: postgres().stop("immediate"), lambda: postgres().start()),
}


def main() -> int:
    """Print the table."""
    print("p50 / p99 in ms of gets, and what of them was refused\n")
    print("| fault | get | before | while | after |\n| --- | --- | --- | --- | --- |")
    with ExitStack() as stack:
        stage = Stage(stack)
        for name, (fault, mend) in FAULTS.items():
            phases = stage.measure(fault, mend)
            for kind in CONNECTIONS:
                cells = " | ".join(str(phase[kind]) for phase in phases)
                print(f"| {name} | {kind} | {cells} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
