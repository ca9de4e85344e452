"""Prices and costs, by hand. Rates are in nano-dollars per million: $1 per million tokens is 1,000,000,000."""

import pytest

from billing.pricing import (
    Line,
    LongContext,
    Prices,
    Rate,
    UnitPrice,
    Unpriced,
    Usage,
    breakdown,
    cost,
    worst_case,
)

USD = 1_000_000_000

# gpt-4o-mini: 0.15 / 0.075 / 0.60; priority 0.25 / 0.125 / 1.
MINI = Rate(
    "mini",
    7,
    Prices(input=150_000_000, cached_input=75_000_000, output=600_000_000),
    tiers={"priority": Prices(input=250_000_000, cached_input=125_000_000, output=USD)},
)
# gpt-6.1-sol: 2 / 0.10 / 10, cache write 2.50, 12 h 5; above 272,000 input tokens 4 / 0.20 / 15, cache write 5.
SOL = Rate(
    "sol",
    8,
    Prices(
        input=2 * USD,
        cached_input=100_000_000,
        cache_write=2_500_000_000,
        cache_write_12h=5 * USD,
        output=10 * USD,
    ),
    tiers={"flex": Prices(input=USD, cached_input=50_000_000, cache_write=1_250_000_000, output=5 * USD)},
    long_context=LongContext(
        272_000,
        Prices(input=4 * USD, cached_input=200_000_000, cache_write=5 * USD, output=15 * USD),
        {"flex": Prices(input=4 * USD, cached_input=200_000_000, cache_write=5 * USD, output=15 * USD)},
    ),
)
REALTIME = Rate(
    "realtime",
    9,
    Prices(
        input=4 * USD,
        cached_input=400_000_000,
        output=24 * USD,
        audio_input=32 * USD,
        cached_audio_input=400_000_000,
        audio_output=64 * USD,
        image_input=5 * USD,
    ),
)


@pytest.mark.parametrize(
    ("usage", "rate", "tier", "nanos"),
    [
        # 19 × 150 + 10 × 600 nano-dollars.
        (Usage(input=19, output=10), MINI, "default", 8_850),
        # 1,000 × 150 + 1,024 × 75 + 100 × 600.
        (Usage(input=1_000, cached_input=1_024, output=100), MINI, "default", 286_800),
        # 1,000 × 250 + 1,024 × 125 + 100 × 1,000.
        (Usage(input=1_000, cached_input=1_024, output=100), MINI, "priority", 478_000),
        (Usage(input=1_000, cached_input=1_024, output=100), MINI, "fast", 478_000),
        (Usage(input=19, output=10), MINI, "auto", 8_850),
        (Usage(input=19, output=10), MINI, "", 8_850),
        # 100 × 2,000 + 200 × 100 + 300 × 2,500 + 40 × 5,000 + 50 × 10,000.
        (
            Usage(input=100, cached_input=200, cache_write=300, cache_write_12h=40, output=50),
            SOL,
            "default",
            1_670_000,
        ),
        # The threshold itself is not above the threshold: 272,000 × 2,000 + 10,000.
        (Usage(input=272_000, output=1), SOL, "default", 544_010_000),
        # One token more prices the whole request by the long row: 272,001 × 4,000 + 15,000.
        (Usage(input=272_001, output=1), SOL, "default", 1_088_019_000),
        # Cached tokens count towards the threshold: 1 × 4,000 + 272,000 × 200 + 15,000.
        (Usage(input=1, cached_input=272_000, output=1), SOL, "default", 54_419_000),
        (Usage(input=1_000, output=100), SOL, "flex", 1_500_000),
        # 10 × 4,000 + 100 × 32,000 + 300 × 400 + 20 × 24,000 + 50 × 64,000.
        (
            Usage(input=10, audio_input=100, cached_audio_input=300, output=20, audio_output=50),
            REALTIME,
            "default",
            7_040_000,
        ),
        # A cached image token without a price of its own costs what an image token costs: 7 × 5,000.
        (Usage(cached_image_input=7), REALTIME, "default", 35_000),
        (Usage(), MINI, "default", 0),
        # Reasoning is inside output.
        (Usage(output=10, reasoning=9), MINI, "default", 6_000),
    ],
)
def test_a_usage_costs_what_the_price_row_says(usage, rate, tier, nanos):
    assert cost(usage, rate, tier) == nanos


def test_the_total_is_rounded_up_once():
    # 0.3 nano-dollars a token.
    rate = Rate("cheap", 1, Prices(input=300_000, output=300_000))
    assert cost(Usage(input=1, output=1), rate) == 1  # 0.6, where two roundings would make 2
    assert cost(Usage(input=3, output=1), rate) == 2  # 1.2
    assert cost(Usage(input=10), rate) == 3  # exactly 3


def test_a_cached_token_without_a_price_costs_as_input_and_never_nothing():
    rate = Rate("plain", 1, Prices(input=2 * USD, output=3 * USD))
    assert cost(Usage(cached_input=5), rate) == 10_000
    assert cost(Usage(cache_write=5), rate) == 10_000
    assert cost(Usage(cache_write_12h=5), rate) == 10_000


def test_a_listed_zero_is_free():
    free = Rate("moderation", 1, Prices(input=0, output=0))
    assert cost(Usage(input=1_000), free) == 0
    assert worst_case(1_000, 0, free) == 0


@pytest.mark.parametrize(
    ("usage", "tier", "unit"),
    [
        (Usage(audio_input=1), "default", "audio_input"),
        (Usage(image_output=1), "default", "image_output"),
        (Usage(units={"images": 1}), "default", "images"),
        (Usage(input=1), "flex", "service_tier flex"),
        (Usage(input=1), "scale", "service_tier scale"),
    ],
)
def test_what_has_no_price_is_refused(usage, tier, unit):
    with pytest.raises(Unpriced) as refusal:
        cost(usage, MINI, tier)
    assert (refusal.value.model, refusal.value.unit) == ("mini", unit)


