"""The JSON objects of the HTTP contract: what a request may hold and what an answer holds.

Requests are strict: a wrong type or an unknown field is refused, so that a misspelt
``replaces`` is not silently left out. Ranges that have an error code of their own (rooms,
privileges, lifetimes) are documented here and checked by the model. Add fields, never
rename or remove one.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from sigmgr.model.errors import SigReason
from sigmgr.model.holder import (
    ALL_PRIVILEGES,
    MAX_ROOM_ID,
    MAX_UINT32,
    ROOM_NAME_PATTERN,
    privilege_names,
)
from sigmgr.model.ttl import MAX_TTL, MIN_TTL
from sigmgr.model.usersig import FORMATS, MAX_AHEAD

#: The time of all examples.
AT = 1900000000
_SIG = "eJwtzM0KgkAUBeBXkVmHXMfxD2hRK6MIKoPajpm*NFOjmKjou2e5PN*B80..."

#: Those that a caller may give.
REISSUE_REASONS = ("ClientRequested", "Forced", "KeyRotated", "KeyTainted", "PolicyChanged")
_REASONS = (
    "Why it is not valid; null where it is. Those from `quoted` to `no-sig` name what happened to"
    " a text that cannot be read: quotes around it, line ends in it, URL-encoding, another base64"
    " alphabet, base64 twice, characters behind it, a text around it, its end cut off, or that"
    " it is another thing, such as a token."
)

# A field of an answer has its example in its type; the docs page puts an object's together.
Seconds = Annotated[int, Field(description="Unix seconds, UTC.", examples=[AT])]
ExpiresAt = Annotated[Seconds, Field(examples=[AT + 7776000])]
RenewAt = Annotated[Seconds, Field(examples=[AT + 5132160])]
IssuedAt = Annotated[
    int,
    Field(ge=1, le=MAX_UINT32, description="Unix seconds, UTC, in digits: not 1.0."),
]
SdkAppId = Annotated[int, Field(examples=[1400000000])]
UserId = Annotated[str, Field(examples=["alice"])]
SigText = Annotated[str, Field(examples=[_SIG])]
TicketText = Annotated[str, Field(examples=["t1.q0J6Zr..."])]
FormatName = Annotated[
    str, Field(examples=["v2"], json_schema_extra={"enum": [one.name for one in FORMATS]})
]
ReasonName = Annotated[str, Field(examples=["NearingExpiry"])]


def _example(**fields: Any) -> JsonDict:
    """Of a request, whole: put together of its fields' it need not be one that is accepted."""
    return {"examples": [fields]}


def _only(given: str, kind: str, other: str) -> dict[str, Any]:
    """As JSON Schema says that one of two is given."""
    return {"required": [given], "properties": {given: {"type": kind}, other: {"type": "null"}}}


_MASK: JsonDict = {"type": "integer", "minimum": 1, "maximum": ALL_PRIVILEGES}
_NAMES: JsonDict = {
    "type": "array",
    "minItems": 1,
    "items": {"type": "string", "enum": list(privilege_names(ALL_PRIVILEGES))},
}


class Request(BaseModel):
    """Strict: nothing is converted, nothing is ignored."""

    model_config = ConfigDict(strict=True, extra="forbid")


_ADVICE = "Use 1 to 32 bytes of printable ASCII; letters, digits, _ and - are safest."
_DETAIL = "the user id has 33 bytes; 32 is the limit"


class Problem(BaseModel):
    """An RFC 9457 problem document with a stable code."""

    type: str = Field(examples=["urn:sigmgr:problem:bad-userid"])
    title: str = Field(examples=["The user id is not valid."])
    status: int = Field(examples=[400])
    detail: str = Field(examples=[_DETAIL])
    instance: str = Field(examples=["/v1/apps/1400000000/users/.../sig"])
    code: str = Field(description="Stable; branch on this one.", examples=["bad-userid"])
    advice: str = Field(description="What to do next.", examples=[_ADVICE])
    reason: str | None = Field(default=None, description="Why a sig is not valid.")


