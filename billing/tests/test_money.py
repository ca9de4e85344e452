"""Amounts as text."""

import pytest

from billing.money import InvalidAmount, format_credits, format_usd, nanos_from_credits, nanos_from_usd


@pytest.mark.parametrize(
    ("nanos", "places", "text"),
    [
        (0, 9, "0.000000000"),  # never 0E-9
        (1, 9, "0.000000001"),
        (1, 2, "0.01"),  # away from zero
        (-1, 2, "-0.01"),
        (1_230_000_000, 4, "1.2300"),
    ],
)
def test_dollars_are_plain_decimals(nanos: int, places: int, text: str) -> None:
    assert format_usd(nanos, places) == text


def test_credits_are_exact_with_four_places_at_least() -> None:
    assert [format_credits(nanos) for nanos in (0, 1, -10_000_000)] == ["0.0000", "0.0000001", "-1.0000"]


@pytest.mark.parametrize(
    ("text", "nanos"),
    [
        ("12.3456", 123_456_000),
        ("-1", -10_000_000),
        ("1.00000000", 10_000_000),
        (".5", 5_000_000),
        ("1e-07", 1),
        ("922337203685", 9_223_372_036_850_000_000),
    ],
)
def test_credits_are_read_exactly(text: str, nanos: int) -> None:
    assert nanos_from_credits(text) == nanos


@pytest.mark.parametrize(
    "text",
    [
        "", ".", "1,5", " 1", "1_000", "\uff11\uff12", "NaN", "Infinity", "0x10",
        "0.00000001",  # an eighth decimal
        "1." + "9" * 30,  # would be 2 in 28 digits
        "922337203686",
        "1e999999",  # more than a decimal may be
        "1e999990",  # a million digits: minutes of a gateway's only thread
    ],
)  # fmt: skip
def test_what_is_no_amount_is_refused_at_once(text: str) -> None:
    with pytest.raises(InvalidAmount):
        nanos_from_credits(text)


def test_an_amount_of_dollars_has_nine_decimals() -> None:
    assert nanos_from_usd("0.000000001") == 1
    with pytest.raises(InvalidAmount):
        nanos_from_usd("0.0000000001")
