"""The request log: pages of usage records by filter, newest first; none reads more than a bounded number of rows.

A filter that hardly matches would read an organization's whole past to fill one page. So one call looks at `LOOKED_AT`
rows at most; where nothing matched, the sums of usage say in which hour to go on. A page may therefore be short, or
even empty, and still have an older one.
"""
# ruff: noqa: S608 - built from names of our own

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

from django.db import connection, models

from accounts.models import Organization
from billing import reports
from billing.models import UsageRecord, moment_of
from billing.usage import FAILED, first_id_at, midnight

PAGE_SIZE = 50
LOOKED_AT = 25_000
MAX_JUMPS = 3
MAX_PAGES = 60
# One name in the filter may stand for several outcomes.
OUTCOME_GROUPS: dict[str, tuple[str, ...]] = {
    "completed": ("completed",),
    "client_closed": ("client_closed",),
    "rejected": ("rejected", "refused"),
    "failed": ("upstream_error", "upstream_cut", "timeout", "interrupted"),
    "errors": FAILED,
}
_NO_SUCH_KEY = -1


@dataclass(frozen=True, slots=True)
class Filter:
    """Which requests; days are calendar days of `zone`, by default the organization's, both included.

    Empty fields ask for everything; `status` of one digit asks for its hundred.
    """

    first_day: date | None = None
    last_day: date | None = None
    key_ids: tuple[int, ...] | None = None
    model: str = ""
    endpoint: str = ""
    outcome: str = ""
    end_user: str = ""
    org_label: str = ""
    status: int | None = None
    min_cost_nanos: int | None = None
    zone: str = ""

    @property
    def is_sparse(self) -> bool:
        """Whether it may pass over many rows for each that it finds."""
        labels = (self.end_user, self.org_label)
        given = (self.model, self.endpoint, self.outcome, *labels, self.status, self.min_cost_nanos)
        return self.key_ids is not None or any(given)


@dataclass(frozen=True, slots=True)
class Page:
    """Newest first. `newer` and `older` are the cursors of the neighbouring pages, None at the ends.

    `searched_to` is set where the page is short because that far back it was looked for.
    """

    records: list[UsageRecord]
    newer: UUID | None
    older: UUID | None
    searched_to: datetime | None = None


def page(
    *,
    organization: Organization,
    which: Filter,
    before: UUID | None = None,
    after: UUID | None = None,
    size: int = PAGE_SIZE,
) -> Page:
    """The requests just older than `before`, or just newer than `after`; the newest ones without a cursor."""
    if after is not None:
        return _newer(organization, which, after, size)
    cursor, found, floor = before, [], None
    for _ in range(MAX_JUMPS):
        rows = _before(matching(organization, which), cursor)
        floor = _floor(organization, which, cursor)
        found = list((rows.filter(request_id__gte=floor) if floor else rows).order_by("-request_id")[: size + 1])
        if found or floor is None:
            break
        hour = _latest_hour(organization, which, floor)
        if hour is None:
            floor = None
            break
        cursor = min(floor, first_id_at(hour + timedelta(hours=1)))
    records = found[:size]
    first = records[0].request_id if records else None
    if len(found) > size:
        return Page(records, first if before else None, records[-1].request_id)
    searched_to = moment_of(floor) if floor else None
    return Page(records, first if before else None, floor, searched_to)


def walk(*, organization: Organization, which: Filter, most: int, step: int = 2_000) -> Iterator[UsageRecord]:
    """The newest `most` requests of the filter, read in pages; where they are rare, as many as `MAX_PAGES` have."""
    cursor: UUID | None = None
    for _ in range(MAX_PAGES):
        got = page(organization=organization, which=which, before=cursor, size=min(step, most))
        yield from got.records
        most -= len(got.records)
        cursor = got.older
        if cursor is None or most <= 0:
            return


