"""What the demo shows, and its verdict."""

from __future__ import annotations

import io
from collections import Counter

import pytest

from sigmgr.sim import display
from sigmgr.sim.stats import Stats

GOOD = {"clients": 200, "online": 200, "renewed": 40, "acked": 40, "logins": 240}
URL = "http://127.0.0.1:8080"


def test_header_has_five_lines_that_fit():
    lines = display.header(URL, 200, 2, 30)
    assert len(lines) == 5
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    for word in (URL, "200 emulated clients", "30 s", "kicked", "Ctrl-C"):
        assert word in text


def test_status_line():
    stats = Stats(**GOOD, next_expiry=1009)
    line = display.status_line(65, 1000, stats)
    assert line.startswith("01:05  online 200  renewed   40  acked   40  kicked 0")
    assert line.endswith("kicked 0  reconnects  0  next  9s")


def test_status_line_fits_in_a_terminal_and_starts_empty():
    assert "-" in display.status_line(0, 1000, Stats())
    full = Stats(**GOOD | {"renewed": 9999, "acked": 9999}, reconnects=99, kicked=9)
    full.next_expiry = 1030
    assert len(display.status_line(3599, 1000, full)) <= 80


@pytest.mark.parametrize(
    ("changes", "status", "word"),
    [
        ({}, 0, "OK"),
        ({"renewed": 0, "acked": 0}, 1, "no sig was renewed"),
        ({"kicked": 1}, 1, "1 clients were kicked"),
        ({"acked": 39}, 1, "1 renewals were never acked"),
        ({"acked": 39, "in_flight": 1}, 0, "1 in flight in the last 2 s"),
        ({"acked": 38, "in_flight": 1}, 1, "1 renewals were never acked"),
        ({"went_back": 1}, 1, "older sig was offered"),
        ({"bad_sigs": 2}, 1, "2 sigs did not verify"),
        ({"short_remaining": 3}, 0, "late 3"),
    ],
)
def test_verdict_and_summary_agree(changes, status, word):
    stats = Stats(**GOOD | changes)
    lines = display.summary(30, stats)
    assert display.verdict(stats) == status
    assert any(line.startswith("FAILED") for line in lines) == bool(status)
    assert any(word in line for line in lines)
    assert max(map(len, lines)) <= 80


def test_errors_are_named_most_frequent_first():
    stats = Stats(**GOOD, errors=Counter({"stopping": 2, "70001": 7}))
    assert "errors: 70001 7, stopping 2" in display.summary(30, stats)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_plain_where_there_is_no_terminal_and_colour_where_there_is(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    line = display.status_line(5, 1000, Stats(**GOOD, kicked=3))
    plain, terminal = io.StringIO(), Terminal()
    display.Printer(plain)(line)
    display.Printer(terminal)(line)
    assert plain.getvalue() == line + "\n"
    assert "\x1b[" in terminal.getvalue()
    assert display.coloured(line).plain == line
    spans = [(line[s.start : s.end], s.style) for s in display.coloured(line).spans]
    assert ("kicked 3", "bold red") in spans
    assert ("kicked 0", "green") not in spans
