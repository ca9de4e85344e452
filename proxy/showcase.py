"""The models on offer, as the public catalogue shows them: what each can, who serves it, what it costs."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter

from django.conf import settings
from django.db.models import Prefetch

from billing import rates
from billing.money import InvalidAmount, nanos_from_usd
from billing.price_rows import Headline, PriceRow, headline_of, long_rows_of, rows_of
from billing.pricing import Rate
from proxy.models import Deployment, Model

MOST_COMPARED = 4
KINDS: Mapping[str, str] = {
    "text": "Text",
    "vision": "Vision",
    "embedding": "Embeddings",
    "image": "Images",
    "speech": "Speech",
    "transcription": "Transcription",
    "realtime": "Realtime",
    "moderation": "Moderation",
}
CAPABILITIES: Mapping[str, str] = {
    "reasoning": "Reasoning",
    "tools": "Tools",
    "vision": "Vision",
    "json_schema": "JSON schema",
    "prompt_caching": "Prompt caching",
    "audio_in": "Audio in",
    "audio_out": "Audio out",
    "pdf": "PDF",
    "web_search": "Web search",
}
# Said of nearly every model, or of how it is reached: no help in choosing one.
_UNSAID = frozenset({"streaming", "system_messages", "native_only", "batch", "parallel_tools"})
FEATURED = "featured"
SORTS: Mapping[str, str] = {FEATURED: "Featured", "name": "Name", "price": "Price", "context": "Context"}
# A number that says which generation it is, and not, as `120b` does, how large.
_GENERATION = re.compile(r"\d+(?:\.\d+)?(?![\d.]*b)")


@dataclass(frozen=True)
class Offer:
    """A model that is served and has a price."""

    model: Model
    rate: Rate
    providers: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.model.name

    @property
    def short_name(self) -> str:
        """Without the path that providers put before it: `@cf/meta/llama-3` stands at L."""
        return self.name.rpartition("/")[2].lower()

    @property
    def generation(self) -> float:
        """The first number of its name: makers count upwards. 0 without one."""
        number = _GENERATION.search(self.short_name)
        return float(number[0]) if number else 0.0

    @property
    def kind(self) -> str:
        return KINDS.get(self.model.modality, self.model.modality.capitalize())

    @property
    def is_ending(self) -> bool:
        return self.model.status == Model.Status.DEPRECATED

    @cached_property
    def headline(self) -> Headline:
        return headline_of(self.rate)

    @cached_property
    def price_rows(self) -> list[PriceRow]:
        return rows_of(self.rate)

    @cached_property
    def long_rows(self) -> list[PriceRow]:
        return long_rows_of(self.rate)

    @property
    def tiers(self) -> list[str]:
        return list(self.rate.tiers)

    @property
    def capabilities(self) -> list[str]:
        """What it can, in words, the well-known first."""
        own = [name for name in self.model.capabilities if name not in _UNSAID]
        known = [label for name, label in CAPABILITIES.items() if name in own]
        return known + [name.replace("_", " ") for name in own if name not in CAPABILITIES]

    @property
    def other_names(self) -> list[str]:
        return [*self.model.snapshots, *(alias.name for alias in self.model.aliases.all())]


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody looks for; empty: anything. `most_usd` is for a million input tokens."""

    words: str = ""
    kind: str = ""
    maker: str = ""
    provider: str = ""
    capabilities: tuple[str, ...] = ()
    most_usd: str = ""
    sort: str = FEATURED

    @property
    def most_nanos(self) -> int | None:
        try:
            return nanos_from_usd(self.most_usd) if self.most_usd else None
        except InvalidAmount:
            return None

    def fits(self, offer: Offer) -> bool:
        model, most = offer.model, self.most_nanos
        return (
            all(word in f"{model.name} {model.owned_by}".lower() for word in self.words.lower().split())
            and self.kind in ("", model.modality)
            and self.maker in ("", model.owned_by)
            and (not self.provider or self.provider in offer.providers)
            and all(name in model.capabilities for name in self.capabilities)
            and (most is None or (offer.headline.input is not None and offer.headline.input <= most))
        )


def offers(used: Sequence[str] = ()) -> list[Offer]:
    """Every model that can be called now: those of `used` first, then those of `FEATURED_MAKERS`. Four queries.

    Of a featured maker those that stay come before those that end, then text before the other kinds, then names without
    a provider's path, then the newest generation; all others are in the order of their short names.
    """
    prices = rates.current_rates()
    served = Deployment.objects.select_related("provider").filter(is_enabled=True, provider__is_enabled=True)
    models = Model.objects.served().prefetch_related("aliases", Prefetch("deployments", served, to_attr="serving"))
    found = [
        Offer(model, prices[model.name], tuple(sorted({row.provider.slug for row in model.serving})))
        for model in models
        if model.name in prices
    ]
    by_use = {name: number for number, name in enumerate(used)}
    return sorted(found, key=lambda offer: (by_use.get(offer.name, len(by_use)), *_standing(offer)))


def _standing(offer: Offer) -> tuple[int, bool, int, bool, float, str, str]:
    makers = settings.FEATURED_MAKERS
    if offer.model.owned_by not in makers:
        return len(makers), False, 0, False, 0.0, offer.short_name, offer.name
    kinds = list(KINDS)
    kind = kinds.index(offer.model.modality) if offer.model.modality in KINDS else len(kinds)
    rank = makers.index(offer.model.owned_by)
    return rank, offer.is_ending, kind, "/" in offer.name, -offer.generation, offer.short_name, offer.name


def found(all_offers: Iterable[Offer], wish: Wish) -> list[Offer]:
    """Those that fit, in the order asked for."""
    fitting = [offer for offer in all_offers if wish.fits(offer)]
    if wish.sort == "name":
        return sorted(fitting, key=lambda offer: (offer.short_name, offer.name))
    if wish.sort == "price":
        return sorted(fitting, key=lambda offer: (offer.headline.sort_key, offer.name))
    if wish.sort == "context":
        return sorted(fitting, key=lambda offer: (-(offer.model.context_window or 0), offer.name))
    return fitting


def named(all_offers: Iterable[Offer], names: Iterable[str]) -> list[Offer]:
    """The offers called `names`, once each, in that order; a model's other names are not looked up."""
    by_name = {offer.name: offer for offer in all_offers}
    return [by_name[name] for name in dict.fromkeys(names) if name in by_name]


def samples(all_offers: Iterable[Offer], most: int) -> list[Offer]:
    """At most `most` offers that stand for the rest: the first of each kind, then the second of each, and so on."""
    seen: dict[str, int] = {}
    turns = []
    for offer in all_offers:
        turn = seen[offer.kind] = seen.get(offer.kind, 0) + 1
        turns.append((turn, offer))
    return [offer for _, offer in sorted(turns, key=itemgetter(0))][:most]
