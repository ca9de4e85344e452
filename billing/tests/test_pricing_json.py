"""Prices as JSON become integers, exactly or not at all."""

import pytest

from billing.pricing import LongContext, Prices, Rate, UnitPrice, Usage, cost
from billing.rate_json import InvalidRates, parse

USD = 1_000_000_000


def test_decimal_strings_become_nano_dollars_per_million():
    assert parse("m", {"input": "0.15", "cached_input": "0.075", "output": "0.6"}, version=3) == Rate(
        "m", 3, Prices(input=150_000_000, cached_input=75_000_000, output=600_000_000)
    )


def test_null_is_no_price_and_zero_is_free():
    assert parse("m", {"input": "0", "output": None}).base == Prices(input=0)


def test_a_tier_takes_the_dearer_price_for_what_it_leaves_out():
    rate = parse(
        "m",
        {
            "input": "2", "cached_input": "0.5", "output": "8", "audio_input": "40",
            "tiers": {"priority": {"input": "3.5", "output": "14"}, "flex": {"input": "1", "output": "4"}},
        },
    )  # fmt: skip
    # Cached: the tier's own input (3.50) is above the base's cached price (0.50); audio: only the base row knows it.
    assert rate.tiers["priority"] == Prices(
        input=3_500_000_000, cached_input=3_500_000_000, cache_write=3_500_000_000, cache_write_12h=3_500_000_000,
        audio_input=40 * USD, cached_audio_input=None, output=14 * USD,
    )  # fmt: skip
    assert rate.tiers["flex"].cached_input == USD


def test_twelve_hour_writes_keep_their_ratio_in_tiers_and_long_rows():
    rate = parse(
        "m",
        {
            "input": "2", "cache_write": "2.5", "cache_write_12h": "5", "output": "10",
            "tiers": {"priority": {"input": "4", "cache_write": "5", "output": "20"}},
            "long_context": {"threshold": 272000, "input": "4", "cache_write": "5", "output": "15"},
        },
    )  # fmt: skip
    assert rate.tiers["priority"].cache_write_12h == 10 * USD
    assert rate.long_context.base.cache_write_12h == 10 * USD


def test_a_long_request_in_a_tier_takes_the_dearer_of_both_rows():
    rate = parse(
        "m",
        {
            "input": "2", "output": "10",
            "tiers": {"priority": {"input": "5", "output": "12"}, "flex": {"input": "1", "output": "5"}},
            "long_context": {
                "threshold": 100, "input": "4", "output": "15", "tiers": {"flex": {"input": "2", "output": "7.5"}}
            },
        },
    )  # fmt: skip
    usage = Usage(input=101, output=10)
    assert cost(usage, rate, "priority") == 101 * 5_000 + 10 * 15_000
    assert cost(usage, rate, "flex") == 101 * 2_000 + 10 * 7_500
    assert cost(usage, rate) == 101 * 4_000 + 10 * 15_000
    assert isinstance(rate.long_context, LongContext)


@pytest.mark.parametrize(
    ("name", "price", "unit"),
    [
        ("minute", "0.006", UnitPrice("milliseconds", 100_000_000)),
        ("minute", "0.000205", UnitPrice("milliseconds", 10_250_000, 3)),
        ("second", "0.1", UnitPrice("milliseconds", 100_000_000_000)),
        ("million_characters", "15", UnitPrice("characters", 15 * USD)),
        ("image", "0.0006352", UnitPrice("images", 635_200_000_000)),
        ("web_search_call", "0.01", UnitPrice("web_search_calls", 10_000_000_000_000)),
    ],
)
def test_units_are_priced_by_their_meter(name, price, unit):
    assert parse("m", {"units": {name: price}}).units == {unit.meter: unit}


def test_a_minute_costs_what_it_says():
    whisper = parse("whisper", {"units": {"minute": "0.006"}})
    assert cost(Usage(units={"milliseconds": 27_000}), whisper) == 2_700_000
    resnet = parse("resnet", {"units": {"image": "0.00000251"}})
    assert cost(Usage(units={"images": 1_000_000}), resnet) == 2_510_000_000


def test_estimates_are_rounded_up():
    assert parse("m", {"input": "1", "estimates": {"low 1024x1024": "0.0110000001"}}).estimates == {
        "low 1024x1024": 11_000_001
    }


@pytest.mark.parametrize(
    ("rates", "field"),
    [
        ({"input": 0.15}, "input"),
        ({"input": True}, "input"),
        ({"input": "cheap"}, "input"),
        ({"input": ""}, "input"),
        ({"input": "-1"}, "input"),
        ({"input": "NaN"}, "input"),
        ({"input": "Infinity"}, "input"),
        ({"input": "1e9"}, "input"),
        ({"input": "0.0000000001"}, "input"),
        ({"input": "0.12345678901234567890"}, "input"),
        ({"input": "1", "inptu": "2"}, "inptu"),
        ({"input": "1", "tiers": []}, "tiers"),
        ({"input": "1", "tiers": {"flex": {"inptu": "2"}}}, "tiers.flex.inptu"),
        ({"input": "1", "tiers": {"flex": {"input": 1.5}}}, "tiers.flex.input"),
        ({"input": "1", "long_context": {"input": "2"}}, "long_context.threshold"),
        ({"input": "1", "long_context": {"threshold": True, "input": "2"}}, "long_context.threshold"),
        ({"input": "1", "long_context": {"threshold": 5, "output": "x"}}, "long_context.output"),
        ({"units": {"parsec": "1"}}, "units.parsec"),
        ({"units": {"minute": "1", "second": "2"}}, "units.second"),
        ({}, "rates"),
        ([], "rates"),
        ("0.15", "rates"),
        ({"output": None}, "rates"),
    ],
)
def test_wrong_prices_are_refused_by_name(rates, field):
    with pytest.raises(InvalidRates) as refusal:
        parse("gpt-x", rates)
    assert (refusal.value.model, refusal.value.field) == ("gpt-x", field)
    assert "\n" not in str(refusal.value)
