"""Anthropic's Messages API, translated to chat completions of the same models and back ("Create a Message").

Requests are priced, held and charged as the chat completion that they become.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from proxy.gateway import fields, tokens
from proxy.gateway.errors import GatewayError, InvalidRequest, UnsupportedValue
from proxy.gateway.jobs import Job, Rendered
from proxy.gateway.message_answers import content_of, stop_reason_of, usage_of

PATH = "/v1/messages"
COUNT_PATH = "/v1/messages/count_tokens"
# Anthropic's error types by status ("Errors").
_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}
_CHOICES = {"auto": "auto", "any": "required", "none": "none"}


def parse(body: dict[str, Any]) -> Job:
    """A message request as the chat completion that it becomes."""
    return _job(body, output_tokens=fields.integer(_required(body, "max_tokens"), "max_tokens", 0, 1, 10_000_000))


def parse_for_count(body: dict[str, Any]) -> Job:
    """As `parse`, of a body that need not say how much it wants."""
    return _job(body, output_tokens=0)


def _job(body: dict[str, Any], *, output_tokens: int) -> Job:
    model = fields.model(body)
    is_stream = fields.boolean(body, "stream")
    chat: dict[str, Any] = {"model": model, "messages": list(_messages(body)), "stream": is_stream}
    for name in ("temperature", "top_p"):
        if body.get(name) is not None:
            chat[name] = body[name]
    if body.get("stop_sequences"):
        chat["stop"] = body["stop_sequences"]
    tools = _tools(body)
    if tools:
        chat["tools"] = tools
        chat |= _tool_choice(body)
    bound = tokens.messages_bound(chat, model)
    metadata = body.get("metadata")
    user = metadata.get("user_id") if isinstance(metadata, dict) else None
    return Job(
        model=model,
        body=chat,
        is_stream=is_stream,
        wants_usage=True,
        prompt_tokens=bound,
        input_tokens=tokens.with_margin(bound),
        output_tokens=output_tokens,
        answers=1,
        end_user=user[:256] if isinstance(user, str) else "",
        output_limit_field="max_completion_tokens",
        own_limit=output_tokens,
    )


def render(job: Job, answer: dict[str, Any]) -> Rendered:
    """A chat completion as a message."""
    choices = answer.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    message = choice.get("message") if isinstance(choice.get("message"), dict) else {}
    told = {
        "id": message_id(answer.get("id")),
        "type": "message",
        "role": "assistant",
        "model": job.model,
        "content": content_of(message),
        "stop_reason": stop_reason_of(choice.get("finish_reason")),
        "stop_sequence": None,
        "usage": usage_of(answer.get("usage"), job.prompt_tokens),
    }
    return Rendered(orjson.dumps(told), "application/json")


def message_id(upstream_id: object) -> str:
    return f"msg_{str(upstream_id or 'unknown').removeprefix('chatcmpl-')[:100]}"


def error_body(error: GatewayError, request_id: str) -> bytes:
    """The error in Anthropic's shape; `code` and `rule` of ours beside it."""
    told = error.as_dict()
    kind = _TYPES.get(error.status, "api_error" if error.status >= 500 else "invalid_request_error")
    inner = {"type": kind, "message": told.pop("message"), "code": told.get("code")}
    if "rule" in told:
        inner["rule"] = told["rule"]
    return orjson.dumps({"type": "error", "error": inner, "request_id": request_id})


# ---------------------------------------------------------------- requests


