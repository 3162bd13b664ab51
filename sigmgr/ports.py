"""The few Protocols that flows need. One page to read before anything else.

Adapters (``store``, ``cache``, ``keys``, ``push``) fulfil them, ``wiring`` joins them,
``sigmgr.testing`` puts faults around any of them. No method reads a clock: ``now`` is an
argument wherever time matters.
"""

from __future__ import annotations

from collections.abc import Sequence
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


class Clock(Protocol):
    """Whole Unix seconds, UTC. Held by ``wiring`` and entry points only."""

    def __call__(self) -> int: ...


class Draw(Protocol):
    """A number in [0, 1). Flows draw, rules receive."""

    def __call__(self) -> float: ...


class Registry(Protocol):
    """The apps, kept loaded in the process and refreshed from the store."""

    async def app(self, sdkappid: int) -> App:
        """Looks once into the store for an app it does not know; then AppUnknown."""
        ...

    def apps(self) -> Sequence[App]: ...


class Verified(Protocol):
    """A sig that a key of the app made, and what it says."""

    @property
    def decoded(self) -> Decoded: ...

    def fields(self) -> dict[str, Any]:
        """For people and JSON; never the signature."""
        ...


class Signer(Protocol):
    """Keys kept loaded, and batches signed off the event loop."""

    async def active_key(self, sdkappid: int) -> KeyRef:
        """The key that signs now. Raises NoSigningKey."""
        ...

    async def key_state(self, sdkappid: int, key_id: int) -> KeyState | None: ...

    async def refresh(self) -> None:
        """Load keys and states anew; after a commit has met a key that was no longer active."""
        ...

    async def sign(self, batch: Sequence[SigFacts]) -> list[str | SigmgrError]:
        """A sig or an error for each, in order. Never raises for one bad item.

        Derives with a key in any state: an old key's sig is derived again for the cache.
        Whether a key may sign something *new* is asked inside the transaction
        (:meth:`Transaction.signing_states`).
        """
        ...

    async def verify(
        self, sdkappid: int, sig: str, *, now: int, userid: str | None = None
    ) -> Verified:
        """The other way round. Raises BadSig with the reason, or NoSigningKey."""
        ...


class Ack(NamedTuple):
    """A client of ``user`` says, with a ticket of that second, that it holds the sig of
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

    async def lock(self, holders: Sequence[Holder]) -> list[Record]:
        """The holders' rows under a row lock, in the order asked, each made if missing
        (issued_at 0). This is the one flight per holder across processes: a second caller
        waits here and then sees what the first has written."""
        ...

    async def try_lock(
        self, holders: Sequence[Holder], *, make: bool = True
    ) -> list[Record | None]:
        """As :meth:`lock`, but None for a row that another transaction holds: nobody waits
        here for whoever that is, nor holds up the others of a batch. Without ``make`` a row
        that is missing stays so, and is None too."""
        ...

    async def live_rooms(self, owner: Record, now: int) -> tuple[int, int]:
        """How many room keys of a user are live, and when the first of them expires (0 where
        there is none). Exact while the owner's row is locked."""
        ...

    async def claim_due(
        self, sdkappid: int, now: int, limit: int, *, emergency: float | None = None
    ) -> list[Record]:
        """Up to ``limit`` due rows of one app, locked, those others hold skipped, earliest
        expiry first. ``emergency``: the policy's share of life; only what is within it."""
        ...

    async def claim_warnings(
        self, sdkappid: int, now: int, limit: int, ladder: Sequence[int]
    ) -> list[Record]:
        """Up to ``limit`` rows that wait for renewal and have crossed a rung of the ladder
        (seconds for a life of 90 d, scaled by ttl) or expiry that ``warned`` does not count."""
        ...

    async def save(self, changes: Sequence[tuple[Record, int]], *, new_sigs: bool = False) -> None:
        """Write each record over the row whose issued_at is still the number beside it.
        Raises StoreUnavailable (and so rolls back) where one is not: nothing is half done.

        ``new_sigs``: each record holds a sig just made, due at its renewal time, with no
        failures and no warnings yet. Less is written: ``acked``, ``acked_at`` and
        ``revoked_at`` of the row stay as they are."""
        ...

    async def confirm(self, acks: Sequence[Ack], now: int) -> list[Confirmed]:
        """Write the acks of current sigs: where the row's issued_at is that of the ack, nothing
        as new was acked, and no revocation reaches the ticket. Answers those written; what is
        not among them is to be looked at. At most one for each user. Raises StoreUnavailable,
        and so rolls back, where another transaction holds a row for more than a moment."""
        ...

    async def revoke(self, revocations: Sequence[Revocation]) -> None:
        """Write revocations; what is revoked already is raised, never lowered."""
        ...

    async def append(self, events: Sequence[Event]) -> list[int]:
        """Into the outbox; answers the ids of the rows that hold these events and no others."""
        ...

    async def signing_states(self, key_ids: Sequence[int]) -> dict[int, KeyState]:
        """The keys' states, held until this transaction ends: a key that is tainted
        meanwhile waits for us, and one tainted before signs nothing (rule 13)."""
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
        """The same for many users, in the order asked. All rows of one user are of one moment."""
        ...

    async def count(self, sdkappid: int, most: int) -> int:
        """The rows of an app, counted up to ``most``. As dear as it has rows; for jobs."""
        ...

    async def page(self, after: Holder | None, limit: int) -> list[Record]:
        """Rows in holder order after a cursor; for reconcile and export."""
        ...

    async def apps_with_due(self, now: int) -> list[int]:
        """The sdkappids that have at least one due row, those nearest to expiry first."""
        ...

    async def mark_seen(self, seen: Sequence[tuple[Holder, int]]) -> None:
        """Raise ``seen_at`` of all holders of these users to the time given with each, and
        wake those that were dormant."""
        ...


