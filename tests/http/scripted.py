"""Scripted services: small parts in memory that answer like the flows, and a raw ASGI caller."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, NamedTuple

from sigmgr.flow.revoke import Revoked
from sigmgr.http.auth import Auth, new_token
from sigmgr.http.credentials import Credentials
from sigmgr.http.peers import Peers
from sigmgr.http.services import Services
from sigmgr.model import errors
from sigmgr.model.app import App, Token
from sigmgr.model.holder import Holder, Room
from sigmgr.model.policy import Policy, check_ttl
from sigmgr.model.sig import Current, Reason, Record
from sigmgr.model.ticket import Tickets
from sigmgr.push.admission import GatewayLimits
from sigmgr.push.gateway import Gateway
from sigmgr.push.poll import Polls
from sigmgr.push.sse import SseStreams
from sigmgr.testing import ManualClock

NOW = 1_900_000_000
APP = 1400000000
OTHER_APP = 1400000001
UNKNOWN_APP = 1499999999
LIFE = 7_776_000
PER_USER = 20
SECRET_SIG = "eJwSECRETSIG"


class Registry:
    def __init__(self):
        self._apps = {n: App(n, f"app {n}", Policy()) for n in (APP, OTHER_APP)}

    async def app(self, sdkappid: int) -> App:
        if sdkappid not in self._apps:
            raise errors.AppUnknown
        return self._apps[sdkappid]

    def apps(self) -> Sequence[App]:
        return list(self._apps.values())


class Flows:
    """Issue, revoke, deliver, find and verify over one dict of records."""

    def __init__(self, registry: Registry):
        self.registry = registry
        self.records: dict[Holder, Record] = {}
        self.calls: list[tuple[str, Any]] = []
        self.claims: list[int] = []
        self.fail: BaseException | None = None
        self.many_fail: dict[str, errors.SigmgrError] = {}

    def _enter(self, name: str, what: Any) -> None:
        self.calls.append((name, what))
        if self.fail is not None:
            raise self.fail

    def count(self, name: str) -> int:
        return sum(called == name for called, _ in self.calls)

    def make(self, holder: Holder, now: int, reason: str, ttl: int = LIFE, mask: int = 0) -> Record:
        old = self.records.get(holder, Record(*holder))
        issued_at = max(now, old.issued_at + 1)
        self.records[holder] = old._replace(
            format="v2",
            key_id=1,
            issued_at=issued_at,
            ttl=ttl,
            renew_at=issued_at + ttl * 2 // 3,
            warn_after=issued_at + ttl * 3 // 4,
            expires_at=issued_at + ttl,
            privileges=mask,
            reason=reason,
            due_at=issued_at + ttl * 2 // 3,
        )
        return self.records[holder]

    def current_of(self, record: Record) -> Current:
        return Current(
            record.holder,
            record.format,
            record.key_id,
            record.issued_at,
            record.expires_at,
            record.renew_at,
            f"{SECRET_SIG}-{record.issued_at}",
            record.reason,
        )

    # -- issue
    async def current(self, holder: Holder, now: int) -> Current:
        self._enter("current", holder)
        await self.registry.app(holder.sdkappid)
        record = self.records.get(holder)
        if record is None or not record.alive(now):
            record = self.make(holder, now, Reason.MISSING.value)
        return self.current_of(record)

    async def many(self, holders, now):
        self._enter("many", list(holders))
        return [
            self.many_fail.get(holder.userid)
            or self.current_of(self.records.get(holder) or self.make(holder, now, "Missing"))
            for holder in holders
        ]

    async def reissue(self, holder, now, *, reason, replaces, create):
        self._enter("reissue", (holder, reason, replaces))
        await self.registry.app(holder.sdkappid)
        old = self.records.get(holder)
        if old is None and not create:
            raise errors.HolderUnknown
        if replaces is not None and (old is None or old.issued_at != replaces):
            raise errors.AlreadyReplaced
        return self.current_of(self.make(holder, now, reason.value))

    async def room_key(self, sdkappid, userid, room: Room, *, privileges, ttl, now):
        self._enter("room_key", (room, privileges, ttl))
        await self.registry.app(sdkappid)
        life = check_ttl(ttl) if ttl is not None else 21600
        holder = Holder(sdkappid, userid, "room", room.scope)
        old = self.records.get(holder)
        if old is not None and old.privileges == privileges and (ttl or 0) <= old.ttl:
            return self.current_of(old)
        return self.current_of(self.make(holder, now, "Missing", life, privileges))

    # -- revoke
    async def user(self, sdkappid, userid, now):
        self._enter("revoke", (sdkappid, userid))
        await self.registry.app(sdkappid)
        holder = Holder(sdkappid, userid)
        record = self.records.get(holder, Record(*holder))
        self.records[holder] = record._replace(revoked_at=max(now, record.issued_at), due_at=None)
        return Revoked(self.records[holder].revoked_at, known=record.issued_at > 0)

    # -- deliver
    async def opened(self, user, ticket_issued_at, now, *, rooms=True, held=0):
        self._enter("opened", user)
        self.claims.append(held)
        record = self.records.get(user)
        if record is not None and record.revoked_at >= ticket_issued_at:
            raise errors.TicketRevoked
        if record is None or not record.alive(now):
            record = self.make(user, now, "Missing")
        return [self.current_of(record)]

    async def latest(self, holders, now):
        self._enter("latest", list(holders))
        found = [self.records.get(holder) for holder in holders]
        return [self.current_of(r) if r is not None and r.alive(now) else None for r in found]

    async def mark_seen(self, users, now):
        self._enter("seen", list(users))

    async def ack(self, user, ticket_issued_at, issued_at, now):
        self._enter("ack", (user, issued_at))
        record = self.records.get(user)
        if record is None:
            raise errors.HolderUnknown
        if issued_at > record.issued_at:
            raise errors.NeverIssued
        self.records[user] = record._replace(acked=issued_at, acked_at=now)

    # -- store
    async def of_user(self, sdkappid, userid):
        self._enter("of_user", (sdkappid, userid))
        return [r for h, r in sorted(self.records.items()) if h[:2] == (sdkappid, userid)]

    # -- keys
    async def verify(self, sdkappid, usersig, *, now, userid=None):
        self._enter("verify", sdkappid)
        if not usersig.startswith(SECRET_SIG):
            raise errors.BadSig(errors.SigReason.NOT_BASE64)
        if userid not in (None, "alice"):
            raise errors.BadSig(errors.SigReason.WRONG_USER)
        return Fields(sdkappid)


class Fields:
    def __init__(self, sdkappid):
        self._sdkappid = sdkappid

    def fields(self):
        return {"sdkappid": self._sdkappid, "userid": "alice", "format": "v2", "issued_at": NOW}


class Near:
    def __init__(self):
        self.held: dict[Holder, tuple[bytes, int, int]] = {}

    def get(self, holder, now):
        hit = self.held.get(holder)
        return hit[0] if hit is not None and now < hit[2] else None

    def put(self, holder, value, issued_at, fresh_until):
        self.held[holder] = (value, issued_at, fresh_until)

    def receive(self, shard, events):
        for event in events:
            self.held.pop(event.holder, None)


async def silent(scope, receive, send):
    """In the place of the gateway: a stream that ends without a message."""
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b": end\n\n"})


class Push(Gateway):
    """A gateway with its endpoints: a stream when called, and polls."""

    def __init__(self, states, tickets, clock, draw, policy_of, **options: Any) -> None:
        super().__init__(states, tickets, clock, draw, policy_of, **options)
        self._stream = SseStreams(self, draw)
        self.newer = Polls(self, states, tickets, clock).newer

    async def __call__(self, scope, receive, send) -> None:
        await self._stream(scope, receive, send)


class House:
    """Services with everything in memory, and a token for each role."""

    KEY = b"k" * 32

    def __init__(self, **changes: Any):
        self.clock = ManualClock(NOW)
        self.registry = Registry()
        self.flows = Flows(self.registry)
        self.near = Near()
        self.tickets = Tickets(b"t" * 32)
        self.auth = Auth(self._lookup, self.KEY, lambda: self.seconds)
        self.credentials = Credentials.__new__(Credentials)
        self.polls = Push.__new__(Push)
        self.reset()
        self.services = Services(
            clock=self.clock,
            apps=self.registry,
            issue=self.flows,
            room_keys=SimpleNamespace(current=self.flows.room_key),
            revoke=self.flows,
            deliver=self.flows,
            find=self.flows.of_user,
            verify=self.flows.verify,
            tickets=self.tickets,
            credentials=self.credentials,
            gateway=silent,
            polls=self.polls,
            stream_url="https://sigmgr.example/v1/stream",
            near=self.near,
        )
        self.services = replace(self.services, **changes)

    def reset(self) -> None:
        """As new, so that one app can be used by many tests: the framework keeps each."""
        self.clock.now = NOW
        self.seconds = 0.0
        self.lookups = 0
        self.lookup_fails = False
        self.stored: dict[bytes, Token] = {}
        self.flows.__init__(self.registry)
        self.near.__init__()
        self.auth.__init__(self._lookup, self.KEY, lambda: self.seconds)
        self.credentials.__init__(self.auth, self.tickets, Peers(), lambda: self.seconds)
        self.polls.__init__(
            self.flows,
            self.tickets,
            self.clock,
            lambda: 0.5,
            lambda _: Policy(),
            limits=GatewayLimits(max_per_user=PER_USER),
        )
        self.backend = self.token("backend", APP)
        self.anywhere = self.token("backend", 0)
        self.ops = self.token("ops", 0)
        self.admin = self.token("admin", 0)

    def token(self, role: str, sdkappid: int) -> str:
        text, digest = new_token(self.KEY)
        self.stored[digest] = Token(len(self.stored) + 1, role, role, sdkappid, NOW)
        return text

    async def _lookup(self, digest: bytes) -> Token | None:
        self.lookups += 1
        if self.lookup_fails:
            raise errors.StoreUnavailable
        return self.stored.get(digest)

    def ticket(self, userid: str = "alice", issued_at: int = NOW, life: int = LIFE) -> str:
        return self.tickets.issue(APP, userid, issued_at, issued_at + life)


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


async def call(
    app: Any,
    method: str,
    path: str | bytes,
    *,
    token: str | None = None,
    body: Any = None,
    headers: dict[str, str] | None = None,
    chunks: Sequence[bytes] | None = None,
) -> Answer:
    """One request with its path exactly as given; ``body`` is bytes, or made JSON."""
    target = path.encode("latin-1") if isinstance(path, str) else path
    raw, _, query = target.partition(b"?")
    sent = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    given = {"content-type": "application/json"} if sent or chunks else {}
    given |= headers or {}
    if token is not None:
        given["authorization"] = f"Bearer {token}"
    queue = [
        {"type": "http.request", "body": part, "more_body": True}
        for part in (chunks if chunks is not None else [sent])
    ]
    queue[-1]["more_body"] = False
    output: list[dict[str, Any]] = []

    async def receive():
        return queue.pop(0) if queue else {"type": "http.disconnect"}

    async def send(message):
        output.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": raw.decode("latin-1"),
        "raw_path": raw,
        "query_string": query,
        "root_path": "",
        "headers": [(k.lower().encode(), v.encode("latin-1")) for k, v in given.items()],
        "server": ("127.0.0.1", 80),
        "client": ("127.0.0.1", 1),
    }
    await app(scope, receive, send)
    start = output[0]
    named = {k.decode().lower(): v.decode() for k, v in start["headers"]}
    return Answer(start["status"], named, b"".join(m.get("body", b"") for m in output[1:]))


def problem(answer: Answer, status: int, code: str, *secrets: str) -> dict[str, Any]:
    """The answer is this problem, complete, and contains none of the secrets."""
    assert answer.headers["content-type"] == "application/problem+json", answer
    output = answer.json
    assert (answer.status, output["status"], output["code"]) == (status, status, code), output
    assert output["advice"]
    assert output["detail"]
    assert output["title"]
    assert output["type"] == f"urn:sigmgr:problem:{code}"
    assert "?" not in output["instance"]
    assert answer.headers["cache-control"] == "no-store"
    if status == 401:
        assert answer.headers["www-authenticate"].startswith("Bearer")
    if status == 503:
        assert int(answer.headers["retry-after"]) >= 1
    for secret in secrets:
        assert secret not in answer.body.decode()
    return output
