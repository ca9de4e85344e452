"""A TCP proxy that spoils what it carries: slow, silent, cut, or cut exactly when an answer comes back.

It stands between the gateway and PostgreSQL (or anything). On a thread of its own; the switches may be turned while
connections are open.
"""

import asyncio
import contextlib
import random
import threading
from dataclasses import dataclass, field
from typing import Self

HOST = "127.0.0.1"


@dataclass
class TcpProxy:
    """Forwards to `target`.

    `delay_s` is each way; while `is_stalled` bytes wait; `lost_replies` is the chance of an answer to be lost.
    A lost answer is the nasty case: the server has done what it was asked, and the client never hears of it.
    """

    target: int
    seed: int = 0
    port: int = 0
    delay_s: float = 0.0
    is_stalled: bool = False
    lost_replies: float = 0.0
    lost: int = 0
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    def __enter__(self) -> Self:
        self._chance = random.Random(self.seed)
        self._loop = asyncio.new_event_loop()
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), name="tcp-proxy", daemon=True)
        self._thread.start()
        assert started.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._main.cancel)
        self._thread.join(10)

    def cut(self) -> None:
        """RST to both ends of every connection."""
        self._loop.call_soon_threadsafe(self._abort_all)

    def _abort_all(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    def _run(self, started: threading.Event) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            self._main = self._loop.create_task(self._serve(started))
            with contextlib.suppress(asyncio.CancelledError):
                runner.run(_finished(self._main))

    async def _serve(self, started: threading.Event) -> None:
        server = await asyncio.start_server(self._connection, HOST, self.port, backlog=256)
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            server.close()
            self._abort_all()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there_reader, there_writer = await asyncio.open_connection(HOST, self.target)
        except OSError:
            writer.transport.abort()
            return
        both = {writer, there_writer}
        self._writers |= both
        try:
            await asyncio.gather(self._carry(reader, there_writer, False), self._carry(there_reader, writer, True))
        except OSError:
            pass
        except asyncio.CancelledError:
            pass
        finally:
            self._writers -= both
            for end in both:
                end.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, is_reply: bool) -> None:
        while data := await reader.read(65_536):
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            while self.is_stalled:  # noqa: ASYNC110 - switched from another thread
                await asyncio.sleep(0.02)
            if is_reply and self.lost_replies and self._chance.random() < self.lost_replies:
                self.lost += 1
                raise ConnectionResetError
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()


async def _finished(task: "asyncio.Task[None]") -> None:
    await task
