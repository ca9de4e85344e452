"""Forms, sound and pictures in OpenAI's shapes: what images, transcriptions and speech need beside text."""

import base64
import hashlib
import io
import math
import struct
import wave as wave_module
from typing import Any

from python_multipart import parse_form

from sandbox.provider import answers
from sandbox.provider.directives import Directives
from sandbox.provider.events import Event, encode

TOKENS_OF_AN_INPUT_IMAGE = 200
_RATE = 8_000
_SECONDS_PER_WORD = 0.05
_PIECES = 8


class BadBody(ValueError):
    """The request's body is not what the endpoint takes."""


def form(content_type: str, raw: bytes) -> dict[str, Any]:
    """A multipart body as a JSON body would be; a file is (name, bytes), and a list of those under its field's name."""
    body: dict[str, Any] = {}

    def on_field(field: Any) -> None:
        body[field.field_name.decode()] = _value((field.value or b"").decode())

    def on_file(file: Any) -> None:
        file.file_object.seek(0)
        body.setdefault(file.field_name.decode(), []).append((file.file_name.decode(), file.file_object.read()))

    headers = {"Content-Type": content_type.encode(), "Content-Length": str(len(raw)).encode()}
    try:
        parse_form(headers, io.BytesIO(raw), on_field, on_file)
    except Exception as error:
        raise BadBody(f"The form cannot be read: {error}") from None
    return body


def _value(text: str) -> Any:
    if text in {"true", "false"}:
        return text == "true"
    return int(text) if text.isdecimal() and len(text) < 6 else text


def wave(text: str) -> bytes:
    """A WAV of soft tones, a twentieth of a second for each word of `text`."""
    words = text.split() or ["silence"]
    samples = bytearray()
    for word in words:
        pitch = 220 + hashlib.sha256(word.encode(errors="replace")).digest()[0]
        count = int(_RATE * _SECONDS_PER_WORD)
        for position in range(count):
            loudness = math.sin(math.pi * position / count) * 9_000
            samples += struct.pack("<h", int(loudness * math.sin(2 * math.pi * pitch * position / _RATE)))
    out = io.BytesIO()
    with wave_module.open(out, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(_RATE)
        writer.writeframes(bytes(samples))
    return out.getvalue()


def seconds_of(sound: bytes) -> float:
    """The length of a WAV; of anything else a second for 16 kB."""
    try:
        with wave_module.open(io.BytesIO(sound)) as reader:
            return reader.getnframes() / reader.getframerate()
    except (wave_module.Error, EOFError):
        return max(1.0, len(sound) / 16_000)


def transcription(body: dict[str, Any], directives: Directives) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The answer and its usage: by tokens of models that say `transcribe`, else by duration."""
    files = body.get("file")
    if not isinstance(files, list) or not files:
        raise BadBody("file is missing")
    name, sound = files[0]
    seconds = seconds_of(sound)
    text = directives.get("say") or f"A recording of {seconds:.1f} seconds called {name}."
    usage: dict[str, Any] = {"type": "duration", "seconds": math.ceil(seconds)}
    if "transcribe" in str(body.get("model")):
        heard, written = math.ceil(seconds * 10), answers.count(text)
        usage = {
            "type": "tokens",
            "input_tokens": heard,
            "input_token_details": {"text_tokens": 0, "audio_tokens": heard},
            "output_tokens": written,
            "total_tokens": heard + written,
        }
    answer: dict[str, Any] = {"text": text}
    if body.get("response_format") == "verbose_json":
        segment = {"id": 0, "start": 0.0, "end": round(seconds, 2), "text": f" {text}"}
        answer |= {"task": "transcribe", "language": "english", "duration": seconds, "segments": [segment]}
    if "no-usage" in directives:
        return answer, None
    return answer | {"usage": usage}, usage


def transcript_events(answer: dict[str, Any], directives: Directives) -> list[Event]:
    words = answer["text"].split(" ")
    events = [
        _event("transcript.text.delta", {"delta": word if number == 0 else f" {word}"}, is_content=True)
        for number, word in enumerate(words)
    ]
    done = {"text": answer["text"]} | ({"usage": answer["usage"]} if "usage" in answer else {})
    return [*events, _event("transcript.text.done", done)]


def speech_events(sound: bytes, text: str, directives: Directives) -> tuple[list[Event], dict[str, Any] | None]:
    size = -(-len(sound) // _PIECES)
    events = [
        _event("speech.audio.delta", {"audio": base64.b64encode(sound[at : at + size]).decode()}, is_content=True)
        for at in range(0, len(sound), size)
    ]
    heard, spoken = answers.count(text), math.ceil(seconds_of(sound) * 20)
    usage = {"input_tokens": heard, "output_tokens": spoken, "total_tokens": heard + spoken}
    if "no-usage" in directives:
        return [*events, _event("speech.audio.done", {})], None
    return [*events, _event("speech.audio.done", {"usage": usage})], usage


def image_events(verb: str, result: dict[str, Any], partials: int, directives: Directives) -> list[Event]:
    """Partial images of the first, then each image with its share of the usage."""
    told = {name: result[name] for name in ("size", "quality", "background", "output_format")}
    images = result["data"]
    events = [
        _event(f"{verb}.partial_image", {**told, **images[0], "partial_image_index": number}, is_content=True)
        for number in range(partials)
    ]
    usage = result.get("usage")
    for number, image in enumerate(images):
        share = {"usage": _share(usage, len(images), number)} if usage else {}
        events.append(_event(f"{verb}.completed", {**told, **image, **share}, is_content=True))
    return events


def _share(usage: dict[str, Any], images: int, number: int) -> dict[str, Any]:
    """The usage of one of `images`: the input counts with the first."""
    share: dict[str, Any] = {}
    for name, value in usage.items():
        if isinstance(value, dict):
            share[name] = (
                _share(value, images, number) if "output" in name else value if number == 0 else dict.fromkeys(value, 0)
            )
        elif name in {"input_tokens", "text_tokens"}:
            share[name] = value if number == 0 else 0
        elif name != "total_tokens":
            share[name] = value // images
    if "output_tokens" in share:
        share["total_tokens"] = share["input_tokens"] + share["output_tokens"]
    return share


def _event(kind: str, fields: dict[str, Any], *, is_content: bool = False) -> Event:
    return Event(f"event: {kind}\n".encode() + b"data: " + encode({"type": kind, **fields}) + b"\n\n", is_content)
