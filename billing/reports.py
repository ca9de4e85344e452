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
from billing.slice_models import UsageSlice
from billing.slices import BUCKETS, FIGURES

Slice, Grain = UsageSlice.Slice, UsageSlice.Grain

MAX_DAYS = 366
TOP = 50
DIMENSIONS = {"key": "key_id", "model": "model", "endpoint": "endpoint", "end_user": "end_user"}
_DAY = "day"
_COLUMNS = ("starts_at", "key_id", "model", "endpoint", "end_user", *FIGURES)
_UNSETTLED = """(
    SELECT u.* FROM billing_usagerecord u
    JOIN billing_account a ON a.id = u.account_id AND a.organization_id = %(organization)s
    WHERE u.settled_at IS NULL) unsettled"""
# Under the names of the slices' columns: rows that are not settled yet, and the rollups.
_ROWS = f"""(
    SELECT organization_id, date_trunc('hour', created_at, 'UTC') AS starts_at, key_id, model, endpoint, end_user,
        (outcome <> 'adjustment')::int AS requests,
        (outcome NOT IN ('completed', 'client_closed', 'adjustment'))::int AS errors, input_tokens, cached_tokens,
        output_tokens, reasoning_tokens, cost_nanos, coalesce(upstream_cost_nanos, 0) AS upstream_cost_nanos
    FROM {_UNSETTLED}) u"""
_ROLLUPS = "(SELECT *, hour AS starts_at FROM billing_usagerollup) r"
_SUMS = ", ".join(f"coalesce(sum({name}), 0)::bigint" for name in FIGURES)
_BETWEEN = "starts_at >= %(start)s AND starts_at < %(end)s"
_WHOLE = "starts_at >= %(first_day)s AND starts_at < %(end_day)s"
_AROUND = f"{_BETWEEN} AND (starts_at < %(first_day)s OR starts_at >= %(end_day)s)"


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
    def whole_days(self) -> tuple[datetime, datetime]:
        """The first day of UTC that begins in the span, and the end of the last that lies in it; both `end` if none."""
        start, end = self.start, self.end
        first = datetime.combine((start + timedelta(days=1, seconds=-1)).date(), time.min, UTC)
        last = datetime.combine(end.date(), time.min, UTC)
        return (first, last) if first < last else (end, end)

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
    found = dict(_summed(organization, span, which, (_DAY,)))
    return {day: found.get(day, NOTHING) for day in span.days}


def total(organization: Organization, span: Span, which: Which) -> Sums:
    """The sums of the whole span."""
    return next((sums for (sums,) in _summed(organization, span, which, ())), NOTHING)


def by(
    organization: Organization, span: Span, which: Which, dimension: str, *, has_latency: bool = True
) -> dict[Any, Sums]:
    """The sums by a name of `DIMENSIONS`, the dearest first: key ids or names, of end users the first `TOP`."""
    limit = TOP if dimension == "end_user" else None
    return dict(_summed(organization, span, which, (dimension,), limit=limit, has_latency=has_latency))


def daily_by(organization: Organization, span: Span, which: Which, dimension: str) -> dict[tuple[date, Any], int]:
    """The cost in nano-dollars by day and a name of `DIMENSIONS`."""
    rows = _summed(organization, span, which, (_DAY, dimension), has_latency=False)
    return {(day, name): sums.cost_nanos for day, name, sums in rows}


def _summed(
    organization: Organization,
    span: Span,
    which: Which,
    groups: tuple[str, ...],
    *,
    limit: int | None = None,
    has_latency: bool = True,
) -> Iterator[tuple[Any, ...]]:
    """Rows of the values of `groups` and their `Sums`, the dearest first."""
    needed = which.dimensions.union(groups) - {_DAY}
    is_local = _DAY in groups and str(span.zone) != "UTC"
    where = " AND ".join(["organization_id = %(organization)s", *_conditions(which)])
    has_latency = has_latency and "end_user" not in needed
    columns = ", ".join([*_COLUMNS, *(["latency"] if has_latency else [])])
    sources = _sources(needed, is_local=is_local, is_one_end_user=bool(which.end_user))
    used = " UNION ALL ".join(f"SELECT {columns} FROM {source} WHERE {where} AND {span_}" for source, span_ in sources)
    expressions = ["(starts_at AT TIME ZONE %(zone)s)::date" if name == _DAY else DIMENSIONS[name] for name in groups]
    histogram = slices.histogram_sum() if has_latency else "NULL::bigint[]"
    sql = f"""
        SELECT {"".join(f"{expression}, " for expression in expressions)} {_SUMS}, {histogram} FROM ({used}) used
        {f"GROUP BY {', '.join(str(number + 1) for number in range(len(groups)))}" if groups else ""}
        ORDER BY {len(groups) + FIGURES.index("cost_nanos") + 1} DESC {f"LIMIT {limit}" if limit else ""}"""
    return _run(sql, _values(organization, span, which), len(groups))


def _sources(needed: set[str], *, is_local: bool, is_one_end_user: bool) -> list[tuple[str, str]]:
    """What to read for these dimensions, and which part of the span of it.

    Whole days of UTC come from the slices by day and the hours around them from those by hour; days of another zone
    (`is_local`) are made of hours alone. Only the rollups know of one end user, or of end users and something else.
    """
    if needed == {"end_user"} and not is_local and not is_one_end_user:
        return [(_slices(Slice.END_USER, Grain.DAY), _WHOLE), (_ROLLUPS, _AROUND), (_ROWS, _BETWEEN)]
    if "end_user" in needed:
        return [(_ROLLUPS, _BETWEEN), (_ROWS, _BETWEEN)]
    which = slice_for(needed)
    unsettled = (
        f"(SELECT * FROM ({slices.sliced(_UNSETTLED)}) s ({', '.join(slices.COLUMNS)}) "
        f"WHERE slice = '{which}' AND grain = 'hour') u",
        _BETWEEN,
    )
    if is_local:
        return [(_slices(which, Grain.HOUR), _BETWEEN), unsettled]
    return [(_slices(which, Grain.DAY), _WHOLE), (_slices(which, Grain.HOUR), _AROUND), unsettled]


def slice_for(dimensions: set[str]) -> Slice:
    """The smallest slice that tells these dimensions apart."""
    if not dimensions:
        return Slice.ALL
    return Slice(next(iter(dimensions))) if len(dimensions) == 1 else Slice.CROSS


def _slices(which: Slice, grain: Grain) -> str:
    return f"(SELECT * FROM billing_usageslice WHERE slice = '{which}' AND grain = '{grain}') s"


def _conditions(which: Which) -> Iterator[str]:
    if which.key_ids is not None:
        yield "key_id = ANY(%(key_ids)s)"
    for name in ("model", "endpoint", "end_user"):
        if getattr(which, name):
            yield f"{name} = %({name})s"


def _values(organization: Organization, span: Span, which: Which) -> dict[str, Any]:
    first_day, end_day = span.whole_days
    return {
        "organization": organization.pk,
        "start": span.start,
        "end": span.end,
        "first_day": first_day,
        "end_day": end_day,
        "zone": str(span.zone),
        "key_ids": list(which.key_ids or ()),
        "model": which.model,
        "endpoint": which.endpoint,
        "end_user": which.end_user,
    }


def _run(sql: str, values: dict[str, Any], names: int) -> Iterator[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        rows = cursor.fetchall()
    for row in rows:
        *figures, latency = row[names:]
        yield (*row[:names], Sums(*figures, latency=tuple(latency or ())))
