"""The price book: what a model costs from a date on. A new price is a new row; an old one is refused every change."""

from datetime import datetime

from django.db import models
from django.db.models.functions import Now


class PriceQuerySet(models.QuerySet["Price"]):
    """Which prices."""

    def at(self, moment: datetime | None = None) -> "PriceQuerySet":
        """The price of every model, side and provider that was in effect at `moment`; None: now, by the database."""
        return (
            self.filter(effective_at__lte=moment or Now())
            .order_by("model", "side", "provider", "-effective_at")
            .distinct("model", "side", "provider")
        )

    def of(self, *, model: str, side: str, provider: str) -> "PriceQuerySet":
        """Past and coming prices of one thing, the newest first."""
        return self.filter(model=model, side=side, provider=provider).order_by("-effective_at")


class Price(models.Model):
    """Prices of a model from `effective_at` on, in the format of `billing/catalogue/README.md`.

    The id is the price version of holds and usage records. `provider` is the slug of whom we pay; empty for what we
    sell at. `source` says where the figures come from, `origin` who set them.
    """

    class Side(models.TextChoices):
        SELL = "sell", "What we charge"
        COST = "cost", "What we pay"

    class Origin(models.TextChoices):
        CATALOGUE = "catalogue", "Price catalogue"
        FILE = "file", "Operator's price file"
        ENVIRONMENT = "environment", "MODEL_PRICING_JSON"
        STAFF = "staff", "Staff"

    model = models.TextField()
    side = models.CharField(max_length=4, choices=Side, default=Side.SELL)
    provider = models.TextField(blank=True, default="")
    effective_at = models.DateTimeField()
    rates = models.JSONField()
    source = models.TextField(blank=True, default="")
    origin = models.CharField(max_length=11, choices=Origin, default=Origin.STAFF)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    objects = PriceQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["model", "side", "provider", "effective_at"], name="price_once"),
            models.CheckConstraint(
                condition=models.Q(side="sell", provider="") | (models.Q(side="cost") & ~models.Q(provider="")),
                name="price_provider_on_cost",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.model} ({self.provider or self.side}) from {self.effective_at:%Y-%m-%d %H:%M}"
