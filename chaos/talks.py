"""A client in a Realtime session: it asks for one response after the other and writes down what it hears."""

import asyncio
import contextlib
from typing import Any

import aiohttp

from chaos.asked import Spoken
from config.tests import storm

# No frame for so long: the client leaves. As patient as the other clients of the storm.
PATIENCE_S = 25.0
CLOSE_S = 2.0


class Talk:
    """One session, opened by its first turn."""

    def __init__(self, http: aiohttp.ClientSession, url: str, headers: dict[str, str]) -> None:
        self._http, self._url, self._headers = http, url, headers
        self._socket: aiohttp.ClientWebSocketResponse | None = None

    async def turn(self, asked: Spoken, directives: str) -> None:
        """Ask for a response and hear it to its end, or the session to its own."""
        try:
            if self._socket is None:
                await self._open()
            asked.status = 200
            content = [{"type": "input_text", "text": f"[[words={asked.tokens}; {directives}]]"}]
            item = {"type": "message", "role": "user", "content": content}
            with contextlib.suppress(aiohttp.ClientError, OSError):  # it was ended meanwhile: what follows says why
                await self._say("conversation.item.create", item=item)
                await self._say("response.create")
            async with asyncio.timeout(PATIENCE_S):
                while not await self._hear(asked):
                    pass
        except aiohttp.WSServerHandshakeError as refused:
            asked.status = refused.status
            asked.retry_after = (refused.headers or {}).get("retry-after", "")

    async def close(self) -> None:
        """May be called twice."""
        if self._socket is not None:
            with contextlib.suppress(aiohttp.ClientError, OSError):
                await self._socket.close()

    async def _open(self) -> None:
        timeout = aiohttp.ClientWSTimeout(ws_close=CLOSE_S)
        async with asyncio.timeout(PATIENCE_S):
            self._socket = await self._http.ws_connect(self._url, headers=self._headers, timeout=timeout)
        await self._say("session.update", session={"type": "realtime", "output_modalities": ["text"]})

    async def _say(self, kind: str, **fields: Any) -> None:
        assert self._socket is not None
        await self._socket.send_json({"type": kind, **fields})

    async def _hear(self, asked: Spoken) -> bool:
        """One frame; whether there is nothing more to come."""
        assert self._socket is not None
        message = await self._socket.receive()
        if message.type is not aiohttp.WSMsgType.TEXT:
            is_told = message.type is aiohttp.WSMsgType.CLOSE
            asked.close_code = int(message.data if is_told else self._socket.close_code or 1006)
            return True
        event = message.json()
        match event["type"]:
            case "response.created":
                asked.marker = event["response"]["id"]
            case "response.done":
                asked.is_whole = event["response"]["status"] == "completed"
                if usage := event["response"]["usage"]:
                    asked.usage_price = price_of(usage)
                return True
            case "error":
                asked.error_code = event["error"]["code"] or event["error"]["type"]
        return False


def price_of(usage: dict[str, Any]) -> int:
    """What a response costs by the usage that it tells."""
    return int(usage["input_tokens"]) * storm.INPUT + int(usage["output_tokens"]) * storm.OUTPUT
