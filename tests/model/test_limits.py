"""Limits: one range in all texts, and a number beyond all measure is not repeated."""

from __future__ import annotations

import re

import pytest

from sigmgr.model import errors, usersig
from sigmgr.model.holder import check_privileges, check_room, check_sdkappid
from sigmgr.model.policy import DAY, check_ttl
from sigmgr.model.ttl import MAX_TTL, MIN_TTL
from tests.model.usersig_kit import HMAC, V2


@pytest.mark.parametrize("check", [check_ttl, check_sdkappid, check_privileges, check_room])
@pytest.mark.parametrize("number", [-(10**100), 10**100, 10**6000], ids=["least", "most", "huge"])
def test_numbers_beyond_all_measure_are_not_repeated(check, number) -> None:
    with pytest.raises(errors.InputError) as caught:
        check(number)
    assert "a number of too many digits" in caught.value.text


@pytest.mark.parametrize("ttl", [MIN_TTL - 1, MAX_TTL + 1])
def test_a_lifetime_has_one_range_in_text_advice_and_code(ttl: int) -> None:
    answer = [check_ttl, lambda ttl: usersig.sign(V2._replace(ttl=ttl), HMAC)]
    for refuse in answer:
        with pytest.raises(errors.BadTtl) as caught:
            refuse(ttl)
        assert re.findall(r"\d+ to \d+", caught.value.text) == [f"{MIN_TTL} to {MAX_TTL}"]
        assert re.findall(r"\d+ to \d+", caught.value.advice) == [f"{MIN_TTL} to {MAX_TTL}"]


def test_a_lifetime_may_be_ten_seconds_and_the_ten_years_of_its_advice() -> None:
    assert "(ten years)" in errors.BadTtl.advice
    assert check_ttl(10) == 10
    assert check_ttl(10 * 365 * DAY) == 10 * 365 * DAY
    with pytest.raises(errors.BadTtl):
        check_ttl(10 * 365 * DAY + 1)


@pytest.mark.parametrize("ttl", [MIN_TTL, MAX_TTL])
def test_the_ends_of_the_range_are_in_it(ttl: int) -> None:
    assert check_ttl(ttl) == ttl
    assert usersig.decode(usersig.sign(V2._replace(ttl=ttl), HMAC)).ttl == ttl
