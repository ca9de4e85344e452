"""What open pages hear while they are open: that an organization's balance, requests or sessions changed.

The gateway tells at most once a second, and only of organizations whose pages are open somewhere: those are noted in
Redis, or in this process where there is none.
"""

import time
from collections.abc import Iterable

import redis.asyncio as redis_asyncio
import structlog
from channels.layers import get_channel_layer
from redis.exceptions import RedisError

log = structlog.get_logger(__name__)

WATCHED = "live:watched"
# A page says this often that it is still open; it is forgotten after twice that.
WATCH_S = 30
_local: dict[int, float] = {}


def group_of(organization_id: int) -> str:
    return f"organization.{organization_id}"


class Watchers:
    """Whose pages are open. `redis` is a `redis.asyncio.Redis` or None."""

    def __init__(self, redis: redis_asyncio.Redis | None) -> None:
        self._redis = redis

    async def watch(self, organization_id: int) -> None:
        """A page of this organization is open for the next minute."""
        if self._redis is None:
            _local[organization_id] = time.time()
            return
        try:
            await self._redis.zadd(WATCHED, {str(organization_id): time.time()})
            await self._redis.expire(WATCHED, 2 * WATCH_S)
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("live_watch_failed", error=type(error).__name__)

    async def among(self, organization_ids: Iterable[int]) -> set[int]:
        """Those of `organization_ids` with a page open."""
        since = time.time() - 2 * WATCH_S
        if self._redis is None:
            watched = {organization_id for organization_id, at in _local.items() if at > since}
        else:
            try:
                watched = {int(member) for member in await self._redis.zrangebyscore(WATCHED, since, "+inf")}
            except (RedisError, OSError, TimeoutError) as error:
                log.warning("live_push_failed", error=type(error).__name__)
                return set()
        return watched.intersection(organization_ids)


async def tell(organization_ids: Iterable[int]) -> None:
    """Let the pages of these organizations look again."""
    layer = get_channel_layer()
    for organization_id in organization_ids:
        try:
            await layer.group_send(group_of(organization_id), {"type": "live.changed"})
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("live_push_failed", error=type(error).__name__)
            return
