"""Addresses in settings: of proxies, and origins of pages."""

from __future__ import annotations

import re
from ipaddress import IPv4Network, IPv6Network, ip_network
from urllib.parse import urlsplit

Network = IPv4Network | IPv6Network

#: Every origin.
ANY = "*"
#: Hosts that may be given with all ports, since only this machine listens there.
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")

_PORT = {"http": 80, "https": 443}
#: Browsers send international names in ASCII.
_HOST = re.compile(r"[a-z0-9._-]+|[0-9a-f.]*:[0-9a-f:.]*")


def network_of(text: str) -> Network:
    """An address or network of proxies. Raises ValueError with the correct form."""
    try:
        return ip_network(text)
    except ValueError:
        pass
    try:
        meant = ip_network(text, strict=False)
    except ValueError:
        raise ValueError("write addresses or networks, such as 10.0.0.0/8 or ::1") from None
    raise ValueError(f"this names one address of a network; write {meant} for all of it")


def origin_of(text: str) -> str:
    """An origin as browsers send it, ``*``, or one of this machine with ``:*`` for all ports.
    Raises ValueError with the correct form."""
    if text == ANY or every_port(text):
        return text
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port, parts = "", None, urlsplit("")
    if parts.scheme not in _PORT or not _HOST.fullmatch(host):
        raise ValueError("write an origin such as https://app.example.com, or *")
    shown = f"[{host}]" if ":" in host else host
    origin = f"{parts.scheme}://{shown}"
    if port is not None and port != _PORT[parts.scheme]:
        origin += f":{port}"
    if origin != text:
        raise ValueError(f"browsers send this origin as {origin}; write that")
    return origin


def every_port(text: str) -> bool:
    """Whether the origin is like ``http://localhost:*``."""
    scheme, _, rest = text.partition("://")
    return scheme in _PORT and rest.endswith(":*") and rest[:-2] in LOOPBACK