class Sig(BaseModel):
    """A user's current sig, and the ticket with which the client opens its stream."""

    sdkappid: SdkAppId
    userid: UserId
    usersig: SigText
    format: FormatName
    issued_at: Seconds
    expires_at: ExpiresAt
    renew_at: RenewAt
    ticket: TicketText
    stream_url: str = Field(examples=["https://sigmgr.example/v1/stream"])


class ItemError(BaseModel):
    """Why one item of a batch has no sig."""

    code: str = Field(examples=["bad-userid"])
    detail: str = Field(examples=[_DETAIL])
    advice: str = Field(examples=[_ADVICE])
    retry_after: int | None = Field(default=None, description="Seconds to wait.")


class FailedSig(BaseModel):
    """In the place of a sig that could not be given."""

    userid: str = Field(
        description="As it was asked for; '...' where it is longer than 64 characters or looks"
        " like a credential.",
        examples=["bob-of-the-far-too-long-user-name"],
    )
    error: ItemError


class BatchRequest(Request):
    """Up to 1,000 user ids; an invalid one gets an error in its own place."""

    userids: list[str] = Field(min_length=1, max_length=1000)
    model_config = ConfigDict(json_schema_extra=_example(userids=["alice", "bob"]))


class Batch(BaseModel):
    """One answer for each id, in the order asked; an id asked twice is answered twice."""

    sigs: list[Sig | FailedSig]


class ReissueRequest(Request):
    """``replaces`` is the issued_at of the sig that the caller means to replace."""

    reason: str = Field(
        default="ClientRequested", json_schema_extra={"enum": list(REISSUE_REASONS)}
    )
    replaces: IssuedAt | None = None
    create: bool = Field(
        default=False,
        description="Issue the first sig where the user never had one; without it that is a 404.",
    )
    # Together: alone neither is accepted for a user that is not known.
    model_config = ConfigDict(json_schema_extra=_example(reason="Forced", create=True))


class Revoked(BaseModel):
    """Every sig of the user issued at or before ``revoked_at`` is dead."""

    sdkappid: SdkAppId
    userid: UserId
    revoked_at: Seconds
    known: bool = Field(description="The user had a sig or room key at some time.", examples=[True])


class RoomKeyRequest(Request):
    """Give ``room_id`` or ``room_name``, not both; ``privileges`` as a mask or as names."""

    room_id: int | None = Field(
        default=None,
        description="A number; the room of the same number in letters is another room.",
        json_schema_extra={"minimum": 1, "maximum": MAX_ROOM_ID},
    )
    room_name: str | None = Field(
        default=None,
        description="1 to 64 letters, digits, spaces and ! # $ % & ( ) + - : ; < = . > ? @ [ ] ^ _"
        " { } | ~ ,",
        json_schema_extra={"pattern": ROOM_NAME_PATTERN},
    )
    privileges: int | list[str] = Field(
        default=ALL_PRIVILEGES,
        description="A mask of 1 to 255, or names: create, enter, send_audio, receive_audio,"
        " send_video, receive_video, send_screen, receive_screen.",
        json_schema_extra={"anyOf": [_MASK, _NAMES]},
    )
    ttl: int | None = Field(
        default=None,
        description="Seconds; the app's policy where it is left out. A key that was handed out"
        " with a longer life keeps it, and a note says so.",
        json_schema_extra={"minimum": MIN_TTL, "maximum": MAX_TTL},
    )
    model_config = ConfigDict(
        json_schema_extra=_example(room_id=10000, privileges=["enter", "receive_audio"])
        | {
            "oneOf": [
                _only("room_id", "integer", "room_name"),
                _only("room_name", "string", "room_id"),
            ]
        }
    )


class RoomKey(BaseModel):
    """A privateMapKey for one user in one room."""

    sdkappid: SdkAppId
    userid: UserId
    room_id: int | None = Field(default=None, examples=[10000])
    room_name: str | None = None
    privileges: int = Field(examples=[10])
    privilege_names: list[str] = Field(examples=[["enter", "receive_audio"]])
    private_map_key: SigText
    format: FormatName
    issued_at: Seconds
    expires_at: Seconds = Field(examples=[AT + 21600])
    renew_at: Seconds = Field(examples=[AT + 14256])
    note: str | None = Field(
        default=None,
        description="What the caller may not expect: of the privileges, or of a life that is"
        " longer than the ttl that was asked for.",
    )


