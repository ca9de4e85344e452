"""What usage costs: pure integer arithmetic on nano-dollars per million units, rounded up once, on the total.

Prices never have a default of 0: a price that is missing is `Unpriced`, and an explicit 0 is free.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from math import lcm
from operator import attrgetter
from typing import Final

from billing.usage_counts import (
    COMPONENTS,
    INPUT_COMPONENTS,
    NO_UNITS,
    OUTPUT_COMPONENTS,
    InvalidUsage,
    Usage,
    usage_from_openai,
)

__all__ = [
    "COMPONENTS", "InvalidUsage", "Line", "LongContext", "Prices", "Rate", "UnitPrice", "Unpriced", "Usage",
    "breakdown", "cost", "usage_from_openai", "worst_case",
]  # fmt: skip

MILLION: Final = 1_000_000

# A kind without a price of its own costs what these tokens cost where nothing is known of caching: more, never nothing.
FALLBACKS = {
    "cached_input": "input",
    "cache_write": "input",
    "cache_write_12h": "cache_write",
    "cached_audio_input": "audio_input",
    "cached_image_input": "image_input",
}
DEFAULT_TIERS = frozenset({"", "default", "auto", "standard", "standard_only"})
_SAME_TIER = {"fast": "priority"}
_counts_of = attrgetter(*COMPONENTS)
# The prices of a row by what they are for; all input but the 12-hour cache, which a request must ask for.
_hold_input_of = attrgetter(*(name for name in INPUT_COMPONENTS if name != "cache_write_12h"))
_input_of = attrgetter(*INPUT_COMPONENTS)
_output_of = attrgetter(*OUTPUT_COMPONENTS)


class Unpriced(LookupError):
    """The usage has a kind of unit, or a service tier, for which the model has no price."""

    def __init__(self, model: str, unit: str) -> None:
        super().__init__(f"{model} has no price for {unit}")
        self.model = model
        self.unit = unit


@dataclass(frozen=True, slots=True)
class Prices:
    """Nano-dollars per million tokens of each kind. None: no price, which is not 0."""

    input: int | None = None
    cached_input: int | None = None
    cache_write: int | None = None
    cache_write_12h: int | None = None
    audio_input: int | None = None
    cached_audio_input: int | None = None
    image_input: int | None = None
    cached_image_input: int | None = None
    output: int | None = None
    audio_output: int | None = None
    image_output: int | None = None

    def of(self, component: str) -> int | None:
        """The price of `component`, or of what it falls back to."""
        price: int | None = getattr(self, component)
        while price is None and component in FALLBACKS:
            component = FALLBACKS[component]
            price = getattr(self, component)
        return price


@dataclass(frozen=True, slots=True)
class UnitPrice:
    """The price of what is not a token: `nanos_per_million` for a million times `size` of `meter`.

    `size` is 1 unless the price does not divide: 0.000205 USD a minute are 10,250,000 n$ for a million times 3 ms.
    """

    meter: str
    nanos_per_million: int
    size: int = 1


@dataclass(frozen=True, slots=True)
class LongContext:
    """The prices of the whole request where its input tokens exceed `threshold`."""

    threshold: int
    base: Prices
    tiers: Mapping[str, Prices] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rate:
    """A model's prices from a date on. `version` is the id of the price's row.

    `units` are by meter; `estimates` are nano-dollars of one named thing, for holds only.
    """

    model: str
    version: int
    base: Prices
    tiers: Mapping[str, Prices] = field(default_factory=dict)
    long_context: LongContext | None = None
    units: Mapping[str, UnitPrice] = field(default_factory=dict)
    estimates: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_free(self) -> bool:
        """Whether everything that has a price has one of 0."""
        tokens = (getattr(self.base, component) for component in COMPONENTS)
        return not any(tokens) and not any(unit.nanos_per_million for unit in self.units.values())

    def has_tier(self, tier: str) -> bool:
        tier = _SAME_TIER.get(tier, tier)
        return tier in DEFAULT_TIERS or tier in self.tiers

    def prices(self, tier: str, input_tokens: int) -> Prices:
        """The row that prices a request with `input_tokens` in all. A tier without prices is `Unpriced`."""
        tier = _SAME_TIER.get(tier, tier)
        is_long = self.long_context is not None and input_tokens > self.long_context.threshold
        base, tiers = self.base, self.tiers
        if self.long_context is not None and is_long:
            base, tiers = self.long_context.base, self.long_context.tiers
        if tier in DEFAULT_TIERS:
            return base
        if tier not in tiers:
            raise Unpriced(self.model, f"service_tier {tier}")
        return tiers[tier]


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a receipt: it costs exactly `numerator / denominator` nano-dollars."""

    component: str
    quantity: int
    nanos_per_million: int
    size: int = 1

    @property
    def numerator(self) -> int:
        return self.quantity * self.nanos_per_million

    @property
    def denominator(self) -> int:
        return MILLION * self.size


