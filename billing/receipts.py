"""How the cost of a request came about: its lines, recomputed from the usage record and the price row that applied."""

from dataclasses import dataclass
from decimal import Decimal

from billing import money, pricing
from billing.models import UsageRecord
from billing.pricing import Rate, Usage

LABELS = {
    "input": "Input",
    "cached_input": "Input, cached",
    "cache_write": "Cache write",
    "cache_write_12h": "Cache write, 12 h",
    "audio_input": "Audio input",
    "cached_audio_input": "Audio input, cached",
    "image_input": "Image input",
    "cached_image_input": "Image input, cached",
    "output": "Output",
    "audio_output": "Audio output",
    "image_output": "Image output",
}
_SUBSETS = ("cached_tokens", "cache_write_tokens", "audio_input_tokens", "image_input_tokens")
_OUTPUT_SUBSETS = ("audio_output_tokens", "image_output_tokens")


@dataclass(frozen=True, slots=True)
class ReceiptLine:
    """One line: `amount_usd` is exact, with the fractions of a nano-dollar that only the total rounds up."""

    label: str
    quantity: int
    price_nanos: int
    per: str
    amount_usd: str


@dataclass(frozen=True, slots=True)
class Receipt:
    """`computed_nanos` is what the lines add up to; the charge is less where a rule says so (`is_reduced`)."""

    lines: list[ReceiptLine]
    computed_nanos: int
    charged_nanos: int

    @property
    def is_reduced(self) -> bool:
        return self.charged_nanos < self.computed_nanos

    @property
    def reduction_nanos(self) -> int:
        return self.computed_nanos - self.charged_nanos


def receipt_of(record: UsageRecord, rate: Rate) -> Receipt | None:
    """The receipt of `record` at `rate`; None where the rate has no price for what the record counted."""
    usage = usage_of(record)
    try:
        lines = pricing.breakdown(usage, rate, record.service_tier)
        computed = pricing.cost(usage, rate, record.service_tier)
    except pricing.Unpriced:
        return None
    return Receipt([_shown(line) for line in lines], computed, record.cost_nanos)


def usage_of(record: UsageRecord) -> Usage:
    """The usage that was priced: the upstream's own object, or the counted columns where it sent none."""
    columns = {name: getattr(record, name) for name in ("input_tokens", "output_tokens", *_SUBSETS, *_OUTPUT_SUBSETS)}
    try:
        reported = pricing.usage_from_openai(record.usage) if record.usage and not record.estimated else None
    except pricing.InvalidUsage:
        reported = None
    if reported is not None and {name: reported.columns()[name] for name in columns} == columns:
        return reported if not record.units else Usage(**_counts(reported), units=dict(record.units))
    text_input = record.input_tokens - sum(columns[name] for name in _SUBSETS)
    text_output = record.output_tokens - sum(columns[name] for name in _OUTPUT_SUBSETS)
    return Usage(
        input=max(0, text_input),
        cached_input=record.cached_tokens,
        cache_write=record.cache_write_tokens,
        audio_input=record.audio_input_tokens,
        image_input=record.image_input_tokens,
        output=max(0, text_output),
        audio_output=record.audio_output_tokens,
        image_output=record.image_output_tokens,
        reasoning=record.reasoning_tokens,
        units=dict(record.units),
    )


def _counts(usage: Usage) -> dict[str, int]:
    return {name: getattr(usage, name) for name in (*pricing.COMPONENTS, "reasoning")}


def _shown(line: pricing.Line) -> ReceiptLine:
    is_token = line.component in LABELS
    per = "per 1M tokens" if is_token else f"per 1M {line.component.replace('_', ' ')}"
    if line.size != 1:
        per = f"per 1M × {line.size} {line.component.replace('_', ' ')}"
    amount = Decimal(line.numerator) / line.denominator / money.NANOS_PER_USD
    return ReceiptLine(
        label=LABELS.get(line.component, line.component.replace("_", " ").capitalize()),
        quantity=line.quantity,
        price_nanos=line.nanos_per_million,
        per=per,
        amount_usd=f"{amount.normalize():f}",
    )
