"""Forked processes: each in a group of its own, gone when the one who made it is gone. Linux."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import select
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

#: A fault may ask for memory without end.
MOST_BYTES = 6 << 30
#: The exit code of a child that went wrong itself; pytest has 0 to 5.
BROKEN = 70
_DEATH_SIGNAL = 1
_libc = ctypes.CDLL(None, use_errno=True)


def fork(run: Callable[[], int], output: Path) -> int:
    """Run it in a child, with its output in a file; answers the child's id."""
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    child = os.fork()
    if child:
        return child
    code = BROKEN
    try:
        os.setsid()
        _libc.prctl(_DEATH_SIGNAL, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(BROKEN)
        written = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for standard in (1, 2):
            os.dup2(written, standard)
        code = run()
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def limit_memory() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))


def wait(child: int, seconds: float | None = None) -> int | None:
    """The exit code; None where the time was over. Ends all that the child has started."""
    watched = os.pidfd_open(child)
    try:
        ended = bool(select.select([watched], [], [], seconds)[0])
    finally:
        os.close(watched)
    # Before it is reaped: until then nobody else has its number.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) if ended else None
