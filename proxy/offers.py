"""The models that a member may choose from in the playground, with what they can do and what they cost."""

from dataclasses import dataclass

from accounts.models import Organization
from billing import rates
from billing.pricing import MILLION, Rate
from billing.templatetags.money import price
from proxy import playground
from proxy.models import FIRST_REQUEST_MODELS, Model

CHAT = "/v1/chat/completions"
GENERATIONS = "/v1/images/generations"
EDITS = "/v1/images/edits"
TRANSCRIPTIONS = "/v1/audio/transcriptions"
SPEECH = "/v1/audio/speech"
# A model without endpoints of its own is served wherever its provider serves it: offer it for what it makes.
_MAKES = {CHAT: "text", GENERATIONS: "image", EDITS: "image", TRANSCRIPTIONS: "transcription", SPEECH: "speech"}
OWN_NAMES = "Your names"
# What a picker begins with, the first that is offered.
FAVOURITES = {
    CHAT: FIRST_REQUEST_MODELS,
    GENERATIONS: ("gpt-image-2", "gpt-image-1-mini"),
    TRANSCRIPTIONS: ("gpt-4o-mini-transcribe", "whisper-1"),
    SPEECH: ("gpt-4o-mini-tts", "tts-1"),
}
_TOKENS = (
    ("input", "in"),
    ("output", "out"),
    ("audio_input", "sound in"),
    ("audio_output", "sound out"),
    ("image_input", "pictures in"),
    ("image_output", "pictures out"),
)
# What a unit of a meter is called, and how many of the meter's own units it has.
_UNITS = {
    "milliseconds": ("minute", 60_000),
    "characters": ("1M characters", MILLION),
    "images": ("image", 1),
    "tiles": ("tile", 1),
    "steps": ("step", 1),
    "tile_steps": ("tile and step", 1),
    "megapixels": ("megapixel", 1),
    "requests": ("request", 1),
}
_TOLD = {
    "vision": "Vision",
    "reasoning": "Reasons",
    "tools": "Tools",
    "json_schema": "JSON schema",
    "audio_in": "Hears",
    "audio_out": "Speaks",
    "web_search": "Web search",
    "pdf": "PDF",
}


@dataclass(frozen=True, slots=True)
class Offer:
    """A model in a picker. `group` is who made it; `sees` and `edits` and `streams` are what the page has to know."""

    name: str
    group: str
    price: str
    context_window: int | None
    capabilities: tuple[str, ...]
    sees: bool
    edits: bool
    streams_images: bool


@dataclass(frozen=True, slots=True)
class Choice:
    """What a picker shows. `is_missing`: the one asked for is not offered (any more)."""

    offers: list[Offer]
    chosen: str
    is_missing: bool


def choice(organization: Organization, endpoint: str, wanted: str) -> Choice:
    """The models on offer for `endpoint`, with `wanted` chosen, or one to begin with."""
    found = of(organization, endpoint)
    names = {offer.name for offer in found}
    if wanted:
        return Choice(found, wanted, wanted not in names)
    first = next((name for name in FAVOURITES[endpoint] if name in names), found[0].name if found else "")
    return Choice(found, first, False)


def of(organization: Organization, endpoint: str) -> list[Offer]:
    """What `organization` may ask `endpoint` with, its own names first. Four queries."""
    sell = rates.current_rates()
    allowed = playground.allowed_models(organization)
    served = {
        model.name: model
        for model in Model.objects.served().featured_first()
        if model.name in sell and _serves(model, endpoint)
    }
    own = organization.model_aliases.order_by("name").values_list("name", "model__name")
    named = [(alias, name) for alias, name in own if name in served] + [("", name) for name in served]
    return [
        _offer(served[name], sell[name], alias)
        for alias, name in named
        if not allowed or name in allowed or alias in allowed
    ]


def price_of(rate: Rate) -> str:
    """The price in a line: `$0.15 in, $0.60 out per 1M tokens`, `$0.006 per minute`."""
    tokens = [f"{price(nanos)} {word}" for name, word in _TOKENS if (nanos := getattr(rate.base, name)) is not None]
    parts = [f"{', '.join(tokens)} per 1M tokens"] if tokens else []
    for meter, unit in rate.units.items():
        if meter in _UNITS:
            word, count = _UNITS[meter]
            parts.append(f"{price(-(-unit.nanos_per_million * count // (MILLION * unit.size)))} per {word}")
    return " · ".join(parts)


def _serves(model: Model, endpoint: str) -> bool:
    return endpoint in model.endpoints if model.endpoints else model.modality == _MAKES[endpoint]


def _offer(model: Model, rate: Rate, alias: str = "") -> Offer:
    return Offer(
        name=alias or model.name,
        group=OWN_NAMES if alias else model.owned_by or "Other",
        price=price_of(rate),
        context_window=model.context_window,
        capabilities=tuple(_TOLD[name] for name in _TOLD if name in model.capabilities),
        sees="vision" in model.capabilities,
        edits=_serves(model, EDITS),
        streams_images=rate.base.image_output is not None,
    )
