"""What models earned: charged against upstream cost, from the hourly rollups."""

from dataclasses import dataclass
from datetime import date

from django.db import models

from billing.models import UsageRollup


@dataclass(frozen=True, slots=True)
class Margin:
    """One model's figures of some days, in nano-dollars. `upstream` counts only what has a known cost."""

    model: str
    requests: int
    charged: int
    upstream: int

    @property
    def earned(self) -> int:
        return self.charged - self.upstream

    @property
    def percent(self) -> int | None:
        """Of what was charged; None where nothing was."""
        return round(100 * self.earned / self.charged) if self.charged else None


def by_model(first: date, last: date) -> list[Margin]:
    """Of every model used on these days (UTC, both included), the largest charge first."""
    rows = (
        UsageRollup.objects.filter(hour__date__gte=first, hour__date__lte=last)
        .order_by()
        .values("model")
        .annotate(
            total_requests=models.Sum("requests"),
            charged=models.Sum("cost_nanos"),
            upstream=models.Sum("upstream_cost_nanos"),
        )
        .order_by("-charged", "model")
    )
    return [Margin(row["model"], row["total_requests"], row["charged"], row["upstream"]) for row in rows]
