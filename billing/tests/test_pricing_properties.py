"""What holds for every usage and every price."""

from fractions import Fraction

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing.pricing import COMPONENTS, LongContext, Prices, Rate, UnitPrice, Usage, breakdown, cost, worst_case
from billing.usage_counts import InvalidUsage, usage_from_openai

# Other tests run beside these: a slow draw says nothing.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

counts = st.integers(0, 10**9)
prices = st.builds(Prices, **{name: st.integers(0, 10**12) for name in COMPONENTS})
flat_rates = st.builds(
    Rate,
    model=st.just("m"),
    version=st.just(1),
    base=prices,
    tiers=st.fixed_dictionaries({"flex": prices}),
    units=st.builds(
        lambda nanos, size: {"images": UnitPrice("images", nanos, size)}, st.integers(0, 10**15), st.integers(1, 60_000)
    ),
)
rates = st.builds(
    lambda rate, threshold, base, flex: Rate(
        "m", 1, rate.base, rate.tiers, LongContext(threshold, base, {"flex": flex}), rate.units
    ),
    flat_rates,
    st.integers(1, 10**6),
    prices,
    prices,
)
usages = st.builds(
    Usage, **{name: counts for name in COMPONENTS}, units=st.fixed_dictionaries({}, optional={"images": counts})
)
tiers = st.sampled_from(["default", "flex"])


@patient
@given(usages, rates, tiers)
def test_a_cost_is_the_exact_sum_rounded_up(usage, rate, tier):
    exact = sum((Fraction(line.numerator, line.denominator) for line in breakdown(usage, rate, tier)), Fraction())
    assert 0 <= cost(usage, rate, tier) - exact < 1


@patient
@given(usages, usages, flat_rates, tiers)
def test_two_requests_cost_at_most_a_nano_more_than_one_of_both(one, other, rate, tier):
    apart = cost(one, rate, tier) + cost(other, rate, tier)
    assert apart - 1 <= cost(one + other, rate, tier) <= apart


@patient
@given(usages, flat_rates, st.sampled_from(COMPONENTS), counts)
def test_more_usage_never_costs_less(usage, rate, component, more):
    assert cost(usage + Usage(**{component: more}), rate) >= cost(usage, rate)


@patient
@given(usages, rates, tiers, counts, counts)
def test_no_request_costs_more_than_its_worst_case(usage, rate, tier, spare_input, spare_output):
    bound = worst_case(
        usage.input_tokens + spare_input,
        usage.output_tokens + spare_output,
        rate,
        tier,
        units=usage.units,
        keeps_cache_12h=True,
    )
    assert cost(usage, rate, tier) <= bound


details = st.dictionaries(
    st.sampled_from(["cached_tokens", "audio_tokens", "image_tokens", "text_tokens", "cache_write_tokens"]),
    st.none() | st.integers(0, 200),
)
reported = st.fixed_dictionaries(
    {"prompt_tokens": st.integers(0, 100), "completion_tokens": st.integers(0, 100)},
    optional={
        "total_tokens": st.integers(0, 300),
        "prompt_tokens_details": details,
        "completion_tokens_details": st.dictionaries(
            st.sampled_from(["reasoning_tokens", "audio_tokens", "image_tokens"]), st.integers(0, 200)
        ),
    },
)


@patient
@given(reported)
def test_disjoint_counts_add_up_to_the_reported_totals(raw):
    usage = usage_from_openai(raw)
    assert usage.input_tokens == raw["prompt_tokens"]
    assert usage.output_tokens == max(raw["completion_tokens"], raw.get("total_tokens", 0) - raw["prompt_tokens"])
    assert min(getattr(usage, name) for name in COMPONENTS) >= 0
    assert usage.reasoning <= usage.output


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text("ab1", max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text("ab1", max_size=3), inner, max_size=2),
    max_leaves=4,
)


@patient
@given(
    st.dictionaries(
        st.sampled_from(
            ["prompt_tokens", "completion_tokens", "total_tokens", "input_tokens", "output_tokens", "seconds", "type",
             "prompt_tokens_details", "completion_tokens_details"]
        ),
        json_values | st.dictionaries(st.sampled_from(["cached_tokens", "audio_tokens"]), json_values),
    )
)  # fmt: skip
def test_whatever_an_upstream_sends_is_usage_nothing_or_a_named_error(raw):
    try:
        usage = usage_from_openai(raw)
    except InvalidUsage:
        return
    assert usage is None or min(getattr(usage, name) for name in COMPONENTS) >= 0
