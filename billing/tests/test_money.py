"""Amounts as text."""

import pytest

from billing.money import format_credits, format_usd


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
