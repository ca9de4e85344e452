"""The provider's ASGI application and the server that runs it."""

import base64
import hmac
import itertools
import json
import secrets
import struct
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote

from uvicorn import Config, Server
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from sandbox.provider import answers, images, media, realtime, typed
from sandbox.provider.delivery import Delivery, Gone, Headers, Receive, Send
from sandbox.provider.directives import BadDirective, Directives, find
from sandbox.provider.events import Stream, whole
from sandbox.provider.media import BadBody

MODELS = (
    "gpt-4o-mini",
    "gpt-4.1",
    "gpt-5.4-mini",
    "sandbox-chat",
    "text-embedding-3-small",
    "text-embedding-3-large",
    "sandbox-embed",
    "gpt-image-2",
    "gpt-4o-mini-transcribe",
    "whisper-1",
    "tts-1",
    "gpt-4o-mini-tts",
    "omni-moderation-latest",
    "gpt-realtime-2.1",
    "gpt-realtime-2.1-mini",
)
_CODES = {
    400: ("invalid_request_error", "invalid_request"),
    401: ("invalid_request_error", "invalid_api_key"),
    403: ("invalid_request_error", "permission_denied"),
    404: ("invalid_request_error", "model_not_found"),
    429: ("requests", "rate_limit_exceeded"),
}
_KEPT_REQUESTS = 5000
_PRIVATE = {"messages", "prompt", "input", "file", "image", "image[]", "mask"}
_HTML = b"<!doctype html><html><title>Sandbox</title><body><h1>A page where JSON was expected</h1></body></html>"
_METADATA = "http://169.254.169.254/latest/meta-data/"


@dataclass(slots=True)
class Entry:
    """What the journal keeps of one request; of the body, everything but the words."""

    id: str
    method: str
    path: str
    started_at: float
    state: str = "running"  # completed · disconnected (by the client) · cut (by a fault) · failed
    status: int | None = None
    tag: str = ""
    directives: dict[str, str] = field(default_factory=dict)
    body: dict[str, Any] = field(default_factory=dict)
    usage: dict[str, Any] | None = None


