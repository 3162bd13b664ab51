"""The long poll: a stream that ends with its first news.

A poll costs what an idle stream costs. It is woken by what the gateway receives, looks by
itself only where its sig is due, shares its lookups with all other streams of its user, and
counts among them wherever they are limited.

Rules:
1. Only the user's own sig ends the wait with an answer; heartbeats, warnings and room keys do
   not concern it.
2. Where a stream would be closed, the wait is over without one, and its opening decides.

What this module does not do: know of HTTP, or who may wait how long.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from sigmgr.model import errors
from sigmgr.model.sig import Current
from sigmgr.model.ticket import Ticket, Tickets
from sigmgr.ports import Clock, States
from sigmgr.push.gateway import Gateway
from sigmgr.push.message import CURRENT, Message, Messages


class PollTransport:
    """Fulfils :class:`sigmgr.push.transport.Transport`. ``answer`` becomes the first sig newer
    than ``held``, None where the wait is over without, or an error."""

    __slots__ = ("_held", "answer")

    news = CURRENT
    sends_bye = False

    def __init__(self, held: int) -> None:
        self._held = held
        self.answer: asyncio.Future[Message | None] = asyncio.get_running_loop().create_future()

    async def open(self, messages: Sequence[Message]) -> None:
        for message in messages:
            self.write(message)

    def write(self, message: Message) -> bool:
        if message.kind == CURRENT and message.issued_at > self._held:
            self._end(message)
        return True

    def beat(self) -> bool:
        return True

    def close(self, last: Message) -> bool:
        del last
        self._end(None)
        return True

    def cut(self, error: errors.SigmgrError | None = None) -> None:
        if error is None:
            self._end(None)
        elif not self.answer.done():
            self.answer.set_exception(error)
            self.answer.exception()  # its endpoint may be gone, and nobody else asks

    def _end(self, answer: Message | None) -> None:
        if not self.answer.done():
            self.answer.set_result(answer)


class Polls:
    """The endpoint of requests that wait for their user's next sig."""

    def __init__(self, gateway: Gateway, states: States, tickets: Tickets, clock: Clock) -> None:
        self._gateway = gateway
        self._states = states
        self._messages = Messages(tickets)
        self._clock = clock

    async def newer(self, ticket: Ticket, held: int, wait: int) -> Message | None:
        """The user's sig as ``sig.current`` as soon as there is one newer than ``held``; None after
        ``wait`` seconds, and when this process drains. Raises what opening a stream raises, and
        TooManyStreams where the user's newer streams and polls take its place."""
        if not wait or self._gateway.draining:
            return await self._now(ticket, held)
        poll = PollTransport(held)
        stream = self._gateway.enter(ticket.user, poll, held)
        try:
            await self._gateway.open(stream, ticket.issued_at, held, rooms=False)
            async with asyncio.timeout(wait):
                news = await poll.answer
        except errors.Stopping:
            return await self._now(ticket, held)
        except TimeoutError:
            return None
        finally:
            self._gateway.leave(stream)
        if news is None and not self._gateway.draining:
            # The wait is over without news: it may be for a revocation.
            return await self._now(ticket, held)
        return news

    async def _now(self, ticket: Ticket, held: int) -> Message | None:
        user, issued_at, _ = ticket
        state = await self._states.opened(user, issued_at, self._clock(), rooms=False, held=held)
        current: Current = state[0]
        return self._messages.current(current) if current.issued_at > held else None
