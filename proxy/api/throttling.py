"""The management API's rate limit: as many requests a minute as the key may send, in a cell of their own.

Reading a balance shall not use up what model calls may use, so the cell is not the gateway's (GCRA, ITU-T I.371).
"""

import time
from dataclasses import dataclass
from functools import cache
from ipaddress import IPv6Address, IPv6Network
from typing import Any

import redis
import structlog
from django.conf import settings
from redis.exceptions import RedisError
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from proxy.api.authentication import wire_request
from proxy.gateway.errors import RateLimited
from proxy.gateway.limits import PERIOD_US, Allowance

log = structlog.get_logger(__name__)

TIMEOUT_S = 0.25
# Of an address that uses no key, where a path is open to everybody.
ANONYMOUS_RPM = 120
IPV6_PREFIX = 64
MAX_LOCAL_CELLS = 10_000
# KEYS: cell. ARGV: requests per minute. Returns: retry in µs (0 or less: it passed), µs until the cell is empty.
_SCRIPT = """
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local tat = tonumber(redis.call('GET', KEYS[1]) or '0')
if tat < now then tat = now end
local new = tat + math.ceil(60000000 / tonumber(ARGV[1]))
local wait = new - now - 60000000
if wait > 0 then return {wait, tat - now} end
redis.call('SET', KEYS[1], string.format('%.0f', new), 'PX', math.ceil((new - now) / 1000))
return {wait, new - now}
"""
_local: dict[int | str, int] = {}


@dataclass(frozen=True, slots=True)
class Cell:
    """A rate limit of a key as it stands: `remaining` of `limit` in this minute, and what a request would count."""

    unit: str
    limit: int
    remaining: int
    cost: int


class KeyThrottle(BaseThrottle):
    """Counts one request of a key. Raises `RateLimited`; sets `request.allowance` for the answer's headers."""

    def allow_request(self, request: Request, view: Any) -> bool:
        who, rpm = _subject(request)
        if not rpm:
            return True
        wait_us, busy_us = _count(who, rpm)
        allowance = Allowance(rpm, 0, busy_us, 0)
        if wait_us > 0:
            retry_after_s = max(wait_us, 1000) / 1e6
            raise RateLimited(unit="requests", limit=rpm, retry_after_s=retry_after_s, standing=allowance.headers())
        request._request.allowance = allowance
        return True


def peek(key_id: int | str, *, rpm: int, tpm: int, tokens: int) -> list[Cell]:
    """The gateway's limits of a key, counted by no one for the asking. While Redis is away they look unused."""
    limits = [
        (name, unit, limit, cost)
        for name, unit, limit, cost in (("r", "requests", rpm, 1), ("t", "tokens", tpm, tokens))
        if limit
    ]
    if not limits:
        return []
    busy = [0] * len(limits)
    client = _client(settings.REDIS_URL)
    if client is not None:
        try:
            seconds, microseconds = client.time()
            now = seconds * 1_000_000 + microseconds
            found = client.mget([f"rl:{{{key_id}}}:{name}" for name, *_ in limits])
            busy = [max(0, int(value or 0) - now) for value in found]
        except (RedisError, OSError) as error:
            log.warning("rate_limits_unseen", error=type(error).__name__)
    return [
        Cell(unit, limit, max(0, limit - -(-used * limit // PERIOD_US)), cost)
        for (_, unit, limit, cost), used in zip(limits, busy, strict=True)
    ]


def may_try(what: str, address: str, per_minute: int) -> bool:
    """Whether an address has not failed too often at `what` in this minute. Counts nothing."""
    cell, full_us = f"{what}{address}", PERIOD_US - -(-PERIOD_US // per_minute)
    client = _client(settings.REDIS_URL)
    if client is not None:
        try:
            seconds, microseconds = client.time()
            until = int(client.get(f"rl:{{{cell}}}:m") or 0)
            return until - (seconds * 1_000_000 + microseconds) <= full_us
        except (RedisError, OSError) as error:
            log.warning("rate_limits_local", error=type(error).__name__)
    return _local.get(cell, 0) - time.monotonic_ns() // 1000 <= full_us


def failed(what: str, address: str, per_minute: int) -> None:
    """Count a failure of an address."""
    _count(f"{what}{address}", per_minute)


def address_of(request: Request) -> str:
    """Whence a request comes; of IPv6 the network, since a client has all of it."""
    found = wire_request(request).client_address(settings.ALLAUTH_TRUSTED_PROXY_COUNT)
    if isinstance(found, IPv6Address):
        return str(IPv6Network((found, IPV6_PREFIX), strict=False))
    return str(found)


def _subject(request: Request) -> tuple[int | str, int]:
    """Whose cell counts, and its limit: the key's; without one the address's, where a path is open to everybody."""
    if request.user is None:
        return f"ip{address_of(request)}", ANONYMOUS_RPM
    key = request.user.key
    return key.id, settings.DEFAULT_RPM if key.rpm is None else key.rpm


def _count(key_id: int | str, rpm: int) -> tuple[int, int]:
    client = _client(settings.REDIS_URL)
    if client is not None:
        try:
            wait_us, busy_us = client.eval(_SCRIPT, 1, f"rl:{{{key_id}}}:m", rpm)
            return int(wait_us), int(busy_us)
        except (RedisError, OSError) as error:
            log.warning("rate_limits_local", error=type(error).__name__)
    return _count_here(key_id, rpm)


def _count_here(key_id: int | str, rpm: int) -> tuple[int, int]:
    """The same arithmetic in this process, while Redis is away."""
    if len(_local) > MAX_LOCAL_CELLS:
        _local.clear()
    now = time.monotonic_ns() // 1000
    busy = max(0, _local.get(key_id, 0) - now)
    full = busy + -(-PERIOD_US // rpm)
    if full > PERIOD_US:
        return full - PERIOD_US, busy
    _local[key_id] = now + full
    return 0, full


@cache
def _client(url: str) -> Any:
    if not url:
        return None
    return redis.Redis.from_url(url, socket_connect_timeout=TIMEOUT_S, socket_timeout=TIMEOUT_S)
