"""The figures on the first page of the administration, kept for half a minute: staff reload it often."""

from dataclasses import dataclass
from datetime import timedelta

import redis
import structlog
from django.conf import settings
from django.core.cache import cache
from redis.exceptions import RedisError

from billing import vitals
from billing.vitals import Books, Sales
from proxy import books_watch
from status.models import Incident

log = structlog.get_logger(__name__)

KEPT_S = 30
TIMEOUT_S = 0.25
_QUEUE = "celery"
_CACHE = "staff-dashboard"
# Settlement runs every five seconds; a queue that grows beyond this has no worker.
SLOW_LAG_S, LONG_QUEUE = 60, 200


@dataclass(frozen=True, slots=True)
class Dashboard:
    day: Sales
    month: Sales
    books: Books
    drift: Incident | None
    incidents: list[Incident]
    queued: int | None

    @property
    def is_behind(self) -> bool:
        return self.books.lag_s > SLOW_LAG_S or (self.queued or 0) > LONG_QUEUE


def figures() -> Dashboard:
    """As of at most half a minute ago."""
    kept: Dashboard | None = cache.get(_CACHE)
    if kept is None:
        kept = _figures()
        cache.set(_CACHE, kept, KEPT_S)
    return kept


def _figures() -> Dashboard:
    incidents = list(Incident.objects.filter(resolved_at=None).order_by("-started_at")[:5])
    return Dashboard(
        day=vitals.sales(timedelta(days=1)),
        month=vitals.sales(timedelta(days=30)),
        books=vitals.books(),
        drift=Incident.objects.filter(title=books_watch.TITLE, resolved_at=None).first(),
        incidents=incidents,
        queued=_queued(),
    )


def _queued() -> int | None:
    """Tasks that wait for a worker; None where nobody can say."""
    if not settings.REDIS_URL:
        return None
    try:
        client = redis.Redis.from_url(settings.REDIS_URL, socket_connect_timeout=TIMEOUT_S, socket_timeout=TIMEOUT_S)
        with client:
            return int(client.llen(_QUEUE))
    except (RedisError, OSError) as error:
        log.warning("queue_unseen", error=type(error).__name__)
        return None
