"""The Protocols that flows need; the page to read first.

Adapters (``store``, ``cache``, ``keys``, ``push``) fulfil them, ``wiring`` joins them,
``sigmgr.testing`` puts faults around any of them. No method reads a clock: ``now`` is an argument
wherever time matters.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, NamedTuple, Protocol

from sigmgr.model.app import App
from sigmgr.model.cursor import Cursor
from sigmgr.model.errors import SigmgrError
from sigmgr.model.event import Event
from sigmgr.model.holder import Holder
from sigmgr.model.revocation import Revocation
from sigmgr.model.sig import Current, KeyRef, KeyState, Record, SigFacts
from sigmgr.model.usersig.decoded import Decoded

#: Whole Unix seconds, UTC. Held by ``wiring`` and entry points only.
Clock = Callable[[], int]
#: A number in [0, 1). Flows draw, and rules get the number.
Draw = Callable[[], float]


class Registry(Protocol):
    """The apps, kept in memory and refreshed from the store."""

    async def app(self, sdkappid: int) -> App:
        """The app, looked up once in the store where it is not loaded. Raises AppUnknown."""
        ...

    def apps(self) -> Sequence[App]: ...


class Verified(NamedTuple):
    """A valid sig, and the key that made it."""

    decoded: Decoded
    key_id: int
    key_state: KeyState

    def fields(self) -> dict[str, Any]:
        """For people and JSON; never the signature."""
        key = {"key_id": self.key_id, "key_state": self.key_state.value}
        return self.decoded.fields() | key


class Signer(Protocol):
    """Loaded keys, which sign batches off the event loop."""

    async def active_key(self, sdkappid: int) -> KeyRef:
        """The key that signs now. Raises NoSigningKey."""
        ...

    async def key_state(self, sdkappid: int, key_id: int) -> KeyState | None: ...

    async def refresh(self) -> None:
        """Load keys and states again, after a commit found that the key was no longer active."""
        ...

    async def sign(self, batch: Sequence[SigFacts]) -> list[str | SigmgrError]:
        """A sig or an error for each, in order. Never raises for one bad item.

        Signs with a key in any state, since sigs of old keys are derived again for the cache.
        :meth:`Transaction.signing_states` tells whether a key may sign a *new* sig.
        """
        ...

    async def verify(
        self, sdkappid: int, sig: str, *, now: int, userid: str | None = None
    ) -> Verified:
        """Verify a sig. Raises BadSig with the reason, or NoSigningKey."""
        ...


class Ack(NamedTuple):
    """A client of ``user``, with a ticket of that second, confirms that it holds the sig of
    ``issued_at``."""

    user: Holder
    ticket_issued_at: int
    issued_at: int


class Confirmed(NamedTuple):
    """A sig whose first ack was just written."""

    user: Holder
    issued_at: int
    expires_at: int
    reason: str


class Transaction(Protocol):
    """One write transaction. Leaving it normally commits, an exception rolls back."""

    @property
    def made(self) -> Collection[Holder]:
        """The holders whose rows this transaction has made."""
        ...

    async def lock(self, holders: Sequence[Holder]) -> list[Record]:
        """The holders' rows under a row lock, in the order asked, each made if missing (issued_at
        0). A second caller, in any process, waits here and then reads what the first has written.
        """
        ...

    async def try_lock(
        self, holders: Sequence[Holder], *, make: bool = True
    ) -> list[Record | None]:
        """As :meth:`lock`, but without waiting: None for a row that another transaction has locked.
        Without ``make`` a missing row stays so, and is None too."""
        ...

    async def live_rooms(self, owner: Record, now: int) -> tuple[int, int]:
        """How many live room keys a user has, and when the first of them expires (0 where there is
        none). Exact while the owner's row is locked."""
        ...

    async def claim_due(
        self, sdkappid: int, now: int, limit: int, *, emergency: float | None = None
    ) -> list[Record]:
        """Up to ``limit`` due rows of one app, locked, earliest expiry first; rows that others have
        locked are skipped. ``emergency``: the policy's share of life; only rows within it."""
        ...

    async def claim_warnings(
        self, sdkappid: int, now: int, limit: int, ladder: Sequence[int]
    ) -> list[Record]:
        """Up to ``limit`` rows that wait for renewal and have crossed a rung of the ladder (seconds
        for a life of 90 d, scaled by ttl), or expiry, that ``warned`` does not count."""
        ...

    async def save(self, changes: Sequence[tuple[Record, int]], *, new_sigs: bool = False) -> None:
        """Write each record over the row whose issued_at is still the number beside it. Raises
        StoreUnavailable, and so rolls back, where one is not.

        ``new_sigs``: each record holds a new sig, due at its renewal time, without failures or
        warnings. Less is written: ``acked``, ``acked_at`` and ``revoked_at`` stay as they are.
        """
        ...

    async def confirm(self, acks: Sequence[Ack], now: int) -> list[Confirmed]:
        """Write the acks of current sigs, at most one for each user: where the row's issued_at is
        the ack's, nothing as new is acked, and no revocation reaches the ticket. Answers those
        written; the caller looks at the others. Raises StoreUnavailable, and so rolls back, where
        another transaction holds a row for more than a moment."""
        ...

    async def revoke(self, revocations: Sequence[Revocation]) -> None:
        """Write revocations; an existing one is raised, never lowered."""
        ...

    async def append(self, events: Sequence[Event]) -> list[int]:
        """Put events into the outbox; answers the ids of the rows, which hold only these events."""
        ...

    async def signing_states(self, key_ids: Sequence[int]) -> dict[int, KeyState]:
        """The keys' states, locked until this transaction ends: a taint waits for us, and a key
        that is tainted already signs nothing (rule 13)."""
        ...


