"""The client's end of a session: a WebSocket as ASGI delivers it (ASGI's "WebSocket" specification)."""

from typing import Any
from uuid import uuid4

import orjson

from proxy.gateway.errors import GatewayError
from proxy.gateway.wire import Receive, Scope, Send

Frame = str | bytes

SUBPROTOCOL = "realtime"
_KEY_PREFIX = "openai-insecure-api-key."
BETA = "openai-beta.realtime-v1"
_DENIAL = "websocket.http.response"
NO_STATUS, ABNORMAL = 1005, 1006


class ClientLeft(Exception):
    """The client closed the connection, or lost it, with `code`."""

    def __init__(self, code: int) -> None:
        super().__init__(str(code))
        self.code = code


class ClientSocket:
    """Reads and writes frames. What is sent once the client has gone, or after `close`, goes nowhere."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._scope = scope
        self._subprotocols: list[str] = list(scope.get("subprotocols", ()))
        self.is_accepted = False
        self.is_over = False

    @property
    def protocol_key(self) -> str:
        """The key among the subprotocols, as browsers send it; "" if there is none."""
        return next((p.removeprefix(_KEY_PREFIX) for p in self._subprotocols if p.startswith(_KEY_PREFIX)), "")

    @property
    def wants_beta(self) -> bool:
        return BETA in self._subprotocols

    async def arrive(self) -> None:
        """Take the connection's first message."""
        await self._receive()

    async def accept(self, headers: list[tuple[str, str]]) -> None:
        """Upgrade. Of the subprotocols only `realtime` is ever answered: the others hold keys."""
        self.is_accepted = True
        await self._put(
            {
                "type": "websocket.accept",
                "subprotocol": SUBPROTOCOL if SUBPROTOCOL in self._subprotocols else None,
                "headers": [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers],
            }
        )

    async def refuse(self, error: GatewayError, headers: list[tuple[str, str]], *, code: int) -> None:
        """Say no: by status before the upgrade; to a browser, which cannot see that, by an error event after it."""
        if self.is_accepted or self._subprotocols or _DENIAL not in self._scope.get("extensions", {}):
            if not self.is_accepted:
                await self.accept(headers)
            await self.send(error_event(error))
            await self.close(code, error.code or "")
            return
        self.is_over = True
        body = error.body()
        headers = [*headers, ("content-type", "application/json"), ("content-length", str(len(body))), *error.headers]
        raw = [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers]
        await self._put({"type": "websocket.http.response.start", "status": error.status, "headers": raw})
        await self._put({"type": "websocket.http.response.body", "body": body})

    async def receive(self) -> Frame:
        """The next frame. Raises `ClientLeft`."""
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            self.is_over = True
            raise ClientLeft(message.get("code") or NO_STATUS)
        text: str | None = message.get("text")
        return text if text is not None else message["bytes"]

    async def send(self, frame: Frame) -> None:
        if not self.is_over:
            name = "text" if isinstance(frame, str) else "bytes"
            await self._put({"type": "websocket.send", name: frame})

    async def close(self, code: int, reason: str = "") -> None:
        """Close with a code that may be sent (RFC 6455, section 7.4.1). May be called twice."""
        if not self.is_over:
            self.is_over = True
            await self._put({"type": "websocket.close", "code": code, "reason": reason[:100]})

    async def _put(self, message: dict[str, Any]) -> None:
        try:
            await self._send(message)
        except Exception as error:  # each server raises its own for a client that has gone
            if not isinstance(error, OSError) and type(error).__name__ not in {"ClientDisconnected", "Disconnected"}:
                raise
            self.is_over = True


def error_event(error: GatewayError) -> str:
    """The server event `error` (OpenAI's "Realtime server events")."""
    event = {"type": "error", "event_id": f"event_{uuid4().hex}", "error": {**error.as_dict(), "event_id": None}}
    return orjson.dumps(event).decode()


def close_code(error: GatewayError) -> int:
    """With which code a session ends for `error`: 3000 as OpenAI's for a bad key, else RFC 6455's and IANA's."""
    if error.status == 401:
        return 3000
    if error.status in {429, 503}:
        return 1013
    return 1011 if error.status >= 500 else 1008


def sendable(code: int) -> int:
    """A peer's close code as it may be passed on; 1005 and 1006 are never on the wire."""
    if code == NO_STATUS:
        return 1000
    if code in {1000, 1001, 1002, 1003, *range(1007, 1015)} or 3000 <= code <= 4999:
        return code
    return 1011
