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
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable

from starlette.types import Scope

from sigmgr.http.auth import allow
from sigmgr.http.cors import is_preflight
from sigmgr.http.paths import sdkappid_of
from sigmgr.http.services import Services
from sigmgr.model import errors
from sigmgr.model.app import Token
from sigmgr.push.sse import TICKET_KEY

#: Where the :class:`sigmgr.model.app.Token` of the request is left.
TOKEN_KEY = "sigmgr.token"  # noqa: S105  # the key in a scope, not a token
_SCHEME = b"bearer "


def bearer(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The credential of the Authorization header; None where there is none.

    Header names are in lower case, as ASGI has them. Raises BadRequest where there are two such
    headers: a proxy may have checked the other one.
    """
    found: bytes | None = None
    for name, value in headers:
        if name == b"authorization":
            if found is not None:
                raise errors.BadRequest("the request has more than one Authorization header")
            found = value
    if found is None or found[: len(_SCHEME)].lower() != _SCHEME:
        return None
    return found[len(_SCHEME) :].strip().decode("latin-1") or None


class Access:
    """Anybody may. ``scheme`` is the name of a credential in the OpenAPI document, empty where
    none is asked for; ``roles`` are those that may call; ``raises`` is all that a check may
    raise."""

    scheme = ""
    roles: tuple[str, ...] = ()
    raises: tuple[type[errors.SigmgrError], ...] = ()

    def concerns(self, scope: Scope) -> bool:
        """The route is meant at all; where not, it is as if it did not exist."""
        return True

    def check(self, services: Services, scope: Scope) -> Awaitable[None] | None:
        """See the rules above."""
        bearer(scope["headers"])
        return None


class PreflightOnly(Access):
    """A browser's preflight, which brings no credential, and nothing else."""

    def concerns(self, scope: Scope) -> bool:
        return is_preflight(scope)


class TicketHolder(Access):
    """A client, by the ticket that came with its sig."""

    scheme = "ticket"
    raises = (
        errors.BadRequest,
        errors.TicketInvalid,
        errors.TicketExpired,
        errors.TooManyWrong,
    )

    def check(self, services: Services, scope: Scope) -> None:
        text = bearer(scope["headers"])
        scope[TICKET_KEY] = services.credentials.ticket(scope, text, services.clock())


class TokenHolder(Access):
    """A backend, ops or an admin, by a token of one of these roles that reaches the app in the
    path."""

    scheme = "token"
    raises = (
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

    def check(self, services: Services, scope: Scope) -> Awaitable[None] | None:
        text = bearer(scope["headers"])
        token = services.credentials.tokens.peek(text)
        if token is None:
            return self._looked_up(services, scope, text)
        self._admit(token, scope)
        return None

    async def _looked_up(self, services: Services, scope: Scope, text: str | None) -> None:
        self._admit(await services.credentials.token(scope, text), scope)

    def _admit(self, token: Token, scope: Scope) -> None:
        segment = scope["path_params"].get("sdkappid")
        allow(token, self._allowed, None if segment is None else sdkappid_of(segment))
        scope[TOKEN_KEY] = token


ANYBODY = Access()
PREFLIGHT = PreflightOnly()
TICKET = TicketHolder()
#: The app's own server.
BACKEND = TokenHolder("backend", "admin")
#: Who may read facts; sigs are not among them.
FACTS = TokenHolder("backend", "ops", "admin")
