"""An upstream that does to the byte what a test tells it, and remembers every call that reached it.

A prompt may carry a marker (`m-…`), which comes back as the upstream's request id, and a script (`[[name]]`) from
`scripts.py`; without one the answer is a correct chat completion, embedding or transcription. It says `max_tokens`
words (16 without; of a recording one for every `BYTES_PER_TOKEN`), counts 10 prompt tokens, and `[[pace=20]]` puts
20 ms between the chunks of a stream or before a plain answer. Realtime is in `scripted_realtime.py`.
"""

import asyncio
import contextlib
import hashlib
import re
import threading
from dataclasses import dataclass, field
from typing import Any, Self

import orjson

from config.tests import scripted_realtime
from config.tests.scripts import SCRIPTS, Call, normal

HOST = "127.0.0.1"
_MARKER = re.compile(rb"m-[0-9a-z-]+")
_SCRIPT = re.compile(rb"\[\[(\w+)(?:=(\d+))?\]\]")
_NAME = re.compile(rb'name="([^"]*)"')


@dataclass
class Upstream:
    """The server, on a thread with a loop of its own. `calls` is every request that came in whole."""

    calls: list[Call] = field(default_factory=list)
    port: int = 0

    def __enter__(self) -> Self:
        started = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, args=(started,), name="scripted-upstream", daemon=True)
        self._thread.start()
        assert started.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._main.cancel)
        self._thread.join(10)

    @property
    def base_url(self) -> str:
        return f"http://{HOST}:{self.port}/v1"

    def calls_of(self, marker: str) -> list[Call]:
        return [call for call in self.calls if call.marker == marker]

    def _run(self, started: threading.Event) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            self._main = self._loop.create_task(self._serve(started))
            with contextlib.suppress(asyncio.CancelledError):
                runner.run(_outcome(self._main))

    async def _serve(self, started: threading.Event) -> None:
        server = await asyncio.start_server(self._connection, HOST, self.port, backlog=1024)
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        async with server:
            await server.serve_forever()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (call := await _read_call(reader)) is not None:
                if call.headers.get("upgrade", "").lower() == "websocket":
                    await scripted_realtime.converse(call, reader, writer, self.calls)
                    break
                self.calls.append(call)
                script = SCRIPTS[call.script] if call.script else normal
                await script(call, writer)
                call.is_whole = True
                if call.script and call.script != "pace":
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        except asyncio.CancelledError:
            pass
        finally:
            writer.close()


async def _outcome(task: "asyncio.Task[None]") -> None:
    await task


async def _read_call(reader: asyncio.StreamReader) -> Call | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
    raw = await reader.readexactly(int(headers.get("content-length", "0")))
    _, is_form, boundary = headers.get("content-type", "").partition("multipart/form-data; boundary=")
    body = _form(raw, boundary) if is_form else orjson.loads(raw) if raw else {}
    call = Call(first.split(" ")[1], headers, body)
    words = body.get("prompt", "").encode() if is_form else raw
    if found := _MARKER.search(words):
        call.marker = found[0].decode()
    if scripted := _SCRIPT.search(words):
        call.script, call.argument = scripted[1].decode(), int(scripted[2] or 0)
    return call


def _form(raw: bytes, boundary: str) -> dict[str, Any]:
    """The fields of a form; of a file its size and its digest."""
    fields: dict[str, Any] = {}
    for part in raw.split(b"--" + boundary.encode())[1:-1]:
        head, _, value = part[2:-2].partition(b"\r\n\r\n")
        named = _NAME.search(head)
        assert named is not None, head
        is_file = b"filename=" in head
        content = {"size": len(value), "sha256": hashlib.sha256(value).hexdigest()} if is_file else value.decode()
        fields[named[1].decode()] = content
    return fields
