"""Redis URLs of many hosts: what they mean, and that nothing else is read into them."""

from __future__ import annotations

import string
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigmgr.cache import urls
from sigmgr.model import errors

NAMES = st.text(string.ascii_lowercase + string.digits + "-.", min_size=1)
ADDRESSES = st.ip_addresses(v=6).map(str)
PORTS = st.integers(1, 65535)
#: Whatever a password may hold; ``quote`` makes a URL of it.
SECRETS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def test_urls_of_many_hosts() -> None:
    found = urls.parse("rediss+cluster://me:p%40ss@a:7000,b,[::1]:7002")
    assert found.hosts == (("a", 7000), ("b", 6379), ("::1", 7002))
    assert (found.form, found.tls, found.username, found.password) == (
        "cluster",
        True,
        "me",
        "p@ss",
    )
    found = urls.parse("redis+sentinel://:secret@a,b:5000/main/2?sentinel_password=other")
    assert found.hosts == (("a", 26379), ("b", 5000))
    assert (found.service, found.db, found.tls) == ("main", 2, False)
    assert (found.username, found.password) == (None, "secret")
    assert found.sentinel_password == "other"


@given(
    form=st.sampled_from(["cluster", "sentinel"]),
    hosts=st.lists(st.tuples(NAMES | ADDRESSES, PORTS | st.none()), min_size=1, max_size=5),
    login=st.tuples(SECRETS, SECRETS) | st.none(),
    service=NAMES,
    db=st.integers(0, 99999),
)
def test_what_a_url_was_made_of_is_what_is_read(
    form: str,
    hosts: list[tuple[str, int | None]],
    login: tuple[str, str] | None,
    service: str,
    db: int,
) -> None:
    places = ",".join(
        (f"[{host}]" if ":" in host else host) + (f":{port}" if port else "")
        for host, port in hosts
    )
    before = ":".join(quote(part, safe="") for part in login) + "@" if login else ""
    after = f"/{service}/{db}" if form == "sentinel" else ""
    found = urls.parse(f"redis+{form}://{before}{places}{after}")
    default = {"cluster": 6379, "sentinel": 26379}[form]
    assert found.hosts == tuple((host, port or default) for host, port in hosts)
    assert (found.username or "", found.password or "") == (login or ("", ""))
    assert (found.service, found.db) == ((service, db) if form == "sentinel" else ("", 0))


def test_a_password_may_hold_what_is_a_bracket_or_an_at_sign_elsewhere() -> None:
    found = urls.parse("redis+cluster://me:a@b[c]:d@x:7000,[::1]")
    assert (found.username, found.password) == ("me", "a@b[c]:d")
    assert found.hosts == (("x", 7000), ("::1", 6379))


def test_a_newline_at_the_end_is_not_of_the_url() -> None:
    assert urls.parse("redis+cluster://a:7000\n") == urls.parse("redis+cluster://a:7000")


@pytest.mark.parametrize(
    "rest",
    [
        "cluster://",
        "cluster://a,",
        "cluster://a,,b",
        "cluster://a b",
        "cluster://::1",
        "cluster://[::1",
        "cluster://::1]",
        "cluster://[::1]7000",
        "cluster://[name]:7000",
        "cluster://[v1.x]:7000",
        "cluster://[]:7000",
        "cluster://a:0",
        "cluster://a:65536",
        "cluster://a:+7000",
        "cluster://a:7_000",
        "cluster://a:٧٠٠٠",
        "cluster://a:7000\n,b",
        "cluster://me:7#000@a",
        "sentinel://a/main/-1",
        "sentinel://a/main/٢",
        "sentinel://a/main/1/2",
    ],
)
def test_a_url_of_another_form_is_refused(rest: str) -> None:
    with pytest.raises(errors.BadSettings):
        urls.parse(f"redis+{rest}")