class LookResult(NamedTuple):
    """What one look into SQL saw. ``second``: the database's clock, Unix seconds with a
    fraction. ``keys``, ``tokens``: numbers that change when any key changes its state, or any
    API token is made or revoked."""

    second: float
    keys: int
    tokens: int
    revocations: list[Revocation]


class Looks(Protocol):
    """The short look into SQL that every process takes each second, and what it reads on."""

    async def look(self, since: int) -> LookResult:
        """One statement. The revocations written at the database's second ``since`` or later."""
        ...

    async def revocations(self, after: Revocation | None, limit: int, now: int) -> list[Revocation]:
        """A page of those that still matter ``now``, in order after a cursor."""
        ...

    async def revoked_until(self, sdkappid: int, userid: str) -> int:
        """Up to which second this user's sigs are dead, by any revocation; 0 by none."""
        ...

    async def since_written(self, revocation: Revocation) -> float:
        """Seconds by the database's clock since these users' revocation was last written."""
        ...

    async def forget_revocations(self, now: int, limit: int) -> int:
        """Delete up to ``limit`` whose sigs have all expired. Answers how many."""
        ...


class Outbox(Protocol):
    """Events that wait to be announced to gateways, in any commit order, and, where their app
    has durable readers, for their numbers. A row holds several of one app and one commit, and
    goes as a whole when both is done."""

    def take(self, limit: int, before: int) -> AbstractAsyncContextManager[list[Event]]:
        """The events of up to ``limit`` rows appended at or before ``before`` that wait for no
        number, oldest first, locked against other relays; gone when the block ends normally,
        back when it raises. What cannot be read is logged and goes with the others."""
        ...

    async def mark_announced(self, ids: Sequence[int]) -> None:
        """All events of these rows were announced. Those that wait for numbers stay for that."""
        ...

    async def unnumbered(self) -> list[int]:
        """The apps whose events wait for numbers."""
        ...

    async def number(self, sdkappid: int, now: int, limit: int) -> int:
        """Give the app's next numbers to the events of up to ``limit`` rows, announced or not;
        readers see them from then on. Answers how many; 0 where another relay is at it."""
        ...

    async def depth(self, now: int) -> tuple[int, int]:
        """How many events wait, and the age in seconds of the oldest (0, 0 when empty)."""
        ...


