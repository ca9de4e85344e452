"""Rate limits per key by the generic cell rate algorithm (GCRA, ITU-T I.371): in Redis, or per process without it.

A limit of N a minute lets N pass at once and refills continuously. Requests and tokens have a cell each.
"""

import asyncio
import time
from dataclasses import dataclass
from typing import Any

import structlog
from redis.exceptions import NoScriptError, RedisError

from proxy.gateway.errors import RateLimited

PERIOD_US = 60_000_000
REDIS_TIMEOUT_S = 0.25
AWAY_S = 1.0
MAX_LOCAL_CELLS = 100_000

log = structlog.get_logger(__name__)

# KEYS: cell of requests, cell of tokens. ARGV: rpm, tpm, tokens (0 = no such limit).
# Returns: allowed (0 = both, 1 = requests bind, 2 = tokens bind), retry µs, µs until each cell is empty.
_GCRA = """
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local period = 60000000
local function cell(key, limit, cost)
  if limit == 0 then return 0, 0, true, 0 end
  local tat = tonumber(redis.call('GET', key) or '0')
  if tat < now then tat = now end
  local new = tat + math.ceil(cost * period / limit)
  return tat, new, new - now <= period, new - now - period
end
local rpm, tpm, cost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local rtat, rnew, rok, rwait = cell(KEYS[1], rpm, 1)
if not rok then return {1, rwait, rtat - now, 0} end
local ttat, tnew, tok, twait = cell(KEYS[2], tpm, cost)
if not tok then return {2, twait, rtat - now, ttat - now} end
local function keep(key, value)
  redis.call('SET', key, string.format('%.0f', value), 'PX', math.max(1, math.ceil((value - now) / 1000)))
end
if rpm > 0 then keep(KEYS[1], rnew) end
if tpm > 0 and tnew > now then keep(KEYS[2], tnew) end
return {0, 0, math.max(0, rnew - now), math.max(0, tnew - now)}
"""
# Gives tokens back to (or takes more from) a cell once the real count is known. KEYS: cell. ARGV: tpm, tokens.
_CORRECT = """
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local tat = tonumber(redis.call('GET', KEYS[1]) or '0')
if tat < now then tat = now end
local new = tat + math.floor(tonumber(ARGV[2]) * 60000000 / tonumber(ARGV[1]))
if new <= now then redis.call('DEL', KEYS[1]) else
  redis.call('SET', KEYS[1], string.format('%.0f', new), 'PX', math.max(1, math.ceil((new - now) / 1000))) end
return 0
"""


