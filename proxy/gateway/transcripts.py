"""Requests and answers in words, for organizations that want them kept. For all others this costs one look at a flag.

What is kept is queued after the answer has gone out and handed over in the background: a store that is slow or away
delays no client. The queue is bounded; what does not fit is dropped and counted in the log.
"""

import asyncio
import contextlib
from collections import deque
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

import orjson
import structlog

from proxy.gateway.exchange import Exchange
from proxy.gateway.forms import FilePart
from proxy.gateway.jobs import Job
from proxy.gateway.meters import object_of
from proxy.gateway.sse import frames
from proxy.gateway.words import of_choices, of_delta, of_output

log = structlog.get_logger(__name__)

MAX_QUEUED_BYTES = 32 * 1024 * 1024
BATCH = 50
RETRY_S = 5.0
KEEP_TIMEOUT_S = 30.0
# A string of so many characters without a space is no text: an image, a sound, a file.
LONG_WORD = 512
MAX_NUMBERS = 64
MAX_DEPTH = 32


@dataclass(frozen=True, slots=True)
class Transcript:
    """One request as JSON without its files, and the bytes that the client got, for `days` days."""

    request_id: UUID
    organization_id: int
    days: int
    request: bytes
    answer: bytes

    @property
    def size(self) -> int:
        return len(self.request) + len(self.answer)


class TranscriptStore(Protocol):
    """Where transcripts go."""

    async def keep(self, transcripts: list[Transcript]) -> None:
        """Keep them all or raise. May be called again with the same."""


class Transcripts:
    """The queue. Without a store it takes nothing."""

    def __init__(self, store: TranscriptStore | None) -> None:
        self._store = store
        self._queue: deque[Transcript] = deque()
        self._bytes = 0
        self._dropped = 0
        self._is_filled = asyncio.Event()

    def add(self, exchange: Exchange) -> None:
        """Take down what `exchange` was asked and what it answered. Raises nothing, waits for nothing."""
        if self._store is None:
            return
        try:
            request = orjson.dumps(without_files(_asked(exchange.job)))
        except orjson.JSONEncodeError:
            request = b""
        key = exchange.key
        taken = Transcript(exchange.request_id, key.organization_id, key.transcript_days, request, exchange.answer)
        if self._bytes + taken.size > MAX_QUEUED_BYTES:
            self._dropped += 1
            return
        self._bytes += taken.size
        self._queue.append(taken)
        self._is_filled.set()

    async def run(self) -> None:
        """Hand over what comes, for as long as the process lives."""
        while True:
            await self._is_filled.wait()
            if not await self._hand_over():
                await asyncio.sleep(RETRY_S)

    async def close(self) -> None:
        """Hand over what is left, if that can be done now."""
        while self._queue and await self._hand_over():
            pass

    async def _hand_over(self) -> bool:
        """One batch; False if the store did not take it, and it waits."""
        if self._dropped:
            log.warning("transcripts_dropped", count=self._dropped)
            self._dropped = 0
        batch = [self._queue[number] for number in range(min(BATCH, len(self._queue)))]
        if batch and self._store is not None:
            try:
                async with asyncio.timeout(KEEP_TIMEOUT_S):
                    await self._store.keep(batch)
            except Exception as error:  # whatever it is, the gateway goes on
                log.warning("transcripts_not_kept", count=len(batch), error=type(error).__name__)
                return False
        for taken in batch:
            self._queue.popleft()
            self._bytes -= taken.size
        if not self._queue:
            self._is_filled.clear()
        return True


def _asked(job: Job) -> dict[str, Any]:
    """The body, or the fields of the form with its files by name, type and size in place of what is in them."""
    if job.form is None:
        return job.body
    files: dict[str, list[dict[str, Any]]] = {}
    for name, part in job.form.parts:
        if isinstance(part, FilePart):
            told = {"filename": part.filename, "content_type": part.content_type, "bytes": part.size}
            files.setdefault(name, []).append(told)
    return job.body | files


def without_files(value: Any, depth: int = 0) -> Any:
    """JSON in which what is no text (files in base64, vectors) is replaced by how much of it there was."""
    if isinstance(value, str):
        is_file = value[:5] == "data:" or (len(value) > LONG_WORD and " " not in value[:LONG_WORD])
        return f"[{len(value):,} characters left out]" if is_file and len(value) > LONG_WORD else value
    if depth > MAX_DEPTH:
        return "[left out]"
    if isinstance(value, dict):
        return {name: without_files(inner, depth + 1) for name, inner in value.items()}
    if isinstance(value, list):
        if len(value) > MAX_NUMBERS and isinstance(value[0], int | float):
            return f"[{len(value):,} numbers left out]"
        return [without_files(inner, depth + 1) for inner in value]
    return value


def text_of(answer: bytes) -> str:
    """What an answer says: of a stream the text of its events, of JSON its text, or else itself without files."""
    if answer.lstrip()[:1] in {b"{", b"["}:
        with contextlib.suppress(orjson.JSONDecodeError):
            return _text_of_json(orjson.loads(answer))
    if b"data:" in answer[:4_096]:
        return "".join(_text_of_event(object_of(frame)) for frame in frames(answer))
    try:
        return answer.decode()
    except UnicodeDecodeError:
        return f"[{len(answer):,} bytes that are no text]"


def _text_of_json(parsed: Any) -> str:
    said = of_choices(parsed) or of_output(parsed)
    if not said and isinstance(parsed, dict):
        blocks = parsed.get("content")
        said = "".join(_text_of_block(block) for block in blocks) if isinstance(blocks, list) else ""
        if not said and isinstance(parsed.get("text"), str):  # what was heard
            said = parsed["text"]
    return said or orjson.dumps(without_files(parsed)).decode()


def _text_of_block(block: Any) -> str:
    """A block of a message in Anthropic's shape."""
    if not isinstance(block, dict):
        return ""
    if isinstance(block.get("text"), str):
        return str(block["text"])
    return orjson.dumps(without_files(block["input"])).decode() if "input" in block else ""


def _text_of_event(event: dict[str, Any] | None) -> str:
    if event is None:
        return ""
    delta = event.get("delta")
    if isinstance(delta, dict):
        return str(delta.get("text") or delta.get("partial_json") or "")
    return of_choices(event) or of_delta(event)
