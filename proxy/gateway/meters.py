"""Watching a stream of chat or completions: which bytes the client gets, what the upstream said it used.

The bytes pass unchanged but for what the client did not ask for: the gateway asks upstream for usage
(`stream_options.include_usage`) and takes it out again where the client did not (OpenAI, "Streaming API responses").
"""

from collections.abc import Mapping
from typing import Any, Protocol

import orjson

from proxy.gateway.errors import GatewayError
from proxy.gateway.sse import DONE, Frame, Splitter, frames
from proxy.gateway.tokens import count
from proxy.gateway.words import of_choices

_NULL_USAGE = (b',"usage":null', b', "usage": null')
EVENTS = "text/event-stream; charset=utf-8"
# An event without any of these is none of our business.
_MARKERS = (b'"usage"', b"[DONE]", b'"error"')
# Unread text above this is counted and dropped, so that a stream of any length takes bounded memory.
_KEEP_BYTES = 256 * 1024


class Meter(Protocol):
    """Watches one stream. `media_type` is what the client gets; empty: what the upstream said.

    After the stream: `usage` is the last usage object that came (None: none did), `error` the error that came in the
    place of an end, `is_failed` whether the answer itself says that it failed, `object_id` the upstream's id of it,
    `delivered` what was delivered beside tokens.
    """

    media_type: str
    usage: Any
    tier: str | None
    error: dict[str, Any] | None
    relayed_bytes: int

    @property
    def is_done(self) -> bool: ...
    @property
    def is_failed(self) -> bool: ...
    @property
    def is_whole(self) -> bool: ...
    @property
    def object_id(self) -> str: ...
    @property
    def delivered(self) -> Mapping[str, int]: ...

    def feed(self, chunk: bytes) -> bytes:
        """The bytes that the client may have now. Raises `sse.FrameTooLarge`."""

    def flush(self) -> bytes:
        """At the upstream's end: what was left."""

    def output_tokens(self, model: str) -> int:
        """How many tokens were produced so far, by our own count."""

    def last(self, error: GatewayError | None) -> bytes | None:
        """What the client gets once the charge is committed; None: nothing that it could mistake for an end."""


class StreamMeter:
    """Takes what the upstream sends, gives what the client may have. `[DONE]` is held back: it follows the charge.

    After the stream: `usage` is the last usage object that came (None: none did), `is_done` whether `[DONE]` came,
    `error` the error event that came in its place.
    """

    __slots__ = ("_choices", "_counted", "_finished", "_hides_usage", "_splitter", "_text", "_unread", "_unread_bytes",
                 "error", "is_done", "relayed_bytes", "tier", "usage")  # fmt: skip

    media_type = EVENTS
    is_failed = False
    object_id = ""
    delivered: Mapping[str, int] = {}

    def __init__(self, *, hides_usage: bool) -> None:
        self._hides_usage = hides_usage
        self._splitter = Splitter()
        self._unread: list[bytes] = []
        self._text: list[str] = []
        self._unread_bytes = 0
        self._counted = 0
        self._choices: set[int] = set()
        self._finished: set[int] = set()
        self.usage: Any = None
        self.tier: str | None = None
        self.is_done = False
        self.error: dict[str, Any] | None = None
        self.relayed_bytes = 0

    def feed(self, chunk: bytes) -> bytes:
        """The bytes that the client may have now. Raises `sse.FrameTooLarge`."""
        if self.is_done:
            return b""
        return self._pass(self._splitter.feed(chunk))

    def flush(self) -> bytes:
        """At the upstream's end: what was left without its blank line, completed."""
        rest = self._splitter.flush()
        if self.is_done or not rest.strip():
            return b""
        return self._pass(rest.rstrip(b"\r\n") + b"\n\n")

    @property
    def is_whole(self) -> bool:
        """Whether the answer came to its end: `[DONE]`, or (from servers that send none) every choice finished."""
        if self.is_done:
            return True
        self._read()
        return self.error is None and bool(self._choices) and self._choices == self._finished

    def output_tokens(self, model: str) -> int:
        """How many tokens the text so far has: an estimate, for holds and for streams that end without usage."""
        self._read()
        if self._text:
            self._counted += count("".join(self._text), model)
            self._text.clear()
        return self._counted

    def last(self, error: GatewayError | None) -> bytes:
        """`[DONE]`, or the error in its place."""
        return b"data: [DONE]\n\n" if error is None else b"data: " + error.body() + b"\n\n"

    def _pass(self, block: bytes) -> bytes:
        if not block:
            return b""
        if b'"usage"' in block and self._hides_usage:
            for null in _NULL_USAGE:
                block = block.replace(null, b"")
        marked = [found for marker in _MARKERS if (found := block.find(marker)) >= 0]
        if marked:
            # What lies before the first event with a marker needs no look.
            before = -1 if b"\r" in block else block.rfind(b"\n\n", 0, min(marked))
            start = before + 2 if before >= 0 else 0
            block = block[:start] + b"".join(self._inspect(frame) for frame in frames(block[start:]))
        self._keep(block)
        self.relayed_bytes += len(block)
        return block

    def _inspect(self, frame: Frame) -> bytes:
        """Look into one event that may carry usage, an error or the end; the bytes that remain of it."""
        if self.is_done or self.error is not None:
            return b""
        if frame.data is not None and frame.data.strip() == DONE:
            self.is_done = True
            return b""
        event = object_of(frame)
        if event is None:
            return frame.raw
        if event.get("error") and "choices" not in event:
            error = event["error"]
            self.error = error if isinstance(error, dict) else {"message": str(error)}
            return b""
        if event.get("usage") is None:
            return frame.raw
        self.usage = event["usage"]
        if isinstance(event.get("service_tier"), str):
            self.tier = event["service_tier"]
        return self._without_usage(frame, event) if self._hides_usage else frame.raw

    def _without_usage(self, frame: Frame, event: dict[str, Any]) -> bytes:
        if not event.get("choices") and not event.get("prompt_filter_results"):
            return b""
        del event["usage"]
        comments = b"".join(line + b"\n" for line in frame.raw.splitlines() if line and not line.startswith(b"data:"))
        return comments + b"data: " + orjson.dumps(event) + b"\n\n"

    def _keep(self, block: bytes) -> None:
        self._unread.append(block)
        self._unread_bytes += len(block)
        if self._unread_bytes > _KEEP_BYTES:
            self.output_tokens("")

    def _read(self) -> None:
        """Take the text out of what was relayed since the last reading, and note which choices have finished."""
        blocks, self._unread, self._unread_bytes = self._unread, [], 0
        for frame in frames(b"".join(blocks)):
            event = object_of(frame)
            if event is not None:
                self._text.append(of_choices(event))
                self._note_choices(event)

    def _note_choices(self, event: dict[str, Any]) -> None:
        choices = event.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict) and isinstance(choice.get("index", 0), int):
                self._choices.add(choice.get("index", 0))
                if choice.get("finish_reason"):
                    self._finished.add(choice.get("index", 0))


def object_of(frame: Frame) -> dict[str, Any] | None:
    """The JSON object that an event carries; None for comments, `[DONE]` and whatever is no object."""
    if frame.data is None:
        return None
    try:
        event = orjson.loads(frame.data)
    except orjson.JSONDecodeError:
        return None
    return event if isinstance(event, dict) else None
