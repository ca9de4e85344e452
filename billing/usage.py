"""What organizations used: named queries over the usage records, for the console.

A request id is a UUIDv7, so the order of the ids is the order of time, and a span of time is a span of ids.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

from django.db import models
from django.utils import timezone

from accounts.models import Organization
from billing import reports
from billing.models import UsageRecord, UsageSlice
from billing.reports import Span, Which

RECENT_SIZE = 5
LATELY = timedelta(days=30)
FAILED = ("upstream_error", "upstream_cut", "timeout", "interrupted", "rejected", "refused")


@dataclass(frozen=True, slots=True)
class Figures:
    """Sums over some requests."""

    requests: int
    failed: int
    input_tokens: int
    output_tokens: int
    cost_nanos: int

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens


def recent(organization: Organization) -> list[UsageRecord]:
    """The last few requests, newest first."""
    return list(_of(organization).order_by("-request_id")[:RECENT_SIZE])


def one(organization: Organization, request_id: UUID) -> UsageRecord | None:
    """The request of this id, if it is the organization's."""
    return _of(organization).filter(request_id=request_id).first()


def costs(organization: Organization, request_ids: Iterable[UUID]) -> dict[UUID, int]:
    """What each of these requests cost, in nano-dollars; those that are not charged yet are left out. One query."""
    rows = UsageRecord.objects.filter(organization=organization, request_id__in=list(request_ids))
    return dict(rows.values_list("request_id", "cost_nanos"))


def today(organization: Organization) -> Figures:
    """The sums since midnight in the organization's time zone."""
    zone = ZoneInfo(organization.timezone)
    day = datetime.now(zone).date()
    sums = reports.total(organization, Span(day, day, zone), Which())
    return Figures(sums.requests, sums.errors, sums.input_tokens, sums.output_tokens, sums.cost_nanos)


def models_lately(organizations: models.QuerySet[Organization]) -> list[str]:
    """The models that these organizations used in the last 30 days, the most used first. One query."""
    rows = UsageSlice.objects.filter(
        organization__in=organizations, slice=UsageSlice.Slice.MODEL, grain=UsageSlice.Grain.DAY,
        starts_at__gte=timezone.now() - LATELY,
    )  # fmt: skip
    summed = rows.values("model").annotate(total=models.Sum("requests")).order_by("-total", "model")
    return list(summed.values_list("model", flat=True))


def first_id_at(moment: datetime) -> UUID:
    """The smallest UUIDv7 of the millisecond `moment`: ids from then on are greater or equal."""
    milliseconds = max(int(moment.timestamp() * 1000), 0)
    return UUID(int=(milliseconds << 80) | (7 << 76) | (2 << 62))


def midnight(day: date, zone: ZoneInfo) -> datetime:
    """The moment in UTC at which `day` begins in `zone`."""
    return datetime.combine(day, time.min, zone).astimezone(UTC)


def _of(organization: Organization) -> models.QuerySet[UsageRecord]:
    return UsageRecord.objects.filter(organization=organization).select_related("key").fetch_mode(models.FETCH_RAISE)
