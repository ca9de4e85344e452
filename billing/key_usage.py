"""What one key used between two moments: settled hours from the rollups, the last seconds from the records."""

from dataclasses import dataclass
from datetime import datetime

from django.db import connection

from accounts.models import ApiKey

_SUMS = """
SELECT model, sum(requests)::bigint, sum(errors)::bigint, sum(input)::bigint, sum(output)::bigint, sum(cost)::bigint
FROM (
    SELECT r.model, r.requests, r.errors, r.input_tokens AS input, r.output_tokens AS output, r.cost_nanos AS cost
    FROM billing_usagerollup r
    WHERE r.organization_id = %(organization)s AND r.key_id = %(key)s
      AND (%(start)s::timestamptz IS NULL OR r.hour >= %(start)s) AND (%(end)s::timestamptz IS NULL OR r.hour < %(end)s)
    UNION ALL
    SELECT u.model, (u.outcome <> 'adjustment')::int,
        (u.outcome NOT IN ('completed', 'client_closed', 'adjustment'))::int,
        u.input_tokens, u.output_tokens, u.cost_nanos
    FROM billing_usagerecord u JOIN billing_account a ON a.id = u.account_id AND a.organization_id = %(organization)s
    WHERE u.settled_at IS NULL AND u.key_id = %(key)s
      AND (%(start)s::timestamptz IS NULL OR u.created_at >= %(start)s)
      AND (%(end)s::timestamptz IS NULL OR u.created_at < %(end)s)) x
GROUP BY model ORDER BY sum(cost) DESC, model
"""


@dataclass(frozen=True, slots=True)
class ModelUsage:
    """The use of one model by one key."""

    model: str
    requests: int
    errors: int
    input_tokens: int
    output_tokens: int
    cost_nanos: int


def by_model(key: ApiKey, *, start: datetime | None = None, end: datetime | None = None) -> list[ModelUsage]:
    """The dearest model first. What is settled is counted by whole hours (UTC), by their beginning."""
    which = {"organization": key.organization_id, "key": key.pk, "start": start, "end": end}
    with connection.cursor() as cursor:
        cursor.execute(_SUMS, which)
        return [ModelUsage(*row) for row in cursor.fetchall()]
