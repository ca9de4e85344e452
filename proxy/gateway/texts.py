"""Bodies and answers of chat, completions, embeddings and moderations."""

import base64
import struct
from typing import Any

from proxy.gateway import fields, tokens
from proxy.gateway.errors import InvalidRequest, UnsupportedValue
from proxy.gateway.jobs import Job

COMPLETIONS_DEFAULT_MAX_TOKENS = 16
MAX_CHOICES = 128
MAX_EMBEDDING_INPUTS = 2_048
DEFAULT_MODERATION_MODEL = "omni-moderation-latest"


def chat(body: dict[str, Any]) -> Job:
    model = fields.model(body)
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise InvalidRequest("'messages' must be a non-empty array.", param="messages")
    bound = tokens.messages_bound(body, model)
    return Job(
        model=model,
        body=body,
        is_stream=fields.boolean(body, "stream"),
        wants_usage=fields.wants_usage(body),
        prompt_tokens=bound,
        input_tokens=tokens.with_margin(bound),
        output_tokens=fields.output_limit(body),
        answers=fields.integer(body, "n", 1, 1, MAX_CHOICES),
        tier=fields.tier(body),
        end_user=fields.end_user(body),
        output_limit_field="max_completion_tokens",
    )


def completions(body: dict[str, Any]) -> Job:
    model = fields.model(body)
    prompt = body.get("prompt", "")
    bound, prompts = tokens.prompts_bound(prompt, model)
    if not prompts:
        raise InvalidRequest("'prompt' must be a string, an array of strings, or token ids.", param="prompt")
    n = fields.integer(body, "n", 1, 1, MAX_CHOICES)
    best_of = fields.integer(body, "best_of", n, 1, MAX_CHOICES)
    if best_of < n:
        raise InvalidRequest("'best_of' must be at least 'n'.", param="best_of")
    # Without any limit OpenAI writes 16 tokens, and others without end: they are told.
    is_limited = any(body.get(name) is not None for name in fields.OUTPUT_LIMITS)
    default = None if is_limited else COMPLETIONS_DEFAULT_MAX_TOKENS
    return Job(
        model=model,
        body=body,
        is_stream=fields.boolean(body, "stream"),
        wants_usage=fields.wants_usage(body),
        prompt_tokens=bound,
        input_tokens=tokens.with_margin(bound),
        output_tokens=fields.output_limit(body) if is_limited else default,
        answers=max(n, best_of) * prompts,
        tier=fields.tier(body),
        end_user=fields.end_user(body),
        output_limit_field="max_tokens",
        own_limit=default,
    )


def embeddings(body: dict[str, Any]) -> Job:
    model = fields.model(body)
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
        end_user=fields.end_user(body),
        embedding_format=encoding,
    )


def moderations(body: dict[str, Any]) -> Job:
    body = body if body.get("model") else body | {"model": DEFAULT_MODERATION_MODEL}
    given = body.get("input")
    if not given or not isinstance(given, str | list):
        raise InvalidRequest("'input' must be a non-empty string or array.", param="input")
    bound = tokens.parts_bound(given, fields.model(body))
    return Job(
        model=fields.model(body),
        body=body,
        is_stream=False,
        wants_usage=False,
        prompt_tokens=bound,
        input_tokens=tokens.with_margin(bound),
        output_tokens=0,
        answers=1,
        end_user=fields.end_user(body),
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
