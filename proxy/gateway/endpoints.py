"""The metered endpoints: what each reads of a body, what it may cost at most, and what goes upstream."""

import base64
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from proxy.gateway import tokens
from proxy.gateway.errors import InvalidRequest, UnsupportedValue
from proxy.gateway.snapshots import Deployment

DEFAULT_OUTPUT_TOKENS = 4_096
COMPLETIONS_DEFAULT_MAX_TOKENS = 16
MAX_CHOICES = 128
MAX_EMBEDDING_INPUTS = 2_048
MAX_TOKENS_BOUND = 100_000_000
TIERS = frozenset({"auto", "default", "flex", "scale", "priority", "fast", "standard_only"})


@dataclass(slots=True)
class Job:
    """One parsed request.

    `prompt_tokens` is our best count of the input, `input_tokens` an upper bound of it for the hold; `output_tokens` is
    the most that each of `answers` may produce by the client's own limit, None if it set none.
    """

    model: str
    body: dict[str, Any]
    is_stream: bool
    wants_usage: bool
    prompt_tokens: int
    input_tokens: int
    output_tokens: int | None
    answers: int
    tier: str = "default"
    end_user: str = ""
    output_limit_field: str = ""
    embedding_format: str = ""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A metered path: its scope, how its body is read, and what is changed in its whole answers."""

    path: str
    scope: str
    parse: Callable[[dict[str, Any]], Job]
    makes_output: bool = True
    rewrite_answer: Callable[[Job, dict[str, Any]], bool] | None = None


def upstream_body(job: Job, deployment: Deployment, *, output_cap: int | None) -> bytes:
    """The JSON body for `deployment`: its own model name, usage asked for on streams, the output capped if need be."""
    body = dict(job.body)
    body["model"] = deployment.upstream_name
    if job.is_stream:
        options = body.get("stream_options")
        body["stream_options"] = {**(options if isinstance(options, dict) else {}), "include_usage": True}
    if output_cap is not None:
        name = job.output_limit_field
        if name == "max_completion_tokens" and deployment.kind not in {"openai", "azure"}:
            name = "max_tokens"
        body[name] = output_cap
    return orjson.dumps(body)


def _chat(body: dict[str, Any]) -> Job:
    model = _model(body)
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise InvalidRequest("'messages' must be a non-empty array.", param="messages")
    maximum = _maximum(body, "max_completion_tokens")
    legacy = _maximum(body, "max_tokens")
    bound = tokens.messages_bound(body, model)
    return Job(
        model=model,
        body=body,
        is_stream=_boolean(body, "stream"),
        wants_usage=_wants_usage(body),
        prompt_tokens=bound,
        input_tokens=tokens.with_margin(bound),
        output_tokens=maximum if maximum is not None else legacy,
        answers=_integer(body, "n", 1, 1, MAX_CHOICES),
        tier=_tier(body),
        end_user=_end_user(body),
        output_limit_field="max_completion_tokens",
    )


def _completions(body: dict[str, Any]) -> Job:
    model = _model(body)
    prompt = body.get("prompt", "")
    bound, prompts = tokens.prompts_bound(prompt, model)
    if not prompts:
        raise InvalidRequest("'prompt' must be a string, an array of strings, or token ids.", param="prompt")
    n = _integer(body, "n", 1, 1, MAX_CHOICES)
    best_of = _integer(body, "best_of", n, 1, MAX_CHOICES)
    if best_of < n:
        raise InvalidRequest("'best_of' must be at least 'n'.", param="best_of")
    maximum = _maximum(body, "max_tokens")
    return Job(
        model=model,
        body=body,
        is_stream=_boolean(body, "stream"),
        wants_usage=_wants_usage(body),
        prompt_tokens=bound,
        input_tokens=tokens.with_margin(bound),
        output_tokens=COMPLETIONS_DEFAULT_MAX_TOKENS if maximum is None else maximum,
        answers=max(n, best_of) * prompts,
        tier=_tier(body),
        end_user=_end_user(body),
        output_limit_field="max_tokens",
    )


def _embeddings(body: dict[str, Any]) -> Job:
    model = _model(body)
    encoding = body.get("encoding_format", "float")
    if encoding not in {"float", "base64"}:
        raise UnsupportedValue("'encoding_format' must be 'float' or 'base64'.", param="encoding_format")
    bound, inputs = tokens.prompts_bound(body.get("input"), model)
    if not inputs or body["input"] == "":
        raise InvalidRequest("'input' must be a non-empty string, array of strings, or token ids.", param="input")
    if inputs > MAX_EMBEDDING_INPUTS:
        raise InvalidRequest(f"'input' may have at most {MAX_EMBEDDING_INPUTS} items.", param="input")
    return Job(
        model=model,
        body=body,
        is_stream=False,
        wants_usage=False,
        prompt_tokens=bound,
        input_tokens=bound + 4 * inputs + bound // 20,
        output_tokens=0,
        answers=1,
        end_user=_end_user(body),
        embedding_format=encoding,
    )


def rewrite_embeddings(job: Job, answer: dict[str, Any]) -> bool:
    """Give every vector the encoding that the client asked for: the Node SDK decodes base64 without looking.

    Returns whether anything changed. Vectors are little-endian float32 (OpenAI, "Create embeddings").
    """
    changed = False
    data = answer.get("data")
    for item in data if isinstance(data, list) else ():
        vector = item.get("embedding") if isinstance(item, dict) else None
        if isinstance(vector, list) and job.embedding_format == "base64":
            item["embedding"] = base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
            changed = True
        elif isinstance(vector, str) and job.embedding_format == "float":
            packed = base64.b64decode(vector)
            item["embedding"] = list(struct.unpack(f"<{len(packed) // 4}f", packed))
            changed = True
    return changed


ENDPOINTS: Mapping[str, Endpoint] = {
    endpoint.path: endpoint
    for endpoint in (
        Endpoint("/v1/chat/completions", "chat", _chat),
        Endpoint("/v1/completions", "completions", _completions),
        Endpoint("/v1/embeddings", "embeddings", _embeddings, makes_output=False, rewrite_answer=rewrite_embeddings),
    )
}


def text_of(answer: Any) -> str:
    """All text that an answer or a stream's chunk of chat or completions carries, reasoning and tool calls included."""
    parts: list[str] = []
    choices = answer.get("choices") if isinstance(answer, dict) else None
    for choice in choices if isinstance(choices, list) else ():
        if not isinstance(choice, dict):
            continue
        if isinstance(choice.get("text"), str):
            parts.append(choice["text"])
        message = choice.get("delta") or choice.get("message")
        if isinstance(message, dict):
            _strings(message, parts)
    return "".join(parts)


