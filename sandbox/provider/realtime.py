"""Realtime as OpenAI's server speaks it, well enough for a demo: turns in text and voice, transcripts, usage.

The voice is a row of soft tones, one for each word. Directives in the text work here too: `say`, `words`, `slow`,
`no-usage`, `cut` (the connection breaks after so many events of a response), `status` (the response fails).
"""

import array
import asyncio
import base64
import contextlib
import hashlib
import json
import math
from collections.abc import Awaitable, Callable, Mapping
from functools import cache
from typing import Any
from uuid import uuid4

from sandbox.provider import answers
from sandbox.provider.directives import BadDirective, Directives, find

PCM_RATE = 24_000
WORD_MS = 120
HEARD_MS_PER_TOKEN, SPOKEN_MS_PER_TOKEN = 100, 50
# Voice activity: louder than this is speech, and this much quiet ends it.
LOUD = 700
QUIET_MS = 500
_WIDTH = {"audio/pcm": 48, "audio/pcmu": 8, "audio/pcma": 8}  # bytes a millisecond

Send = Callable[[dict[str, Any]], Awaitable[None]]


class Broken(Exception):
    """The connection shall break without a word."""


class Conversation:
    """One session's state and its answers. `say` sends one server event."""

    def __init__(self, model: str, say: Callable[[str, dict[str, Any]], Awaitable[None]]) -> None:
        self._say = say
        self.session: dict[str, Any] = {
            "type": "realtime",
            "object": "realtime.session",
            "id": f"sess_{uuid4().hex[:20]}",
            "model": model,
            "output_modalities": ["audio"],
            "instructions": "You are the sandbox.",
            "max_output_tokens": "inf",
            "audio": {
                "input": {
                    "format": {"type": "audio/pcm", "rate": PCM_RATE},
                    "turn_detection": {"type": "server_vad", "create_response": True},
                    "transcription": None,
                },
                "output": {"format": {"type": "audio/pcm", "rate": PCM_RATE}, "voice": "marin"},
            },
        }
        self._sound = bytearray()
        self._is_speaking = False
        self._quiet_ms = 0
        self._last_text = ""
        self._context = {"text": 0, "audio": 0}
        self._cached = 0
        self._task: asyncio.Task[None] | None = None
        self._handlers = {
            "session.update": self._update,
            "input_audio_buffer.append": self._append,
            "input_audio_buffer.commit": self._commit,
            "input_audio_buffer.clear": self._clear,
            "conversation.item.create": self._create_item,
            "response.create": self._respond,
            "response.cancel": self._cancel,
        }

    async def hear(self, event: dict[str, Any]) -> None:
        """One client event."""
        handler = self._handlers.get(str(event.get("type")))
        if handler is None:
            return await self._error(f"Unknown event type {event.get('type')!r}.", "unknown_event")
        await handler(event)

    async def close(self) -> None:
        """Stop what is under way."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    @property
    def broken(self) -> bool:
        """Whether the response asked for the connection to break."""
        return self._task is not None and self._task.done() and isinstance(_outcome(self._task), Broken)

    # ------------------------------------------------------------ the client's events
    async def _update(self, event: dict[str, Any]) -> None:
        session = event.get("session")
        if not isinstance(session, dict) or session.get("type") != "realtime":
            return await self._error("Missing required parameter: 'session.type'.", "missing_required_parameter")
        _merge(self.session, {name: value for name, value in session.items() if name != "model"})
        await self._say("session.updated", {"session": self.session})

    async def _append(self, event: dict[str, Any]) -> None:
        try:
            piece = base64.b64decode(str(event.get("audio", "")), validate=True)
        except ValueError:
            return await self._error("Invalid 'audio': not base64.", "invalid_value")
        self._sound += piece
        heard = self.session["audio"]["input"]
        if heard.get("turn_detection") and heard["format"]["type"] == "audio/pcm":
            await self._listen(piece)

    async def _listen(self, piece: bytes) -> None:
        """Voice activity, by loudness."""
        samples = array.array("h", piece[: len(piece) // 2 * 2])
        if not samples:
            return
        is_loud = math.sqrt(sum(sample * sample for sample in samples) / len(samples)) > LOUD
        if is_loud and not self._is_speaking:
            self._is_speaking = True
            await self._cancel({})
            await self._say("input_audio_buffer.speech_started", {"audio_start_ms": 0, "item_id": _id("item")})
        self._quiet_ms = 0 if is_loud else self._quiet_ms + len(piece) // 48
        if self._is_speaking and self._quiet_ms >= QUIET_MS:
            self._is_speaking = False
            await self._say("input_audio_buffer.speech_stopped", {"audio_end_ms": 0, "item_id": _id("item")})
            await self._commit({})
            if self.session["audio"]["input"]["turn_detection"].get("create_response", True):
                await self._respond({})

    async def _commit(self, _event: dict[str, Any]) -> None:
        heard = self.session["audio"]["input"]
        milliseconds = len(self._sound) // _WIDTH.get(heard["format"]["type"], 48)
        if milliseconds < 100:
            return await self._error(
                "Error committing input audio buffer: buffer too small.", "input_audio_buffer_commit_empty"
            )
        self._sound.clear()
        item_id = _id("item")
        self._context["audio"] += -(-milliseconds // HEARD_MS_PER_TOKEN)
        self._last_text = f"You spoke for {milliseconds / 1000:.1f} seconds."
        await self._say("input_audio_buffer.committed", {"item_id": item_id, "previous_item_id": None})
        item = {"id": item_id, "type": "message", "role": "user", "content": [{"type": "input_audio"}]}
        await self._item(item)
        if isinstance(heard.get("transcription"), dict):
            await self._transcribe(item_id, milliseconds, str(heard["transcription"].get("model")))

    async def _transcribe(self, item_id: str, milliseconds: int, model: str) -> None:
        text = f"Somebody speaks for {milliseconds / 1000:.1f} seconds."
        tokens = -(-milliseconds // HEARD_MS_PER_TOKEN)
        usage: dict[str, Any] = {"type": "duration", "seconds": milliseconds / 1000}
        if "transcribe" in model:
            usage = {
                "type": "tokens",
                "input_tokens": tokens,
                "input_token_details": {"text_tokens": 0, "audio_tokens": tokens},
                "output_tokens": answers.count(text),
                "total_tokens": tokens + answers.count(text),
            }
        kind = "conversation.item.input_audio_transcription"
        await self._say(f"{kind}.delta", {"item_id": item_id, "content_index": 0, "delta": text})
        await self._say(
            f"{kind}.completed", {"item_id": item_id, "content_index": 0, "transcript": text, "usage": usage}
        )

    async def _clear(self, _event: dict[str, Any]) -> None:
        self._sound.clear()
        await self._say("input_audio_buffer.cleared", {})

    async def _create_item(self, event: dict[str, Any]) -> None:
        item = event.get("item")
        if not isinstance(item, dict):
            return await self._error("Missing required parameter: 'item'.", "missing_required_parameter")
        for part in item.get("content") or []:
            if part.get("type") == "input_audio":
                size = len(base64.b64decode(part.get("audio", "")))
                self._context["audio"] += -(-size // (48 * HEARD_MS_PER_TOKEN))
            else:
                self._last_text = str(part.get("text", ""))
                self._context["text"] += answers.count(self._last_text) + 3
        await self._item({"id": _id("item"), **item})

    async def _item(self, item: dict[str, Any]) -> None:
        for kind in ("added", "done"):
            await self._say(f"conversation.item.{kind}", {"previous_item_id": None, "item": item})

    async def _respond(self, event: dict[str, Any]) -> None:
        if self._task is not None and not self._task.done():
            return await self._error(
                "Conversation already has an active response.", "conversation_already_has_active_response"
            )
        asked = event.get("response") if isinstance(event.get("response"), dict) else {}
        self._task = asyncio.get_running_loop().create_task(self._answer(asked or {}))

    async def _cancel(self, _event: dict[str, Any]) -> None:
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    # ------------------------------------------------------------ a response
    async def _answer(self, asked: dict[str, Any]) -> None:
        prompt = str(asked.get("instructions") or self._last_text)
        modalities = asked.get("output_modalities") or self.session["output_modalities"]
        response: dict[str, Any] = {
            "object": "realtime.response",
            "id": _id("resp"),
            "status": "in_progress",
            "output": [],
            "output_modalities": modalities,
            "usage": None,
        }
        made = {"text": 0, "ms": 0}
        directives = Directives()
        await self._say("response.created", {"response": response})
        try:
            directives = find("", prompt)
            await self._make(response, prompt, directives, is_spoken="audio" in modalities, made=made)
            response["status"] = "failed" if "status" in directives else "completed"
        except BadDirective as problem:
            response |= {"status": "failed", "status_details": {"error": {"message": str(problem)}}}
        except asyncio.CancelledError:
            response["status"] = "cancelled"
        if "no-usage" not in directives:
            response["usage"] = self._usage(made)
        await self._say("rate_limits.updated", {"rate_limits": []})
        await self._say("response.done", {"response": response})

    async def _make(
        self, response: dict[str, Any], prompt: str, directives: Directives, *, is_spoken: bool, made: dict[str, int]
    ) -> None:
        body = {"model": self.session["model"], "messages": [{"role": "user", "content": prompt}]}
        text = answers.compose(body, directives, 0)
        item = {"id": _id("item"), "type": "message", "role": "assistant", "status": "completed", "content": []}
        at = {"response_id": response["id"], "output_index": 0}
        part = {**at, "item_id": item["id"], "content_index": 0}
        await self._say("response.output_item.added", {**at, "item": item})
        await self._say("response.content_part.added", {**part, "part": {"type": "audio" if is_spoken else "text"}})
        verb = "response.output_audio_transcript" if is_spoken else "response.output_text"
        delay, cut = directives.seconds("slow", 0.0, bare=0.05), directives.number("cut")
        said = ""
        for number, word in enumerate(text.split(" ")):
            if cut is not None and number >= cut:
                raise Broken
            said = word if not number else f"{said} {word}"
            await self._say(f"{verb}.delta", {**part, "delta": word if not number else f" {word}"})
            made["text"] = answers.count(said)
            if is_spoken:
                made["ms"] += WORD_MS
                await self._say("response.output_audio.delta", {**part, "delta": _tone(word)})
            if delay:
                await asyncio.sleep(delay)
        if is_spoken:
            await self._say("response.output_audio.done", part)
        await self._say(f"{verb}.done", {**part, ("transcript" if is_spoken else "text"): said})
        item["content"] = [{"type": "output_audio", "transcript": said}] if is_spoken else [
            {"type": "output_text", "text": said}
        ]  # fmt: skip
        await self._say("response.content_part.done", {**part, "part": item["content"][0]})
        await self._say("response.output_item.done", {**at, "item": item})
        await self._item(item)
        response["output"] = [item]

    def _usage(self, made: dict[str, int]) -> dict[str, Any]:
        text = self._context["text"] + answers.count(str(self.session["instructions"]))
        heard = self._context["audio"]
        spoken = -(-made["ms"] // SPOKEN_MS_PER_TOKEN)
        cached = min(self._cached, text + heard)
        self._cached = (text + heard) // 64 * 64
        cached_text = min(cached, text)
        self._context["text"] += made["text"]
        self._context["audio"] += spoken
        return {
            "total_tokens": text + heard + made["text"] + spoken,
            "input_tokens": text + heard,
            "output_tokens": made["text"] + spoken,
            "input_token_details": {
                "text_tokens": text,
                "audio_tokens": heard,
                "image_tokens": 0,
                "cached_tokens": cached,
                "cached_tokens_details": {"text_tokens": cached_text, "audio_tokens": cached - cached_text},
            },
            "output_token_details": {"text_tokens": made["text"], "audio_tokens": spoken},
        }

    async def _error(self, message: str, code: str) -> None:
        error = {"type": "invalid_request_error", "code": code, "message": message, "param": None, "event_id": None}
        await self._say("error", {"error": error})


async def serve(
    scope: Mapping[str, Any], receive: Callable[[], Awaitable[Mapping[str, Any]]], send: Send, model: str
) -> None:
    """One connection that has been let in."""
    await receive()
    await send({"type": "websocket.accept"})

    async def say(kind: str, fields: dict[str, Any]) -> None:
        event = {"type": kind, "event_id": f"event_{uuid4().hex[:20]}", **fields}
        await send({"type": "websocket.send", "text": json.dumps(event)})

    conversation = Conversation(model, say)
    await say("session.created", {"session": conversation.session})
    incoming = asyncio.get_running_loop().create_task(_listen(conversation, receive))
    try:
        while not incoming.done():
            await asyncio.wait([incoming], timeout=0.05)
            if conversation.broken:
                transport = scope.get("sandbox.transport")
                if transport is not None:
                    transport.abort()
                else:
                    await send({"type": "websocket.close", "code": 1011})
                return
        await incoming
    finally:
        incoming.cancel()
        with contextlib.suppress(Exception):
            await conversation.close()


async def _listen(conversation: Conversation, receive: Callable[[], Awaitable[Mapping[str, Any]]]) -> None:
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            return
        try:
            event = json.loads(message.get("text") or "null")
        except ValueError:
            event = None
        if isinstance(event, dict):
            await conversation.hear(event)


@cache
def _tone(word: str) -> str:
    """A word's worth of sound: base64 of 24 kHz PCM."""
    pitch = 220 + hashlib.sha256(word.encode(errors="replace")).digest()[0]
    count = PCM_RATE * WORD_MS // 1000
    samples = array.array("h")
    for position in range(count):
        loudness = math.sin(math.pi * position / count) * 6_000
        samples.append(int(loudness * math.sin(2 * math.pi * pitch * position / PCM_RATE)))
    return base64.b64encode(samples.tobytes()).decode()


def _id(prefix: str) -> str:
    return f"{prefix}_{uuid4().hex[:20]}"


def _merge(into: dict[str, Any], values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        if isinstance(value, dict) and isinstance(into.get(name), dict):
            _merge(into[name], value)
        else:
            into[name] = value


def _outcome(task: "asyncio.Task[None]") -> BaseException | None:
    return None if task.cancelled() else task.exception()
