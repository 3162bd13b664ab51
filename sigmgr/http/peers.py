"""Who is at the other end of a request, behind proxies that this service is set to trust.

Rules:
1. A header names the client's address or scheme only where the connection comes from a
   trusted proxy. From anybody else it is only a claim.
2. ``X-Forwarded-For`` is read from its end, where the proxy next to us has written: the first
   address that is not trusted is the client's. What stands before it is a claim. Where an
   entry is no address, the last good one counts.
3. Clients are counted by IPv4 address and by IPv6 /64: that much of it one customer has.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

from starlette.types import Scope

from sigmgr.model.addresses import network_of

Address = IPv4Address | IPv6Address

_SCHEMES = frozenset({b"http", b"https"})


class Peers:
    """``trusted``: addresses and networks of proxies."""

    def __init__(self, trusted: Sequence[str] = ()) -> None:
        self._trusted = [network_of(text) for text in trusted]
        self._known = lru_cache(maxsize=4096)(self._is_trusted)

    def client(self, scope: Scope) -> str:
        """The client's address; "" where the server gives none."""
        host = scope["client"][0] if scope.get("client") else ""
        return str(self._client(scope, host)) if self._trusted and self._known(host) else host

    def block(self, scope: Scope) -> str:
        """What the client is counted by."""
        host = self.client(scope)
        address = _address(host)
        if isinstance(address, IPv6Address):
            return str(IPv6Network((address, 64), strict=False))
        return host if address is None else str(address)

    def scheme(self, scope: Scope) -> str:
        """As the client asked: ``http`` or ``https``."""
        host = scope["client"][0] if scope.get("client") else ""
        if self._trusted and self._known(host):
            schemes = [value for name, value in scope["headers"] if name == b"x-forwarded-proto"]
            if len(schemes) == 1 and schemes[0] in _SCHEMES:
                return str(schemes[0], "ascii")
        return str(scope.get("scheme", "http"))  # ASGI lets a server leave it out

    def _client(self, scope: Scope, host: str) -> Address | str:
        nearest: Address | str = host
        values = [value for name, value in scope["headers"] if name == b"x-forwarded-for"]
        for entry in reversed(b",".join(values).split(b",")):
            address = _address(_without_port(entry.decode("latin-1").strip()))
            if address is None:
                return nearest
            nearest = address
            if not self._known(str(address)):
                return address
        return nearest

    def _is_trusted(self, host: str) -> bool:
        address = _address(host)
        return address is not None and any(
            address.version == network.version and address in network for network in self._trusted
        )


def _without_port(text: str) -> str:
    """``a.b.c.d:port`` and ``[v6]:port`` lose theirs."""
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text


def _address(text: str) -> Address | None:
    try:
        found = ip_address(text)
    except ValueError:
        return None
    return (found.ipv4_mapped or found) if isinstance(found, IPv6Address) else found