class Store(Protocol):
    """Facts in SQL."""

    def transaction(self) -> AbstractAsyncContextManager[Transaction]: ...

    async def find(self, holders: Sequence[Holder]) -> list[Record | None]:
        """In the order asked."""
        ...

    async def of_user(self, sdkappid: int, userid: str) -> list[Record]:
        """Every holder of one user: user, admin, rooms."""
        ...

    async def of_users(self, users: Sequence[Holder]) -> list[list[Record]]:
        """The same for many users, in the order asked. The rows of one user are read at one
        moment."""
        ...

    async def count(self, sdkappid: int, most: int) -> int:
        """The number of rows of an app, up to ``most``. It reads them all; for jobs."""
        ...

    async def page(self, after: Holder | None, limit: int) -> list[Record]:
        """Rows in holder order after a cursor; for reconcile and export."""
        ...

    async def apps_with_due(self, now: int) -> list[int]:
        """The sdkappids with at least one due row, those nearest to expiry first."""
        ...

    async def mark_seen(self, seen: Sequence[tuple[Holder, int]]) -> None:
        """Raise ``seen_at`` of all holders of these users to the given times, and wake dormant
        ones."""
        ...


class LookResult(NamedTuple):
    """The result of one look into SQL. ``second``: the database's clock, Unix seconds with a
    fraction. ``keys``, ``tokens``: texts that change when a key changes its state, or an API
    token is made or revoked."""

    second: float
    keys: str
    tokens: str
    revocations: list[Revocation]


class Looks(Protocol):
    """The short read of SQL that every process does each second, and what belongs to it."""

    async def look(self, since: int) -> LookResult:
        """In one statement: the revocations written at the database's second ``since`` or later."""
        ...

    async def revocations(self, after: Revocation | None, limit: int, now: int) -> list[Revocation]:
        """A page of those that still matter ``now``, in order after a cursor."""
        ...

    async def revoked_until(self, sdkappid: int, userid: str) -> int:
        """The second up to which this user's sigs are revoked; 0 where none is."""
        ...

    async def since_written(self, revocation: Revocation) -> float:
        """Seconds by the database's clock since this revocation was last written."""
        ...

    async def forget_revocations(self, now: int, limit: int) -> int:
        """Delete up to ``limit`` whose sigs have all expired. Answers how many."""
        ...


class Outbox(Protocol):
    """Events that wait to be announced to gateways, in any commit order, and, where their app has
    durable readers, for their numbers. A row holds several events of one app and one commit, and is
    deleted when both are done."""

    def take(self, limit: int, before: int) -> AbstractAsyncContextManager[list[Event]]:
        """The events of up to ``limit`` rows appended at or before ``before`` that wait for no
        number, oldest first, locked against other relays; deleted when the block ends normally,
        kept when it raises. Unreadable rows are logged and deleted with the others."""
        ...

    async def mark_announced(self, ids: Sequence[int]) -> None:
        """All events of these rows are announced. Rows that wait for numbers stay."""
        ...

    async def unnumbered(self) -> list[int]:
        """The apps whose events wait for numbers."""
        ...

    async def number(self, sdkappid: int, now: int, limit: int) -> int:
        """Give the app's next numbers to the events of up to ``limit`` rows, announced or not;
        readers see them from then on. Answers how many; 0 where another relay is numbering the app.
        """
        ...

    async def depth(self, now: int) -> tuple[int, int]:
        """How many events wait, and the age in seconds of the oldest (0, 0 when empty)."""
        ...


