"""Numbers: all the digits of what is a number, and none of what is something else."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from batchkit.evaluation.scorers import SCORER_ERROR, read_number
from batchkit.evaluation.scorers.number_reading import SEARCHED_CHARACTERS, NumberFormat
from tests.evaluation.scored import score, scorer_of

GERMAN, SWISS, FRENCH = NumberFormat(",", "."), NumberFormat(".", "'"), NumberFormat(",", " ")
UNITS = NumberFormat(currency=True, percent=True)


@pytest.mark.parametrize(
    "text",
    [
        "3,7", "1,2,3", "roots: 1,2,3", "12,34", "0,500", "1,2345", "lines 3-7", "lines 3\u20137", "2026-11-30", "30.11.2026",
        "30/11/2026", "1/2", "10:30", "1.2.3", "v2", "H2O", "GPT-4", "1e5x", "x2", "x_2", "x^2", "10^5", "2^{10}", "x_{12}", "4\u00b2",
        "1_000", "--5", "5km", "2nd", "0x1F", "1'000", "1\u00a0000", "inf", "-inf", "nan", "Infinity", "", " ", "-", ".", "1e",
        "\\frac{3}{4}", "\\sqrt{2}", "b2b", "\u00bd", "1\u00bd", "127.0.0.1", "\u00b2", "a.5b",
    ],
)  # fmt: skip
@pytest.mark.parametrize("read", ["whole", "first", "last"])
def test_what_has_digits_may_be_no_number(text, read):
    """No digits are taken out of the middle of a list, a range, a date, a version, a formula or a name."""
    assert read_number(text, read) is None
    assert read_number(f"see {text} there", read) is None


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("5", "5"), ("-5", "-5"), ("+5", "5"), ("\u22125", "-5"), ("\u20135", "-5"), ("\u20145", "-5"), ("\uff0d\uff15", "-5"), ("5.", "5"),
        (".5", "0.5"), ("-.5", "-0.5"), ("1,234", "1234"), ("1,234,567.89", "1234567.89"), ("1234.5", "1234.5"), ("1e3", "1000"),
        ("-2.5E-3", "-0.0025"), ("**42**", "42"), ("`42`", "42"), ("_42_", "42"), ('"42".', "42"), ("\\boxed{5}", "5"), ("\\(-5\\)", "-5"),
        ("$\\boxed{\\text{5}}$", "5"), ("1\\,000", "1000"), ("1{,}000", "1000"), ("3 \\times 10^{5}", "300000"), ("3 \u00d7 10\u207b\u00b2", "0.03"),
        ("\u0663", "3"), ("1e400", "1e400"), ("007", "7"),
    ],
)  # fmt: skip
def test_a_number_is_read_in_all_its_spellings(text, number):
    """Signs, thousands, exponents, emphasis and LaTeX, alone and at the end of a sentence."""
    assert read_number(text, "whole") == Decimal(number)
    assert read_number(f"The result is {text}", "last") == Decimal(number)


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("6 x 7 is 42.", 6, 42),
        ("Between 1,000 and 2,000 people", 1000, 2000),
        ("-5 to -3", -5, -3),
        ("x=-5, y=4", -5, 4),
        ("It costs $1,234.50, or -$5 for members (3 %)", 1234.5, 3),
        ("-$5", -5, -5),
        ("$-5", -5, -5),
        ("answer:7", 7, 7),
        ("(3, 4)", 3, 4),
        ("7 (see pages 3-5 of v2)", 7, 7),
        ("\u7b54\u306f42\u3067\u3059\u3002", 42, 42),
        ("3+5=8", 8, 8),
        ("\\boxed{-1,234}", -1234, -1234),
        ("5 - 3", 5, 3),
    ],
)
def test_numbers_are_found_in_texts(text, first, last):
    """The first and the last number, without their units."""
    assert (read_number(text, "first"), read_number(text, "last")) == (first, last)


@pytest.mark.parametrize(
    ("written", "text", "number"),
    [
        (GERMAN, "3,5", "3.5"),
        (GERMAN, "1.234,5", "1234.5"),
        (GERMAN, "3.5", None),
        (SWISS, "1'234.5", "1234.5"),
        (SWISS, "1\u2019234", "1234"),
        (SWISS, "1,234", None),
        (FRENCH, "1 234,5", "1234.5"),
        (FRENCH, "-1\u202f234\u00a0567", "-1234567"),
        (FRENCH, "12 34", None),
        (NumberFormat(thousands=None), "1,234", None),
        (UNITS, "$5", "5"),
        (UNITS, "-$1,234.50", "-1234.5"),
        (UNITS, "\u20ac 5", "5"),
        (UNITS, "5 EUR", "5"),
        (UNITS, "US$5", "5"),
        (UNITS, "3 %", "3"),
        (UNITS, "3\\%", "3"),
        (UNITS, "GPT 5", None),
        (NumberFormat(currency=True), "3 %", None),
        (NumberFormat(percent=True), "$5", None),
        (NumberFormat(), "$5", None),
        (NumberFormat(), "3 %", None),
    ],
)
def test_a_number_is_read_as_it_is_said_to_be_written(written, text, number):
    """The signs of a locale, and units only where they are declared."""
    assert read_number(text, "whole", written) == (None if number is None else Decimal(number))


@pytest.mark.parametrize(
    ("config", "given_value", "truth", "expected"),
    [
        ({}, "12", 12, 1),
        ({"relative": 0}, 10**18 + 1, 10**18, 0),
        ({"relative": 0}, str(10**30 + 1), Decimal(10**30 + 1), 1),
        ({"relative": 0}, str(10**30 + 1), Decimal(10**30), 0),
        ({"relative": 0}, "0.1", 0.1, 1),
        ({"relative": 0}, "0.30000000000000000001", "0.3", 0),
        ({"relative": 0, "absolute": 0.1}, "0.4", "0.3", 1),
        ({"relative": 0, "absolute": 0.1}, "0.40000000000000000000000000000000001", "0.3", 0),
        ({}, "1e999999999", "1", 0),
        ({}, "-5", 5, 0),
        ({"decimal": ","}, "3,5", "3,50", 1),
        ({"decimal": ","}, "3,5", 3.5, 1),
        ({"decimal": ","}, "3.5", 3.5, 0),
        ({"decimal": ",", "thousands": " "}, "1 234,5", 1234.5, 1),
        ({"currency": True}, "$5", "5 USD", 1),
        ({"percent": True}, "3 %", 3, 1),
        ({"percent": True}, "3 %", 0.03, 0),
        ({}, True, 1, 0),
        ({}, float("inf"), 1, 0),
        ({}, None, 1, 0),
        ({}, "", 1, 0),
    ],
)
def test_numbers_are_compared_with_all_their_digits(config, given_value, truth, expected):
    """Within the tolerance and not a digit further, of whatever type and size."""
    found = score({"kind": "number", **config}, given_value, truth, text="")
    assert (found.value, found.reason) == (expected, None)


def test_integers_of_any_size_are_compared():
    """They have more digits than Python writes at once."""
    large = 10**5000
    config = {"kind": "number", "relative": 0}
    assert [score(config, large, truth).value for truth in (large, large + 1)] == [1, 0]
    assert read_number("-" + "1" * 40, "whole") == -int("1" * 40)


def test_a_float_has_the_digits_of_its_text():
    """An answer that is read as a float has lost digits; its text has them."""
    config = {"kind": "number", "relative": 0}
    assert score(config, 1e20, str(10**20 + 1), text=str(10**20 + 1)).value == 1
    assert score(config, 1e20, str(10**20 + 1), text="1e20").value == 0


@pytest.mark.parametrize("truth", ["three", "inf", float("inf"), True, "3,5", "5 %", "1-2"])
def test_an_expected_value_that_is_no_number_decides_nothing(truth):
    """By the same rules as the answer."""
    found = score("number", "3", truth)
    assert (found.value, found.reason) == (None, SCORER_ERROR)
    assert "is not a number" in (found.detail or "")


def test_one_sign_cannot_mean_two_things():
    """The decimal sign is not the sign between thousands."""
    with pytest.raises(ValidationError, match="either the decimal sign or"):
        scorer_of({"kind": "number", "thousands": "."})
    assert scorer_of({"kind": "number", "decimal": ","}).written == GERMAN
    assert scorer_of({"kind": "number", "thousands": "none"}).written == NumberFormat(thousands=None)


def test_long_texts_are_searched_at_their_ends():
    """The number at the edge of what is searched is whole or not read."""
    long = "7 " + "word " * SEARCHED_CHARACTERS + "8"
    assert [read_number(long, "first"), read_number(long, "last")] == [7, 8]
    assert read_number(long, "whole") is None
    assert read_number("9" * 10_000_000, "last") is None
    assert read_number("x" * (SEARCHED_CHARACTERS - 3) + " 12345", "first") is None
    assert read_number("12345 " + "x" * (SEARCHED_CHARACTERS - 3), "last") is None
    cut = "x " + "1" * 5 + "," + "2" * (SEARCHED_CHARACTERS - 3)
    assert read_number(cut, "last") is None


@given(
    st.one_of(
        st.integers(),
        st.decimals(allow_nan=False, allow_infinity=False),
        st.floats(allow_nan=False, allow_infinity=False),
    )
)
def test_every_number_is_itself(number):
    """Whether it is typed or a text, and with an English grouping."""
    config = {"kind": "number", "relative": 0}
    assert score(config, number, number, text=None).value == 1
    written = repr(number) if isinstance(number, float) else str(number)
    assert score(config, written, number).value == 1
    if isinstance(number, int):
        assert read_number(f"{number:,}", "whole") == number
        assert read_number(f"about {number:,}.", "last") == number
