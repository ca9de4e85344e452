"""What the Realtime benchmark relays to, and what it is compared with: two ASGI applications for uvicorn.

`upstream` answers each frame {"burst": n} with n server events of a voice and then the frame itself; `bare` is the same
stack's relay (uvicorn, bare ASGI, aiohttp) without keys or money.
"""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import aiohttp

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

UPSTREAM = os.environ.get("BENCH_UPSTREAM", "http://127.0.0.1:9")
SOUND = "A" * 1_280  # 20 ms of 24 kHz PCM, as base64
DELTA = json.dumps(
    {"type": "response.output_audio.delta", "event_id": "e", "response_id": "r", "item_id": "i", "delta": SOUND}
)
DONE = json.dumps(
    {
        "type": "response.done",
        "response": {
            "id": "r",
            "status": "completed",
            "usage": {"input_tokens": 10, "output_tokens": 20, "total_tokens": 30},
        },
    }
)


async def upstream(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
    if scope["type"] != "websocket":
        return
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        asked = json.loads(message["text"])
        for _ in range(asked["burst"]):
            await send({"type": "websocket.send", "text": DELTA})
        if asked["burst"]:
            await send({"type": "websocket.send", "text": DONE})
        await send({"type": "websocket.send", "text": message["text"]})


async def bare(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
    if scope["type"] != "websocket":
        return
    await receive()
    async with aiohttp.ClientSession() as session, session.ws_connect(UPSTREAM, compress=0) as socket:
        await send({"type": "websocket.accept"})
        back = asyncio.get_running_loop().create_task(_back(socket, send))
        while (message := await receive())["type"] == "websocket.receive":
            await socket.send_str(message["text"])
        back.cancel()


async def _back(socket: aiohttp.ClientWebSocketResponse, send: Send) -> None:
    async for message in socket:
        await send({"type": "websocket.send", "text": message.data})
