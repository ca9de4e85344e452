"""Answers in typed events (responses): whole, or one event after the other. Pure; sending is `delivery`'s."""

import re
import time
from typing import Any

from sandbox.provider import answers
from sandbox.provider.directives import Directives
from sandbox.provider.events import Event, encode

_WORD = re.compile(r"\S+\s*|\s+")


def typed(kind: str, fields: dict[str, Any], *, is_content: bool = False) -> Event:
    """An event of OpenAI's newer streams: its type stands twice, and no `[DONE]` follows."""
    return Event(f"event: {kind}\n".encode() + b"data: " + encode({"type": kind, **fields}) + b"\n\n", is_content)


def response(response_id: str, body: dict[str, Any], directives: Directives) -> dict[str, Any]:
    """A whole response. `status-says=failed` makes it fail."""
    given = body.get("input", "")
    words = [given] if isinstance(given, str) else [answers.text_of(item.get("content")) for item in _items(given)]
    prompt_tokens = 3 + sum(answers.count(text) for text in [*words, str(body.get("instructions") or "")])
    text = answers.compose(body | {"prompt": "\n".join(words)}, directives, 0)
    limit = body.get("max_output_tokens")
    text, is_cut = answers.limited(text, limit)
    usage = answers.usage(directives, prompt_tokens, answers.count(text))
    is_failed = directives.get("says") == "failed"
    result: dict[str, Any] = {
        "id": response_id,
        "object": "response",
        "created_at": int(time.time()),
        "status": "failed" if is_failed else "incomplete" if is_cut else "completed",
        "error": {"code": "server_error", "message": "failed at http://10.0.0.7/ with sk-secret-1"}
        if is_failed
        else None,
        "incomplete_details": {"reason": "max_output_tokens"} if is_cut else None,
        "model": body.get("model", "sandbox-chat"),
        "output": [] if is_failed else [_message(response_id, text)],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": body.get("tools") or [],
        "store": body.get("store") is not False,
        "service_tier": directives.get("tier", "default"),
        "previous_response_id": body.get("previous_response_id"),
    }
    if "searches" in directives:
        calls = range(directives.number("searches") or 1)
        result["output"][:0] = [
            {"id": f"ws_{number}", "type": "web_search_call", "status": "completed"} for number in calls
        ]
    if "no-usage" not in directives:
        result["usage"] = _usage(usage) if not is_failed else None
    return result


def response_events(whole: dict[str, Any], directives: Directives) -> list[Event]:
    """The events of a response, in OpenAI's order."""
    begun = {**whole, "status": "in_progress", "output": [], "usage": None, "error": None, "incomplete_details": None}
    kinds: list[tuple[str, dict[str, Any], bool]] = [
        ("response.created", {"response": begun}, False),
        ("response.in_progress", {"response": begun}, False),
    ]
    for index, item in enumerate(whole["output"]):
        kinds += _item_events(index, item)
    kinds.append((f"response.{whole['status']}", {"response": whole}, False))
    return [
        _shaped(typed(kind, {"sequence_number": number, **fields}, is_content=is_content), directives)
        for number, (kind, fields, is_content) in enumerate(kinds)
    ]


def _item_events(index: int, item: dict[str, Any]) -> list[tuple[str, dict[str, Any], bool]]:
    at = {"output_index": index}
    if item["type"] != "message":
        return [("response.output_item.done", {**at, "item": item}, False)]
    text = item["content"][0]["text"]
    part = {**at, "item_id": item["id"], "content_index": 0}
    empty = {**item["content"][0], "text": ""}
    return [
        ("response.output_item.added", {**at, "item": {**item, "content": [], "status": "in_progress"}}, False),
        ("response.content_part.added", {**part, "part": empty}, False),
        *(
            ("response.output_text.delta", {**part, "delta": word, "logprobs": []}, True)
            for word in _WORD.findall(text)
        ),
        ("response.output_text.done", {**part, "text": text, "logprobs": []}, False),
        ("response.content_part.done", {**part, "part": item["content"][0]}, False),
        ("response.output_item.done", {**at, "item": item}, False),
    ]


def _message(response_id: str, text: str) -> dict[str, Any]:
    content = [{"type": "output_text", "text": text, "annotations": [], "logprobs": []}]
    return {
        "id": response_id.replace("resp_", "msg_"),
        "type": "message",
        "status": "completed",
        "role": "assistant",
        "content": content,
    }


def _usage(usage: dict[str, Any] | None) -> dict[str, Any] | None:
    """Chat's usage in the words of responses."""
    if usage is None:
        return None
    told = {
        "input_tokens": usage["prompt_tokens"],
        "output_tokens": usage["completion_tokens"],
        "total_tokens": usage["total_tokens"],
    }
    if "prompt_tokens_details" in usage:
        cached = usage["prompt_tokens_details"]["cached_tokens"]
        told["input_tokens_details"] = {"cached_tokens": cached, "cache_write_tokens": 0}
        reasoning = usage["completion_tokens_details"]["reasoning_tokens"]
        told["output_tokens_details"] = {"reasoning_tokens": reasoning}
    return told


def _items(given: Any) -> list[dict[str, Any]]:
    return [item for item in given if isinstance(item, dict)] if isinstance(given, list) else []


def _shaped(event: Event, directives: Directives) -> Event:
    return Event(event.data.replace(b"\n", b"\r\n"), event.is_content) if "crlf" in directives else event
