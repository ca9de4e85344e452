"""Answers in typed events (responses): whole, or one event after the other. Pure; sending is `delivery`'s."""

import base64
import re
import time
from typing import Any

from sandbox.provider import answers, images
from sandbox.provider.directives import Directives
from sandbox.provider.events import Event, encode

_WORD = re.compile(r"\S+\s*|\s+")
_PICTURE = re.compile(r"\b(draw|paint|sketch|picture|image|photo|illustrat\w*|logo)\b", re.IGNORECASE)


def typed(kind: str, fields: dict[str, Any], *, is_content: bool = False) -> Event:
    """An event of OpenAI's newer streams: its type stands twice, and no `[DONE]` follows."""
    return Event(f"event: {kind}\n".encode() + b"data: " + encode({"type": kind, **fields}) + b"\n\n", is_content)


def response(response_id: str, body: dict[str, Any], directives: Directives) -> dict[str, Any]:
    """A whole response. `status-says=failed` makes it fail."""
    given = body.get("input", "")
    words = [given] if isinstance(given, str) else [answers.text_of(item.get("content")) for item in _items(given)]
    prompt_tokens = 3 + sum(answers.count(text) for text in [*words, str(body.get("instructions") or "")])
    text, call = answers.structured(body), answers.typed_call(body, directives)
    text = text or answers.compose(body | {"prompt": "\n".join(words)}, directives, 0)
    limit = body.get("max_output_tokens")
    text, is_cut = answers.limited(text, limit)
    usage = answers.usage(directives, prompt_tokens, answers.count(call["arguments"] if call else text))
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
        "output": [] if is_failed else [_call(response_id, call) if call else _message(response_id, text)],
        "parallel_tool_calls": True,
        "tool_choice": body.get("tool_choice") or "auto",
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
    tool = next((one for one in _items(body.get("tools")) if one.get("type") == "image_generation"), None)
    if tool is not None:
        made = [] if is_failed else _pictures(response_id, tool, words[-1] if words else "", directives)
        result["output"][:0] = made
        if "no-usage" not in directives:
            result["tool_usage"] = {"image_gen": _images_usage(tool, words, made), "web_search": {"num_requests": 0}}
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
    tool = next((one for one in _items(whole["tools"]) if one.get("type") == "image_generation"), {})
    partials = int(tool.get("partial_images") or 0)
    for index, item in enumerate(whole["output"]):
        kinds += _item_events(index, item, partials)
    kinds.append((f"response.{whole['status']}", {"response": whole}, False))
    return [
        _shaped(typed(kind, {"sequence_number": number, **fields}, is_content=is_content), directives)
        for number, (kind, fields, is_content) in enumerate(kinds)
    ]


def _item_events(index: int, item: dict[str, Any], partials: int) -> list[tuple[str, dict[str, Any], bool]]:
    at = {"output_index": index}
    if item["type"] == "image_generation_call":
        return _picture_events(index, item, partials)
    if item["type"] == "function_call":
        return _call_events(index, item)
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


def _call_events(index: int, item: dict[str, Any]) -> list[tuple[str, dict[str, Any], bool]]:
    at = {"output_index": index}
    of = {**at, "item_id": item["id"]}
    kind = "response.function_call_arguments"
    return [
        ("response.output_item.added", {**at, "item": {**item, "arguments": "", "status": "in_progress"}}, False),
        *((f"{kind}.delta", {**of, "delta": word}, True) for word in _WORD.findall(item["arguments"])),
        (f"{kind}.done", {**of, "name": item["name"], "arguments": item["arguments"]}, False),
        ("response.output_item.done", {**at, "item": item}, False),
    ]


def _picture_events(index: int, item: dict[str, Any], partials: int) -> list[tuple[str, dict[str, Any], bool]]:
    at = {"output_index": index}
    of = {**at, "item_id": item["id"]}
    shown = {name: item[name] for name in ("background", "output_format", "quality", "size")}
    call = "response.image_generation_call"
    return [
        ("response.output_item.added", {**at, "item": {**item, "result": None, "status": "in_progress"}}, False),
        (f"{call}.in_progress", of, False),
        (f"{call}.generating", of, False),
        *(
            (
                f"{call}.partial_image",
                {**of, **shown, "partial_image_index": one, "partial_image_b64": item["result"]},
                True,
            )
            for one in range(partials)
        ),
        (f"{call}.completed", of, False),
        ("response.output_item.done", {**at, "item": item}, True),
    ]


def _pictures(response_id: str, tool: dict[str, Any], prompt: str, directives: Directives) -> list[dict[str, Any]]:
    """The calls of the image tool: as many as `images=N` says, one where the words ask for a picture."""
    prompt = answers.without(prompt)
    calls = (directives.number("images") or 0) if "images" in directives else int(bool(_PICTURE.search(prompt)))
    width, height = images.dimensions(tool.get("size"))
    kind = tool.get("output_format") or "png"
    kind = kind if kind in images.FORMATS else "png"
    told = {"background": "opaque", "output_format": kind, "size": f"{width}x{height}", "action": "generate"}
    return [
        {
            "id": response_id.replace("resp_", f"ig_{number}_"),
            "type": "image_generation_call",
            "status": "completed",
            **told,
            "quality": _quality(tool),
            "revised_prompt": f"A picture: {prompt}",
            "result": base64.b64encode(images.render(prompt, width, height, kind, number)).decode(),
        }
        for number in range(calls)
    ]


def _images_usage(tool: dict[str, Any], words: list[str], made: list[dict[str, Any]]) -> dict[str, Any]:
    """What OpenAI tells of the tool: zero where it was not called."""
    width, height = images.dimensions(tool.get("size"))
    text = len(made) * answers.count(answers.without(words[-1] if words else ""))
    pixels = len(made) * images.tokens(_quality(tool), width, height)
    return {
        "input_tokens": text,
        "input_tokens_details": {"text_tokens": text, "image_tokens": 0},
        "output_tokens": pixels,
        "output_tokens_details": {"text_tokens": 0, "image_tokens": pixels},
        "total_tokens": text + pixels,
    }


def _quality(tool: dict[str, Any]) -> str:
    quality = str(tool.get("quality") or "auto")
    return "medium" if quality == "auto" else quality


def _message(response_id: str, text: str) -> dict[str, Any]:
    content = [{"type": "output_text", "text": text, "annotations": [], "logprobs": []}]
    return {
        "id": response_id.replace("resp_", "msg_"),
        "type": "message",
        "status": "completed",
        "role": "assistant",
        "content": content,
    }


def _call(response_id: str, call: dict[str, str]) -> dict[str, Any]:
    return {
        "id": response_id.replace("resp_", "fc_"),
        "type": "function_call",
        "status": "completed",
        "call_id": "call_sandbox0001",
        **call,
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