def _messages(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    system = body.get("system")
    if system:
        yield {"role": "system", "content": _text_of(system, "system")}
    given = body.get("messages")
    if not isinstance(given, list) or not given:
        raise InvalidRequest("'messages' must be a non-empty array.", param="messages")
    for index, message in enumerate(given):
        role = message.get("role") if isinstance(message, dict) else None
        where = f"messages[{index}]"
        if role not in {"user", "assistant"}:
            raise InvalidRequest("A message's 'role' must be 'user' or 'assistant'.", param=f"{where}.role")
        content = message.get("content")
        if isinstance(content, str):
            yield {"role": role, "content": content}
        elif isinstance(content, list) and all(isinstance(block, dict) for block in content):
            yield from _turn(role, content, where)
        else:
            raise InvalidRequest("'content' must be a string or an array of blocks.", param=f"{where}.content")


def _turn(role: str, blocks: list[dict[str, Any]], where: str) -> Iterator[dict[str, Any]]:
    """One message as chat has it: results of tools are messages of their own there, and come first."""
    parts: list[dict[str, Any]] = []
    calls: list[dict[str, Any]] = []
    for number, block in enumerate(blocks):
        kind, param = block.get("type"), f"{where}.content[{number}]"
        if kind == "text":
            parts.append({"type": "text", "text": _string(block, "text", param)})
        elif kind == "image" and role == "user":
            parts.append({"type": "image_url", "image_url": {"url": _image_url(block, param)}})
        elif kind == "tool_result" and role == "user":
            content = block.get("content") or ""
            text = _text_of(content, f"{param}.content")
            if block.get("is_error"):
                text = f"Error: {text}"
            yield {"role": "tool", "tool_call_id": _string(block, "tool_use_id", param), "content": text}
        elif kind == "tool_use" and role == "assistant":
            arguments = orjson.dumps(block.get("input") or {}).decode()
            function = {"name": _string(block, "name", param), "arguments": arguments}
            calls.append({"id": _string(block, "id", param), "type": "function", "function": function})
        elif kind not in {"thinking", "redacted_thinking"}:
            raise UnsupportedValue(f"Blocks of type {str(kind)[:40]!r} are not offered here.", param=f"{param}.type")
    if calls:
        text = "".join(part["text"] for part in parts if part["type"] == "text")
        yield {"role": role, "content": text or None, "tool_calls": calls}
    elif parts:
        is_plain = len(parts) == 1 and parts[0]["type"] == "text"
        yield {"role": role, "content": parts[0]["text"] if is_plain else parts}


def _tools(body: dict[str, Any]) -> list[dict[str, Any]]:
    tools = body.get("tools")
    if tools is None:
        return []
    if not isinstance(tools, list):
        raise InvalidRequest("'tools' must be an array.", param="tools")
    made = []
    for index, tool in enumerate(tools):
        if not isinstance(tool, dict) or tool.get("type", "custom") != "custom":
            raise UnsupportedValue("Only tools of your own are offered here.", param=f"tools[{index}].type")
        function = {
            "name": _string(tool, "name", f"tools[{index}]"),
            "parameters": tool.get("input_schema") or {"type": "object", "properties": {}},
        }
        if isinstance(tool.get("description"), str):
            function["description"] = tool["description"]
        made.append({"type": "function", "function": function})
    return made


def _tool_choice(body: dict[str, Any]) -> dict[str, Any]:
    choice = body.get("tool_choice")
    if choice is None:
        return {}
    kind = choice.get("type") if isinstance(choice, dict) else None
    made: dict[str, Any] = {}
    if kind == "tool":
        made["tool_choice"] = {"type": "function", "function": {"name": _string(choice, "name", "tool_choice")}}
    elif kind in _CHOICES:
        made["tool_choice"] = _CHOICES[kind]
    else:
        raise UnsupportedValue("'tool_choice.type' must be auto, any, tool or none.", param="tool_choice.type")
    if choice.get("disable_parallel_tool_use"):
        made["parallel_tool_calls"] = False
    return made


def _text_of(content: Any, param: str) -> str:
    """The text of a string or of text blocks."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise InvalidRequest(f"'{param}' must be a string or an array of text blocks.", param=param)
    texts = []
    for block in content:
        if not isinstance(block, dict) or block.get("type") != "text" or not isinstance(block.get("text"), str):
            raise UnsupportedValue(f"'{param}' may have text blocks only.", param=param)
        texts.append(block["text"])
    return "\n".join(texts)


def _image_url(block: Mapping[str, Any], param: str) -> str:
    source = block.get("source")
    if isinstance(source, dict) and source.get("type") == "url":
        return _string(source, "url", f"{param}.source")
    if isinstance(source, dict) and source.get("type") == "base64":
        where = f"{param}.source"
        return f"data:{_string(source, 'media_type', where)};base64,{_string(source, 'data', where)}"
    raise UnsupportedValue("An image's source must be 'base64' or 'url'.", param=f"{param}.source.type")


def _string(values: Mapping[str, Any], name: str, where: str) -> str:
    value = values.get(name)
    if not isinstance(value, str) or (not value and name != "text"):
        raise InvalidRequest(f"'{name}' must be a non-empty string.", param=f"{where}.{name}")
    return value


def _required(body: dict[str, Any], name: str) -> dict[str, Any]:
    if body.get(name) is None:
        raise InvalidRequest(f"You must provide '{name}'.", param=name, code="missing_required_parameter")
    return body
