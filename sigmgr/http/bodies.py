"""Request bodies: read whole, up to 256 KiB, and only JSON.

Reading before the routes keeps them simple and bounds the memory that anybody can take. The
credential is checked before, so nobody without one gets this far.
"""

from __future__ import annotations

from starlette.types import Message, Receive, Scope

from sigmgr.model.problem import BadContentType, BodyTooLarge

MAX_BODY = 256 * 1024


class ClientGone(Exception):
    """The client hung up before its body was whole; there is nobody to answer."""


async def read_body(scope: Scope, receive: Receive) -> bytes:
    """The whole body. Raises BodyTooLarge, BadContentType where there is one that is not
    declared as JSON, or ClientGone."""
    headers = dict(scope["headers"])
    declared = headers.get(b"content-length", b"0")
    if declared.isdigit() and int(declared) > MAX_BODY:
        raise BodyTooLarge
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            # What has come may look like a whole request, and was not meant as one.
            raise ClientGone
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size > MAX_BODY:
            raise BodyTooLarge
        chunks.append(chunk)
        if not message.get("more_body", False):
            break
    kind = headers.get(b"content-type", b"").split(b";")[0].strip().lower()
    if size and kind != b"application/json":
        raise BadContentType
    return b"".join(chunks)


def replay(body: bytes, receive: Receive) -> Receive:
    """A ``receive`` that gives the body first, and then the messages of the server."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