class Provider:
    """The ASGI application. Delays are those of a model that is not in a hurry; tests set them to 0."""

    def __init__(self, key: str, *, first_delay_s: float = 0.0, word_delay_s: float = 0.0) -> None:
        self.key = key.encode()
        self.first_delay_s = first_delay_s
        self.word_delay_s = word_delay_s
        self.journal: deque[Entry] = deque(maxlen=_KEPT_REQUESTS)
        self.tags: Counter[str] = Counter()
        self._numbers = itertools.count(1)
        self._prefix = secrets.token_hex(3)
        self._routes: dict[tuple[str, str], Callable[..., Awaitable[None]]] = {
            ("POST", "/v1/chat/completions"): self._generate,
            ("POST", "/v1/completions"): self._generate,
            ("POST", "/v1/embeddings"): self._embeddings,
            ("POST", "/v1/images/generations"): self._images,
            ("POST", "/v1/images/edits"): self._images,
            ("POST", "/v1/images/variations"): self._images,
            ("POST", "/v1/audio/transcriptions"): self._transcription,
            ("POST", "/v1/audio/translations"): self._transcription,
            ("POST", "/v1/audio/speech"): self._speech,
            ("POST", "/v1/moderations"): self._moderations,
            ("POST", "/v1/responses"): self._responses,
        }
        self._kept: OrderedDict[str, dict[str, Any]] = OrderedDict()

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        headers = dict(scope.get("headers", ()))
        if scope["type"] == "websocket":
            await self._talk(scope, headers, receive, send)
            return
        if scope["type"] != "http":
            return
        header_text = headers.get(b"x-sandbox", b"").decode("latin-1")
        delivery = Delivery(scope, receive, send, Directives())
        try:
            if scope["path"] == "/health":
                await delivery.json(200, {"status": "ok"})
            elif not hmac.compare_digest(headers.get(b"authorization", b""), b"Bearer " + self.key):
                await delivery.json(401, error(401, "Incorrect API key provided."))
            elif scope["path"] == "/__sandbox/requests":
                await self._requests(scope, delivery)
            elif scope["path"].startswith("/v1/models"):
                await self._models(scope, delivery)
            else:
                await self._answer(scope, receive, delivery, header_text)
        except Gone:
            pass
        finally:
            await delivery.close()

    async def _talk(self, scope: Mapping[str, Any], headers: dict[bytes, bytes], receive: Receive, send: Send) -> None:
        is_known = hmac.compare_digest(headers.get(b"authorization", b""), b"Bearer " + self.key)
        if not is_known or scope["path"] != "/v1/realtime":
            await receive()
            await send({"type": "websocket.close", "code": 1008})  # before it was accepted: 403
            return
        entry = Entry(f"req_sandbox_{self._prefix}{next(self._numbers):06d}", "GET", scope["path"], time.time())
        self.journal.append(entry)
        model = parse_qs(scope["query_string"].decode()).get("model", ["gpt-realtime-2.1"])[0]
        await realtime.serve(scope, receive, send, model)
        entry.state = "completed"

    # ------------------------------------------------------------ one request
    async def _answer(self, scope: Mapping[str, Any], receive: Receive, delivery: Delivery, header_text: str) -> None:
        headers = dict(scope["headers"])
        entry = Entry(
            f"req_sandbox_{self._prefix}{next(self._numbers):06d}", scope["method"], scope["path"], time.time()
        )
        self.journal.append(entry)
        try:
            body: dict[str, Any] = {}
            if "early" not in header_text:
                body = await _read(receive, headers.get(b"content-type", b"").decode("latin-1"))
            directives = self._applying(find(header_text, answers.prompt_of(body)), entry)
            entry.directives = dict(directives)
            entry.body = {name: value for name, value in body.items() if name not in _PRIVATE}
            delivery.directives = directives
            await self._obey(entry, body, directives, delivery)
            entry.state = "completed"
        except (BadDirective, BadBody) as problem:
            entry.state, entry.status = "completed", 400
            delivery.directives = Directives()
            await delivery.json(400, error(400, str(problem)), _ids(entry))
        except Gone as gone:
            entry.state = gone.state
        except BaseException:
            entry.state = "failed"
            raise

    def _applying(self, directives: Directives, entry: Entry) -> Directives:
        """The directives, or none once their tag has had its times."""
        entry.tag = directives.get("tag", "")
        times = directives.number("times")
        if not entry.tag:
            return directives
        self.tags[entry.tag] += 1
        is_over = times is not None and self.tags[entry.tag] > times
        return Directives({"tag": entry.tag}) if is_over else directives

    async def _obey(self, entry: Entry, body: dict[str, Any], directives: Directives, delivery: Delivery) -> None:
        if "early" not in directives:
            delivery.watch()
        await delivery.pause(directives.seconds("delay", self.first_delay_s))
        if "hang" in directives and directives["hang"] != "headers":
            await delivery.pause(3600)
        if "status" in directives:
            entry.status = directives.number("status") or 500
            extra = [(b"retry-after", directives["retry-after"].encode())] if "retry-after" in directives else []
            message = f"The sandbox was asked to answer {entry.status}."
            return await delivery.json(entry.status, error(entry.status, message), [*extra, *_ids(entry)])
        if "html" in directives:
            entry.status = directives.number("html") or 200
            return await delivery.body(entry.status, b"text/html; charset=utf-8", _HTML, _ids(entry))
        if "redirect" in directives:
            entry.status = 302
            location = (directives["redirect"] or _METADATA).encode()
            return await delivery.body(302, b"text/plain", b"", [(b"location", location), *_ids(entry)])
        route = self._routes.get((entry.method, entry.path))
        if route is None and entry.path.startswith("/v1/responses/"):
            route = self._kept_response
        if route is None:
            entry.status = 404
            return await delivery.json(404, error(404, f"Invalid URL ({entry.method} {entry.path})"), _ids(entry))
        entry.status = 200
        await route(entry, body, directives, delivery)

    # ------------------------------------------------------------ endpoints
    async def _generate(self, entry: Entry, body: dict[str, Any], directives: Directives, delivery: Delivery) -> None:
        is_chat = entry.path.endswith("chat/completions")
        answer = (answers.chat if is_chat else answers.completion)(body, directives)
        entry.usage = answer.usage
        base = {
            "id": entry.id.replace("req_", "chatcmpl-" if is_chat else "cmpl-"),
            "object": "chat.completion" if is_chat else "text_completion",
            "created": int(time.time()),
            "model": body.get("model", "sandbox-chat"),
            "system_fingerprint": "fp_sandbox",
            "service_tier": "default",
        }
        if body.get("stream"):
            stream = Stream(base, body, answer, directives)
            delay = directives.seconds("slow", self.word_delay_s, bare=0.05)
            return await delivery.stream(stream.events(), _ids(entry), delay)
        await delivery.json(200, whole(base, answer, directives), _ids(entry))

    async def _responses(self, entry: Entry, body: dict[str, Any], directives: Directives, delivery: Delivery) -> None:
        previous = body.get("previous_response_id")
        if previous and previous not in self._kept:
            entry.status = 400
            return await delivery.json(400, error(400, f"Previous response {previous} not found."), _ids(entry))
        whole_response = typed.response(entry.id.replace("req_", "resp_"), body, directives)
        entry.usage = whole_response.get("usage")
        if whole_response["store"]:
            self._kept[whole_response["id"]] = whole_response
            if len(self._kept) > _KEPT_REQUESTS:
                self._kept.popitem(last=False)
        if body.get("stream"):
            delay = directives.seconds("slow", self.word_delay_s, bare=0.05)
            return await delivery.stream(typed.response_events(whole_response, directives), _ids(entry), delay)
        await delivery.json(200, whole_response, _ids(entry))

    async def _kept_response(
        self, entry: Entry, body: dict[str, Any], directives: Directives, delivery: Delivery
    ) -> None:
        response_id, _, verb = entry.path.removeprefix("/v1/responses/").partition("/")
        kept = self._kept.get(response_id)
        if kept is None:
            entry.status = 404
            return await delivery.json(404, error(404, f"Response with id '{response_id}' not found."), _ids(entry))
        answer: dict[str, Any] = kept
        if entry.method == "DELETE":
            del self._kept[response_id]
            answer = {"id": response_id, "object": "response", "deleted": True}
        elif verb == "input_items":
            answer = {"object": "list", "data": [], "has_more": False, "first_id": None, "last_id": None}
        await delivery.json(200, answer, _ids(entry))

    async def _moderations(
        self, entry: Entry, body: dict[str, Any], directives: Directives, delivery: Delivery
    ) -> None:
        given = body.get("input", "")
        is_parts = isinstance(given, list) and given and isinstance(given[0], dict)
        items = [given] if isinstance(given, str) or is_parts else given
        results = [
            {
                "flagged": "attack" in str(item),
                "categories": {"violence": "attack" in str(item)},
                "category_scores": {"violence": 0.97 if "attack" in str(item) else 0.01},
                "category_applied_input_types": {"violence": ["text"]},
            }
            for item in items
        ]
        model = body.get("model") or "omni-moderation-latest"
        await delivery.json(
            200, {"id": entry.id.replace("req_", "modr-"), "model": model, "results": results}, _ids(entry)
        )

    async def _embeddings(self, entry: Entry, body: dict[str, Any], directives: Directives, delivery: Delivery) -> None:
        given = body.get("input", "")
        items = given if isinstance(given, list) and given and not isinstance(given[0], int) else [given]
        dimensions = body.get("dimensions") or answers.DIMENSIONS.get(str(body.get("model")), 1536)
        tokens = sum(answers.count(item) if isinstance(item, str) else len(item) for item in items)
        data = []
        for index, item in enumerate(items):
            vector: Any = answers.embedding(item, int(dimensions))
            if body.get("encoding_format") == "base64":
                vector = base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
            data.append({"object": "embedding", "index": index, "embedding": vector})
        result: dict[str, Any] = {"object": "list", "data": data, "model": body.get("model", "sandbox-embed")}
        if "no-usage" not in directives:
            counted = answers.usage(directives, tokens, 0)
            result["usage"] = counted and {
                "prompt_tokens": counted["prompt_tokens"],
                "total_tokens": counted["prompt_tokens"],
            }
        entry.usage = result.get("usage")
        await delivery.json(200, result, _ids(entry))

    async def _images(self, entry: Entry, body: dict[str, Any], directives: Directives, delivery: Delivery) -> None:
        prompt = answers.without(answers.prompt_of(body))
        n = body.get("n") or 1
        inputs = len(body.get("image") or []) + len(body.get("image[]") or []) + len(body.get("mask") or [])
        if not isinstance(n, int) or not 1 <= n <= 10:
            raise BadBody("n must be a whole number from 1 to 10")
        width, height = images.dimensions(body.get("size"))
        kind = body.get("output_format") or "png"
        if kind not in images.FORMATS:
            raise BadBody(f"output_format must be one of {', '.join(images.FORMATS)}")
        data = [
            {"b64_json": base64.b64encode(images.render(prompt, width, height, kind, number)).decode()}
            for number in range(n)
        ]
        text_tokens = answers.count(prompt)
        image_tokens = n * images.tokens(body.get("quality"), width, height)
        result: dict[str, Any] = {"created": int(time.time()), "output_format": kind, "size": f"{width}x{height}"}
        result |= {"quality": body.get("quality") or "medium", "background": "opaque", "data": data}
        if "no-usage" not in directives:
            seen = inputs * media.TOKENS_OF_AN_INPUT_IMAGE
            result["usage"] = entry.usage = {
                "input_tokens": text_tokens + seen,
                "input_tokens_details": {"text_tokens": text_tokens, "image_tokens": seen},
                "output_tokens": image_tokens,
                "output_tokens_details": {"text_tokens": 0, "image_tokens": image_tokens},
                "total_tokens": text_tokens + seen + image_tokens,
            }
        verb = "image_generation" if entry.path.endswith("generations") else "image_edit"
        if body.get("stream"):
            events = media.image_events(verb, result, int(body.get("partial_images") or 0), directives)
            return await delivery.stream(events, _ids(entry), directives.seconds("slow", 0.0, bare=0.05))
        await delivery.json(200, result, _ids(entry))

    async def _transcription(
        self, entry: Entry, body: dict[str, Any], directives: Directives, delivery: Delivery
    ) -> None:
        answer, entry.usage = media.transcription(body, directives)
        if body.get("response_format") in {"text", "srt", "vtt"}:
            return await delivery.body(200, b"text/plain; charset=utf-8", answer["text"].encode(), _ids(entry))
        if body.get("stream") and "transcribe" in str(body.get("model")):
            delay = directives.seconds("slow", self.word_delay_s, bare=0.05)
            return await delivery.stream(media.transcript_events(answer, directives), _ids(entry), delay)
        await delivery.json(200, answer, _ids(entry))

    async def _speech(self, entry: Entry, body: dict[str, Any], directives: Directives, delivery: Delivery) -> None:
        sound = media.wave(str(body.get("input", "")))
        if body.get("stream_format") == "sse" and not str(body.get("model")).startswith("tts-"):
            events, entry.usage = media.speech_events(sound, str(body.get("input", "")), directives)
            return await delivery.stream(events, _ids(entry), directives.seconds("slow", 0.0, bare=0.05))
        await delivery.body(200, b"audio/wav", sound, _ids(entry))

    async def _models(self, scope: Mapping[str, Any], delivery: Delivery) -> None:
        listed = [{"id": name, "object": "model", "created": 1795132800, "owned_by": "sandbox"} for name in MODELS]
        name = unquote(scope["path"].removeprefix("/v1/models").strip("/"))
        if not name:
            return await delivery.json(200, {"object": "list", "data": listed})
        found = next((model for model in listed if model["id"] == name), None)
        if found is None:
            return await delivery.json(404, error(404, f"The model '{name}' does not exist."))
        await delivery.json(200, found)

    async def _requests(self, scope: Mapping[str, Any], delivery: Delivery) -> None:
        if scope["method"] == "DELETE":
            self.journal.clear()
            self.tags.clear()
        tag = parse_qs(scope["query_string"].decode()).get("tag", [""])[0]
        kept = [entry for entry in self.journal if not tag or entry.tag == tag]
        states = Counter(entry.state for entry in kept)
        await delivery.json(200, {"count": len(kept), "states": states, "requests": [asdict(entry) for entry in kept]})


