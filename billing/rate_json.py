"""A model's prices as JSON, and as the integers that charges are made of. The format: `billing/catalogue/README.md`."""

from collections.abc import Mapping
from decimal import ROUND_CEILING, Decimal, InvalidOperation
from math import gcd
from typing import Any

from billing.pricing import COMPONENTS, FALLBACKS, MILLION, LongContext, Prices, Rate, UnitPrice

MAX_USD = 1_000_000
MAX_DIGITS = 12  # so that all that is computed here is exact in the 28 digits of the decimal context
NANOS_PER_USD = 10**9

# What is priced by something other than a token: the name of its price, the meter that counts it, and how many of the
# meter's units one price is for.
UNITS: Mapping[str, tuple[str, int]] = {
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
_FIELDS = frozenset({*COMPONENTS, "tiers", "long_context", "units", "estimates"})


class InvalidRates(ValueError):
    """`model`'s prices are wrong at `field`."""

    def __init__(self, model: str, field: str, problem: str) -> None:
        super().__init__(f"{model}: {field} {problem}")
        self.model = model
        self.field = field


def parse(model: str, rates: Mapping[str, Any], *, version: int = 0) -> Rate:
    """The rate that `rates` describe: USD as decimal strings, tokens per million. Raises `InvalidRates`.

    A tier or a long-context row that leaves a kind of token out takes the base row's price for it, or its own price
    for ordinary input, whichever is dearer; 12-hour cache writes keep their ratio to ordinary cache writes.
    A tier of a long request without a row of its own takes the dearer of the two rows that it is between.
    """
    reader = _Reader(model)
    unknown = sorted(set(reader.object("rates", rates)) - _FIELDS)
    if unknown:
        raise InvalidRates(model, unknown[0], "is not a known price")
    base = reader.prices("", rates)
    tiers = {
        name: _filled(reader.prices(f"tiers.{name}.", row, is_strict=True), base)
        for name, row in reader.object("tiers", rates.get("tiers")).items()
    }
    units = reader.units(rates.get("units"))
    if all(getattr(base, name) is None for name in COMPONENTS) and not units:
        raise InvalidRates(model, "rates", "have no price")
    return Rate(
        model=model,
        version=version,
        base=base,
        tiers=tiers,
        long_context=reader.long_context(rates.get("long_context"), base, tiers),
        units=units,
        estimates={
            name: _ceil_nanos(reader.usd(f"estimates.{name}", value))
            for name, value in reader.object("estimates", rates.get("estimates")).items()
        },
    )


def scaled(rates: Mapping[str, Any], bps: int) -> dict[str, Any]:
    """Prices with a markup of `bps` hundredths of a per cent, each rounded up at nine decimals of a dollar."""

    def marked_up(name: str, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {inner: marked_up(inner, price) for inner, price in value.items()}
        if name == "threshold" or value is None:
            return value
        usd = Decimal(value) * (10_000 + bps) / 10_000
        rounded = usd.quantize(Decimal(1).scaleb(-9), rounding=ROUND_CEILING).normalize()
        return f"{rounded:f}"

    return {name: marked_up(name, value) for name, value in rates.items()}


class _Reader:
    """Reads one model's prices; every error names the model and the field."""

    def __init__(self, model: str) -> None:
        self._model = model

    def usd(self, field: str, value: Any) -> Decimal:
        """A price in dollars: a decimal string (or a whole number); floats have lost what they were."""
        if isinstance(value, bool) or not isinstance(value, (str, int)):
            raise InvalidRates(self._model, field, f"is {value!r}, expected a decimal string")
        try:
            usd = Decimal(value)
        except InvalidOperation:
            raise InvalidRates(self._model, field, f"is {value!r}, expected a decimal string") from None
        if len(usd.as_tuple().digits) > MAX_DIGITS or not usd.is_finite() or not 0 <= usd <= MAX_USD:
            raise InvalidRates(self._model, field, f"is {value!r}, expected 0 to {MAX_USD}")
        return usd

    def nanos(self, field: str, value: Any, scale: int) -> int:
        """`value` times `scale` nano-dollars, which must be whole."""
        nanos = self.usd(field, value) * scale * NANOS_PER_USD
        if nanos != int(nanos):
            raise InvalidRates(self._model, field, f"is {value!r}, too many decimals")
        return int(nanos)

    def object(self, field: str, value: Any) -> Mapping[str, Any]:
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            raise InvalidRates(self._model, field, "is not an object")
        return value

    def prices(self, path: str, row: Any, *, is_strict: bool = False) -> Prices:
        row = self.object(path.rstrip(".") or "rates", row)
        unknown = sorted(set(row) - set(COMPONENTS))
        if is_strict and unknown:
            raise InvalidRates(self._model, path + unknown[0], "is not a known price")
        return Prices(
            **{name: self.nanos(path + name, row[name], 1) for name in COMPONENTS if row.get(name) is not None}
        )

    def units(self, value: Any) -> dict[str, UnitPrice]:
        units: dict[str, UnitPrice] = {}
        for name, price in self.object("units", value).items():
            if name not in UNITS:
                raise InvalidRates(self._model, f"units.{name}", "is not a known unit")
            meter, size = UNITS[name]
            if meter in units:
                raise InvalidRates(self._model, f"units.{name}", f"prices {meter} twice")
            nanos = self.nanos(f"units.{name}", price, MILLION)
            common = gcd(nanos, size)
            units[meter] = UnitPrice(meter, nanos // common, size // common)
        return units

    def long_context(self, value: Any, base: Prices, tiers: Mapping[str, Prices]) -> LongContext | None:
        if value is None:
            return None
        row = dict(self.object("long_context", value))
        threshold, own_tiers = row.pop("threshold", None), self.object("long_context.tiers", row.pop("tiers", None))
        if isinstance(threshold, bool) or not isinstance(threshold, int) or threshold <= 0:
            raise InvalidRates(self._model, "long_context.threshold", f"is {threshold!r}, expected a number of tokens")
        long = _filled(self.prices("long_context.", row, is_strict=True), base)
        own = {
            name: _filled(self.prices(f"long_context.tiers.{name}.", prices, is_strict=True), long)
            for name, prices in own_tiers.items()
        }
        return LongContext(threshold, long, {name: own.get(name) or _dearer(long, tiers[name]) for name in tiers} | own)


def _filled(row: Prices, base: Prices) -> Prices:
    prices: dict[str, int | None] = {}
    for name in COMPONENTS:
        price = getattr(row, name)
        if price is None and name == "cache_write_12h" and row.cache_write and base.cache_write:
            price = -(-(base.cache_write_12h or base.cache_write) * row.cache_write // base.cache_write)
        if price is None:
            price = _larger(getattr(base, name), row.of(name) if name in FALLBACKS else None)
        prices[name] = price
    return Prices(**prices)


def _dearer(one: Prices, other: Prices) -> Prices:
    return Prices(**{name: _larger(one.of(name), other.of(name)) for name in COMPONENTS})


def _larger(one: int | None, other: int | None) -> int | None:
    known = [price for price in (one, other) if price is not None]
    return max(known) if known else None


def _ceil_nanos(usd: Decimal) -> int:
    return int((usd * NANOS_PER_USD).to_integral_value(ROUND_CEILING))
