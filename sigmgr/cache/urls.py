"""Parses the forms of a Redis URL.

memory:// and memory://NAME                     in process; one NAME is one server
redis:// rediss:// unix://                      as redis-py reads them
redis+cluster://[USER:PASS@]HOST:PORT,HOST:PORT
redis+sentinel://[USER:PASS@]HOST:PORT,HOST:PORT/SERVICE[/DB]

``rediss+cluster`` and ``rediss+sentinel`` use TLS. With Sentinel, user and password are those of
the data servers; ``?sentinel_username=`` and ``?sentinel_password=`` those of the sentinels. Errors
never show the URL, since it may contain a password.
"""

from __future__ import annotations

import re
from ipaddress import IPv6Address
from typing import Final, NamedTuple
from urllib.parse import parse_qs, unquote

from sigmgr.model import errors

# urlsplit supports one host only: from Python 3.12 on it refuses an IPv6 address among several.
_MANY: Final = re.compile(
    r"((?P<username>[^/?#:]*)(?::(?P<password>[^/?#]*))?@)?(?P<hosts>[^/?#@]*)"
    r"(?P<path>/[^?#]*)?(?:\?(?P<query>[^#]*))?"
)
_HOST: Final = re.compile(
    r"(?:\[(?P<ipv6>[^\]]*)\]|(?P<name>[^\[\]:\s]+))(?::(?P<port>[0-9]{0,5}))?"
)
_NUMBER: Final = re.compile(r"[0-9]{0,5}")
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
    """Raises BadSettings. The newline at the end of a mounted secret is ignored."""
    url = url.strip()
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
        return _many_hosts(url, rest, form, tls=transport == "rediss")
    except ValueError:
        raise errors.BadSettings(f"the redis+{form}:// URL cannot be read") from None


def _many_hosts(url: str, rest: str, form: str, *, tls: bool) -> Address:
    parts = _matched(_MANY, rest)
    service, _, db = parts["path"].strip("/").partition("/")
    if form == "sentinel" and not service:
        raise ValueError("no service")
    _matched(_NUMBER, db)
    query = {name: values[-1] for name, values in parse_qs(parts["query"]).items()}
    return Address(
        form,
        url,
        hosts=tuple(_host(text, _DEFAULT_PORTS[form]) for text in parts["hosts"].split(",")),
        tls=tls,
        username=unquote(parts["username"]) or None,
        password=unquote(parts["password"]) or None,
        service=unquote(service),
        db=int(db or 0),
        sentinel_username=query.get("sentinel_username"),
        sentinel_password=query.get("sentinel_password"),
    )


def _host(text: str, default_port: int) -> tuple[str, int]:
    parts = _matched(_HOST, text)
    port = int(parts["port"] or default_port)
    if not 0 < port < 65536:
        raise ValueError("no port")
    host = parts["name"] or str(IPv6Address(parts["ipv6"]))
    return host, port


def _matched(form: re.Pattern[str], text: str) -> dict[str, str]:
    found = form.fullmatch(text)
    if found is None:
        raise ValueError("another form")
    return found.groupdict(default="")
