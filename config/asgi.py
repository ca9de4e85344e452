"""The ASGI application: `/v1` goes to the gateway, everything else to Django."""

import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

from django.core.asgi import get_asgi_application

django_application = get_asgi_application()

from proxy.runtime import Runtime  # noqa: E402 - needs Django's apps

Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

runtime = Runtime()


async def application(scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
    """Route one connection; the server's lifespan starts and stops the gateway."""
    if scope["type"] == "http":
        path: str = scope["path"]
        if path.startswith("/v1/") and runtime.gateway is not None:
            await runtime.gateway(scope, receive, send)
        else:
            await django_application(scope, receive, send)
    elif scope["type"] == "lifespan":
        await _lifespan(receive, send)
    else:
        raise ValueError(f"no application for a {scope['type']} connection")


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            await runtime.start()
            await send({"type": "lifespan.startup.complete"})
        else:
            await runtime.close()
            await send({"type": "lifespan.shutdown.complete"})
            return
