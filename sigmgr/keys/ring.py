"""The key ring: every app's keys, kept loaded, and batches signed off the event loop.

Rules:
1. Every sig is read back and verified before it is handed out; one that is not what it
   should be is :class:`errors.SigningFailed` for that item and touches no other.
2. The ring derives with a key in any state. Whether a key may sign something *new* is a
   question for the transaction that commits it; the ring is up to a refresh behind.
3. One load at a time, whoever asks. A key or app that is not known causes one, at most once
   a second, and waits for it no longer than a second; a ring that has grown old answers from
   what it has and loads meanwhile, since its callers may hold the very connections that a
   load needs.
4. A key that does not open is told by :meth:`KeyRing.refresh` on every call and by each item
   that needs it. It is never passed over in silence, and never stops other apps.

What it does not do: choose keys by policy, change states, or know holders.
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

#: Microseconds of CPU, as keys give their ``cost``. A batch of at most this much takes less
#: than the way to a thread and back.
INLINE = 200
#: One trip to a thread, so that batches take turns.
TRIP = 5000
#: A sig that costs less is nearly all Python, which runs in one thread at a time anyway.
LIGHT = 50
#: At most one unasked load in this time, seconds.
LAZY_PAUSE = 1.0
#: How long after its start a load that hangs keeps callers waiting, seconds.
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
        # The few microseconds that a light sig spends outside of Python let go of the
        # interpreter: two threads handed it to and fro at each, and took a third more CPU than
        # the signing.
        self._light_thread = ThreadPoolExecutor(1, thread_name_prefix="sign-light")
        self._threads = threads
        self._chain = Keychain()
        self._loaded_at = float("-inf")
        self._tried_at = float("-inf")
        self._flight: asyncio.Task[None] | None = None
        self._closed = False

    async def refresh(self) -> None:
        """Load all keys now. Raises what the load raises, WrongMasterKey for a key that does
        not open with this master key, SetupError for one that is damaged."""
        if self._flight is not None:
            # It may have read before the change that the caller wants to see.
            await asyncio.wait({self._flight})
        flight = self._take_off()
        await asyncio.wait({flight})
        if flight.cancelled():
            raise errors.Stopping
        flight.result()
        problems = self._chain.problems()
        if problems:
            raise _again(problems[0])

    async def active_key(self, sdkappid: int) -> KeyRef:
        """The key that signs now. Raises NoSigningKey, or why the active key does not open."""
        self._keep_fresh()
        found = self._chain.active(sdkappid)
        if found is None:
            await self._look_again()
            found = self._chain.active(sdkappid)
        if found is None:
            raise errors.NoSigningKey(f"app {sdkappid} has no active key")
        if found.problem is not None:
            raise _again(found.problem)
        return KeyRef(found.info.key_id, Format(found.info.format))

    async def key_state(self, sdkappid: int, key_id: int) -> KeyState | None:
        """None where the app has no such key."""
        self._keep_fresh()
        if self._chain.find(sdkappid, key_id) is None:
            await self._look_again()
        found = self._chain.find(sdkappid, key_id)
        return found.info.state if found else None

    async def sign(self, batch: Sequence[SigFacts]) -> list[str | SigmgrError]:
        """A checked sig or an error for each, in order. Never raises for one bad item."""
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
        """The sig's fields and its key. Raises BadSig, or NoSigningKey where the app has no
        key to verify with. A revoked key vouches for nothing."""
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
                # That another key is of the wrong format says less than that none fits.
                if refused is None or error.reason is SigReason.WRONG_KEY:
                    refused = error
                continue
            return Verified(decoded, one.info.key_id, one.info.state)
        raise refused or errors.NoSigningKey(f"app {sdkappid} has no key to verify with")

    async def aclose(self) -> None:
        """Finish what is being signed; whatever is asked later gets Stopping."""
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
        """The load that is under way, or a new one."""
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
        """Start a load beside the caller where the last one is long ago."""
        now = self._monotonic()
        due = max(self._loaded_at + self._refresh_after, self._tried_at + LAZY_PAUSE)
        if now >= due and not self._closed:
            self._take_off()

    async def _look_again(self) -> None:
        """Wait for one load, unless there was one a moment ago, or one has kept us waiting for
        long enough. Whether it went well shows in what is known afterwards."""
        if self._flight is None and self._monotonic() < self._tried_at + LAZY_PAUSE:
            return
        if not self._closed:
            flight = self._take_off()
            left = self._tried_at + LAZY_WAIT - self._monotonic()
            if left > 0:
                await asyncio.wait({flight}, timeout=left)


def _key_for(facts: SigFacts, chain: Keychain) -> SigningKey | SigmgrError:
    """The key, or why these facts cannot be signed here. All are worth another try: a key
    that another process has just added is known within seconds."""
    sdkappid = facts.holder.sdkappid
    found: LoadedKey | None = chain.find(sdkappid, facts.key_id)
    if found is None:
        return errors.SigningFailed(f"key {facts.key_id} of app {sdkappid} is not known here")
    if found.problem is not None:
        return _again(found.problem)
    if found.key is None:
        return errors.SigningFailed(f"key {facts.key_id} of app {sdkappid} has no material left")
    if found.key.format != facts.format:
        return errors.SigningFailed(f"key {facts.key_id} of app {sdkappid} is of another format")
    return found.key


def _again(problem: SigmgrError) -> SigmgrError:
    """The same error anew: one that is raised twice drags the first traceback along."""
    return type(problem)(problem.text)


def _sign_chunk(jobs: Sequence[Job]) -> list[str | SigmgrError]:
    return [_sign_one(facts, key) for facts, key in jobs]


def _sign_one(facts: SigFacts, key: SigningKey) -> str | SigmgrError:
    """A traceback would keep the key and the sig alive in its frames, so it is dropped."""
    try:
        text = usersig.sign(facts, key)
        acceptable(facts, text, key)
    except SigmgrError as error:
        return error.with_traceback(None)
    except Exception as error:  # noqa: BLE001 - one item's fault must stay that item's
        # The text of an unknown exception might repeat what was signed; its type cannot.
        return errors.SigningFailed(f"key {facts.key_id} failed with {type(error).__name__}")
    return text