@dataclass(frozen=True, slots=True)
class Allowance:
    """What is left after a request that passed. Times in microseconds until the cell is empty again."""

    rpm: int
    tpm: int
    requests_busy_us: int
    tokens_busy_us: int

    def headers(self) -> list[tuple[str, str]]:
        """OpenAI's `x-ratelimit-*` headers for the limits that exist; resets are Go durations."""
        headers: list[tuple[str, str]] = []
        for unit, limit, busy in (
            ("requests", self.rpm, self.requests_busy_us),
            ("tokens", self.tpm, self.tokens_busy_us),
        ):
            if limit:
                remaining = max(0, limit - -(-busy * limit // PERIOD_US))
                headers += [
                    (f"x-ratelimit-limit-{unit}", str(limit)),
                    (f"x-ratelimit-remaining-{unit}", str(remaining)),
                    (f"x-ratelimit-reset-{unit}", go_duration(busy)),
                ]
        return headers


UNLIMITED = Allowance(0, 0, 0, 0)


def go_duration(microseconds: int) -> str:
    """A duration as Go prints it and OpenAI sends it: `120ms`, `1s`, `6m0s`."""
    milliseconds = -(-microseconds // 1000)
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    seconds = -(-milliseconds // 1000)
    minutes, seconds = divmod(seconds, 60)
    return f"{minutes}m{seconds}s" if minutes else f"{seconds}s"


class Limiter:
    """Admits requests by key. `redis` is a `redis.asyncio.Redis` or None; calls that wait together share a pipeline."""

    def __init__(self, redis: Any | None) -> None:
        self._redis = redis
        self._away_until = 0.0
        self._waiting: list[tuple[tuple[Any, ...], asyncio.Future[list[int]] | None]] = []
        self._flushing: asyncio.Task[None] | None = None
        self._shas: tuple[str, str] | None = None
        self._local: dict[str, float] = {}

    async def admit(self, key_id: int | str, *, rpm: int, tpm: int, tokens: int) -> Allowance:
        """Count one request of `tokens` tokens. Raises `RateLimited`. A limit of 0 is no limit."""
        if not rpm and not tpm:
            return UNLIMITED
        if tpm and tokens > tpm:
            raise RateLimited(unit="tokens", limit=tpm, retry_after_s=60.0)
        binding, wait_us, requests_us, tokens_us = await self._ask(key_id, rpm, tpm, tokens)
        if binding:
            unit, limit = ("requests", rpm) if binding == 1 else ("tokens", tpm)
            # The cell of tokens is not asked where that of requests binds.
            standing = Allowance(rpm, tpm if binding == 2 else 0, requests_us, tokens_us).headers()
            raise RateLimited(unit=unit, limit=limit, retry_after_s=max(wait_us, 1000) / 1e6, standing=standing)
        return Allowance(rpm, tpm, requests_us, tokens_us)

    def correct(self, key_id: int, *, tpm: int, tokens: int) -> None:
        """Add `tokens` (negative: give back) to a key's token cell, when the real count is known. Never waits."""
        if not tpm or not tokens:
            return
        if self._is_away():
            self._local_take(f"t{key_id}", tpm, tokens)
        else:
            self._enqueue((1, f"rl:{{{key_id}}}:t", tpm, tokens), None)

    async def close(self) -> None:
        if self._flushing:
            await self._flushing
        if self._redis is not None:
            await self._redis.aclose()

    async def _ask(self, key_id: int | str, rpm: int, tpm: int, tokens: int) -> list[int]:
        if not self._is_away():
            future: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()
            self._enqueue((2, f"rl:{{{key_id}}}:r", f"rl:{{{key_id}}}:t", rpm, tpm, tokens), future)
            try:
                return await future
            except RedisError:
                pass
        return self._ask_local(key_id, rpm, tpm, tokens)

    def _is_away(self) -> bool:
        return self._redis is None or time.monotonic() < self._away_until

    def _enqueue(self, call: tuple[Any, ...], future: asyncio.Future[list[int]] | None) -> None:
        self._waiting.append((call, future))
        if self._flushing is None:
            self._flushing = asyncio.get_running_loop().create_task(self._flush())

    async def _flush(self) -> None:
        """Send all that waits as one pipeline, again until nothing waits. While one is under way the next gathers."""
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                try:
                    async with asyncio.timeout(REDIS_TIMEOUT_S):
                        answers = await self._send([call for call, _ in batch])
                except (RedisError, TimeoutError, OSError) as error:
                    self._away_until = time.monotonic() + AWAY_S
                    log.warning("rate_limits_local", error=type(error).__name__)
                    answers = [RedisError("away")] * len(batch)
                for (_, future), answer in zip(batch, answers, strict=True):
                    if future is None or future.done():
                        continue
                    if isinstance(answer, Exception):
                        future.set_exception(RedisError("away"))
                    else:
                        future.set_result(answer)
        finally:
            self._flushing = None

    async def _send(self, calls: list[tuple[Any, ...]]) -> list[Any]:
        assert self._redis is not None  # noqa: S101 - _is_away() was asked first
        if self._shas is None:
            self._shas = (await self._redis.script_load(_CORRECT), await self._redis.script_load(_GCRA))
        pipeline = self._redis.pipeline(transaction=False)
        for call in calls:
            pipeline.evalsha(self._shas[call[0] - 1], *call)
        answers: list[Any] = await pipeline.execute(raise_on_error=False)
        if any(isinstance(answer, NoScriptError) for answer in answers):
            self._shas = None
        return answers

    def _ask_local(self, key_id: int | str, rpm: int, tpm: int, tokens: int) -> list[int]:
        wait, requests_us = self._local_peek(f"r{key_id}", rpm, 1)
        if wait > 0:
            return [1, wait, requests_us, 0]
        wait, tokens_us = self._local_peek(f"t{key_id}", tpm, tokens)
        if wait > 0:
            return [2, wait, requests_us, tokens_us]
        return [0, 0, self._local_take(f"r{key_id}", rpm, 1), self._local_take(f"t{key_id}", tpm, tokens)]

    def _local_peek(self, cell: str, limit: int, cost: int) -> tuple[int, int]:
        if not limit:
            return 0, 0
        busy = max(0, int(self._local.get(cell, 0.0) * 1e6) - int(time.monotonic() * 1e6))
        return busy + -(-cost * PERIOD_US // limit) - PERIOD_US, busy

    def _local_take(self, cell: str, limit: int, cost: int) -> int:
        if not limit:
            return 0
        if len(self._local) > MAX_LOCAL_CELLS:
            self._local.clear()
        now = time.monotonic()
        full_at = max(now, self._local.get(cell, 0.0)) + cost * 60 / limit
        self._local[cell] = full_at
        return max(0, int((full_at - now) * 1e6))
