"""The reaper: ends the holds of workers that died. Their requests are charged what the last checkpoint says."""

from datetime import timedelta

import structlog
from django.conf import settings
from django.db import connection

log = structlog.get_logger(__name__)

BATCH = 500


def reap(*, dead_after: timedelta | None = None) -> int:
    """Settle the holds of workers that stopped or were not seen for `dead_after`; returns how many.

    PostgreSQL's clock alone decides. A worker that comes back charges only what its request cost beyond that.
    """
    age = dead_after if dead_after is not None else timedelta(seconds=settings.REAPER_WORKER_TIMEOUT_S)
    reaped = 0
    while True:
        with connection.cursor() as cursor:
            cursor.execute("SELECT billing_reap(%s, %s)", [age, BATCH])
            (count,) = cursor.fetchone()
        reaped += count
        if count < BATCH:
            break
    if reaped:
        log.warning("holds_reaped", count=reaped)
    return reaped


def forget_workers() -> int:
    """Delete workers that are long gone and hold nothing."""
    with connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM billing_worker w WHERE w.seen_at < clock_timestamp() - interval '7 days' "
            "AND NOT EXISTS (SELECT FROM billing_hold h WHERE h.worker = w.id)"
        )
        return cursor.rowcount
