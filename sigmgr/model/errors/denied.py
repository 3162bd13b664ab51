"""The caller is not allowed."""

from __future__ import annotations

from sigmgr.model.errors.base import SigmgrError


class DeniedError(SigmgrError):
    """Not allowed."""

    code = "denied"
    advice = "Use a token whose role and app fit the request."


class TokenMissing(DeniedError):
    """The request has no bearer token."""

    code = "token-missing"
    advice = "Send 'Authorization: Bearer <token>'; make one with 'sigmgr token create'."


class TokenUnknown(DeniedError):
    """The token is not known or was revoked."""

    code = "token-unknown"
    advice = "Make a new one with 'sigmgr token create'."


class RoleDenied(DeniedError):
    """The token's role does not reach this route."""

    code = "role-denied"
    advice = "Use a token of the role that the route names."


class AppDenied(DeniedError):
    """The token is bound to another app."""

    code = "app-denied"
    advice = "Use a token for this app, or one that is not bound to an app."


class TicketInvalid(DeniedError):
    """The ticket is not one of this service."""

    code = "ticket-invalid"
    advice = "Ask the app's backend for the current sig; its answer carries a fresh ticket."


class TicketExpired(DeniedError):
    """The ticket has expired."""

    code = "ticket-expired"
    advice = "Ask the app's backend for the current sig; its answer carries a fresh ticket."


class TicketRevoked(DeniedError):
    """The user's sigs were revoked after the ticket was made."""

    code = "ticket-revoked"
    advice = "Ask the app's backend for the current sig; its answer carries a fresh ticket."
