"""Bodies and streams of speech: sound that carries no usage. Priced by characters, or by tokens that only events tell.

Where the price is by tokens the upstream is asked for events (`stream_format=sse`), and the client gets the sound in
them: OpenAI reports the usage of speech nowhere else ("Create speech").
"""

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from billing.pricing import Rate, Usage
from proxy.gateway import fields, tokens
from proxy.gateway.errors import GatewayError, InvalidRequest, UnsupportedValue
from proxy.gateway.jobs import Job
from proxy.gateway.meters import EVENTS, Meter, object_of
from proxy.gateway.snapshots import Route
from proxy.gateway.sse import Frame, Splitter, frames
from proxy.gateway.typed_events import TypedMeter

MAX_CHARACTERS = 4_096
MEDIA_TYPES = {
    "mp3": "audio/mpeg",
    "opus": "audio/ogg",
    "aac": "audio/aac",
    "flac": "audio/flac",
    "wav": "audio/wav",
    "pcm": "audio/pcm",
}
# Somebody who reads aloud says about 15 characters a second; a second of gpt-4o-mini-tts is about 21 tokens.
CHARACTERS_PER_S = 15
TOKENS_PER_S = 21
_DONE = "speech.audio.done"


def parse(body: dict[str, Any]) -> Job:
    model = fields.model(body)
    text = body.get("input")
    if not isinstance(text, str) or not 0 < len(text) <= MAX_CHARACTERS:
        raise InvalidRequest(f"'input' must be a text of 1 to {MAX_CHARACTERS:,} characters.", param="input")
    voice = body.get("voice")
    if not isinstance(voice, str | dict) or not voice:
        raise InvalidRequest("You must provide a 'voice' parameter.", param="voice", code="missing_required_parameter")
    shape = body.get("response_format") or "mp3"
    if shape not in MEDIA_TYPES:
        raise UnsupportedValue(f"'response_format' must be one of {', '.join(MEDIA_TYPES)}.", param="response_format")
    stream = body.get("stream_format") or "audio"
    if stream not in {"audio", "sse"}:
        raise UnsupportedValue("'stream_format' must be 'audio' or 'sse'.", param="stream_format")
    instructions = body.get("instructions") or ""
    prompt = tokens.count(text, model) + (tokens.count(instructions, model) if isinstance(instructions, str) else 0)
    return Job(
        model=model,
        body=body,
        is_stream=True,
        wants_usage=True,
        prompt_tokens=prompt,
        input_tokens=tokens.with_margin(prompt),
        output_tokens=2 * spoken_tokens(len(text)) + 100,
        answers=1,
        end_user=fields.end_user(body),
        details={
            "likely": spoken_tokens(len(text)),
            "characters": len(text),
            "media_type": MEDIA_TYPES[shape],
            "wants_events": stream == "sse",
        },
    )


