"""How many requests of a key, and of an organization, run at once: counted in Redis, or per process without it.

A request takes a place before its hold and gives it back when it has ended; a place that a dead worker took is free
again after `PLACE_S`, or what it asked for.
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import structlog
from redis.exceptions import RedisError

from proxy.gateway.errors import TooManyAtOnce

PLACE_S = 1_800
REDIS_TIMEOUT_S = 0.25
AWAY_S = 1.0

log = structlog.get_logger(__name__)

# KEYS: sorted sets of running requests by when their place ends. ARGV: request id, seconds, then a limit for each.
# Returns 0, or the number (from 1) of the set that is full.
_ENTER = """
local t = redis.call('TIME')
local now = tonumber(t[1])
for i, key in ipairs(KEYS) do
  redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
  if redis.call('ZCARD', key) >= tonumber(ARGV[i + 2]) then return i end
end
for _, key in ipairs(KEYS) do
  redis.call('ZADD', key, now + ARGV[2], ARGV[1])
  if redis.call('TTL', key) < tonumber(ARGV[2]) then redis.call('EXPIRE', key, ARGV[2]) end
end
return 0
"""


class Concurrency:
    """Places for running requests. `redis` is a `redis.asyncio.Redis` or None."""

    def __init__(self, redis: Any | None) -> None:
        self._redis = redis
        self._away_until = 0.0
        self._local: Counter[str] = Counter()

    @contextlib.asynccontextmanager
    async def place(
        self, limits: list[tuple[str, int]], request_id: UUID, *, seconds: int = PLACE_S
    ) -> AsyncIterator[None]:
        """Run inside, for at most `seconds`, with a place in each of `limits`, (who, how many).

        Raises `TooManyAtOnce`.
        """
        limits = [(who, limit) for who, limit in limits if limit]
        if not limits:
            yield
            return
        is_shared = await self._enter(limits, request_id, seconds)
        try:
            yield
        finally:
            await asyncio.shield(self._leave(limits, request_id, is_shared=is_shared))

    async def _enter(self, limits: list[tuple[str, int]], request_id: UUID, seconds: int) -> bool:
        """Take the places; returns whether Redis keeps them."""
        if self._redis is not None and time.monotonic() >= self._away_until:
            sets = [_set_of(who) for who, _ in limits]
            arguments = [request_id.hex, seconds, *(limit for _, limit in limits)]
            try:
                async with asyncio.timeout(REDIS_TIMEOUT_S):
                    full = await self._redis.eval(_ENTER, len(sets), *sets, *arguments)
            except (RedisError, TimeoutError, OSError) as error:
                self._away_until = time.monotonic() + AWAY_S
                log.warning("concurrency_local", error=type(error).__name__)
            else:
                if full:
                    raise TooManyAtOnce(*limits[int(full) - 1])
                return True
        for who, limit in limits:
            if self._local[who] >= limit:
                raise TooManyAtOnce(who, limit)
        self._local.update(who for who, _ in limits)
        return False

    async def _leave(self, limits: list[tuple[str, int]], request_id: UUID, *, is_shared: bool) -> None:
        if not is_shared:
            self._local.subtract(who for who, _ in limits)
            self._local += Counter()  # forget those that are empty
            return
        try:
            async with asyncio.timeout(REDIS_TIMEOUT_S):
                for who, _ in limits:
                    await self._redis.zrem(_set_of(who), request_id.hex)  # type: ignore[union-attr]
        except (RedisError, TimeoutError, OSError) as error:
            log.warning("concurrency_not_released", error=type(error).__name__)


def _set_of(who: str) -> str:
    return f"cc:{{{who}}}"
