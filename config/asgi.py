"""The ASGI application: the metered `/v1` goes to the gateway, its management API and the pages to Django, WebSockets
through Channels' router."""

import gc
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

import structlog
from asgiref.sync import sync_to_async
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.db import DatabaseError, connection

django_application = get_asgi_application()

from billing import end_users, ledger, partitions  # noqa: E402 - needs Django's apps
from config import cors, stopping  # noqa: E402
from proxy import sockets  # noqa: E402
from proxy.api import snapshot  # noqa: E402
from proxy.gateway.wire import intended  # noqa: E402
from proxy.runtime import Runtime  # noqa: E402

Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

# The first word after `/v1/` of what Django answers. All else under `/v1` is the gateway's.
MANAGED = frozenset(
    {"admin", "auth", "credits", "events", "key", "openapi.json", "public", "quote", "receipts", "sdk", "usage"}
)

log = structlog.get_logger(__name__)
runtime = Runtime()
web_sockets = sockets.application(runtime)


async def application(scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
    """Answer one connection; pages of other sites are let in to `/v1` where an operator names them."""
    if settings.CORS_ORIGINS and scope["type"] == "http" and intended(scope["path"]).startswith("/v1/"):
        await cors.serve(_route, scope, receive, send, origins=settings.CORS_ORIGINS)
    else:
        await _route(scope, receive, send)


async def _route(scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
    """The application of a connection; the server's lifespan starts and stops the gateway."""
    if scope["type"] == "http":
        path: str = scope["path"]
        if runtime.gateway is not None and _is_gateways(path):
            await runtime.gateway(scope, receive, send)
        else:
            await django_application(scope, receive, send)
    elif scope["type"] == "websocket":
        await web_sockets(scope, receive, send)
    elif scope["type"] == "lifespan":
        await _lifespan(receive, send)
    else:
        raise ValueError(f"no application for a {scope['type']} connection")


def _is_gateways(path: str) -> bool:
    """Whether the gateway answers the path, if only with advice on how to spell it."""
    if path.startswith("/v1/"):
        return path[4:].partition("/")[0] not in MANAGED and not _is_gallerys(path)
    return path.startswith("//") and f"{intended(path)}/".startswith("/v1/")


def _is_gallerys(path: str) -> bool:
    """Whether the path is about images that exist; those that make one are the gateway's."""
    first, _, rest = path.removeprefix("/v1/").partition("/")
    return first == "images" and rest not in {"generations", "edits", "variations"}


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            await _apply_site_defaults()
            await runtime.start()
            snapshot.read_from(runtime.current_catalog)
            stopping.drain_first(runtime.begin_to_close)
            spare_what_is_loaded()
            await send({"type": "lifespan.startup.complete"})
        else:
            await runtime.close()
            await send({"type": "lifespan.shutdown.complete"})
            return


def spare_what_is_loaded() -> None:
    """Keep what the start has made out of the garbage collector's way: a pass over all of it stops every request.

    See https://docs.python.org/3/library/gc.html#gc.freeze.
    """
    gc.collect()
    gc.freeze()


async def _apply_site_defaults() -> None:
    """What the settings say of end users, into the tables that admission reads, and this month's partition.

    PostgreSQL may be away at the start.
    """

    def apply() -> None:
        try:
            end_users.apply_site_defaults()
            ledger.apply_deployment_mode()
            partitions.ensure()
        finally:
            connection.close()

    try:
        await sync_to_async(apply, thread_sensitive=False)()
    except DatabaseError as error:
        log.warning("site_defaults_not_applied", error=type(error).__name__)
