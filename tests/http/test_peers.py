"""Who is at the other end: proxies are believed where they are trusted, and nobody else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigmgr.http.peers import Peers

TRUSTED = Peers(["10.0.0.0/8", "2001:db8::/32", "192.0.2.1"])


def scope(host, *headers, scheme="http"):
    client = None if host is None else (host, 1234)
    named = [(name.encode(), value.encode()) for name, value in headers]
    return {"client": client, "headers": named, "scheme": scheme}


def through(host, *values):
    return scope(host, *(("x-forwarded-for", value) for value in values))


@pytest.mark.parametrize("peers", [Peers(), TRUSTED])
def test_a_stranger_names_himself_in_vain(peers):
    request = scope("198.51.100.9", ("x-forwarded-for", "1.1.1.1"), ("x-forwarded-proto", "https"))
    assert peers.client(request) == "198.51.100.9"
    assert peers.scheme(request) == "http"


@pytest.mark.parametrize(
    ("values", "client"),
    [
        (["198.51.100.9"], "198.51.100.9"),
        (["1.1.1.1, 198.51.100.9"], "198.51.100.9"),
        (["1.1.1.1", "198.51.100.9, 10.2.3.4"], "198.51.100.9"),
        (["198.51.100.9:5555"], "198.51.100.9"),
        (["[2001:db9::7]:5555"], "2001:db9::7"),
        (["2001:db9::7"], "2001:db9::7"),
        (["::ffff:198.51.100.9"], "198.51.100.9"),
        (["10.9.9.9, 10.2.3.4"], "10.9.9.9"),
        (["1.1.1.1, unknown, 10.2.3.4"], "10.2.3.4"),
        (["unknown"], "10.0.0.1"),
        (["1.1.1.1, "], "10.0.0.1"),
        ([], "10.0.0.1"),
    ],
)
def test_a_trusted_proxy_names_the_nearest_that_is_not(values, client):
    assert TRUSTED.client(through("10.0.0.1", *values)) == client
    assert TRUSTED.client(through("::ffff:10.0.0.1", *values)) in (client, "::ffff:10.0.0.1")


def test_a_single_address_and_ipv6_are_trusted_too():
    assert TRUSTED.client(through("192.0.2.1", "1.1.1.1")) == "1.1.1.1"
    assert TRUSTED.client(through("192.0.2.2", "1.1.1.1")) == "192.0.2.2"
    assert TRUSTED.client(through("2001:db8::5", "1.1.1.1")) == "1.1.1.1"


@pytest.mark.parametrize(
    ("answer", "scheme"),
    [(["https"], "https"), (["http"], "http"), (["HTTPS"], "http"), (["ftp"], "http"),
     (["https, http"], "http"), (["https", "https"], "http"), ([], "http")],
)  # fmt: skip
def test_the_scheme_is_one_plain_word(answer, scheme):
    request = scope("10.0.0.1", *(("x-forwarded-proto", one) for one in answer))
    assert TRUSTED.scheme(request) == scheme


@pytest.mark.parametrize("host", [None, "", "not an address"])
def test_a_connection_without_an_address(host):
    request = scope(host, ("x-forwarded-for", "1.1.1.1"))
    assert TRUSTED.client(request) == (host or "")
    assert TRUSTED.block(request) == (host or "")


def test_ipv6_clients_are_counted_by_what_one_customer_has():
    one, other = scope("2001:db9:1:2::1"), scope("2001:db9:1:2:ffff::9")
    assert TRUSTED.block(one) == TRUSTED.block(other) == "2001:db9:1:2::/64"
    assert TRUSTED.block(scope("2001:db9:1:3::1")) != TRUSTED.block(one)
    assert TRUSTED.block(scope("::ffff:1.2.3.4")) == TRUSTED.block(scope("1.2.3.4")) == "1.2.3.4"


addresses = st.one_of(st.ip_addresses().map(str), st.text(max_size=12))


@given(st.lists(addresses, max_size=6), st.ip_addresses(v=4).map(str))
def test_a_client_cannot_choose_what_it_is_counted_by(forged, real):
    """Whatever it sends, the proxy writes its address last."""
    line = ",".join([*forged, real]).encode("latin-1", "replace").decode("latin-1")
    request = through("10.0.0.1", line)
    if not real.startswith("10.") and real != "192.0.2.1":
        assert TRUSTED.block(request) == real
