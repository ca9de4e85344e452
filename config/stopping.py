"""A worker that is told to stop begins with what the server would cut, or wait for in vain.

uvicorn closes every WebSocket with 1012 the moment that it hears SIGTERM, in the middle of a response.
"""

import asyncio
import signal
import threading
from collections.abc import Awaitable, Callable
from typing import Any


def drain_first(drain: Callable[[], Awaitable[None]]) -> None:
    """On SIGTERM run `drain`, then let the server have the signal. To be called in the server's loop once it has set
    its handler; where none is set, or none can be, nothing is done."""
    server = signal.getsignal(signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread() or not callable(server):
        return
    loop = asyncio.get_running_loop()
    begun: list[asyncio.Task[None]] = []

    async def stop() -> None:
        try:
            await drain()
        finally:
            server(signal.SIGTERM, None)

    def begin() -> None:
        if not begun:  # systemd tells the workers and their parent, which tells them again
            begun.append(loop.create_task(stop()))

    def hear(_number: int, _frame: Any) -> None:
        loop.call_soon_threadsafe(begin)

    signal.signal(signal.SIGTERM, hear)
