"""`/health`: the process lives. `/ready`: it can do its work, checked one by one, each within two seconds."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import redis.asyncio as redis_asyncio
from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

DEADLINE_S = 2.0


async def health(request: HttpRequest) -> HttpResponse:
    """Asks nothing: a live process is not restarted because a database is away."""
    return JsonResponse({"status": "ok"}, headers={"Cache-Control": "no-store"})


@never_cache
@require_safe
async def ready(request: HttpRequest) -> HttpResponse:
    """200 while `/v1` can be served; 503 names what is missing. Without Redis limits are kept per process: degraded."""
    database, cache = await asyncio.gather(_check(_database), _check(_redis))
    checks = {"database": database, "redis": cache}
    if database != "ok":
        status, code = "unavailable", 503
    else:
        status, code = ("ok" if cache == "ok" else "degraded"), 200
    return JsonResponse({"status": status, "checks": checks}, status=code)


async def _check(check: Callable[[], Awaitable[str]]) -> str:
    try:
        async with asyncio.timeout(DEADLINE_S):
            return await check()
    except Exception as error:
        return f"failed: {type(error).__name__}"


async def _database() -> str:
    return await sync_to_async(_migrations, thread_sensitive=False)()


def _migrations() -> str:
    try:
        executor = MigrationExecutor(connection)
        pending = executor.migration_plan(executor.loader.graph.leaf_nodes())
        return f"{len(pending)} migrations are not applied" if pending else "ok"
    finally:
        connection.close()


async def _redis() -> str:
    if not settings.REDIS_URL:
        return "not configured"
    client: Any = redis_asyncio.Redis.from_url(settings.REDIS_URL, socket_timeout=DEADLINE_S)
    try:
        await client.ping()
    finally:
        await client.aclose()
    return "ok"