def spoken_tokens(characters: int) -> int:
    return -(-characters * TOKENS_PER_S // CHARACTERS_PER_S)


def spoken_ms(characters: int) -> int:
    return -(-characters * 1000 // CHARACTERS_PER_S)


def bound(job: Job, route: Route, rate: Rate) -> None:
    """By characters where those have a price; else by tokens, and then the upstream must tell them."""
    if "characters" in rate.units:
        job.units = {"characters": job.details["characters"]}
        job.output_tokens = job.input_tokens = job.prompt_tokens = 0
        return
    if "milliseconds" in rate.units:
        job.units = {"milliseconds": 2 * spoken_ms(job.details["characters"])}
        job.output_tokens = job.input_tokens = job.prompt_tokens = 0
        return
    job.body = {**job.body, "stream_format": "sse"}


def charge(job: Job, rate: Rate, usage: Usage | None, delivered: Mapping[str, int]) -> Usage | None:
    """The characters, once any sound came; or the reported tokens."""
    if "characters" not in job.units:
        return usage
    return Usage(units=dict(job.units)) if delivered.get("bytes") else Usage()


def estimate(job: Job, rate: Rate, output_tokens: int) -> Usage:
    """Of sound whose tokens or length nobody told: by how long the text takes to say."""
    if "milliseconds" in job.units:
        return Usage(units={"milliseconds": spoken_ms(job.details["characters"])} if output_tokens else {})
    return Usage(input=job.prompt_tokens, audio_output=output_tokens) if output_tokens else Usage()


def meter(job: Job) -> Meter:
    spoken = spoken_tokens(job.details["characters"])
    if job.details["wants_events"]:
        return EventMeter(spoken)
    return SoundMeter(job.details["media_type"], spoken)


class EventMeter(TypedMeter):
    """A client that asked for events gets them as they are."""

    def __init__(self, spoken: int) -> None:
        super().__init__(ends=frozenset({_DONE}), text_of=lambda event: "")
        self._spoken = spoken
        self.media_type = EVENTS

    def feed(self, chunk: bytes) -> bytes:
        self.delivered["bytes"] = self.delivered.get("bytes", 0) + len(chunk)
        return super().feed(chunk)

    def output_tokens(self, model: str) -> int:
        super().output_tokens(model)
        return self._spoken if self.relayed_bytes else 0


class SoundMeter:
    """Sound for the client, whether the upstream sends it as it is or in events. The last piece follows the charge."""

    usage: Any = None
    tier: str | None = None
    is_failed = False
    object_id = ""

    def __init__(self, media_type: str, spoken: int) -> None:
        self.media_type = media_type
        self.error: dict[str, Any] | None = None
        self.relayed_bytes = 0
        self.delivered: dict[str, int] = {}
        self.is_done = False
        self._spoken = spoken
        self._splitter: Splitter | None = None
        self._is_sound = False
        self._start = b""
        self._held = b""
        self._is_over = False

    @property
    def is_whole(self) -> bool:
        return self.error is None and self._is_over

    def feed(self, chunk: bytes) -> bytes:
        if self._splitter is None and not self._is_sound:
            self._start += chunk
            if len(self._start) < len(b"event:"):
                return b""
            chunk, self._start = self._start, b""
            self._is_sound = not chunk.lstrip().startswith((b"event:", b"data:", b":"))
            self._splitter = None if self._is_sound else Splitter()
        if self._splitter is None:
            return self._pass(chunk)
        return self._pass(b"".join(self._sound_of(frame) for frame in frames(self._splitter.feed(chunk))))

    def flush(self) -> bytes:
        """The upstream's end: of bare sound that is the end of all of it."""
        if self._splitter is not None:
            return self._pass(b"".join(self._sound_of(frame) for frame in frames(self._splitter.flush() + b"\n\n")))
        self._is_over = bool(self._start or self.relayed_bytes or self._held)
        return self._pass(self._start)

    def output_tokens(self, model: str) -> int:
        return self._spoken if self.relayed_bytes or self._held else 0

    def last(self, error: GatewayError | None) -> bytes | None:
        """The held piece; nothing after an error, so that the client sees the connection break off."""
        return self._held if error is None else None

    def _pass(self, sound: bytes) -> bytes:
        if not sound:
            return b""
        ready, self._held = self._held, sound
        self.relayed_bytes += len(sound)
        self.delivered["bytes"] = self.relayed_bytes
        return ready

    def _sound_of(self, frame: Frame) -> bytes:
        event = object_of(frame)
        if event is None or self.is_done:
            return b""
        kind = event.get("type")
        if kind == "error" or (kind is None and event.get("error")):
            told = event.get("error")
            self.error = told if isinstance(told, dict) else {"message": str(told)}
        elif kind == _DONE:
            self.usage = event.get("usage")
            self._is_over = self.is_done = True
        elif kind == "speech.audio.delta":
            try:
                return base64.b64decode(event.get("audio") or event.get("delta") or "", validate=True)
            except (binascii.Error, TypeError, ValueError):
                self.error = {"message": "sound that is not base64"}
        return b""
