"""The events of a commit, and the retry of commits."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TypeVar

from sigmgr.model import errors
from sigmgr.ports import Announcement, Signer, Transaction

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Committed:
    """Events that a commit has put into the outbox, and the ids of their rows. A row goes as a
    whole, so these events are announced together or not at all."""

    batch: Sequence[Announcement] = ()
    rows: Sequence[int] = ()

    def __len__(self) -> int:
        return len(self.batch)


def joined(parts: Sequence[Committed]) -> Committed:
    return Committed(
        list(chain.from_iterable(part.batch for part in parts)),
        list(chain.from_iterable(part.rows for part in parts)),
    )


async def append(tx: Transaction, batch: Sequence[Announcement]) -> Committed:
    """Put the events into the outbox; answers what is to be announced after the commit."""
    return Committed(batch, await tx.append([event for event, _ in batch]))


async def once_more(work: Callable[[], Awaitable[T]], signer: Signer | None = None) -> T:
    """Run ``work``, which commits; once more where the cause of its failure is gone: a lost
    connection is replaced, changed keys are loaded again.

    A commit whose connection was lost may be done. So ``work`` finds out under the locks what is
    left to do. It runs outside of a transaction, since loading needs a connection of its own.
    """
    try:
        return await work()
    except (errors.ConnectionLost, errors.CommitUnknown):
        return await work()
    except errors.KeyChanged:
        if signer is None:
            raise
        # Another app's key that does not open does not stop this one.
        with contextlib.suppress(errors.SigmgrError):
            await signer.refresh()
        return await work()
