"""What providers say that their days cost, beside our own usage records."""

from datetime import UTC, date, datetime, time, timedelta

import structlog
from django.db.models import Sum

from billing.models import ProviderReport, UsageRecord
from billing.usage import first_id_at

log = structlog.get_logger(__name__)

# Providers round, and count by the second in which a request came to them.
TOLERANCE_PER_CENT = 1
TOLERANCE_NANOS = 10_000_000


def note(*, provider: str, day: date, reported: int) -> ProviderReport:
    """Keep what `provider` (a slug) reports of a day (UTC), in nano-dollars. A later report of the day replaces it."""
    recorded = recorded_on(provider, day)
    allowed = max(TOLERANCE_NANOS, reported * TOLERANCE_PER_CENT // 100)
    made, _ = ProviderReport.objects.update_or_create(
        provider=provider,
        day=day,
        defaults={
            "reported": reported,
            "recorded": recorded,
            "is_within_tolerance": abs(reported - recorded) <= allowed,
        },
    )
    if not made.is_within_tolerance:
        log.error("provider_cost_differs", provider=provider, day=str(day), reported=reported, recorded=recorded)
    return made


def recorded_on(provider: str, day: date) -> int:
    """What our records say that requests to `provider` cost us on a day (UTC), in nano-dollars."""
    starts = datetime.combine(day, time(), UTC)
    ids = {"request_id__gte": first_id_at(starts), "request_id__lt": first_id_at(starts + timedelta(days=1))}
    rows = UsageRecord.objects.filter(provider=provider, **ids).order_by()
    total: int | None = rows.aggregate(total=Sum("upstream_cost_nanos"))["total"]
    return total or 0
