"""One emulated client over HTTP: backend call, event stream, acks, reconnects.

Rules:
1. It asks its backend for a sig and a ticket, signs in, and opens the stream with the ticket
   and the ``issued_at`` it holds. It asks the backend again only when the service refuses
   the ticket, or when its sig is dead; never to avoid an expiry.
2. Every sig it takes is acked with the freshest ticket until the service confirms.
3. Reconnects: exponential backoff with full jitter, at the pace of the stream's ``retry``;
   ``bye`` and Retry-After are waited out in full, plus jitter, before the next try.
4. On each reconnect one of the gateways is chosen at random. Where the service answers that
   the claimed sig was never issued, the next connect sends no claim.

What a client does with a sig is in ``client_state``.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import quote, urljoin

import httpx2

from sigmgr.sim import http_stream
from sigmgr.sim.client_state import ClientState, Offer
from sigmgr.sim.cloud import NATIVE
from sigmgr.sim.sse_parser import SseEvent, SseParser
from sigmgr.sim.stats import World

_BACKOFF_CAP = 30.0
_REFUSAL_STATUS = (401, 403)


class SimClient:
    """One user on one device. ``run`` until cancelled; ``tick`` comes from the fleet."""

    def __init__(self, sdkappid: int, userid: str, world: World, *, flavour: str = NATIVE) -> None:
        self.state = ClientState(sdkappid, userid, world, flavour)
        self.unacked = 0
        self.unacked_since = 0
        self.acking: asyncio.Task[None] | None = None
        self._world = world
        self._path = f"/v1/apps/{sdkappid}/users/{quote(userid, safe='')}/sig"
        self._ticket = ""
        self._given_url = ""
        self._stream_url = ""
        self._acked = 0
        self._failures = 0
        self._retry = world.backoff_base
        self._streams_opened = 0
        self._needs_ticket = True
        self._claims = True
        self._reading: asyncio.Task[float] | None = None

    async def run(self, delay: float = 0.0) -> None:
        """Run until cancelled, starting after ``delay`` seconds."""
        await self._world.sleep(delay)
        while True:
            if self._needs_ticket or self.state.stranded:
                pause = await self._ask_backend()
            else:
                pause = await self._read_stream()
            if pause > 0:
                await self._world.sleep(pause)

    def tick(self, now: int) -> None:
        """Sign in where it is time; a client that needs its backend leaves its stream."""
        self.state.tick(now)
        if (self.state.stranded or self._needs_ticket) and self._reading is not None:
            self._reading.cancel()

    # -- the app's backend -----------------------------------------------------------------

    async def _ask_backend(self) -> float:
        """A sig and a ticket; answers the seconds to wait before the next step."""
        world = self._world
        base = world.rng.choice(world.base_urls)
        headers = {"Authorization": f"Bearer {world.token}"}
        try:
            answer = await world.http.get(urljoin(base, self._path), headers=headers)
        except httpx2.HTTPError:
            return self._failed("backend-unreachable")
        if answer.status_code != 200:
            return self._refused(answer.status_code, answer.headers, answer.content)
        try:
            return self._take_from_backend(answer.json(), base)
        except (ValueError, KeyError, TypeError):
            return self._failed("bad-message")

    def _take_from_backend(self, message: Mapping[str, Any], base: str) -> float:
        now = self._world.clock()
        outcome = self.state.offer(message, now)
        self.state.tick(now)
        if outcome is Offer.REFUSED or self.state.stranded:
            return self._failed("backend-no-better-sig")
        self._ticket = message["ticket"]
        self._given_url = urljoin(base, message["stream_url"])
        self._needs_ticket, self._failures = False, 0
        return 0.0

    # -- the stream ------------------------------------------------------------------------

    async def _read_stream(self) -> float:
        """One stream from open to end; answers the seconds to wait before the next step."""
        # A task of its own, so that tick can cut it off without ending this client.
        reading = self._reading = asyncio.create_task(self._one_stream())
        try:
            await asyncio.wait([reading])
            return 0.0 if reading.cancelled() else reading.result()
        finally:
            self._reading = None
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _one_stream(self) -> float:
        world = self._world
        self._stream_url = (
            world.rng.choice(world.stream_urls) if world.stream_urls else self._given_url
        )
        headers = {"Authorization": f"Bearer {self._ticket}", "Accept": "text/event-stream"}
        if self._claims:
            headers["Last-Event-ID"] = str(self.state.issued_at)
        try:
            async with http_stream.get(self._stream_url, headers, idle=world.idle) as answer:
                if answer.status != 200:
                    return self._refused(answer.status, answer.headers, await answer.body())
                return await self._listen(answer)
        except http_stream.HttpStreamError:
            return self._failed("stream-broken")

    async def _listen(self, answer: http_stream.Answer) -> float:
        stats = self._world.stats
        stats.streams += 1
        stats.reconnects += self._streams_opened > 0
        self._claims = True
        self._streams_opened += 1
        parser = SseParser()
        try:
            async for piece in answer.pieces():
                events = parser.feed(piece)
                if parser.retry_ms is not None:
                    self._retry = parser.retry_ms / 1000
                for event in events:
                    pause = self._receive(event)
                    if pause is not None:
                        return pause
        finally:
            stats.streams -= 1
        return self._backoff()

    def _receive(self, event: SseEvent) -> float | None:
        """Handle one message; a number means: leave this stream and wait so long."""
        try:
            message = json.loads(event.data)
            if event.event in ("sig.current", "sig.renewed"):
                self._receive_sig(message)
            elif event.event == "room.renewed":
                self.state.offer_room_key(message["private_map_key"], self._world.clock())
            elif event.event == "sig.revoked":
                if self.state.revoked(int(message["issued_at"])):
                    return self._world.rng.uniform(0, 1)
            elif event.event == "bye":
                return self._receive_bye(message)
        except (ValueError, KeyError, TypeError):
            self._world.stats.errors["bad-message"] += 1
        return None

    def _receive_sig(self, message: Mapping[str, Any]) -> None:
        now = self._world.clock()
        outcome = self.state.offer(message, now)
        if outcome in (Offer.OLDER, Offer.REFUSED):
            return
        self._failures = 0
        self._ticket = message.get("ticket") or self._ticket
        if outcome is Offer.TAKEN:
            self._world.stats.renewed += 1
            self.unacked += 1
            self.unacked_since = now
            self.state.tick(now)
        if self._acked < self.state.issued_at and (self.acking is None or self.acking.done()):
            self.acking = asyncio.create_task(self._ack())

    def _receive_bye(self, message: Mapping[str, Any]) -> float:
        self._needs_ticket |= str(message.get("reason", "")).startswith(("ticket", "revoked"))
        pause = float(message.get("reconnect_after", 0))
        return pause + self._world.rng.uniform(0, max(pause / 4, self._retry))

    # -- acks ------------------------------------------------------------------------------

    async def _ack(self) -> None:
        tries = 0
        while self._acked < self.state.issued_at:
            issued_at, covered = self.state.issued_at, self.unacked
            status = await self._post_ack(issued_at)
            if status is None or status in (429, 500, 502, 503, 504):
                tries += 1
                pause = min(_BACKOFF_CAP, self._world.backoff_base * 2.0**tries)
                await self._world.sleep(self._world.rng.uniform(0, pause))
            elif status < 300:
                self._acked = issued_at
                self.unacked -= covered
                self._world.stats.acked += covered
            else:
                # A dead ticket: tick leaves the stream, the next one brings a new ack.
                self._needs_ticket |= status in _REFUSAL_STATUS
                return

    async def _post_ack(self, issued_at: int) -> int | None:
        url = self._stream_url.split("?")[0] + "/ack"
        headers = {"Authorization": f"Bearer {self._ticket}"}
        try:
            answer = await self._world.http.post(
                url, headers=headers, json={"issued_at": issued_at}
            )
        except httpx2.HTTPError:
            self._world.stats.errors["ack-unreachable"] += 1
            return None
        if answer.status_code >= 300:
            self._world.stats.errors[f"ack-{_code(answer.status_code, answer.content)}"] += 1
        return answer.status_code

    # -- failures --------------------------------------------------------------------------

    def _refused(self, status: int, headers: Mapping[str, str], body: bytes) -> float:
        code = _code(status, body)
        if status in _REFUSAL_STATUS and code.startswith("ticket-"):
            self._needs_ticket = True
        # The service knows better what it has issued: reconnect without a claim.
        self._claims &= code != "never-issued"
        pause = self._failed(code)
        after = headers.get("retry-after", "")
        return int(after) + self._world.rng.uniform(0, 1) if after.isdecimal() else pause

    def _failed(self, code: str) -> float:
        self._world.stats.errors[code] += 1
        return self._backoff()

    def _backoff(self) -> float:
        """Full jitter: between zero and the doubled limit."""
        limit = min(_BACKOFF_CAP, self._retry * 2.0 ** min(self._failures, 10))
        self._failures += 1
        return self._world.rng.uniform(0, limit)


def _code(status: int, body: bytes) -> str:
    """The stable code of a problem document, else the status."""
    with suppress(ValueError, AttributeError):
        code = json.loads(body).get("code")
        if isinstance(code, str):
            return code
    return f"http-{status}"