def matching(organization: Organization, which: Filter) -> models.QuerySet[UsageRecord]:
    """The organization's requests of the filter, with their keys."""
    rows = UsageRecord.objects.filter(organization=organization).select_related("key").fetch_mode(models.FETCH_RAISE)
    zone = ZoneInfo(which.zone or organization.timezone)
    if which.first_day:
        rows = rows.filter(request_id__gte=first_id_at(midnight(which.first_day, zone)))
    if which.last_day:
        rows = rows.filter(request_id__lt=first_id_at(midnight(which.last_day + timedelta(days=1), zone)))
    if which.key_ids is not None:
        rows = rows.filter(key_id__in=which.key_ids or (_NO_SUCH_KEY,))
    for name in ("model", "endpoint", "end_user", "org_label"):
        if getattr(which, name):
            rows = rows.filter(**{name: getattr(which, name)})
    if which.outcome:
        rows = rows.filter(outcome__in=OUTCOME_GROUPS[which.outcome])
    if which.status is not None:
        low, high = (which.status * 100, which.status * 100 + 99) if which.status < 10 else (which.status,) * 2
        rows = rows.filter(status_code__gte=low, status_code__lte=high)
    if which.min_cost_nanos is not None:
        rows = rows.filter(cost_nanos__gte=which.min_cost_nanos)
    return rows


def _before(rows: models.QuerySet[UsageRecord], cursor: UUID | None) -> models.QuerySet[UsageRecord]:
    return rows if cursor is None else rows.filter(request_id__lt=cursor)


def _newer(organization: Organization, which: Filter, after: UUID, size: int) -> Page:
    rows = matching(organization, which).filter(request_id__gt=after)
    ceiling = None
    if which.is_sparse:
        all_of_them = UsageRecord.objects.filter(organization=organization, request_id__gt=after)
        ceiling = all_of_them.order_by("request_id").values_list("request_id", flat=True)[LOOKED_AT:][:1].first()
    if ceiling is not None:
        rows = rows.filter(request_id__lte=ceiling)
    found = list(rows.order_by("request_id")[: size + 1])
    records = found[:size][::-1]
    if not records:
        return Page([], ceiling, None)
    return Page(records, records[0].request_id if len(found) > size else ceiling, records[-1].request_id)


def _floor(organization: Organization, which: Filter, cursor: UUID | None) -> UUID | None:
    """The id below which this call does not look; None where it may look at everything there is."""
    if not which.is_sparse:
        return None
    span = Filter(first_day=which.first_day, last_day=which.last_day, zone=which.zone)
    rows = _before(matching(organization, span), cursor).select_related(None)
    return rows.order_by("-request_id").values_list("request_id", flat=True)[LOOKED_AT:][:1].first()


def _latest_hour(organization: Organization, which: Filter, floor: UUID) -> datetime | None:
    """The latest hour up to that of `floor` in which something settled can match, by the sums of usage."""
    by_rollup = bool(which.end_user)
    table, at = ("billing_usagerollup", "hour") if by_rollup else ("billing_usageslice", "starts_at")
    conditions = [f"{at} <= %(until)s", f"{at} >= %(since)s"]
    if not by_rollup:
        named = {"key": which.key_ids is not None, "model": which.model, "endpoint": which.endpoint}
        conditions.append(f"slice = '{reports.slice_for({name for name, value in named.items() if value})}'")
        conditions.append("grain = 'hour'")
    conditions += [f"{name} = %({name})s" for name in ("model", "endpoint", "end_user") if getattr(which, name)]
    if which.key_ids is not None:
        conditions.append("key_id = ANY(%(key_ids)s)")
    if which.outcome in {"rejected", "failed", "errors"}:
        conditions.append("errors > 0")
    if which.min_cost_nanos is not None:
        conditions.append("cost_nanos >= %(min_cost)s")
    values = {
        "organization": organization.pk,
        "until": moment_of(floor),
        "since": _since(organization, which),
        "model": which.model,
        "endpoint": which.endpoint,
        "end_user": which.end_user,
        "key_ids": list(which.key_ids or ()),
        "min_cost": which.min_cost_nanos,
    }
    where = " AND ".join(conditions)
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {at} FROM {table} WHERE organization_id = %(organization)s AND {where} ORDER BY {at} DESC LIMIT 1",
            values,
        )
        found = cursor.fetchone()
    return found[0] if found else None


def _since(organization: Organization, which: Filter) -> datetime:
    if which.first_day is None:
        return datetime.fromtimestamp(0, UTC)
    return midnight(which.first_day, ZoneInfo(which.zone or organization.timezone)) - timedelta(hours=1)
