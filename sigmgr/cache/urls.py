"""The forms of a Redis URL, taken apart.

memory:// and memory://NAME                     in process; one NAME is one server
redis:// rediss:// unix://                      as redis-py reads them
redis+cluster://[USER:PASS@]HOST:PORT,HOST:PORT
redis+sentinel://[USER:PASS@]HOST:PORT,HOST:PORT/SERVICE[/DB]

``rediss+cluster`` and ``rediss+sentinel`` speak TLS. With Sentinel, user and password are
those of the data servers; ``?sentinel_username=`` and ``?sentinel_password=`` those of the
sentinels. Errors never show the URL: it may hold a password.
"""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from sigmgr.model import errors

_DEFAULT_PORTS = {"cluster": 6379, "sentinel": 26379}
_PLAIN = ("redis", "rediss", "unix")


class Address(NamedTuple):
    """``form`` is ``memory``, ``plain``, ``cluster`` or ``sentinel``."""

    form: str
    url: str = ""
    name: str = ""
    hosts: tuple[tuple[str, int], ...] = ()
    tls: bool = False
    username: str | None = None
    password: str | None = None
    service: str = ""
    db: int = 0
    sentinel_username: str | None = None
    sentinel_password: str | None = None


def parse(url: str) -> Address:
    """Raises BadSettings."""
    scheme, _, rest = url.partition("://")
    if scheme == "memory":
        return Address("memory", url, name=rest.strip("/"))
    if scheme in _PLAIN:
        return Address("plain", url)
    transport, _, form = scheme.partition("+")
    if transport not in ("redis", "rediss") or form not in _DEFAULT_PORTS:
        raise errors.BadSettings(
            "a Redis URL begins with memory://, redis://, rediss://, unix://, redis+cluster://"
            " or redis+sentinel://"
        )
    try:
        return _many_hosts(url, form, tls=transport == "rediss")
    except ValueError:
        raise errors.BadSettings(f"the redis+{form}:// URL cannot be read") from None


def _many_hosts(url: str, form: str, *, tls: bool) -> Address:
    parts = urlsplit(url)
    login, _, places = parts.netloc.rpartition("@")
    username, _, password = login.partition(":")
    service, _, db = parts.path.strip("/").partition("/")
    if form == "sentinel" and not service:
        raise ValueError("no service")
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    return Address(
        form,
        url,
        hosts=tuple(_host(place, _DEFAULT_PORTS[form]) for place in places.split(",")),
        tls=tls,
        username=unquote(username) or None,
        password=unquote(password) or None,
        service=unquote(service),
        db=int(db or 0),
        sentinel_username=query.get("sentinel_username"),
        sentinel_password=query.get("sentinel_password"),
    )


def _host(place: str, default_port: int) -> tuple[str, int]:
    """``host``, ``host:port``, ``[::1]`` or ``[::1]:port``."""
    if place.startswith("["):
        host, _, port = place[1:].partition("]")
        port = port.removeprefix(":")
    else:
        host, _, port = place.partition(":")
    if not host:
        raise ValueError("no host")
    return host, int(port or default_port)
