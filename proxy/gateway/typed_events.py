"""Watching a stream of typed events (responses, images, transcriptions): each names its type, and there is no `[DONE]`.

Bytes pass unchanged. The event that ends the answer is held back: it follows the charge.
"""

from collections.abc import Callable, Mapping
from typing import Any

import orjson

from proxy.gateway import upstream_errors
from proxy.gateway.errors import GatewayError
from proxy.gateway.meters import EVENTS, object_of
from proxy.gateway.sse import DONE, MAX_FRAME_BYTES, Frame, Splitter, frames
from proxy.gateway.tokens import count
from proxy.gateway.words import of_delta

# Unread text above this is counted and dropped, so that a stream of any length takes bounded memory.
_KEEP_BYTES = 256 * 1024


class TypedMeter:
    """`ends` are the types that end an answer, `failures` those of them that say that it failed; `endings` is how many
    must come. What an end says is in its field `inside`, or (empty) in the event itself. `unit` counts the ends.
    """

    media_type = EVENTS

    def __init__(
        self,
        *,
        ends: frozenset[str],
        failures: frozenset[str] = frozenset(),
        endings: int = 1,
        inside: str = "",
        unit: str = "",
        text_of: Callable[[Any], str] = of_delta,
        delivered: Callable[[dict[str, Any]], Mapping[str, int]] | None = None,
        max_frame_bytes: int = MAX_FRAME_BYTES,
    ) -> None:
        self._ends = ends
        self._failures = failures
        self._endings = endings
        self._inside = inside
        self._unit = unit
        self._text_of = text_of
        self._count_delivered = delivered
        self._markers = (*(name.encode() for name in ends), b"error", DONE)
        self._splitter = Splitter(max_frame_bytes)
        self._ended = 0
        self._held = b""
        self._unread: list[bytes] = []
        self._unread_bytes = 0
        self._counted = 0
        self._sequence = -1
        self._is_over = False
        self.is_failed = False
        self.object_id = ""
        self.delivered: dict[str, int] = {}
        self.usage: Any = None
        self.tier: str | None = None
        self.error: dict[str, Any] | None = None
        self.relayed_bytes = 0

    @property
    def is_done(self) -> bool:
        return self._is_over

    @property
    def is_whole(self) -> bool:
        return self.error is None and self._ended > 0

    def feed(self, chunk: bytes) -> bytes:
        """The bytes that the client may have now. Raises `sse.FrameTooLarge`."""
        return b"" if self._is_over else self._pass(self._splitter.feed(chunk))

    def flush(self) -> bytes:
        """At the upstream's end: what was left without its blank line, completed."""
        rest = self._splitter.flush()
        return b"" if self._is_over or not rest.strip() else self._pass(rest.rstrip(b"\r\n") + b"\n\n")

    def output_tokens(self, model: str) -> int:
        """How many tokens the text so far has: an estimate, for holds and for streams that end without usage."""
        blocks, self._unread, self._unread_bytes = self._unread, [], 0
        texts = []
        for frame in frames(b"".join(blocks)):
            event = object_of(frame)
            if event is not None:
                texts.append(self._text_of(event))
                self._note_sequence(event)
        if texts:
            self._counted += count("".join(texts), model)
        return self._counted

    def last(self, error: GatewayError | None) -> bytes:
        """The event that ends the answer, as it came; or an `error` event, in the shape of both of OpenAI's."""
        if error is None:
            return self._held
        self.output_tokens("")
        told = error.as_dict()
        event = {"type": "error", "sequence_number": self._sequence + 1, **told, "error": told}
        event["type"] = "error"
        return b"event: error\ndata: " + orjson.dumps(event) + b"\n\n"

    def _pass(self, block: bytes) -> bytes:
        if not block:
            return b""
        if any(marker in block for marker in self._markers):
            block = b"".join(self._inspect(frame) for frame in frames(block))
        elif self._held:
            block, self._held = self._held + block, b""
        self._unread.append(block)
        self._unread_bytes += len(block)
        self.relayed_bytes += len(block)
        if self._unread_bytes > _KEEP_BYTES:
            self.output_tokens("")
        return block

    def _inspect(self, frame: Frame) -> bytes:
        """Look into one event that may end the answer; the bytes that may go on."""
        if self._is_over or self.error is not None:
            return b""
        if frame.data is not None and frame.data.strip() == DONE:
            self._is_over = True
            return b""
        before, self._held = self._held, b""
        event = object_of(frame)
        if event is None:
            return before + frame.raw
        kind = event.get("type")
        if kind == "error" or (kind is None and event.get("error")):
            told = event.get("error") or event
            self.error = told if isinstance(told, dict) else {"message": str(told)}
            return before
        if kind not in self._ends:
            return before + self._passing(frame, event)
        self._end(event, kind)
        self._held = self._scrubbed(frame, event) if self.is_failed else self._told(frame, event)
        return before

    def _end(self, event: dict[str, Any], kind: str) -> None:
        self._ended += 1
        self._is_over = self._ended >= self._endings
        self.is_failed = kind in self._failures
        self._note_sequence(event)
        told = event.get(self._inside) if self._inside else event
        if not isinstance(told, dict):
            return
        self.usage = added(self.usage, told.get("usage"))
        self.tier = told["service_tier"] if isinstance(told.get("service_tier"), str) else self.tier
        self.object_id = told["id"] if isinstance(told.get("id"), str) else ""
        if self._unit:
            self.delivered[self._unit] = self._ended
        if self._count_delivered is not None:
            self.delivered.update(self._count_delivered(told))

    def _passing(self, frame: Frame, event: dict[str, Any]) -> bytes:
        """An event in the middle that was looked into, as the client gets it."""
        return frame.raw

    def _told(self, frame: Frame, event: dict[str, Any]) -> bytes:
        """The event that ends an answer, as the client gets it."""
        return frame.raw

    def _scrubbed(self, frame: Frame, event: dict[str, Any]) -> bytes:
        """A failure's own words, without the upstream's secrets."""
        told = event.get(self._inside) if self._inside else event
        error = told.get("error") if isinstance(told, dict) else None
        if not isinstance(error, dict) or not isinstance(error.get("message"), str):
            return frame.raw
        error["message"] = upstream_errors.hide_secrets(error["message"])
        return f"event: {event['type']}\n".encode() + b"data: " + orjson.dumps(event) + b"\n\n"

    def _note_sequence(self, event: dict[str, Any]) -> None:
        number = event.get("sequence_number")
        if isinstance(number, int) and not isinstance(number, bool):
            self._sequence = max(self._sequence, number)


def added(one: Any, other: Any) -> Any:
    """The sum of two usage objects, detail by detail; one alone where the other is missing."""
    if not isinstance(one, dict) or not isinstance(other, dict):
        return one if other is None else other
    total = dict(one)
    for name, value in other.items():
        if isinstance(value, dict):
            total[name] = added(total.get(name), value)
        elif isinstance(value, int) and not isinstance(value, bool) and isinstance(total.get(name), int):
            total[name] += value
        else:
            total[name] = value
    return total
