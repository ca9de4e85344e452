"""A rate as people read it: one row for each thing that has a price, tokens per million, everything else per piece."""

from collections.abc import Mapping
from dataclasses import dataclass

from billing.pricing import COMPONENTS, MILLION, Prices, Rate, UnitPrice
from billing.receipts import LABELS

PER_MILLION = "1M tokens"
# How people count a meter: the label, the unit's name, and how many of the meter's units one is.
_METERS: Mapping[str, tuple[str, str, int]] = {
    "milliseconds": ("Audio", "minute", 60_000),
    "websocket_milliseconds": ("Open connection", "minute", 60_000),
    "characters": ("Characters", "1M characters", MILLION),
    "images": ("Image", "image", 1),
    "input_images": ("Input image", "image", 1),
    "tiles": ("Output, 512 × 512", "tile", 1),
    "input_tiles": ("Input, 512 × 512", "tile", 1),
    "steps": ("Diffusion step", "step", 1),
    "tile_steps": ("Diffusion step of a tile", "step", 1),
    "input_tile_steps": ("Diffusion step of an input tile", "step", 1),
    "megapixels": ("Megapixel", "megapixel", 1),
    "requests": ("Request", "request", 1),
    "web_search_calls": ("Web search", "call", 1),
    "file_search_calls": ("File search", "call", 1),
    "code_interpreter_sessions": ("Code interpreter", "session", 1),
}
_HEADLINES = ("input", "audio_input", "image_input"), ("output", "audio_output", "image_output")
# What a model made of pieces is mostly chosen by.
_PIECES = ("images", "milliseconds", "characters", "tiles", "megapixels", "requests", "tile_steps", "steps")


@dataclass(frozen=True, slots=True)
class PriceRow:
    """`nanos` for one `per` of what `name` means: a kind of token, or a meter. `amounts` by service tier."""

    name: str
    label: str
    nanos: int
    per: str
    tiers: Mapping[str, int | None]


@dataclass(frozen=True, slots=True)
class Headline:
    """The price that a list shows of a model, in nano-dollars; None: it has none of this kind."""

    input: int | None
    output: int | None
    piece: PriceRow | None

    @property
    def sort_key(self) -> int:
        """By what ordinary input costs; models that are paid by the piece come after those paid by the token."""
        first = self.input if self.input is not None else self.output
        return first if first is not None else 10**15 + (self.piece.nanos if self.piece else 10**15)


def rows_of(rate: Rate) -> list[PriceRow]:
    """Every price of `rate`, tokens first."""
    tokens = _token_rows(rate.base, rate.tiers)
    return tokens + [row for unit in rate.units.values() if (row := _unit_row(unit))]


def long_rows_of(rate: Rate) -> list[PriceRow]:
    """The prices of requests above `rate.long_context.threshold`; nothing where they are the ordinary ones."""
    return _token_rows(rate.long_context.base, rate.long_context.tiers) if rate.long_context else []


def headline_of(rate: Rate) -> Headline:
    inputs, outputs = (
        next((price for name in names if (price := getattr(rate.base, name)) is not None), None) for names in _HEADLINES
    )
    units = sorted(rate.units.values(), key=lambda unit: (*_PIECES, unit.meter).index(unit.meter))
    return Headline(inputs, outputs or None, _unit_row(units[0]) if units else None)


def meter_size(meter: str) -> int:
    """How many of the meter's units are one of what people count: 60,000 milliseconds are a minute."""
    return _METERS[meter][2] if meter in _METERS else 1


def _token_rows(base: Prices, tiers: Mapping[str, Prices]) -> list[PriceRow]:
    return [
        PriceRow(name, LABELS[name], nanos, PER_MILLION, {tier: getattr(row, name) for tier, row in tiers.items()})
        for name in COMPONENTS
        if (nanos := getattr(base, name)) is not None
    ]


def _unit_row(unit: UnitPrice) -> PriceRow | None:
    label, per, size = _METERS.get(unit.meter, (unit.meter.replace("_", " ").capitalize(), "unit", 1))
    nanos = -(-unit.nanos_per_million * size // (MILLION * unit.size))
    return PriceRow(unit.meter, label, nanos, per, {})
