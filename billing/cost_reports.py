"""Cost by user over organizations: for staff and for those who run one. Days are days of UTC.

A user is the member who made the key; a key that no member made, as those for programs or self-service, counts as a
user of its own name.
"""
# ruff: noqa: S608 - built from names of our own

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from django.db import connection

from billing.reports import Span

TOP = 6
BARS = 12
MAX_USERS = 1_000
_USED = """(
    SELECT used.*, coalesce(k.created_by_id, -coalesce(used.key_id, 0)) AS who FROM (
        SELECT (starts_at AT TIME ZONE 'UTC')::date AS day, key_id, requests, input_tokens + output_tokens AS tokens,
            cost_nanos
        FROM billing_usageslice
        WHERE slice = 'key' AND grain = 'day' AND starts_at >= %(start)s AND starts_at < %(end)s {organizations}
        UNION ALL
        SELECT (created_at AT TIME ZONE 'UTC')::date, key_id, (outcome <> 'adjustment')::int,
            input_tokens + output_tokens, cost_nanos
        FROM billing_usagerecord
        WHERE settled_at IS NULL AND created_at >= %(start)s AND created_at < %(end)s {organizations}) used
    LEFT JOIN accounts_apikey k ON k.id = used.key_id) u"""


@dataclass(frozen=True, slots=True)
class UserCost:
    """What one user, or one key without one, cost."""

    who: int
    name: str
    requests: int
    tokens: int
    cost_nanos: int


@dataclass(frozen=True, slots=True)
class CostReport:
    """`daily` has every day of the span; `daily_by_user` the `TOP` dearest users, and the days in which they cost."""

    span: Span
    users: list[UserCost]
    daily: dict[date, int]
    daily_by_user: dict[tuple[date, int], int]

    @property
    def total(self) -> int:
        return sum(self.daily.values())

    @property
    def top(self) -> list[UserCost]:
        return self.users[:TOP]

    @property
    def bars(self) -> list[UserCost]:
        """The dearest, of whom there are more where each is only one bar."""
        return self.users[:BARS]

    @property
    def others(self) -> list[int]:
        """What all but the dearest cost, by day."""
        shown = {day: 0 for day in self.daily}
        for (day, _), nanos in self.daily_by_user.items():
            shown[day] += nanos
        return [nanos - shown[day] for day, nanos in self.daily.items()]

    @property
    def cumulative(self) -> list[int]:
        found, total = [], 0
        for nanos in self.daily.values():
            total += nanos
            found.append(total)
        return found


def of(span: Span, *, organization_ids: Sequence[int] | None) -> CostReport:
    """The report over these organizations; None: over all."""
    values: dict[str, Any] = {"start": span.start, "end": span.end}
    used = _USED.format(organizations="")
    if organization_ids is not None:
        values["organizations"] = list(organization_ids)
        used = _USED.format(organizations="AND organization_id = ANY(%(organizations)s)")
    users = [
        UserCost(*row)
        for row in _rows(
            f"""SELECT s.who, coalesce(p.email, k.name || ' (' || o.slug || ')', 'no key'), requests, tokens, cost
                FROM (
                    SELECT who, sum(requests)::bigint AS requests, sum(tokens)::bigint AS tokens,
                        sum(cost_nanos)::bigint AS cost
                    FROM {used} GROUP BY 1 ORDER BY 4 DESC, 1 LIMIT {MAX_USERS}) s
                LEFT JOIN accounts_user p ON p.id = s.who
                LEFT JOIN accounts_apikey k ON k.id = -s.who
                LEFT JOIN accounts_organization o ON o.id = k.organization_id
                ORDER BY cost DESC, 2""",
            values,
        )
    ]
    daily = dict(_rows(f"SELECT day, sum(cost_nanos)::bigint FROM {used} GROUP BY 1", values))
    by_user = _rows(
        f"SELECT day, who, sum(cost_nanos)::bigint FROM {used} WHERE who = ANY(%(who)s) GROUP BY 1, 2",
        values | {"who": [user.who for user in users[:TOP]]},
    )
    return CostReport(
        span,
        users,
        {day: daily.get(day, 0) for day in span.days},
        {(day, who): nanos for day, who, nanos in by_user},
    )


def _rows(sql: str, values: dict[str, Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        return list(cursor.fetchall())
