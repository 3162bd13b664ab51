"""Who may call a route. A route names one of these, and it is checked before a byte of the
body is read and before anything of the request is parsed.

Rules:
1. A check takes what it needs from the headers and the path, and leaves what it has found in
   the scope: ``TOKEN_KEY`` or ``TICKET_KEY``.
2. It answers None where it is done, and otherwise what is to be awaited: most checks need no
   wait, and then a request that stays open keeps no frame for them.
3. Two Authorization headers are refused on every route, the open ones included.
4. A token that is bound to an app reaches the routes of that app and no others: neither those
   of another app nor those that concern all apps.

A further kind, such as a session, is a further class here.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol

from starlette.types import Scope

from sigmgr.http.auth import allow
from sigmgr.http.cors import is_preflight
from sigmgr.http.paths import sdkappid_of
from sigmgr.http.services import Services
from sigmgr.model import errors
from sigmgr.model.app import Token
from sigmgr.model.bearer import bearer
from sigmgr.push.gateway import TICKET_KEY

#: Where the :class:`sigmgr.model.app.Token` of the request is left.
TOKEN_KEY = "sigmgr.token"  # noqa: S105  # the key in a scope, not a token

Raises = tuple[type[errors.SigmgrError], ...]


class Access(Protocol):
    """``scheme`` is the name of its security scheme in the OpenAPI document, empty where it
    has none; ``roles`` are those that may call; ``raises`` is all that a check may raise."""

    @property
    def scheme(self) -> str: ...

    @property
    def roles(self) -> tuple[str, ...]: ...

    @property
    def raises(self) -> Raises: ...

    def concerns(self, scope: Scope) -> bool:
        """The route is meant at all; where not, it is as if it did not exist."""
        ...

    def check(self, services: Services, scope: Scope) -> Awaitable[None] | None: ...


class Anybody:
    """No credential."""

    scheme = ""
    roles: tuple[str, ...] = ()
    raises: Raises = ()

    def concerns(self, scope: Scope) -> bool:
        return True

    def check(self, services: Services, scope: Scope) -> None:
        bearer(scope["headers"])


class PreflightOnly(Anybody):
    """No credential, and only a browser's preflight: it brings none."""

    def concerns(self, scope: Scope) -> bool:
        return is_preflight(scope)


class TicketHolder:
    """A client, by the ticket that came with its sig."""

    scheme = "ticket"
    roles: tuple[str, ...] = ()
    raises: Raises = (
        errors.BadRequest,
        errors.TicketInvalid,
        errors.TicketExpired,
        errors.TooManyWrong,
    )

    def concerns(self, scope: Scope) -> bool:
        return True

    def check(self, services: Services, scope: Scope) -> None:
        shown = bearer(scope["headers"])
        scope[TICKET_KEY] = services.credentials.ticket(scope, shown, services.clock())


class TokenHolder:
    """A backend, ops or an admin, by a token of one of these roles that reaches the app in the
    path."""

    scheme = "token"
    raises: Raises = (
        errors.BadRequest,
        errors.TooManyWrong,
        errors.TokenMissing,
        errors.TokenUnknown,
        errors.RoleDenied,
        errors.AppDenied,
        errors.BadSdkAppId,
    )

    def __init__(self, *roles: str) -> None:
        self.roles = roles
        self._allowed = frozenset(roles)

    def concerns(self, scope: Scope) -> bool:
        return True

    def check(self, services: Services, scope: Scope) -> Awaitable[None] | None:
        shown = bearer(scope["headers"])
        token = services.credentials.peek(shown)
        if token is None:
            return self._looked_up(services, scope, shown)
        self._admit(token, scope)
        return None

    async def _looked_up(self, services: Services, scope: Scope, shown: str | None) -> None:
        self._admit(await services.credentials.token(scope, shown), scope)

    def _admit(self, token: Token, scope: Scope) -> None:
        segment = scope["path_params"].get("sdkappid")
        allow(token, self._allowed, None if segment is None else sdkappid_of(segment))
        scope[TOKEN_KEY] = token


ANYBODY = Anybody()
PREFLIGHT = PreflightOnly()
TICKET = TicketHolder()
#: The app's own server.
BACKEND = TokenHolder("backend", "admin")
#: Who may read facts; sigs are not among them.
FACTS = TokenHolder("backend", "ops", "admin")
