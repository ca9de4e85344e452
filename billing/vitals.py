"""How the business and the books stand, for staff: a handful of sums, cheap enough for the first page they see."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import models
from django.utils import timezone

from billing.models import Account, AccountKind, DeadLetter, Hold, Order, UsageRecord, UsageRollup


@dataclass(frozen=True, slots=True)
class Sales:
    """Of a span of time, from the hourly rollups; money in nano-dollars, `paid_cents` through Stripe."""

    requests: int
    errors: int
    charged: int
    upstream: int
    active: int
    paid_cents: int
    orders: int

    @property
    def margin(self) -> int:
        return self.charged - self.upstream

    @property
    def margin_percent(self) -> int | None:
        return round(100 * self.margin / self.charged) if self.charged else None

    @property
    def errors_percent(self) -> float | None:
        return round(100 * self.errors / self.requests, 1) if self.requests else None


@dataclass(frozen=True, slots=True)
class Books:
    """What waits, and what somebody should look at."""

    unsettled: int
    lag_s: int
    holds: int
    dead_letters: int
    frozen: int
    overdrawn: int
    owed: int


def sales(span: timedelta) -> Sales:
    """Of the last `span`. The newest hour counts as far as it has settled. Two queries."""
    since = timezone.now() - span
    sums = UsageRollup.objects.filter(hour__gte=since).aggregate(
        requests=_sum("requests"),
        errors=_sum("errors"),
        charged=_sum("cost_nanos"),
        upstream=_sum("upstream_cost_nanos"),
        active=models.Count("organization", distinct=True),
    )
    paid = Order.objects.filter(status=Order.Status.PAID, created_at__gte=since).aggregate(
        paid_cents=_sum("paid_cents"), orders=models.Count("pk")
    )
    return Sales(**sums, **paid)


def books() -> Books:
    """Four queries, each of an index that holds only what is open."""
    waiting = UsageRecord.objects.filter(settled_at=None).aggregate(
        count=models.Count("*"), oldest=models.Min("created_at")
    )
    accounts = Account.objects.filter(kind=AccountKind.CUSTOMER).aggregate(
        frozen=models.Count("pk", filter=models.Q(status=Account.Status.FROZEN)),
        overdrawn=models.Count("pk", filter=models.Q(overdrawn_reason__isnull=False)),
        owed=_sum("posted"),
    )
    return Books(
        unsettled=waiting["count"],
        lag_s=_age_s(waiting["oldest"]),
        holds=Hold.objects.count(),
        dead_letters=DeadLetter.objects.filter(resolved_at=None).count(),
        **accounts,
    )


def _sum(name: str) -> models.Aggregate:
    return models.Sum(name, default=0)


def _age_s(moment: datetime | None) -> int:
    return max(0, round((timezone.now() - moment).total_seconds())) if moment else 0
