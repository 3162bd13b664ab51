"""The JSON objects with what is known of a user: times, delivery and history; no sig."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from sigmgr.http.shapes import (
    AT,
    ExpiresAt,
    ReasonName,
    RenewAt,
    SdkAppId,
    Seconds,
    UserId,
)


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
