"""The key ring: every app's keys in memory, and batches signed off the event loop.

Rules:
1. Every sig is read back and verified before it is returned; a wrong one is
   :class:`errors.SigningFailed` for that item only.
2. The ring signs with a key in any state. Whether a key may sign something *new* is decided in the
   transaction that commits it; the ring may be a refresh behind.
3. One load at a time. An unknown key or app causes one, at most once a second, and waits for it at
   most a second. An old ring answers from what it has and loads in the background, since its
   callers may hold the database connections that a load needs.
4. A key that does not open is an error of every :meth:`KeyRing.refresh` and of each item that needs
   it. It never stops other apps.

What this module does not do: choose keys by policy, change states, or know holders.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from sigmgr.keys.acceptance import acceptable
from sigmgr.keys.keychain import Keychain, LoadedKey
from sigmgr.keys.sealing import MasterKey
from sigmgr.model import errors, usersig
from sigmgr.model.app import SealedKey
from sigmgr.model.errors import SigmgrError, SigReason
from sigmgr.model.sig import Format, KeyRef, KeyState, SigFacts
from sigmgr.model.usersig import SigningKey
from sigmgr.ports import Verified
from sigmgr.telemetry import get_logger

#: Microseconds of CPU, as in a key's ``cost``. A batch of at most this much is signed on the event
#: loop, since switching to a thread takes longer.
INLINE = 200
#: The work of one call of a thread, so that batches take turns.
TRIP = 5000
#: A cheaper sig is nearly all Python, which runs in one thread at a time anyway.
LIGHT = 50
#: Seconds between two loads that are not requested.
LAZY_PAUSE = 1.0
#: Seconds after its start for which callers wait for a load.
LAZY_WAIT = 1.0

Load = Callable[[], Awaitable[Sequence[SealedKey]]]
Job = tuple[SigFacts, SigningKey]

log = get_logger(__name__)


class KeyRing:
    """Fulfils :class:`sigmgr.ports.Signer`. ``load`` answers every key in any state."""

    def __init__(
        self,
        load: Load,
        master: MasterKey,
        *,
        monotonic: Callable[[], float],
        threads: int = 2,
        refresh_after: float = 5.0,
    ) -> None:
        self._load = load
        self._master = master
        self._monotonic = monotonic
        self._refresh_after = refresh_after
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="sign")
        # A light sig releases the interpreter lock for a few microseconds only; two threads would
        # pass it back and forth, which costs a third more CPU than the signing.
        self._light_thread = ThreadPoolExecutor(1, thread_name_prefix="sign-light")
        self._threads = threads
        self._chain = Keychain()
        self._loaded_at = float("-inf")
        self._tried_at = float("-inf")
        self._flight: asyncio.Task[None] | None = None
        self._closed = False

    async def refresh(self) -> None:
        """Load all keys now. Raises the load's error, WrongMasterKey for a key that does not open
        with this master key, SetupError for a damaged one."""
        if self._flight is not None:
            # The running load may have read before the change that the caller wants to see.
            await asyncio.wait({self._flight})
        flight = self._take_off()
        await asyncio.wait({flight})
        if flight.cancelled():
            raise errors.Stopping
        flight.result()
        problems = self._chain.problems()
        if problems:
            raise problems[0].anew()

    async def active_key(self, sdkappid: int) -> KeyRef:
        """Raises NoSigningKey, or the reason why the active key does not open."""
        self._keep_fresh()
        found = self._chain.active(sdkappid)
        if found is None:
            await self._look_again()
            found = self._chain.active(sdkappid)
        if found is None:
            raise errors.NoSigningKey(f"app {sdkappid} has no active key")
        if found.problem is not None:
            raise found.problem.anew()
        return KeyRef(found.info.key_id, Format(found.info.format))

    async def key_state(self, sdkappid: int, key_id: int) -> KeyState | None:
        """None where the app has no such key."""
        self._keep_fresh()
        if self._chain.find(sdkappid, key_id) is None:
            await self._look_again()
        found = self._chain.find(sdkappid, key_id)
        return found.info.state if found else None

    async def sign(self, batch: Sequence[SigFacts]) -> list[str | SigmgrError]:
        if any(self._chain.find(one.holder.sdkappid, one.key_id) is None for one in batch):
            await self._look_again()
        results = [_key_for(one, self._chain) for one in batch]
        jobs = [
            (one, key)
            for one, key in zip(batch, results, strict=True)
            if not isinstance(key, SigmgrError)
        ]
        signed = iter(await self._work_off(jobs))
        return [key if isinstance(key, SigmgrError) else next(signed) for key in results]

    async def verify(
        self, sdkappid: int, sig: str, *, now: int, userid: str | None = None
    ) -> Verified:
        """A revoked key verifies nothing."""
        self._keep_fresh()
        if not self._chain.of_app(sdkappid):
            await self._look_again()
        candidates = [
            (one, one.key)
            for one in reversed(self._chain.of_app(sdkappid))
            if one.key is not None and one.info.state is not KeyState.REVOKED
        ]
        refused: errors.BadSig | None = None
        for one, key in candidates:
            try:
                decoded = usersig.verify(sig, [key], now=now, userid=userid, sdkappid=sdkappid)
            except errors.BadSig as error:
                if error.reason not in {SigReason.WRONG_KEY, SigReason.WRONG_FORMAT}:
                    raise
                # That no key fits is a better reason than that one has the wrong format.
                if refused is None or error.reason is SigReason.WRONG_KEY:
                    refused = error
                continue
            return Verified(decoded, one.info.key_id, one.info.state)
        raise refused or errors.NoSigningKey(f"app {sdkappid} has no key to verify with")

    async def aclose(self) -> None:
        """Finish what is being signed; later calls get Stopping."""
        self._closed = True
        if self._flight is not None:
            self._flight.cancel()
            await asyncio.wait({self._flight})
        await asyncio.to_thread(self._pool.shutdown)
        await asyncio.to_thread(self._light_thread.shutdown)

    # Signing

    async def _work_off(self, jobs: Sequence[Job]) -> list[str | SigmgrError]:
        if self._closed:
            return [errors.Stopping() for _ in jobs]
        if sum(key.cost for _, key in jobs) <= INLINE:
            return _sign_chunk(jobs)
        loop = asyncio.get_running_loop()
        dearest = max(key.cost for _, key in jobs)
        pool, size = self._light_thread, max(1, TRIP // dearest)
        if dearest > LIGHT:
            pool, size = self._pool, min(size, -(-len(jobs) // self._threads))
        chunks = [jobs[at : at + size] for at in range(0, len(jobs), size)]
        trips = [loop.run_in_executor(pool, _sign_chunk, chunk) for chunk in chunks]
        return [result for results in await asyncio.gather(*trips) for result in results]

    # Loading

    def _take_off(self) -> asyncio.Task[None]:
        if self._closed:
            raise errors.Stopping
        if self._flight is None:
            self._tried_at = self._monotonic()
            self._flight = asyncio.create_task(self._reload(), name="keys: load")
            self._flight.add_done_callback(self._landed)
        return self._flight

    async def _reload(self) -> None:
        started = self._monotonic()
        sealed = await self._load()
        loop = asyncio.get_running_loop()
        self._chain = await loop.run_in_executor(
            self._pool, Keychain.opened, sealed, self._master, self._chain
        )
        self._loaded_at = started

    def _landed(self, flight: asyncio.Task[None]) -> None:
        self._flight = None
        if not flight.cancelled() and (error := flight.exception()):
            log.warning(
                "the signing keys could not be loaded; those known before stay in use",
                action="keys-not-loaded",
                error=type(error).__name__,
            )

    def _keep_fresh(self) -> None:
        """Start a load in the background where the last one is long ago."""
        now = self._monotonic()
        due = max(self._loaded_at + self._refresh_after, self._tried_at + LAZY_PAUSE)
        if now >= due and not self._closed:
            self._take_off()

    async def _look_again(self) -> None:
        """Wait for one load, unless there was one a moment ago, or one has taken too long. The
        caller finds its result in what is loaded afterwards."""
        if self._flight is None and self._monotonic() < self._tried_at + LAZY_PAUSE:
            return
        if not self._closed:
            flight = self._take_off()
            left = self._tried_at + LAZY_WAIT - self._monotonic()
            if left > 0:
                await asyncio.wait({flight}, timeout=left)


def _key_for(facts: SigFacts, chain: Keychain) -> SigningKey | SigmgrError:
    """The key, or why these facts cannot be signed here. All errors may be retried: a key just
    added by another process is loaded within seconds."""
    sdkappid = facts.holder.sdkappid
    found: LoadedKey | None = chain.find(sdkappid, facts.key_id)
    if found is None:
        return errors.SigningFailed(f"key {facts.key_id} of app {sdkappid} is not known here")
    if found.problem is not None:
        return found.problem.anew()
    if found.key is None:
        return errors.SigningFailed(f"key {facts.key_id} of app {sdkappid} has no material left")
    if found.key.format != facts.format:
        return errors.SigningFailed(f"key {facts.key_id} of app {sdkappid} is of another format")
    return found.key


def _sign_chunk(jobs: Sequence[Job]) -> list[str | SigmgrError]:
    return [_sign_one(facts, key) for facts, key in jobs]


def _sign_one(facts: SigFacts, key: SigningKey) -> str | SigmgrError:
    """Drops tracebacks, which would keep the key and the sig alive in their frames."""
    try:
        text, proven = usersig.sign_checked(facts, key)
        if not proven:
            acceptable(facts, text, key)
    except SigmgrError as error:
        return error.with_traceback(None)
    except Exception as error:  # noqa: BLE001 - one item's fault must stay that item's
        # The text of an unknown exception might repeat what was signed; its type cannot.
        return errors.SigningFailed(f"key {facts.key_id} failed with {type(error).__name__}")
    return text
