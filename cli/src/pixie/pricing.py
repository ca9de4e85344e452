"""What a receipt's usage costs, reckoned from its price row alone: in integers and fractions, rounded up once.

The rules are those of docs/billing.md and the price book's format; nothing of the server's code is used, so that the
sum is a second opinion.
"""

import re
from collections.abc import Iterator, Mapping
from fractions import Fraction
from math import ceil
from typing import Any

NANOS_PER_USD = 10**9
NANOS_PER_CREDIT = 10**7
MILLION = 10**6
INPUTS = (
    "input", "cached_input", "cache_write", "cache_write_12h", "audio_input", "cached_audio_input", "image_input",
    "cached_image_input",
)  # fmt: skip
COMPONENTS = (*INPUTS, "output", "audio_output", "image_output")
# A kind without a price of its own costs what this one does.
FALLBACKS = {
    "cached_input": "input",
    "cache_write": "input",
    "cache_write_12h": "cache_write",
    "cached_audio_input": "audio_input",
    "cached_image_input": "image_input",
}
# The name of a price that is not for tokens, the meter that counts it, and how many of the meter it is for.
UNITS = {
    "minute": ("milliseconds", 60_000),
    "second": ("milliseconds", 1_000),
    "websocket_minute": ("websocket_milliseconds", 60_000),
    "million_characters": ("characters", MILLION),
    "image": ("images", 1),
    "input_image": ("input_images", 1),
    "tile": ("tiles", 1),
    "input_tile": ("input_tiles", 1),
    "step": ("steps", 1),
    "tile_step": ("tile_steps", 1),
    "input_tile_step": ("input_tile_steps", 1),
    "megapixel": ("megapixels", 1),
    "request": ("requests", 1),
    "web_search_call": ("web_search_calls", 1),
    "file_search_call": ("file_search_calls", 1),
    "code_interpreter_session": ("code_interpreter_sessions", 1),
}
_DEFAULT_TIERS = {"", "default", "auto", "standard", "standard_only"}
_SAME_TIER = {"fast": "priority"}
_USD = re.compile(r"\d{1,20}(\.\d{1,20})?([eE][+-]?\d{1,2})?", re.ASCII)

Row = dict[str, Fraction]


class Unpriced(ValueError):
    """The price row has no price for something that was used."""


def cost_nanos(usage: Mapping[str, Any], rates: Mapping[str, Any], tier: str) -> int:
    """Nano-dollars, rounded up once, on the total. Raises `Unpriced`, or `ValueError` for what is no receipt's."""
    counts = {name: _count(usage.get(name, 0)) for name in COMPONENTS}
    units = {str(meter): _count(count) for meter, count in dict(usage.get("units") or {}).items()}
    row = _row_for(rates, tier, sum(counts[name] for name in INPUTS))
    tokens = sum((count * _price(row, name) for name, count in counts.items() if count), Fraction(0))
    return ceil(tokens / MILLION + sum(_unit_costs(units, rates), Fraction(0)))


def _unit_costs(units: Mapping[str, int], rates: Mapping[str, Any]) -> Iterator[Fraction]:
    prices = {}
    for name, usd in dict(rates.get("units") or {}).items():
        if name not in UNITS:
            raise ValueError(f"{name} is no known unit")
        meter, size = UNITS[name]
        prices[meter] = _nanos(usd) / size
    for meter, count in units.items():
        if count and meter not in prices:
            raise Unpriced(f"no price for {meter}")
        if count:
            yield count * prices[meter]


def _row_for(rates: Mapping[str, Any], tier: str, input_tokens: int) -> Row:
    """The token prices for this tier and length."""
    tier = _SAME_TIER.get(tier, tier)
    base = _row(rates)
    tiers = {name: _filled(_row(row), base) for name, row in dict(rates.get("tiers") or {}).items()}
    long = dict(rates.get("long_context") or {})
    if long and input_tokens > _count(long["threshold"]):
        long_base = _filled(_row(long), base)
        own = {name: _filled(_row(row), long_base) for name, row in dict(long.get("tiers") or {}).items()}
        tiers = {name: own.get(name) or _dearer(long_base, row) for name, row in tiers.items()} | own
        base = long_base
    if tier in _DEFAULT_TIERS:
        return base
    if tier not in tiers:
        raise Unpriced(f"no price for the tier {tier}")
    return tiers[tier]


def _row(rates: Mapping[str, Any]) -> Row:
    return {name: _nanos(rates[name]) for name in COMPONENTS if rates.get(name) is not None}


def _filled(row: Row, base: Row) -> Row:
    """A row whose gaps are the base's price or its own for ordinary input, whichever is dearer."""
    full = {}
    for name in COMPONENTS:
        if name in row:
            full[name] = row[name]
        elif name == "cache_write_12h" and row.get("cache_write") and base.get("cache_write"):
            ratio = (base.get("cache_write_12h") or base["cache_write"]) / base["cache_write"]
            full[name] = Fraction(ceil(ratio * row["cache_write"]))
        else:
            known = [price for price in (base.get(name), _maybe(row, name) if name in FALLBACKS else None)
                     if price is not None]  # fmt: skip
            if known:
                full[name] = max(known)
    return full


def _dearer(one: Row, other: Row) -> Row:
    both = {name: [price for row in (one, other) if (price := _maybe(row, name)) is not None] for name in COMPONENTS}
    return {name: max(prices) for name, prices in both.items() if prices}


def _maybe(row: Row, name: str) -> Fraction | None:
    while name not in row and name in FALLBACKS:
        name = FALLBACKS[name]
    return row.get(name)


def _price(row: Row, name: str) -> Fraction:
    price = _maybe(row, name)
    if price is None:
        raise Unpriced(f"no price for {name}")
    return price


def _nanos(usd: Any) -> Fraction:
    """Nano-dollars of dollars as the price book has them: a decimal text, or a whole number."""
    if isinstance(usd, bool) or not isinstance(usd, str | int) or not _USD.fullmatch(str(usd)):
        raise ValueError(f"{str(usd)[:40]!r} is no price")
    return Fraction(usd) * NANOS_PER_USD


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{value!r} is no count")
    return value
