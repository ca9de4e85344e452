"""What is said in a session, in words, for organizations that want it kept: with the response that it led to."""

from typing import Any

import orjson

from proxy.gateway.exchange import Exchange
from proxy.gateway.transcripts import MAX_DEPTH, Transcripts, without_files

# Of the events that lead to one response.
MAX_BYTES = 256 * 1024
_SAID = frozenset({"session.update", "conversation.item.create", "response.create"})
_LEFT_OUT = {"type": "[more left out]"}


class Minutes:
    """Takes down one session, told of its events. Where nothing is to be kept it does nothing."""

    def __init__(self, transcripts: Transcripts | None, *, days: int) -> None:
        self._transcripts = transcripts if days else None
        self._events: list[dict[str, Any]] = []
        self._bytes = 0

    def client_sent(self, event: dict[str, Any]) -> None:
        """One client event; those without words leave nothing."""
        if event.get("type") in _SAID:
            self._take(event)

    def provider_sent(self, kind: str, event: dict[str, Any]) -> None:
        """One server event: that the user has spoken, though not what."""
        if kind == "input_audio_buffer.committed":
            self._take({"type": kind, "item_id": str(event.get("item_id"))[:200]})

    def answered(self, exchange: Exchange, said: str) -> None:
        """The request of a response is over: with it go the events since the one before, and what it said."""
        if self._transcripts is None or not (self._events or said):
            return
        events, self._events, self._bytes = self._events, [], 0
        self._keep(exchange, {"events": events}, said)

    def transcribed(self, exchange: Exchange, said: str) -> None:
        """The request that wrote down what the user said."""
        self._keep(exchange, {"item_id": exchange.upstream_request_id}, said)

    def _take(self, event: dict[str, Any]) -> None:
        if self._transcripts is None or self._bytes > MAX_BYTES:
            return
        kept = without_files(_without_sound(event))
        self._bytes += len(orjson.dumps(kept))
        self._events.append(kept if self._bytes <= MAX_BYTES else _LEFT_OUT)

    def _keep(self, exchange: Exchange, asked: dict[str, Any], said: str) -> None:
        if self._transcripts is None:
            return
        exchange.job.body = asked
        exchange.answer = orjson.dumps({"output": [{"content": [{"text": said}]}]}) if said else b""
        self._transcripts.add(exchange)


def said_by(response: dict[str, Any]) -> str:
    """What a response that is done wrote, spoke and called, a line for each."""
    parts: list[str] = []
    items = response.get("output")
    for item in items if isinstance(items, list) else ():
        if not isinstance(item, dict):
            continue
        call = [item[name] for name in ("name", "arguments") if isinstance(item.get(name), str)]
        parts += [" ".join(call)] if call else []
        pieces = item.get("content")
        for piece in pieces if isinstance(pieces, list) else ():
            if isinstance(piece, dict):
                parts += [piece[name] for name in ("text", "transcript") if isinstance(piece.get(name), str)]
    return "\n".join(part for part in parts if part)


def _without_sound(value: Any, depth: int = 0) -> Any:
    if depth > MAX_DEPTH:
        return "[left out]"
    if isinstance(value, dict):
        return {
            name: f"[{len(inner):,} characters left out]"
            if name == "audio" and isinstance(inner, str)
            else _without_sound(inner, depth + 1)
            for name, inner in value.items()
        }
    if isinstance(value, list):
        return [_without_sound(inner, depth + 1) for inner in value]
    return value