def _strings(message: dict[str, Any], parts: list[str]) -> None:
    for name in ("content", "reasoning_content", "reasoning", "refusal"):
        if isinstance(message.get(name), str):
            parts.append(message[name])
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, list) else ():
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict):
            parts.extend(value for value in (function.get("name"), function.get("arguments")) if isinstance(value, str))


def _model(body: dict[str, Any]) -> str:
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise InvalidRequest("You must provide a 'model' parameter.", param="model", code="missing_required_parameter")
    return model


def _boolean(body: dict[str, Any], name: str) -> bool:
    value = body.get(name)
    if value is None:
        return False
    if not isinstance(value, bool):
        raise InvalidRequest(f"'{name}' must be a boolean.", param=name, code="invalid_type")
    return value


def _integer(body: dict[str, Any], name: str, default: int, minimum: int, maximum: int) -> int:
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or not minimum <= value <= maximum:
        raise InvalidRequest(f"'{name}' must be an integer from {minimum} to {maximum}.", param=name)
    return value


def _maximum(body: dict[str, Any], name: str) -> int | None:
    """A limit of output tokens; llama.cpp's -1 means none."""
    if body.get(name) in (None, -1):
        return None
    return _integer(body, name, 0, 0, MAX_TOKENS_BOUND)


def _wants_usage(body: dict[str, Any]) -> bool:
    options = body.get("stream_options")
    if options is None:
        return False
    if not isinstance(options, dict):
        raise InvalidRequest("'stream_options' must be an object.", param="stream_options", code="invalid_type")
    return options.get("include_usage") is True


def _tier(body: dict[str, Any]) -> str:
    tier = body.get("service_tier")
    if tier is None:
        return "default"
    if tier not in TIERS:
        raise UnsupportedValue(f"'service_tier' must be one of {', '.join(sorted(TIERS))}.", param="service_tier")
    return str(tier)


def _end_user(body: dict[str, Any]) -> str:
    for name in ("safety_identifier", "user"):
        value = body.get(name)
        if isinstance(value, str) and value:
            return value[:256]
    return ""
