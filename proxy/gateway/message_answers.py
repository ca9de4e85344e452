"""Chat completions told as messages: content, stop reasons, usage, and the events of a stream."""

from collections.abc import Mapping
from typing import Any

import orjson

from proxy.gateway.errors import GatewayError
from proxy.gateway.meters import EVENTS, object_of
from proxy.gateway.sse import DONE, Frame, Splitter, frames
from proxy.gateway.tokens import count

_STOPS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}


def stop_reason_of(finish_reason: object) -> str:
    return _STOPS.get(str(finish_reason), "end_turn")


def content_of(message: Any) -> list[dict[str, Any]]:
    """The blocks of an assistant's chat message."""
    blocks: list[dict[str, Any]] = []
    text = message.get("content") or message.get("refusal")
    if isinstance(text, str) and text:
        blocks.append({"type": "text", "text": text})
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, list) else ():
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict):
            arguments = function.get("arguments")
            blocks.append(
                {
                    "type": "tool_use",
                    "id": str(call.get("id")),
                    "name": str(function.get("name")),
                    "input": _object(arguments),
                }
            )
    return blocks


def usage_of(usage: Any, prompt_tokens: int) -> dict[str, int]:
    """Anthropic's counts: what was read from a cache or written to one is not in `input_tokens`."""
    if not isinstance(usage, dict):
        return {"input_tokens": prompt_tokens, "output_tokens": 0}
    details = usage.get("prompt_tokens_details")
    details = details if isinstance(details, dict) else {}
    read, written = _count(details, "cached_tokens"), _count(details, "cache_write_tokens")
    return {
        "input_tokens": max(0, _count(usage, "prompt_tokens") - read - written),
        "cache_read_input_tokens": read,
        "cache_creation_input_tokens": written,
        "output_tokens": _count(usage, "completion_tokens"),
    }


class MessageMeter:
    """Turns the stream of a chat completion into the events of a message. The last two follow the charge."""

    media_type = EVENTS
    is_failed = False
    object_id = ""
    delivered: Mapping[str, int] = {}

    def __init__(self, model: str, prompt_tokens: int) -> None:
        self._model = model
        self._prompt_tokens = prompt_tokens
        self._splitter = Splitter()
        self._is_begun = False
        self._open: str | None = None  # the kind of the block that is open: text, or the index of a tool's call
        self._index = -1
        self._finish: object = None
        self._text: list[str] = []
        self._counted = 0
        self.usage: Any = None
        self.tier: str | None = None
        self.error: dict[str, Any] | None = None
        self.relayed_bytes = 0
        self.is_done = False

    @property
    def is_whole(self) -> bool:
        return self.error is None and (self.is_done or self._finish is not None)

    def feed(self, chunk: bytes) -> bytes:
        return self._pass(self._splitter.feed(chunk))

    def flush(self) -> bytes:
        rest = self._splitter.flush()
        return self._pass(rest.rstrip(b"\r\n") + b"\n\n") if rest.strip() else b""

    def output_tokens(self, model: str) -> int:
        if self._text:
            self._counted += count("".join(self._text), model)
            self._text.clear()
        return self._counted

    def last(self, error: GatewayError | None) -> bytes:
        """The end of the message, or the error in its place."""
        if error is not None:
            kind = (
                "overloaded_error"
                if error.status == 503
                else "api_error"
                if error.status >= 500
                else "rate_limit_error"
            )
            return _event("error", {"error": {"type": kind, "message": error.message, "code": error.code}})
        told = {"stop_reason": stop_reason_of(self._finish), "stop_sequence": None}
        usage = usage_of(self.usage, self._prompt_tokens)
        if self.usage is None:
            usage["output_tokens"] = self.output_tokens(self._model)
        begun = b"" if self._is_begun else self._begin({})
        return (
            begun
            + self._close()
            + _event("message_delta", {"delta": told, "usage": usage})
            + _event("message_stop", {})
        )

    def _pass(self, block: bytes) -> bytes:
        ready = b"".join(self._translate(frame) for frame in frames(block)) if block else b""
        self.relayed_bytes += len(ready)
        return ready

    def _translate(self, frame: Frame) -> bytes:
        if self.is_done or self.error is not None:
            return b""
        if frame.data is not None and frame.data.strip() == DONE:
            self.is_done = True
            return b""
        event = object_of(frame)
        if event is None:
            return b""
        if event.get("error") and "choices" not in event:
            told = event["error"]
            self.error = told if isinstance(told, dict) else {"message": str(told)}
            return b""
        if event.get("usage") is not None:
            self.usage = event["usage"]
        if isinstance(event.get("service_tier"), str):
            self.tier = event["service_tier"]
        begun = b"" if self._is_begun else self._begin(event)
        choices = event.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
        self._finish = choice.get("finish_reason") or self._finish
        delta = choice.get("delta")
        return begun + (self._delta(delta) if isinstance(delta, dict) else b"")

    def _begin(self, event: dict[str, Any]) -> bytes:
        self._is_begun = True
        message: dict[str, Any] = {
            "id": f"msg_{str(event.get('id') or 'unknown').removeprefix('chatcmpl-')[:100]}",
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": self._prompt_tokens, "output_tokens": 0},
        }
        return _event("message_start", {"message": message})

    def _delta(self, delta: dict[str, Any]) -> bytes:
        made = b""
        text = delta.get("content") or delta.get("refusal")
        if isinstance(text, str) and text:
            made += self._switch("text", {"type": "text", "text": ""})
            self._text.append(text)
            made += self._block_delta({"type": "text_delta", "text": text})
        calls = delta.get("tool_calls")
        for call in calls if isinstance(calls, list) else ():
            function = call.get("function") if isinstance(call, dict) else None
            if not isinstance(function, dict):
                continue
            start = {"type": "tool_use", "id": str(call.get("id")), "name": str(function.get("name")), "input": {}}
            made += self._switch(f"call {call.get('index', 0)}", start)
            arguments = function.get("arguments")
            if isinstance(arguments, str) and arguments:
                self._text.append(arguments)
                made += self._block_delta({"type": "input_json_delta", "partial_json": arguments})
        return made

    def _switch(self, kind: str, start: dict[str, Any]) -> bytes:
        """Begin a block of this kind unless it is open."""
        if self._open == kind:
            return b""
        closed = self._close()
        self._open = kind
        self._index += 1
        return closed + _event("content_block_start", {"index": self._index, "content_block": start})

    def _close(self) -> bytes:
        if self._open is None:
            return b""
        self._open = None
        return _event("content_block_stop", {"index": self._index})

    def _block_delta(self, delta: dict[str, Any]) -> bytes:
        return _event("content_block_delta", {"index": self._index, "delta": delta})


def _event(kind: str, values: dict[str, Any]) -> bytes:
    return f"event: {kind}\n".encode() + b"data: " + orjson.dumps({"type": kind, **values}) + b"\n\n"


def _object(arguments: object) -> dict[str, Any]:
    """The arguments of a call as the object that they should be."""
    try:
        value = orjson.loads(arguments) if isinstance(arguments, str) else None
    except orjson.JSONDecodeError:
        value = None
    return value if isinstance(value, dict) else {}


def _count(values: Mapping[str, Any], name: str) -> int:
    value = values.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0
