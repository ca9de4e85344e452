"""Cloudflare Workers AI beyond its OpenAI-compatible endpoints: images, recordings and speech by `/ai/run/{model}`.

Each model family has its own JSON there (developers.cloudflare.com/workers-ai/models). What goes in and comes out is
translated, so that OpenAI's SDKs see what they know.
"""

import base64
import secrets
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import orjson

from proxy.gateway.errors import RequestTooLarge, UnsupportedValue, UpstreamFailed
from proxy.gateway.jobs import Endpoint, Job
from proxy.gateway.providers import headers_of
from proxy.gateway.snapshots import Deployment

IMAGES = "/v1/images/generations"
TRANSCRIPTIONS = "/v1/audio/transcriptions"
SPEECH = "/v1/audio/speech"
ENDPOINTS = frozenset({IMAGES, TRANSCRIPTIONS, SPEECH})
MAX_AUDIO_BYTES = 25 * 1024 * 1024
# These take a form even for a bare prompt.
_BY_FORM = "/flux-2-"
_AURA_VOICES = {
    "alloy": "asteria",
    "echo": "orion",
    "fable": "arcas",
    "nova": "luna",
    "onyx": "zeus",
    "shimmer": "stella",
}


@dataclass(frozen=True, slots=True)
class Call:
    """One request to `/ai/run`."""

    url: str
    headers: dict[str, str]
    body: bytes


def handles(deployment: Deployment, endpoint: Endpoint) -> bool:
    """Whether the endpoint is reached through `/ai/run` there."""
    return deployment.kind == "cloudflare" and endpoint.path in ENDPOINTS


async def calls_of(deployment: Deployment, endpoint: Endpoint, job: Job) -> list[Call]:
    """What to ask for `job`: a call for each image. Raises `UnsupportedValue` or `RequestTooLarge`."""
    base = deployment.base_url.removesuffix("/v1")
    url = f"{base}/run/{quote(deployment.upstream_name, safe='@/')}"
    headers = headers_of(deployment) | {"accept": "*/*"}
    if endpoint.path == IMAGES:
        if job.is_stream:
            raise UnsupportedValue(f"The model {job.model!r} cannot stream images.", param="stream")
        return [_image_call(url, headers, deployment, job) for _ in range(job.answers)]
    if endpoint.path == SPEECH:
        return [Call(url, headers | {"content-type": "application/json"}, orjson.dumps(_speech(deployment, job)))]
    return [await _audio_call(url, headers, deployment, job)]


def image_of(media_type: str, body: bytes) -> dict[str, Any]:
    """One entry of `data` from an answer that is an image itself or has one in JSON. Raises `UpstreamFailed`."""
    if media_type.startswith("image/"):
        return {"b64_json": base64.b64encode(body).decode()}
    image = _result(body).get("image")
    if not isinstance(image, str) or not image:
        raise UpstreamFailed
    return {"b64_json": image}


def images_answer(images: list[dict[str, Any]]) -> dict[str, Any]:
    return {"created": int(time.time()), "data": images}


def transcription_of(body: bytes) -> dict[str, Any]:
    """OpenAI's `verbose_json`, as far as the model tells it; without usage, which Workers AI does not report."""
    result = _result(body)
    text = result.get("text")
    if not isinstance(text, str):
        text = _deepgram(result)
    told: dict[str, Any] = {"text": text.strip()}
    information = result.get("transcription_info")
    if isinstance(information, dict):
        told |= {name: information[name] for name in ("duration", "language") if name in information}
    segments = result.get("segments")
    if isinstance(segments, list):
        told["segments"] = [
            {"id": number, **{name: segment.get(name) for name in ("start", "end", "text")}}
            for number, segment in enumerate(segments)
            if isinstance(segment, dict)
        ]
    return told


def sound_of(media_type: str, body: bytes) -> bytes:
    """Sound that came as it is or in JSON. Raises `UpstreamFailed`."""
    if not media_type.startswith("application/json"):
        return body
    audio = _result(body).get("audio")
    try:
        return base64.b64decode(audio, validate=True) if isinstance(audio, str) and audio else _fail()
    except ValueError:
        raise UpstreamFailed from None


def _fail() -> bytes:
    raise UpstreamFailed


def _result(body: bytes) -> dict[str, Any]:
    try:
        told = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise UpstreamFailed from None
    result = told.get("result", told) if isinstance(told, dict) else None
    if not isinstance(result, dict) or told.get("success") is False:
        raise UpstreamFailed
    return result


def _deepgram(result: dict[str, Any]) -> str:
    """`results.channels[0].alternatives[0].transcript`."""
    found: Any = result.get("results")
    for step in ("channels", 0, "alternatives", 0, "transcript"):
        try:
            found = found[step]
        except (KeyError, IndexError, TypeError):
            raise UpstreamFailed from None
    if not isinstance(found, str):
        raise UpstreamFailed
    return found


def _image_call(url: str, headers: dict[str, str], deployment: Deployment, job: Job) -> Call:
    fields: dict[str, Any] = {"prompt": job.body["prompt"]}
    size = job.body.get("size") or "auto"
    if size != "auto":
        width, _, height = str(size).partition("x")
        fields |= {"width": int(width), "height": int(height)}
    for name in ("steps", "seed", "negative_prompt", "guidance"):
        if job.body.get(name) is not None:
            fields[name] = job.body[name]
    if _BY_FORM not in deployment.upstream_name:
        return Call(url, headers | {"content-type": "application/json"}, orjson.dumps(fields))
    boundary = f"tuppence-{secrets.token_hex(16)}"
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ]
    body = "".join([*parts, f"--{boundary}--\r\n"]).encode()
    return Call(url, headers | {"content-type": f"multipart/form-data; boundary={boundary}"}, body)


async def _audio_call(url: str, headers: dict[str, str], deployment: Deployment, job: Job) -> Call:
    assert job.form is not None  # noqa: S101 - transcriptions are forms
    (file,) = job.form.files("file")
    if file.size > MAX_AUDIO_BYTES:
        raise RequestTooLarge(MAX_AUDIO_BYTES)
    sound = await job.form.read(file, 0, file.size)
    if not deployment.upstream_name.endswith("whisper-large-v3-turbo"):
        return Call(url, headers | {"content-type": file.content_type or "application/octet-stream"}, sound)
    fields: dict[str, Any] = {"audio": base64.b64encode(sound).decode(), "task": "transcribe"}
    if job.body.get("language"):
        fields["language"] = job.body["language"]
    if job.body.get("prompt"):
        fields["initial_prompt"] = job.body["prompt"]
    return Call(url, headers | {"content-type": "application/json"}, orjson.dumps(fields))


def _speech(deployment: Deployment, job: Job) -> dict[str, Any]:
    text, voice = job.body["input"], str(job.body.get("voice") or "")
    if "melotts" in deployment.upstream_name:
        return {"prompt": text, "lang": str(job.body.get("language") or "en")}
    fields: dict[str, Any] = {"text": text, "speaker": _AURA_VOICES.get(voice, voice)}
    shape = job.body.get("response_format") or "mp3"
    return fields | ({"encoding": "linear16", "container": "wav"} if shape == "wav" else {"encoding": shape})
