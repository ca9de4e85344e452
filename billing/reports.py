"""What organizations used, summed for pages and the API: settled hours from the slices, the last seconds from the rows.

Days are those of the span's time zone. Sums are kept by hours of UTC: where a zone is not whole hours away, an hour
belongs to the day in which it begins.
"""
# ruff: noqa: S608 - built from names of our own

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django.db import connection

from accounts.models import Organization
from billing import slices
from billing.slices import BUCKETS, FIGURES, Slice

MAX_DAYS = 366
TOP = 50
DIMENSIONS = {"key": "key_id", "model": "model", "endpoint": "endpoint", "end_user": "end_user"}
_UNSETTLED = """(
    SELECT u.* FROM billing_usagerecord u
    JOIN billing_account a ON a.id = u.account_id AND a.organization_id = %(organization)s
    WHERE u.settled_at IS NULL) unsettled"""
_ROW_FIGURES = """
    (outcome <> 'adjustment')::int AS requests,
    (outcome NOT IN ('completed', 'client_closed', 'adjustment'))::int AS errors, input_tokens, cached_tokens,
    output_tokens, reasoning_tokens, cost_nanos, coalesce(upstream_cost_nanos, 0) AS upstream_cost_nanos"""
_SUMS = ", ".join(f"coalesce(sum({name}), 0)::bigint" for name in FIGURES)


@dataclass(frozen=True, slots=True)
class Span:
    """Calendar days of a time zone, both included."""

    first: date
    last: date
    zone: ZoneInfo = field(default_factory=lambda: ZoneInfo("UTC"))

    @property
    def days(self) -> list[date]:
        return [self.first + timedelta(days=number) for number in range((self.last - self.first).days + 1)]

    @property
    def start(self) -> datetime:
        return self._midnight(self.first)

    @property
    def end(self) -> datetime:
        return self._midnight(self.last + timedelta(days=1))

    @property
    def previous(self) -> "Span":
        """As many days right before."""
        length = (self.last - self.first).days + 1
        return replace(self, first=self.first - timedelta(days=length), last=self.first - timedelta(days=1))

    def _midnight(self, day: date) -> datetime:
        return datetime.combine(day, time.min, self.zone).astimezone(UTC)


@dataclass(frozen=True, slots=True)
class Which:
    """Whose requests; empty fields ask for everything."""

    key_ids: tuple[int, ...] | None = None
    model: str = ""
    endpoint: str = ""
    end_user: str = ""

    @property
    def dimensions(self) -> set[str]:
        """What is asked of, by the names of `DIMENSIONS`."""
        given = {"key": self.key_ids is not None, "model": self.model, "endpoint": self.endpoint}
        return {name for name, value in (given | {"end_user": self.end_user}).items() if value}


@dataclass(frozen=True, slots=True)
class Sums:
    """What some requests used together. `latency` counts those that completed by `slices.BOUNDS`; empty: not kept."""

    requests: int = 0
    errors: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    cost_nanos: int = 0
    upstream_cost_nanos: int = 0
    latency: tuple[int, ...] = ()

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens

    @property
    def answered(self) -> int:
        return self.requests - self.errors

    @property
    def error_percent(self) -> float:
        return 100 * self.errors / self.requests if self.requests else 0.0

    @property
    def p50_ms(self) -> int | None:
        return slices.quantile(self.latency, 0.5)

    @property
    def p95_ms(self) -> int | None:
        return slices.quantile(self.latency, 0.95)

    def __add__(self, other: "Sums") -> "Sums":
        figures = {name: getattr(self, name) + getattr(other, name) for name in FIGURES}
        pairs = zip(self.latency or (0,) * BUCKETS, other.latency or (0,) * BUCKETS, strict=True)
        return Sums(**figures, latency=tuple(one + another for one, another in pairs))


NOTHING = Sums()


def daily(organization: Organization, span: Span, which: Which) -> dict[date, Sums]:
    """The sums of every day of the span, in order; a day without requests has zeros."""
    rows = _summed(organization, span, which, ("(starts_at AT TIME ZONE %(zone)s)::date",), ())
    found = {day: sums for day, sums in rows}
    return {day: found.get(day, NOTHING) for day in span.days}


def total(organization: Organization, span: Span, which: Which) -> Sums:
    """The sums of the whole span."""
    return next((sums for (sums,) in _summed(organization, span, which, (), ())), NOTHING)


def by(organization: Organization, span: Span, which: Which, dimension: str) -> dict[Any, Sums]:
    """The sums by a name of `DIMENSIONS`, the dearest first: key ids or names, of end users the first `TOP`."""
    if dimension == "end_user" and not which.dimensions:
        return dict(_by_end_user(organization, span))
    limit = TOP if dimension == "end_user" else None
    return dict(_summed(organization, span, which, (DIMENSIONS[dimension],), (dimension,), limit=limit))


def daily_by(organization: Organization, span: Span, which: Which, dimension: str) -> dict[tuple[date, Any], int]:
    """The cost in nano-dollars by day and a name of `DIMENSIONS`."""
    expressions = ("(starts_at AT TIME ZONE %(zone)s)::date", DIMENSIONS[dimension])
    rows = _summed(organization, span, which, expressions, (dimension,), has_latency=False)
    return {(day, name): sums.cost_nanos for day, name, sums in rows}


