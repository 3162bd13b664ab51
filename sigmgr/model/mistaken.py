"""Errors for a credential of the wrong kind; the value is never repeated.

Tokens, tickets and sigs are easily confused, since they come in the same answers and go into the
same header. The error code is that of any wrong credential; text and advice name what it looks
like. A token in the place of a ticket has probably reached a client, which must not have one.
"""

from __future__ import annotations

from sigmgr.model import errors
from sigmgr.model.shown import credential

_FOR_CLIENTS = (
    "Send the ticket that stands beside the usersig in the answer to"
    " GET /v1/apps/{sdkappid}/users/{userid}/sig."
)
_FOR_NO_CLIENT = (
    " An API token belongs on the backend only: if this one has reached a client, end it with"
    " 'sigmgr token revoke'."
)
_FOR_BACKENDS = (
    "Send a token that was made with 'sigmgr token create --role backend'; tickets open"
    " /v1/stream and nothing else."
)


def no_ticket(text: str) -> errors.TicketInvalid:
    kind = credential(text)
    if not kind or kind == "a ticket":
        return errors.TicketInvalid()
    problem = f"what was sent looks like {kind}; this route takes a ticket"
    more = _FOR_NO_CLIENT if kind == "an API token" else ""
    return errors.TicketInvalid(problem, advice=_FOR_CLIENTS + more)


def no_token(text: str) -> errors.TokenUnknown:
    kind = credential(text)
    if not kind or kind == "an API token":
        return errors.TokenUnknown()
    problem = f"what was sent looks like {kind}; this route takes an API token"
    return errors.TokenUnknown(problem, advice=_FOR_BACKENDS)
