"""Helpers of these tests: signers from the format notes, and a scripted fake of sigmgr.

The signers are written here, so that the verifier is tested against neither itself nor the
code it is there to check.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import socket
import struct
import zlib
from collections import defaultdict
from contextlib import asynccontextmanager
from urllib.parse import quote, unquote

import uvicorn
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

APP = 1400000000
SECRET = "sim-test-secret-".ljust(64, "0")
NOW = 1_900_000_000


def pack(members, *, indent=None, level=6):
    text = json.dumps(members, indent=indent).encode()
    plain = base64.b64encode(zlib.compress(text, level)).decode()
    return plain.replace("+", "*").replace("/", "-").replace("=", "_")


def userbuf(userid, room, privileges, expires_at, *, sdkappid=APP):
    name = room.encode() if isinstance(room, str) else None
    head = struct.pack(">BH", 0 if name is None else 1, len(userid)) + userid.encode()
    number = room if name is None else 0
    body = struct.pack(">IIIII", sdkappid, number, expires_at, privileges, 0)
    return head + body + (b"" if name is None else struct.pack(">H", len(name)) + name)


def sign_v2(userid, issued_at, ttl, *, sdkappid=APP, secret=SECRET, buf=None, **packing):
    members = {
        "TLS.ver": "2.0",
        "TLS.identifier": userid,
        "TLS.sdkappid": sdkappid,
        "TLS.time": issued_at,
        "TLS.expire": ttl,
    }
    names = ["TLS.identifier", "TLS.sdkappid", "TLS.time", "TLS.expire"]
    if buf is not None:
        members["TLS.userbuf"] = base64.b64encode(buf).decode()
        names.append("TLS.userbuf")
    text = "".join(f"{name}:{members[name]}\n" for name in names).encode()
    mac = hmac.digest(secret.encode(), text, "sha256")
    return pack(members | {"TLS.sig": base64.b64encode(mac).decode()}, **packing)


def new_key(curve=None):
    """A private key and its public PEM."""
    key = ec.generate_private_key(curve or ec.SECP256R1())
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return key, pem.decode()


def sign_v1(key, userid, issued_at, ttl, *, sdkappid=APP, third="0", crlf=False, **packing):
    members = {"TLS.appid_at_3rd": third} if third is not None else {}
    members |= {
        "TLS.account_type": "0",
        "TLS.identifier": userid,
        "TLS.sdk_appid": str(sdkappid),
        "TLS.time": str(issued_at),
        "TLS.expire_after": str(ttl),
    }
    text = "".join(f"{name}:{value}\n" for name, value in members.items()).encode()
    proof = base64.b64encode(key.sign(text, ec.ECDSA(SHA256()))).decode()
    if crlf:
        proof = proof[:60] + "\r\n" + proof[60:] + "\r\n"
    return pack(members | {"TLS.sig": proof}, **packing)


class FakeService:
    """The routes that a client uses, raw ASGI, with a script of what goes wrong.

    ``refuse["sig" | "stream" | "ack"]`` holds answers (status, headers, document) given
    before the route works again. ``renew`` makes a user's next sig and pushes it.
    """

    def __init__(self, clock, ttl=30):
        self.clock = clock
        self.ttl = ttl
        self.url = ""
        self.current = {}
        self.streams = defaultdict(list)
        self.refuse = defaultdict(list)
        self.asked = defaultdict(int)
        self.acks = defaultdict(list)
        self.last_event_ids = defaultdict(list)
        self.retry_ms = 10

    def issue(self, user):
        now = self.clock()
        sdkappid, userid = user
        self.current[user] = {
            "sdkappid": sdkappid,
            "userid": userid,
            "issued_at": now,
            "expires_at": now + self.ttl,
            "usersig": sign_v2(userid, now, self.ttl, sdkappid=sdkappid),
            "ticket": f"{sdkappid}/{quote(userid, safe='')}/{now}",
        }

    def message(self, user, kind="sig.renewed", **changes):
        answer = self.current[user] | {"type": kind, "action": "keep", "reason": "NearingExpiry"}
        answer |= changes
        data = json.dumps({name: value for name, value in answer.items() if value is not None})
        return f"event: {kind}\nid: {answer['issued_at']}\ndata: {data}\n\n".encode()

    def push(self, user, frame):
        for queue in self.streams[user]:
            queue.put_nowait(frame)

    def renew(self, user, **changes):
        self.issue(user)
        self.push(user, self.message(user, **changes))

    async def __call__(self, scope, receive, send):
        route = scope["path"].rsplit("/", 1)[-1]
        self.asked[route] += 1
        if self.refuse[route]:
            status, headers, document = self.refuse[route].pop(0)
            await self._answer(send, status, document, headers)
            return
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        bearer = headers.get("authorization", "").removeprefix("Bearer ")
        if route == "sig":
            assert bearer == "backend-token"
            parts = scope["raw_path"].decode().split("/")
            user = int(parts[3]), unquote(parts[5])
            if user not in self.current or self.clock() >= self.current[user]["expires_at"]:
                self.issue(user)
            answer = self.current[user] | {"stream_url": "/v1/stream", "format": "v2"}
            await self._answer(send, 200, answer)
            return
        sdkappid, userid, _ = bearer.split("/")
        user = int(sdkappid), unquote(userid)
        if route == "ack":
            body = json.loads((await receive())["body"])
            self.acks[user].append(body["issued_at"])
            await self._answer(send, 204, None)
        else:
            held = int(headers.get("last-event-id", 0))
            self.last_event_ids[user].append(held)
            await self._stream(user, held, receive, send)

    async def _answer(self, send, status, document, headers=None):
        body = b"" if document is None else json.dumps(document).encode()
        pairs = {"content-type": "application/json", "content-length": str(len(body))}
        pairs |= headers or {}
        raw = [(name.encode(), value.encode()) for name, value in pairs.items()]
        await send({"type": "http.response.start", "status": status, "headers": raw})
        await send({"type": "http.response.body", "body": body})

    async def _stream(self, user, held, receive, send):
        start = {"type": "http.response.start", "status": 200, "headers": []}
        await send(start | {"headers": [(b"content-type", b"text/event-stream")]})
        queue = asyncio.Queue()
        self.streams[user].append(queue)
        held_it = held == self.current[user]["issued_at"]
        first = self.message(user, "sig.current", **({"usersig": None} if held_it else {}))
        queue.put_nowait(f"retry: {self.retry_ms}\n\n".encode() + first)
        gone = asyncio.create_task(_disconnected(receive))
        try:
            while True:
                getting = asyncio.create_task(queue.get())
                await asyncio.wait([getting, gone], return_when=asyncio.FIRST_COMPLETED)
                if not getting.done() or getting.result() is None:
                    getting.cancel()
                    break
                message = {"type": "http.response.body", "body": getting.result()}
                await send(message | {"more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            gone.cancel()
            self.streams[user].remove(queue)

    def drop(self, user):
        """End the user's streams without a word."""
        self.push(user, None)


async def _disconnected(receive):
    while (await receive())["type"] != "http.disconnect":
        pass


@asynccontextmanager
async def serving(app):
    """The app on uvicorn on a free port; yields its address."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        config = uvicorn.Config(app, lifespan="off", log_config=None, ws="none")
        config.timeout_graceful_shutdown = 1
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve(sockets=[sock]))
        while not server.started:
            await asyncio.sleep(0.01)
        app.url = f"http://127.0.0.1:{sock.getsockname()[1]}"
        try:
            yield app.url
        finally:
            server.should_exit = True
            await task


async def until(condition, seconds=5.0):
    """Wait for it; fails where it does not come true in time."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)
