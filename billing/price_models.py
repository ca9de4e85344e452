"""The price book: what a model costs from a date on. A new price is a new row; an old one is refused every change."""

from datetime import datetime

from django.db import models
from django.db.models.functions import Now

from accounts.models import Organization


class PriceQuerySet(models.QuerySet["Price"]):
    """Which prices."""

    def at(self, moment: datetime | None = None) -> "PriceQuerySet":
        """The price of every model, side and provider that was in effect at `moment`; None: now, by the database."""
        return (
            self.filter(effective_at__lte=moment or Now())
            .order_by("model", "side", "provider", "price_list", "-effective_at")
            .distinct("model", "side", "provider", "price_list")
        )

    def of(self, *, model: str, side: str, provider: str) -> "PriceQuerySet":
        """Past and coming prices of one thing in the standard list, the newest first."""
        return self.filter(model=model, side=side, provider=provider, price_list="").order_by("-effective_at")


class PriceList(models.Model):
    """Prices of some organizations: the standard ones and a markup, in hundredths of a per cent; negative: a discount.

    `markups` names models, or beginnings of their names with `*`, that have a markup of their own. `owner` is the
    reseller who earns the markup; without one it is the operator's.
    """

    slug = models.SlugField(max_length=60, unique=True)
    name = models.CharField(max_length=80)
    owner = models.ForeignKey(Organization, models.CASCADE, null=True, blank=True, related_name="price_lists")
    markup_bps = models.IntegerField(default=0)
    markups = models.JSONField(default=dict, blank=True)

    class Meta:
        ordering = ["slug"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(markup_bps__gt=-10_000, markup_bps__lte=100_000), name="price_list_markup_in_range"
            )
        ]

    def __str__(self) -> str:
        return self.name

    def markup_of(self, model: str) -> int:
        """The markup of one model: its own, the longest beginning that fits, or the list's."""
        fits = [name for name in self.markups if name == model or (name.endswith("*") and model.startswith(name[:-1]))]
        return int(self.markups[max(fits, key=len)]) if fits else self.markup_bps


class Price(models.Model):
    """Prices of a model from `effective_at` on, in the format of `billing/catalogue/README.md`.

    The id is the price version of holds and usage records. `provider` is the slug of whom we pay; empty for what we
    sell at. `source` says where the figures come from, `origin` who set them. A row of a `price_list` is made from the
    standard row `derived_from` and a markup.
    """

    class Side(models.TextChoices):
        SELL = "sell", "What we charge"
        COST = "cost", "What we pay"

    class Origin(models.TextChoices):
        CATALOGUE = "catalogue", "Price catalogue"
        FILE = "file", "Operator's price file"
        ENVIRONMENT = "environment", "MODEL_PRICING_JSON"
        STAFF = "staff", "Staff"
        LIST = "list", "Price list"

    model = models.TextField()
    side = models.CharField(max_length=4, choices=Side, default=Side.SELL)
    provider = models.TextField(blank=True, default="")
    effective_at = models.DateTimeField()
    price_list = models.TextField(blank=True, default="", db_default="")
    derived_from = models.ForeignKey("self", models.PROTECT, null=True, blank=True, related_name="+")
    markup_bps = models.IntegerField(null=True, blank=True)
    rates = models.JSONField()
    source = models.TextField(blank=True, default="")
    origin = models.CharField(max_length=11, choices=Origin, default=Origin.STAFF)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    objects = PriceQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["model", "side", "provider", "price_list", "effective_at"], name="price_once"
            ),
            models.CheckConstraint(
                condition=models.Q(price_list="", derived_from=None, markup_bps=None)
                | (
                    ~models.Q(price_list="")
                    & models.Q(side="sell", derived_from__isnull=False, markup_bps__isnull=False)
                ),
                name="price_list_is_derived",
            ),
            models.CheckConstraint(
                condition=models.Q(side="sell", provider="") | (models.Q(side="cost") & ~models.Q(provider="")),
                name="price_provider_on_cost",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.model} ({self.provider or self.side}) from {self.effective_at:%Y-%m-%d %H:%M}"
