"""What organizations used: named queries over the usage records, for the console.

A request id is a UUIDv7, so the order of the ids is the order of time, and a span of time is a span of ids.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

from django.db import models
from django.db.models import Count, Q, Sum
from django.db.models.functions import Coalesce

from accounts.models import Organization
from billing.models import UsageRecord

PAGE_SIZE = 50
RECENT_SIZE = 5
FAILED = ("upstream_error", "upstream_cut", "timeout", "interrupted", "rejected", "refused")
# One name in the filter may stand for several outcomes.
OUTCOME_GROUPS: dict[str, tuple[str, ...]] = {
    "completed": ("completed",),
    "client_closed": ("client_closed",),
    "rejected": ("rejected", "refused"),
    "failed": ("upstream_error", "upstream_cut", "timeout", "interrupted"),
}


@dataclass(frozen=True, slots=True)
class Filter:
    """Which requests; days are calendar days of the organization, both included. Empty fields ask for everything."""

    first_day: date | None = None
    last_day: date | None = None
    key_id: int | None = None
    model: str = ""
    outcome: str = ""
    end_user: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """Newest first. `newer` and `older` are the cursors of the neighbouring pages, None at the ends."""

    records: list[UsageRecord]
    newer: UUID | None
    older: UUID | None


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


def page(*, organization: Organization, which: Filter, before: UUID | None = None, after: UUID | None = None) -> Page:
    """The requests just older than `before`, or just newer than `after`; the newest ones without a cursor."""
    rows = _matching(organization, which)
    if after is not None:
        found = list(rows.filter(request_id__gt=after).order_by("request_id")[: PAGE_SIZE + 1])
        records = found[:PAGE_SIZE][::-1]
        has_newer, has_older = len(found) > PAGE_SIZE, True
    else:
        if before is not None:
            rows = rows.filter(request_id__lt=before)
        found = list(rows.order_by("-request_id")[: PAGE_SIZE + 1])
        records = found[:PAGE_SIZE]
        has_newer, has_older = before is not None, len(found) > PAGE_SIZE
    if not records:
        return Page([], None, None)
    return Page(
        records,
        records[0].request_id if has_newer else None,
        records[-1].request_id if has_older else None,
    )


def recent(organization: Organization) -> list[UsageRecord]:
    """The last few requests, newest first."""
    return list(_matching(organization, Filter()).order_by("-request_id")[:RECENT_SIZE])


def one(organization: Organization, request_id: UUID) -> UsageRecord | None:
    """The request of this id, if it is the organization's."""
    return _matching(organization, Filter()).filter(request_id=request_id).first()


def costs(organization: Organization, request_ids: Iterable[UUID]) -> dict[UUID, int]:
    """What each of these requests cost, in nano-dollars; those that are not charged yet are left out. One query."""
    rows = UsageRecord.objects.filter(organization=organization, request_id__in=list(request_ids))
    return dict(rows.values_list("request_id", "cost_nanos"))


def today(organization: Organization) -> Figures:
    """The sums since midnight in the organization's time zone."""
    day = datetime.now(ZoneInfo(organization.timezone)).date()
    sums = _matching(organization, Filter(first_day=day)).aggregate(
        requests=Count("*"),
        failed=Count("request_id", filter=Q(outcome__in=FAILED)),
        input_tokens=Coalesce(Sum("input_tokens"), 0, output_field=models.BigIntegerField()),
        output_tokens=Coalesce(Sum("output_tokens"), 0, output_field=models.BigIntegerField()),
        cost_nanos=Coalesce(Sum("cost_nanos"), 0, output_field=models.BigIntegerField()),
    )
    return Figures(**sums)


def first_id_at(moment: datetime) -> UUID:
    """The smallest UUIDv7 of the millisecond `moment`: ids from then on are greater or equal."""
    milliseconds = max(int(moment.timestamp() * 1000), 0)
    return UUID(int=(milliseconds << 80) | (7 << 76) | (2 << 62))


def _matching(organization: Organization, which: Filter) -> models.QuerySet[UsageRecord]:
    rows = UsageRecord.objects.filter(organization=organization).select_related("key").fetch_mode(models.FETCH_RAISE)
    zone = ZoneInfo(organization.timezone)
    if which.first_day:
        rows = rows.filter(request_id__gte=first_id_at(_midnight(which.first_day, zone)))
    if which.last_day:
        rows = rows.filter(request_id__lt=first_id_at(_midnight(which.last_day + timedelta(days=1), zone)))
    if which.key_id is not None:
        rows = rows.filter(key_id=which.key_id)
    if which.model:
        rows = rows.filter(model=which.model)
    if which.outcome:
        rows = rows.filter(outcome__in=OUTCOME_GROUPS[which.outcome])
    if which.end_user:
        rows = rows.filter(end_user=which.end_user)
    return rows


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, time.min, zone).astimezone(UTC)