class Numbered(NamedTuple):
    """An event with its number among those of its app, the first 1."""

    number: int
    event: Event


class Page(NamedTuple):
    """``cursor``: where to go on; ``last``: the newest number that the app has given."""

    events: list[Numbered]
    cursor: Cursor
    last: int


class EventReader(Protocol):
    """The numbered events of apps that have durable readers, kept for 7 days."""

    async def read(self, sdkappid: int, after: Cursor | None, limit: int) -> Page:
        """Up to ``limit`` events after a cursor, by number; None: from the first that is kept.
        Numbers have no gaps, but for events that could not be read: those are logged.

        Raises FeedOff; CursorExpired and CursorUnknown, which say where to begin.
        """
        ...


class Janitor(Protocol):
    """Removal of what is past, in small batches."""

    async def forget_past(self, now: int, limit: int) -> int:
        """Delete up to ``limit`` rows that rest and have been expired for long (users 180 d,
        rooms 1 d, scaled by ttl); never one that is current. Answers how many."""
        ...

    async def forget_events(self, now: int, limit: int) -> int:
        """Delete numbered events that are kept no longer, up to ``limit`` rows of each app.
        Answers how many rows of the app that had the most."""
        ...


class Announcement(NamedTuple):
    """An event to announce, with its sig where the publisher has it."""

    event: Event
    current: Current | None


class Values(Protocol):
    """A sig as the bytes that lie in Redis and travel on its channels."""

    def encode(self, current: Current) -> bytes: ...

    def decode(self, holder: Holder, value: bytes) -> Current | None:
        """None for a tombstone, and for what cannot be read or must not be believed."""
        ...


class SigCache(Protocol):
    """Derived sigs in Redis. Losing all of them costs CPU, not data."""

    async def get(self, holders: Sequence[Holder]) -> list[Current | None]:
        """In the order asked. Raises CacheUnavailable."""
        ...

    async def put(self, currents: Sequence[Current], now: int) -> None:
        """Put each if newer than what is there. Kept until it no longer may be served
        without a look into the store. Raises CacheUnavailable."""
        ...


class Announcer(Protocol):
    """The way of events to gateways, through Redis."""

    async def announce(self, batch: Sequence[Announcement], now: int) -> list[bool]:
        """For each: put if newer (or drop, for a revocation), add to the shard's stream and
        publish on the shard's channel, in one call per shard. False where the event's sig
        is not in the cache and was not given: the caller derives and puts it.
        Raises CacheUnavailable, perhaps with a part announced: announce all again."""
        ...


class States(Protocol):
    """What a gateway asks about the users whose streams it holds; told by ``flow/deliver``."""

    async def opened(
        self, user: Holder, ticket_issued_at: int, now: int, *, rooms: bool = True, held: int = 0
    ) -> list[Current]:
        """The full current state for a stream that opens: the user's sig first (renewed or
        issued where it must be), then every live room sig, unless without ``rooms``. Marks
        the user as seen. ``held``: the second of the sig that the client says it holds, 0
        where it says none; where the store has lost that sig, the answer is a newer one.
        Raises TicketRevoked where the ticket is from before a revocation, NeverIssued where
        no sig of the second ``held`` can ever have been."""
        ...

    async def latest(self, holders: Sequence[Holder], now: int) -> list[Current | None]:
        """The newest sig of each, from the cache, else from the store; None where it is
        revoked, expired or was never issued. Issues nothing."""
        ...

    async def mark_seen(self, users: Sequence[Holder], now: int) -> None:
        """These users have a stream open now."""
        ...


class EventListener(Protocol):
    """Who hears of events: a gateway, a near cache. Called on the event loop, must not block."""

    def receive(self, shard: int, events: Sequence[Event], sigs: Sequence[bytes] = ()) -> None:
        """``sigs``: none, or one for each event: the sig it is about as ``model.values``
        reads it, or nothing."""
        ...

    def resync(self, shard: int) -> None:
        """Events of this shard were lost beyond repair: look into the store."""
        ...
