"""Addresses as settings write them: what is refused says what to write."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigmgr.model.addresses import every_port, network_of, origin_of


@pytest.mark.parametrize(
    "text",
    ["*", "https://a.example", "http://a.example:8080", "https://a.example:80", "http://[::1]:3000",
     "http://localhost:*", "https://127.0.0.1:*", "http://[::1]:*", "https://xn--bcher-kva.example"],
)  # fmt: skip
def test_origins_as_browsers_send_them(text):
    assert origin_of(text) == text


@pytest.mark.parametrize(
    ("text", "write"),
    [
        ("https://a.example/", "https://a.example;"),
        ("https://a.example/app?x=1", "https://a.example;"),
        ("HTTPS://A.Example", "https://a.example;"),
        ("https://a.example:443", "https://a.example;"),
        ("http://a.example:80/x", "http://a.example;"),
        ("https://user:secret@a.example", "https://a.example;"),
        ("a.example", "such as https://app.example.com"),
        ("a.example:8080", "such as"),
        ("//a.example", "such as"),
        ("file:///x", "such as"),
        ("null", "such as"),
        ("", "such as"),
        ("https://", "such as"),
        ("https://a.example:99999", "such as"),
        ("https://b\u00fccher.example", "such as"),
        ("https://*.example", "such as"),
        ("https://a.example:*", "such as"),
        ("http://localhost.evil:*", "such as"),
    ],
)
def test_an_origin_that_no_browser_sends(text, write):
    with pytest.raises(ValueError, match="write") as refused:
        origin_of(text)
    assert write in str(refused.value)
    assert "secret" not in str(refused.value)


@given(st.text(max_size=40))
def test_what_is_taken_is_taken_again_and_all_else_is_a_value_error(text):
    try:
        taken = origin_of(text)
    except ValueError:
        return
    assert taken == origin_of(taken) == text


@given(st.text(max_size=30))
def test_every_port_is_of_this_machine(text):
    assert not every_port(f"http://{text}.example:*")


@pytest.mark.parametrize("text", ["10.0.0.0/8", "192.0.2.7", "::1", "2001:db8::/32"])
def test_networks(text):
    assert str(network_of(text)).removesuffix("/32").removesuffix("/128").startswith(text[:7])


@pytest.mark.parametrize(
    ("text", "write"),
    [("10.1.2.3/8", "write 10.0.0.0/8"), ("proxy.internal", "such as 10.0.0.0/8"), ("", "such as"),
     ("10.0.0.0/99", "such as"), ("*", "such as")],
)  # fmt: skip
def test_what_is_no_network(text, write):
    with pytest.raises(ValueError, match="write") as refused:
        network_of(text)
    assert write in str(refused.value)