class VerifyRequest(Request):
    """A sig to look at. With ``userid`` it must be that user's: the two are compared, and
    any text may be given."""

    usersig: str = Field(max_length=16384)
    userid: str | None = None
    model_config = ConfigDict(json_schema_extra=_example(usersig=_SIG, userid="alice"))


_VALID: JsonDict = {"valid": True, "sdkappid": 1400000000, "userid": "alice", "format": "v2",
                    "issued_at": AT, "expires_at": AT + 7776000}  # fmt: skip


class Verdict(BaseModel):
    """Valid or not; where it is valid, the fields of the sig stand beside."""

    valid: bool
    reason: str | None = Field(
        default=None,
        description=_REASONS,
        json_schema_extra={"enum": [*(reason.value for reason in SigReason), None]},
    )
    detail: str | None = Field(default=None, description="The same in a sentence.")
    advice: str | None = Field(default=None, description="What to do where it is not valid.")
    issued_in_future: int = Field(
        default=0,
        description="By how many seconds issued_at is ahead of now: whoever made it has a clock"
        f" that is wrong, or this service has. Beyond {MAX_AHEAD} it is not valid.",
    )
    model_config = ConfigDict(extra="allow", json_schema_extra={"examples": [_VALID]})


class StreamSig(BaseModel):
    """The same object as the stream's ``sig.current`` message."""

    type: Literal["sig.current"]
    sdkappid: SdkAppId
    userid: UserId
    issued_at: Seconds
    expires_at: ExpiresAt
    usersig: SigText
    ticket: TicketText
    reason: ReasonName
    action: Literal["keep", "relogin", "update_private_map_key"]


class Ack(Request):
    """The client holds the sig of this issued_at now."""

    issued_at: IssuedAt
    model_config = ConfigDict(json_schema_extra=_example(issued_at=AT))


class Delivery(BaseModel):
    """How far the newest sig has come towards the client."""

    acked: Seconds = Field(description="issued_at of the newest sig that a client confirmed.")
    acked_at: Seconds = Field(examples=[AT + 2])
    seen_at: Seconds = Field(
        description="When the user last asked or had a stream open.", examples=[AT + 60]
    )
    confirmed: bool = Field(description="The client confirmed the current sig.", examples=[True])


class PastSig(BaseModel):
    """An earlier sig."""

    issued_at: Seconds = Field(examples=[AT - 5000000])
    expires_at: Seconds = Field(examples=[AT + 2776000])
    key_id: int = Field(examples=[1])
    reason: ReasonName


class HolderFacts(BaseModel):
    """One sig of the user: its own, or that of one room."""

    kind: Literal["user", "admin", "room"]
    scope: str = Field(
        description="The room: 'id:10000' or 'name:lobby'; else empty.", examples=[""]
    )
    state: Literal["current", "dormant", "revoked", "expired"]
    format: str = Field(description="Empty where no sig was ever issued.", examples=["v2"])
    key_id: int = Field(examples=[1])
    reason: ReasonName
    issued_at: Seconds
    renew_at: RenewAt
    warn_after: Seconds = Field(examples=[AT + 5304960])
    expires_at: ExpiresAt
    revoked_at: Seconds = Field(description="0: never.", examples=[0])
    privileges: int = Field(
        description="The room privilege mask; 0 where it is no room.", examples=[0]
    )
    failures: int = Field(description="Failed renewals in a row.", examples=[0])
    last_error: str = Field(examples=[""])
    delivery: Delivery
    past: list[PastSig]


class UserFacts(BaseModel):
    """What is known of a user; never a sig."""

    sdkappid: SdkAppId
    userid: UserId
    holders: list[HolderFacts]


class Alive(BaseModel):
    """The process answers."""

    status: Literal["ok"]


class Readiness(BaseModel):
    """Each part by name: ``ok``, or what is wrong."""

    status: Literal["ok", "degraded", "failed"]
    checks: dict[str, str] = Field(examples=[{"database": "ok", "redis": "ok"}])
