"""Explains why Redis cannot be used, with its address and without passwords.

Only the doctor asks; in a running service errors of Redis are counted and tolerated. An unknown
error is named by the client's exception class.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from sigmgr.cache.urls import parse
from sigmgr.model import errors

_URL = "redis.url (SIGMGR_REDIS__URL)"

_REASONS = tuple(
    (re.compile(message, re.IGNORECASE), text, remedy)
    for message, text, remedy in (
        (r"no master found", "the sentinels know no master of that service, or cannot be reached",
         f"Correct the sentinels' hosts and the service in {_URL}."),
        (r"error -\d+ connecting|name or service not known|nodename|name resolution",
         "Redis's host name is not known",
         f"Correct the host in {_URL}, or see to the name service of this machine."),
        (r"refused|connect call failed|error 111", "nothing listens at Redis's port",
         f"Start Redis there, or correct host and port in {_URL}."),
        (r"no route|unreachable|host is down", "there is no way to Redis's host",
         "See to the network and firewalls between here and there."),
        (r"timeout|timed out", "Redis does not answer",
         "Is it overloaded or stopped? Does the URL speak TLS (rediss) where the server does?"),
        (r"already authenticated|authentication required|noauth",
         "Redis asks for a password, and none is set",
         f"Put the password into {_URL}."),
        (r"invalid (username-)?password|wrongpass|user is disabled",
         "Redis refuses the user or the password",
         f"Correct user and password in {_URL}."),
        (r"noperm|no permissions", "Redis does not let this user do what is needed",
         "Allow it there, with ACL SETUSER: its keys, channels and commands."),
        (r"cluster mode is not enabled|cluster support disabled", "the server is no Redis Cluster",
         f"Write redis:// and not redis+cluster:// in {_URL}, or name nodes of the cluster."),
        (r"db index", "the server has no database of that number",
         f"Correct the number at the end of {_URL}."),
        (r"\bssl\b|certificate", "this machine and Redis do not agree on TLS",
         f"Correct {_URL}: rediss speaks TLS, redis does not."),
    )
)  # fmt: skip


def why(error: errors.CacheUnavailable, url: str) -> tuple[str, str]:
    """What is wrong, with the hosts, and what to do; the remedy is empty where there is none."""
    cause = error.__cause__
    message = str(cause) if cause is not None else ""
    for form, text, remedy in _REASONS:
        if form.search(message):
            return f"{text} (at {hosts_of(url)})", remedy
    return f"{error.text} (at {hosts_of(url)})", ""


def hosts_of(url: str) -> str:
    address = parse(url)
    if address.hosts:
        return ", ".join(f"{host}:{port}" for host, port in address.hosts)
    parts = urlsplit(address.url)
    if parts.scheme == "unix":
        return parts.path
    return f"{parts.hostname or 'localhost'}:{parts.port or 6379}"