class Numbered(NamedTuple):
    """An event with its number within its app, from 1 on."""

    number: int
    event: Event


class Page(NamedTuple):
    """``cursor``: for the next page; ``last``: the newest number of the app."""

    events: list[Numbered]
    cursor: Cursor
    last: int


class EventReader(Protocol):
    """The numbered events of apps that have durable readers, kept for 7 days."""

    async def read(self, sdkappid: int, after: Cursor | None, limit: int) -> Page:
        """Up to ``limit`` events after a cursor, by number; None: from the first that is kept.
        Numbers have gaps only where events were unreadable, which is logged.

        Raises FeedOff; CursorExpired and CursorUnknown, which carry where to begin.
        """
        ...


class Janitor(Protocol):
    """Removes what is past, in small batches."""

    async def forget_past(self, now: int, limit: int) -> int:
        """Delete up to ``limit`` rows that are not due and expired long ago (users 180 d, rooms 1
        d, scaled by ttl); never a current one. Answers how many."""
        ...

    async def forget_events(self, now: int, limit: int) -> int:
        """Delete numbered events that are past their time, up to ``limit`` rows of each app.
        Answers how many rows of the app that had the most."""
        ...


#: A sig, or why there is none.
Answer = Current | SigmgrError


class Announcement(NamedTuple):
    """An event to announce, with its sig where the publisher has it."""

    event: Event
    current: Current | None


class Values(Protocol):
    """Sigs as the bytes in Redis and on its channels; ``model/values`` has the plain ones."""

    def seal(self, shard: int, key: bytes, value: bytes) -> bytes:
        """A plain value as it is put under this key of a shard."""
        ...

    def seal_message(self, shard: int, events: bytes, brought: Sequence[bytes], now: int) -> bytes:
        """The plain values that a message brings for its events, empty where there is none."""
        ...

    def decode(self, holder: Holder, value: bytes) -> Current | None:
        """None for a tombstone, and for what is unreadable or not authentic."""
        ...


class SigCache(Protocol):
    """Derived sigs in Redis. Losing all of them costs CPU, not data."""

    async def get(self, holders: Sequence[Holder]) -> list[Current | None]:
        """In the order asked. Raises CacheUnavailable."""
        ...

    async def put(self, currents: Sequence[Current], now: int) -> None:
        """Put each if newer than the cached one. It expires when it may no longer be served without
        a look into the store. Raises CacheUnavailable."""
        ...


class Announcer(Protocol):
    """Brings events to gateways, through Redis."""

    async def announce(self, batch: Sequence[Announcement], now: int) -> list[bool]:
        """For each: put if newer (or drop, for a revocation), add to the shard's stream and publish
        on the shard's channel, in one call per shard. False where the event's sig is not in the
        cache and was not given: the caller derives and puts it. Raises CacheUnavailable, perhaps
        with a part announced: announce all again."""
        ...


class States(Protocol):
    """What a gateway needs for the users whose streams it holds; fulfilled by ``flow/deliver``."""

    async def opened(
        self, user: Holder, ticket_issued_at: int, now: int, *, rooms: bool = True, held: int = 0
    ) -> list[Current]:
        """The full current state for a stream that opens: the user's sig first (renewed or issued
        where necessary), then, with ``rooms``, every live room sig. Marks the user as seen.
        ``held``: the second of the sig that the client claims to hold, or 0; where the store has
        lost that sig, the answer is a newer one. Raises TicketRevoked where the ticket is from
        before a revocation, NeverIssued where no sig of the second ``held`` can exist."""
        ...

    async def latest(self, holders: Sequence[Holder], now: int) -> list[Answer | None]:
        """The newest sig of each, from the cache, else from the store; None where it is revoked,
        expired or was never issued; an error where that is not known, or the sig cannot be derived.
        Issues nothing."""
        ...

    async def mark_seen(self, users: Sequence[Holder], now: int) -> None:
        """These users have a stream open now."""
        ...


class EventListener(Protocol):
    """A receiver of events: a gateway, a near cache. Called on the event loop, must not block."""

    def receive(self, shard: int, events: Sequence[Event], sigs: Sequence[bytes] = ()) -> None:
        """``sigs``: none, or one for each event: its sig as bytes of ``model.values``, or empty."""
        ...

    def resync(self, shard: int) -> None:
        """Events of this shard were lost and cannot be repaired: look into the store."""
        ...