def test_a_kind_that_was_not_used_needs_no_price():
    embedding = Rate("embed", 1, Prices(input=20_000_000))
    assert cost(Usage(input=2), embedding) == 40


def test_units_that_are_not_tokens_have_their_own_prices():
    # 0.000205 USD a minute: 205,000 nano-dollars for 60,000 ms, which does not divide: 10,250,000 per million × 3 ms.
    speech = Rate("melotts", 1, Prices(), units={"milliseconds": UnitPrice("milliseconds", 10_250_000, 3)})
    assert cost(Usage(units={"milliseconds": 60_000}), speech) == 205_000
    assert cost(Usage(units={"milliseconds": 1}), speech) == 4  # 3.4166…
    # 0.04 USD an image and 2 USD per million tokens of text: 3 × 40,000,000 + 5 × 2,000.
    image = Rate("image", 1, Prices(input=2 * USD), units={"images": UnitPrice("images", 40_000_000_000_000)})
    assert cost(Usage(input=5, units={"images": 3}), image) == 120_010_000


def test_tokens_and_fractions_of_units_are_added_before_rounding():
    rate = Rate("mixed", 1, Prices(input=500_000), units={"milliseconds": UnitPrice("milliseconds", 1_000_000, 3)})
    # Half a nano-dollar and a third of one.
    assert cost(Usage(input=1, units={"milliseconds": 1}), rate) == 1


def test_the_breakdown_shows_each_kind_that_was_used():
    lines = breakdown(Usage(input=100, cached_input=200, output=50, reasoning=20), SOL)
    assert lines == [
        Line("input", 100, 2 * USD),
        Line("cached_input", 200, 100_000_000),
        Line("output", 50, 10 * USD),
    ]
    assert [line.numerator for line in lines] == [200_000_000_000, 20_000_000_000, 500_000_000_000]
    assert {line.denominator for line in lines} == {1_000_000}


def test_the_breakdown_shows_units_with_their_size():
    speech = Rate("melotts", 1, Prices(), units={"milliseconds": UnitPrice("milliseconds", 10_250_000, 3)})
    (line,) = breakdown(Usage(units={"milliseconds": 60_000}), speech)
    assert (line.numerator, line.denominator) == (615_000_000_000, 3_000_000)


@pytest.mark.parametrize(
    ("input_tokens", "output_tokens", "rate", "tier", "nanos"),
    [
        # 100 × 150 + 4,096 × 600.
        (100, 4_096, MINI, "default", 2_472_600),
        (100, 4_096, MINI, "priority", 4_121_000),
        (100, 0, MINI, "default", 15_000),
        (0, 0, MINI, "default", 0),
        # Input may all be written to the cache: 1,000 × 2,500 + 10 × 10,000.
        (1_000, 10, SOL, "default", 2_600_000),
        # A bound above the threshold: 300,000 × 5,000 + 10 × 15,000.
        (300_000, 10, SOL, "default", 1_500_150_000),
        (1_000, 10, SOL, "flex", 1_300_000),
        # Audio is the dearest kind: 10 × 32,000 + 10 × 64,000.
        (10, 10, REALTIME, "default", 960_000),
    ],
)
def test_a_hold_covers_the_dearest_that_a_request_can_become(input_tokens, output_tokens, rate, tier, nanos):
    assert worst_case(input_tokens, output_tokens, rate, tier) == nanos


def test_a_hold_covers_twelve_hour_cache_writes_where_they_are_asked_for():
    assert worst_case(1_000, 0, SOL, keeps_cache_12h=True) == 5_000_000


def test_a_hold_counts_units():
    image = Rate("image", 1, Prices(input=2 * USD), units={"images": UnitPrice("images", 40_000_000_000_000)})
    assert worst_case(10, 0, image, units={"images": 2}) == 80_020_000


@pytest.mark.parametrize(("tokens", "tier"), [((1, 1), "flex"), ((1, 1), "nonsense")])
def test_a_hold_in_a_tier_without_prices_is_refused(tokens, tier):
    with pytest.raises(Unpriced):
        worst_case(*tokens, MINI, tier)


def test_a_hold_for_output_without_a_price_is_refused():
    with pytest.raises(Unpriced):
        worst_case(1, 1, Rate("embed", 1, Prices(input=1)))


@pytest.mark.parametrize(("tier", "has"), [("fast", True), ("priority", True), ("auto", True), ("flex", False)])
def test_a_rate_knows_its_tiers(tier, has):
    assert MINI.has_tier(tier) is has


def test_usage_counts_subsets_inside_their_totals():
    usage = Usage(
        input=1, cached_input=2, cache_write=3, cache_write_12h=4, audio_input=5, cached_audio_input=6,
        image_input=7, cached_image_input=8, output=9, audio_output=10, image_output=11, reasoning=9,
        units={"images": 2},
    )  # fmt: skip
    assert usage.columns() == {
        "input_tokens": 36,
        "cached_tokens": 16,
        "cache_write_tokens": 7,
        "output_tokens": 30,
        "reasoning_tokens": 9,
        "audio_input_tokens": 11,
        "audio_output_tokens": 10,
        "image_input_tokens": 15,
        "image_output_tokens": 11,
        "units": {"images": 2},
    }
    assert usage.total_tokens == 66
    assert (usage + Usage(input=1, units={"steps": 3})).units == {"images": 2, "steps": 3}