def cost(usage: Usage, rate: Rate, tier: str = "default") -> int:
    """Price of `usage` in nano-dollars, rounded up once, on the total. Raises `Unpriced`."""
    numerator = sum(quantity * price for _, quantity, price in _token_lines(usage, rate, tier))
    if not usage.units:
        return -(-numerator // MILLION)
    lines = list(_unit_lines(usage, rate))
    scale = lcm(*(line.size for line in lines))
    numerator = numerator * scale + sum(line.numerator * (scale // line.size) for line in lines)
    return -(-numerator // (MILLION * scale))


def breakdown(usage: Usage, rate: Rate, tier: str = "default") -> list[Line]:
    """What `cost` adds up, line by line, kinds that were not used left out. Raises `Unpriced`."""
    lines = [Line(component, quantity, price) for component, quantity, price in _token_lines(usage, rate, tier)]
    return [*lines, *_unit_lines(usage, rate)]


def worst_case(
    input_tokens: int,
    output_tokens: int,
    rate: Rate,
    tier: str = "default",
    *,
    units: Mapping[str, int] = NO_UNITS,
    keeps_cache_12h: bool = False,
) -> int:
    """The most that a request of at most so many tokens can cost, in nano-dollars: for its hold.

    Every token is priced as the dearest kind that the model has a price for. `keeps_cache_12h`: the request asks for
    the 12-hour prompt cache, whose writes cost most. Raises `Unpriced` where the model has no price at all.
    """
    rows = [rate.prices(tier, input_tokens)]
    if rate.long_context is not None and input_tokens > rate.long_context.threshold:
        rows.append(rate.prices(tier, rate.long_context.threshold))
    tokens = 0
    if input_tokens:
        prices_of = _input_of if keeps_cache_12h else _hold_input_of
        tokens += input_tokens * _dearest(rate, rows, prices_of, "input")
    if output_tokens:
        tokens += output_tokens * _dearest(rate, rows, _output_of, "output")
    # Rounded up apart from the units: at most one nano-dollar more than the cost.
    return -(-tokens // MILLION) + (cost(Usage(units=units), rate, tier) if units else 0)


def _token_lines(usage: Usage, rate: Rate, tier: str) -> Iterator[tuple[str, int, int]]:
    prices = rate.prices(tier, usage.input_tokens)
    for component, quantity in zip(COMPONENTS, _counts_of(usage), strict=True):
        if quantity:
            price = prices.of(component)
            if price is None:
                raise Unpriced(rate.model, component)
            yield component, quantity, price


def _unit_lines(usage: Usage, rate: Rate) -> Iterator[Line]:
    for meter, quantity in usage.units.items():
        if quantity:
            unit = rate.units.get(meter)
            if unit is None:
                raise Unpriced(rate.model, meter)
            yield Line(meter, quantity, unit.nanos_per_million, unit.size)


def _dearest(rate: Rate, rows: list[Prices], prices_of: Callable[[Prices], tuple[int | None, ...]], unit: str) -> int:
    prices = [price for row in rows for price in prices_of(row) if price is not None]
    if not prices:
        raise Unpriced(rate.model, unit)
    return max(prices)
