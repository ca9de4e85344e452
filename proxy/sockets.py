"""The WebSocket routes: Realtime for any origin, as the API; the console's pages for our own alone."""

from channels.auth import AuthMiddlewareStack
from channels.routing import URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from django.urls import path, re_path

from proxy.consumers import LiveConsumer
from proxy.gateway.wire import Receive, Scope, Send
from proxy.runtime import Runtime

_LIVE = AllowedHostsOriginValidator(AuthMiddlewareStack(LiveConsumer.as_asgi()))
NO_SUCH_PATH = 4404


def application(runtime: Runtime) -> URLRouter:
    """Every WebSocket of the product."""

    async def realtime(scope: Scope, receive: Receive, send: Send) -> None:
        if runtime.door is None:
            await receive()
            await send({"type": "websocket.close", "code": 1013})
            return
        await runtime.door(scope, receive, send)

    return URLRouter([path("v1/realtime", realtime), path("ws/o/<slug:slug>/live", _LIVE), re_path(r"", _unknown)])


async def _unknown(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.close", "code": NO_SUCH_PATH})
