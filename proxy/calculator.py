"""The price calculator: what so many requests of a size cost with a model. The gateway's own arithmetic."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django import forms

from billing.price_rows import meter_size
from billing.pricing import Rate, Usage, cost
from proxy.showcase import Offer

DAYS = 30
MAX_COUNT = 10**9
# The fields, and what each counts: kinds of tokens, or meters.
TOKENS: Mapping[str, str] = {
    "input": "Input tokens",
    "cached_input": "of them cached",
    "output": "Output tokens",
    "audio_input": "Audio input tokens",
    "audio_output": "Audio output tokens",
    "image_input": "Image input tokens",
    "image_output": "Image output tokens",
}
METERS: Mapping[str, str] = {"images": "Images", "milliseconds": "Minutes", "characters": "Thousand characters"}
_STARTS = {"input": 1_000, "output": 300, "image_output": 1_000, "audio_output": 500, "audio_input": 500}
_SUBSETS = {"cached_input": "input"}


@dataclass(frozen=True, slots=True)
class Estimate:
    """In nano-dollars; `request` is rounded up as a charge is, the others are so many charges."""

    offer: Offer
    request: int
    day: int
    month: int


class CalculatorForm(forms.Form):
    """Quantities of one request, and requests a day. Only the fields that one of `offers` has a price for."""

    def __init__(self, data: Any, *, offers: list[Offer]) -> None:
        super().__init__(None if data is None else self._filled(data, offers))
        for name, label in _fields_of(offers).items():
            self.fields[name] = _count(label, _STARTS.get(name, 0 if name in TOKENS else 1))
        self.fields["requests"] = _count("Requests a day", 1_000)

    @staticmethod
    def _filled(data: Any, offers: list[Offer]) -> dict[str, Any]:
        """What was asked, and the start values for what was not: a link may name one quantity alone."""
        starts = {name: _STARTS.get(name, 0 if name in TOKENS else 1) for name in _fields_of(offers)}
        return {name: data.get(name, start) for name, start in (starts | {"requests": 1_000}).items()}

    def estimates(self, offers: list[Offer]) -> list[Estimate]:
        """Of each offer that has a price for some of what is counted; none while a field is wrong."""
        if not self.is_valid():
            return []
        counts: dict[str, int] = {name: value or 0 for name, value in self.cleaned_data.items()}
        requests = counts.pop("requests")
        made = []
        for offer in offers:
            usage = _usage(counts, offer.rate)
            if not usage.total_tokens and not usage.units:
                continue
            one = cost(usage, offer.rate)
            made.append(Estimate(offer, one, one * requests, one * requests * DAYS))
        return made


def _count(label: str, start: int) -> forms.IntegerField:
    widget = forms.NumberInput(attrs={"class": "control", "min": 0, "inputmode": "numeric"})
    return forms.IntegerField(
        label=label, min_value=0, max_value=MAX_COUNT, initial=start, required=False, widget=widget
    )


def _fields_of(offers: list[Offer]) -> dict[str, str]:
    tokens = {
        name: label
        for name, label in TOKENS.items()
        if any(getattr(offer.rate.base, name) is not None for offer in offers)
    }
    meters = {name: label for name, label in METERS.items() if any(name in offer.rate.units for offer in offers)}
    return tokens | meters


def _usage(counts: Mapping[str, int], rate: Rate) -> Usage:
    """The counts as disjoint kinds. What a model has no price for it does not have: that is left out of its sum."""
    tokens = {name: count for name, count in counts.items() if name in TOKENS}
    for subset, whole in _SUBSETS.items():
        part = min(tokens.get(subset, 0), tokens.get(whole, 0))
        if subset in tokens:
            tokens[subset], tokens[whole] = part, tokens[whole] - part
    tokens = {name: count for name, count in tokens.items() if rate.base.of(name) is not None}
    units = {name: counts[name] * _pieces(name) for name in METERS if counts.get(name) and name in rate.units}
    if "images" in units:  # by the piece or by its tokens, not both
        tokens.pop("image_output", None)
    return Usage(**tokens, units=units)


def _pieces(meter: str) -> int:
    return 1_000 if meter == "characters" else meter_size(meter)
