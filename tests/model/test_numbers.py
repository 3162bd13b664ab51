"""Numbers as people write them: plain digits, or told so."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigmgr.model.numbers import between, decimal, natural, whole


@given(st.integers(-(10**18) + 1, 10**18 - 1))
def test_plain_digits_are_a_number(number: int) -> None:
    assert whole(str(number)) == whole(number) == number


@pytest.mark.parametrize("text", ["1.0", "1_0", "+1", "01", " 1", "1 ", "", "-", "١", "1" * 19])
def test_other_spellings_are_told(text: str) -> None:
    with pytest.raises(ValueError, match="no number in plain digits"):
        whole(text)


def test_a_natural_number_is_not_negative() -> None:
    assert (natural("0"), natural(7)) == (0, 7)
    with pytest.raises(ValueError, match="0 or more"):
        natural("-1")


def test_bounds_belong_to_what_is_taken() -> None:
    within = between(2, 4)
    assert [within("2"), within("3"), within(4)] == [2, 3, 4]
    with pytest.raises(ValueError, match="greater than or equal to 2"):
        within("1")
    with pytest.raises(ValueError, match="less than or equal to 4"):
        within("5")
    assert between(2)("99") == 99


@pytest.mark.parametrize(("text", "number"), [("0.6", 0.6), ("-5", -5.0), ("7", 7.0), (0.25, 0.25)])
def test_a_decimal_may_have_a_point(text: str | float, number: float) -> None:
    assert decimal(text) == number


@pytest.mark.parametrize("text", ["1e3", "nan", ".5", "5.", "1_0", "inf", "0.6 "])
def test_other_decimals_are_told(text: str) -> None:
    with pytest.raises(ValueError, match=r"such as 5 or 0\.6"):
        decimal(text)
