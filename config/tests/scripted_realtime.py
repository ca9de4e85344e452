"""Realtime at the scripted upstream: the simulated provider's conversation, over a WebSocket on the same port.

Each response is a call of its own, marked with the response's id; `call.body["usage"]` is what it said to have used.
"""

import asyncio
import contextlib
import json
from collections.abc import Mapping
from typing import Any

from websockets.frames import Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

from config.tests.scripts import Call
from sandbox.provider import realtime

PATH = "/v1/realtime"
MODEL = "gpt-realtime-2.1"


async def converse(
    opening: Call, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, calls: list[Call]
) -> None:
    """Serve a connection whose request for an upgrade has been read, until either side leaves."""
    socket = _Socket(opening, reader, writer, calls)
    with contextlib.suppress(ConnectionError):
        await realtime.serve({"sandbox.transport": writer.transport}, socket.receive, socket.send, MODEL)


class _Socket:
    """A WebSocket as ASGI has it, over the streams of a connection."""

    def __init__(
        self, opening: Call, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, calls: list[Call]
    ) -> None:
        self._reader, self._writer, self._calls = reader, writer, calls
        self._protocol = ServerProtocol(max_size=None)
        lines = [f"GET {opening.path} HTTP/1.1", *(f"{name}: {value}" for name, value in opening.headers.items())]
        self._protocol.receive_data("\r\n".join([*lines, "", ""]).encode())
        self._pending: list[Any] = self._protocol.events_received()

    async def receive(self) -> Mapping[str, Any]:
        while True:
            while self._pending:
                event = self._pending.pop(0)
                if isinstance(event, Request):
                    self._protocol.send_response(self._protocol.accept(event))
                    return {"type": "websocket.connect"}
                if event.opcode is Opcode.TEXT:
                    return {"type": "websocket.receive", "text": event.data.decode()}
                if event.opcode is Opcode.CLOSE:
                    return {"type": "websocket.disconnect"}
            data = await self._reader.read(65_536)
            if not data:
                return {"type": "websocket.disconnect"}
            self._protocol.receive_data(data)
            self._pending = self._protocol.events_received()
            await self._flush()

    async def send(self, message: dict[str, Any]) -> None:
        if message["type"] == "websocket.send":
            self._note(json.loads(message["text"]))
            self._protocol.send_text(message["text"].encode())
        await self._flush()

    async def _flush(self) -> None:
        self._writer.writelines(self._protocol.data_to_send())
        await self._writer.drain()

    def _note(self, event: dict[str, Any]) -> None:
        if event["type"] == "response.created":
            self._calls.append(Call(PATH, {}, {}, marker=event["response"]["id"]))
        elif event["type"] == "response.done":
            call = next(call for call in reversed(self._calls) if call.marker == event["response"]["id"])
            call.body["usage"] = event["response"]["usage"]
