"""The JSON objects with what is known of a user: times, delivery and history; no sig."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from sigmgr.http.shapes import AT, Seconds, example


class Delivery(BaseModel):
    """How far the newest sig has come towards the client."""

    acked: Seconds = Field(description="issued_at of the newest sig that a client confirmed.")
    acked_at: Seconds
    seen_at: Seconds = Field(description="When the user last asked or had a stream open.")
    confirmed: bool = Field(description="The client confirmed the current sig.")


class PastSig(BaseModel):
    """An earlier sig."""

    issued_at: Seconds
    expires_at: Seconds
    key_id: int
    reason: str


class HolderFacts(BaseModel):
    """One sig of the user: its own, or that of one room."""

    kind: Literal["user", "admin", "room"]
    scope: str = Field(description="The room: 'id:10000' or 'name:lobby'; else empty.")
    state: Literal["current", "dormant", "revoked", "expired"]
    format: str
    key_id: int
    reason: str
    issued_at: Seconds
    renew_at: Seconds
    warn_after: Seconds
    expires_at: Seconds
    revoked_at: Seconds = Field(description="0: never.")
    privileges: int = Field(description="The room privilege mask; 0 where it is no room.")
    failures: int = Field(description="Failed renewals in a row.")
    last_error: str
    delivery: Delivery
    past: list[PastSig]


_HOLDER_EXAMPLE = {
    "kind": "user",
    "scope": "",
    "state": "current",
    "format": "v2",
    "key_id": 1,
    "reason": "NearingExpiry",
    "issued_at": AT,
    "renew_at": AT + 5132160,
    "warn_after": AT + 5304960,
    "expires_at": AT + 7776000,
    "revoked_at": 0,
    "privileges": 0,
    "failures": 0,
    "last_error": "",
    "delivery": {"acked": AT, "acked_at": AT + 2, "seen_at": AT + 60, "confirmed": True},
    "past": [
        {
            "issued_at": AT - 5000000,
            "expires_at": AT + 2776000,
            "key_id": 1,
            "reason": "Missing",
        }
    ],
}


class UserFacts(BaseModel):
    """What is known of a user; never a sig."""

    sdkappid: int
    userid: str
    holders: list[HolderFacts]
    model_config = ConfigDict(
        json_schema_extra=example(sdkappid=1400000000, userid="alice", holders=[_HOLDER_EXAMPLE])
    )