def error(status: int, message: str) -> dict[str, Any]:
    """OpenAI's error body."""
    kind, code = _CODES.get(status, ("server_error", "sandbox_error"))
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def _ids(entry: Entry) -> Headers:
    return [(b"x-request-id", entry.id.encode()), (b"openai-processing-ms", b"1")]


async def _read(receive: Receive, content_type: str) -> dict[str, Any]:
    chunks = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Gone("disconnected")
        chunks.append(message.get("body", b""))
        if not message.get("more_body"):
            break
    raw = b"".join(chunks)
    if content_type.startswith("multipart/"):
        return media.form(content_type, raw)
    try:
        body = json.loads(raw) if raw else {}
    except ValueError:
        raise BadBody("The body is not JSON.") from None
    if not isinstance(body, dict):
        raise BadBody("The body is not a JSON object.")
    return body


class _Protocol(HttpToolsProtocol):
    """uvicorn's, which also hands the application its connection: some faults have no ASGI message."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["sandbox.transport"] = self.transport  # type: ignore[typeddict-unknown-key]


class _SocketProtocol(WebSocketsSansIOProtocol):
    """uvicorn's, for the same reason."""

    def handle_connect(self, event: Any) -> None:
        super().handle_connect(event)
        self.scope["sandbox.transport"] = self.transport  # type: ignore[typeddict-unknown-key]


def server(provider: Provider, port: int, host: str = "127.0.0.1") -> Server:
    """A uvicorn server for `provider`, not yet running."""
    config = Config(provider, host, port, http=_Protocol, ws=_SocketProtocol, lifespan="off", log_level="warning")
    config.timeout_graceful_shutdown = 2
    return Server(config)
