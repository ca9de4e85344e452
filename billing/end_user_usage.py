"""What a tenant's end users used this month: settled hours from the rollups, the last seconds from the records."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from django.db import connection

from accounts.models import Organization

_SETTLED = """
SELECT r.end_user, r.requests, r.input_tokens, r.output_tokens, r.cost_nanos, r.hour AS last_at
FROM billing_usagerollup r
WHERE r.organization_id = %(organization)s
  AND r.end_user <> '' AND (%(who)s::text[] IS NULL OR r.end_user = ANY(%(who)s))
  AND r.hour >= (SELECT billing_period_start('month', o.timezone, clock_timestamp())
                 FROM accounts_organization o WHERE o.id = %(organization)s)
"""
_UNSETTLED = """
SELECT u.end_user, 1, u.input_tokens, u.output_tokens, u.cost_nanos, u.created_at FROM billing_usagerecord u
JOIN billing_account a ON a.id = u.account_id AND a.organization_id = %(organization)s
WHERE u.settled_at IS NULL AND u.end_user <> '' AND (%(who)s::text[] IS NULL OR u.end_user = ANY(%(who)s))
"""
_SUMS = f"""
SELECT end_user, sum(requests)::bigint AS requests, sum(input_tokens)::bigint AS input,
    sum(output_tokens)::bigint AS output, sum(cost_nanos)::bigint AS cost, max(last_at) AS last_at
FROM ({_SETTLED} UNION ALL {_UNSETTLED}) x GROUP BY end_user
"""  # noqa: S608 - parts of our own
_PAGE = f"""
WITH sums AS ({_SUMS}),
known AS (
    SELECT end_user FROM sums
    UNION SELECT end_user FROM billing_enduserblock WHERE organization_id = %(organization)s
    UNION SELECT end_user FROM billing_budget WHERE organization_id = %(organization)s AND scope = 'end_user')
SELECT k.end_user, coalesce(s.requests, 0), coalesce(s.input, 0), coalesce(s.output, 0), coalesce(s.cost, 0), s.last_at
FROM known k LEFT JOIN sums s ON s.end_user = k.end_user
WHERE starts_with(k.end_user, %(search)s)
ORDER BY coalesce(s.cost, 0) DESC, k.end_user LIMIT %(limit)s OFFSET %(offset)s
"""  # noqa: S608 - parts of our own


@dataclass(frozen=True, slots=True)
class EndUserUsage:
    """The month of one end user. `last_at` is to the hour."""

    end_user: str
    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_nanos: int = 0
    last_at: datetime | None = None

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens


def this_month(organization: Organization, who: Iterable[str]) -> dict[str, EndUserUsage]:
    """The usage of these end users since their organization's month began; those who used nothing are left out."""
    with connection.cursor() as cursor:
        cursor.execute(_SUMS, {"organization": organization.pk, "who": list(who)})
        return {row[0]: EndUserUsage(*row) for row in cursor.fetchall()}


def page(organization: Organization, *, search: str = "", limit: int, offset: int = 0) -> list[EndUserUsage]:
    """Everybody known: who used something this month, is blocked or has a budget; the dearest first.

    `search` is the beginning of a name.
    """
    values = {"organization": organization.pk, "who": None, "search": search, "limit": limit, "offset": offset}
    with connection.cursor() as cursor:
        cursor.execute(_PAGE, values)
        return [EndUserUsage(*row) for row in cursor.fetchall()]
