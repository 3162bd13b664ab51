"""The command: ``python -m benchmarks``."""

from __future__ import annotations

import argparse
import gc
import resource
import sys
import time
import traceback
from collections.abc import Callable

from benchmarks import arriving, cached, gets, latency, renewing, signing, streams
from benchmarks.machine import Others
from benchmarks.rows import BUDGETS, HEAD, Options, Row, judged

BENCHMARKS: dict[str, tuple[Callable[[Options], Row], str]] = {
    "sign-v2": (signing.sign_v2, "make a v2 sig, against HMAC + zlib + base64"),
    "sign-v1": (signing.sign_v1, "make a v1 P-256 sig, against ECDSA + zlib + base64"),
    "renewals": (renewing.renewals, "renewals/s, all cores, against one bare UPDATE loop"),
    "renewals-scale": (renewing.scale, "cost of a renewal with 10 thousand holders and many"),
    "renewals-feed": (renewing.feed, "renewals/s with durable readers, against without"),
    "cached-get": (gets.cached_get, "GET of a sig over HTTP, against a route with one Redis GET"),
    "batch-get": (gets.batch_get, "1,000 ids in one POST, against 1,000 GETs"),
    "stream-memory": (streams.stream_memory, "an idle stream, against a bare SSE endpoint"),
    "wave": (streams.wave, "one message to every stream, against a bare SSE endpoint"),
    "cache-bytes": (cached.cache_bytes, "length of a v2 sig, against its bytes in Redis"),
    "opens": (arriving.opens, "streams opened a CPU second, against a bare SSE endpoint"),
    "acks": (arriving.acks, "durable acks/s, against one bare batched UPDATE loop"),
    "hung-get": (latency.hung_get, "p99 of known gets while PostgreSQL hangs, against before"),
}

assert list(BENCHMARKS) == list(BUDGETS), "each has a budget"

#: From here on a row says that the machine was not ours alone.
BUSY = 0.1


def main() -> int:
    """Run what was asked for; the number is 1 where a floor does not hold or a run failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="The budgets.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="which; all if none is named")
    parser.add_argument("--five-million", action="store_true", help="for renewals-scale")
    parser.add_argument("--list", action="store_true", help="say what there is")
    parser.add_argument("--once", action="store_true", help="one run each, not up to three")
    asked = parser.parse_args()
    unknown = [name for name in asked.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"there is no benchmark {', '.join(unknown)}; --list says what there is")
    if asked.list:
        for name, (_, what) in BENCHMARKS.items():
            print(f"{name:<15} {what}")
        return 0
    _raise_file_limit()
    return _run(asked.names or list(BENCHMARKS), Options(asked.five_million), once=asked.once)


def _run(names: list[str], options: Options, *, once: bool) -> int:
    started = time.monotonic()
    print(HEAD, flush=True)
    bad, taken = 0, 0.0
    for name in names:
        gc.collect()
        others = Others()
        try:
            row = judged(BENCHMARKS[name][0], options, once=once)
        except Exception:
            traceback.print_exc()
            print(f"{name:<15} failed, see above", flush=True)
            bad += 1
            continue
        # A row that was measured together with the one before takes no time of its own.
        share = others.share()
        taken = taken if share is None else share
        note = f"  [others took {taken:.0%} of the machine]" if taken > BUSY else ""
        print(row.line() + note, flush=True)
        bad += not row.held
    print(f"{time.monotonic() - started:.0f} s; {bad or 'none'} under the floor or failed")
    return 1 if bad else 0


def _raise_file_limit() -> None:
    """Streams are files. Children inherit the limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    sys.exit(main())