def _summed(
    organization: Organization,
    span: Span,
    which: Which,
    expressions: tuple[str, ...],
    dimensions: tuple[str, ...],
    *,
    limit: int | None = None,
    has_latency: bool = True,
) -> Iterator[tuple[Any, ...]]:
    """Rows of the values of `expressions` and their `Sums`, the dearest first."""
    needed = which.dimensions | set(dimensions)
    source = _rolled() if "end_user" in needed else _sliced(_slice_for(needed))
    conditions = ["starts_at >= %(start)s", "starts_at < %(end)s", *_conditions(which)]
    histogram = slices.histogram_sum() if has_latency and "end_user" not in needed else "NULL::bigint[]"
    positions = ", ".join(str(number + 1) for number in range(len(expressions)))
    sql = f"""
        SELECT {"".join(f"{expression}, " for expression in expressions)} {_SUMS}, {histogram}
        FROM ({source.format(where=" AND ".join(conditions))}) used
        {f"GROUP BY {positions}" if expressions else ""}
        ORDER BY {len(expressions) + FIGURES.index("cost_nanos") + 1} DESC {f"LIMIT {limit}" if limit else ""}"""
    return _run(sql, _values(organization, span, which), len(expressions))


def _slice_for(dimensions: set[str]) -> Slice:
    """The smallest slice that tells these dimensions apart."""
    if not dimensions:
        return Slice.ALL
    return Slice(next(iter(dimensions))) if len(dimensions) == 1 else Slice.CROSS


def _sliced(which: Slice) -> str:
    columns = ", ".join(("starts_at", "key_id", "model", "endpoint", *FIGURES, "latency"))
    return f"""
        SELECT {columns} FROM billing_usageslice
        WHERE organization_id = %(organization)s AND slice = '{which}' AND {{where}}
        UNION ALL
        SELECT {columns} FROM ({slices.sliced(_UNSETTLED)}) s ({", ".join(slices.COLUMNS)})
        WHERE slice = '{which}' AND {{where}}"""


def _rolled() -> str:
    """The rollups, which tell end users apart, under the names of the slices' columns."""
    columns = ", ".join(("key_id", "model", "endpoint", "end_user", *FIGURES))
    return f"""
        SELECT * FROM (SELECT hour AS starts_at, {columns} FROM billing_usagerollup
            WHERE organization_id = %(organization)s) r WHERE {{where}}
        UNION ALL
        SELECT * FROM (
            SELECT date_trunc('hour', created_at, 'UTC') AS starts_at, key_id, model, endpoint, end_user, {_ROW_FIGURES}
            FROM {_UNSETTLED}) u WHERE {{where}}"""


def _conditions(which: Which) -> Iterator[str]:
    if which.key_ids is not None:
        yield "key_id = ANY(%(key_ids)s)"
    for name in ("model", "endpoint", "end_user"):
        if getattr(which, name):
            yield f"{name} = %({name})s"


def _values(organization: Organization, span: Span, which: Which) -> dict[str, Any]:
    return {
        "organization": organization.pk,
        "start": span.start,
        "end": span.end,
        "zone": str(span.zone),
        "key_ids": list(which.key_ids or ()),
        "model": which.model,
        "endpoint": which.endpoint,
        "end_user": which.end_user,
    }


def _by_end_user(organization: Organization, span: Span) -> Iterator[tuple[Any, ...]]:
    """Whole days of UTC from the slices, the hours before and after them from the rollups."""
    start, end = span.start, span.end
    first_day = datetime.combine((start + timedelta(hours=23, minutes=59, seconds=59)).date(), time.min, UTC)
    end_day = datetime.combine(end.date(), time.min, UTC)
    if first_day >= end_day:
        first_day = end_day = end
    figures = ", ".join(FIGURES)
    sql = f"""
        SELECT end_user, {_SUMS}, NULL FROM (
            SELECT end_user, {figures} FROM billing_usageslice
            WHERE organization_id = %(organization)s AND slice = 'end_user'
              AND starts_at >= %(first_day)s AND starts_at < %(end_day)s
            UNION ALL
            SELECT end_user, {figures} FROM billing_usagerollup WHERE organization_id = %(organization)s
              AND ((hour >= %(start)s AND hour < %(first_day)s) OR (hour >= %(end_day)s AND hour < %(end)s))
            UNION ALL
            SELECT end_user, {_ROW_FIGURES} FROM {_UNSETTLED}
            WHERE date_trunc('hour', created_at, 'UTC') >= %(start)s
              AND date_trunc('hour', created_at, 'UTC') < %(end)s) used
        GROUP BY 1 ORDER BY {FIGURES.index("cost_nanos") + 2} DESC LIMIT {TOP}"""
    return _run(sql, _values(organization, span, Which()) | {"first_day": first_day, "end_day": end_day}, 1)


def _run(sql: str, values: dict[str, Any], names: int) -> Iterator[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        rows = cursor.fetchall()
    for row in rows:
        *figures, latency = row[names:]
        yield (*row[:names], Sums(*figures, latency=tuple(latency or ())))
