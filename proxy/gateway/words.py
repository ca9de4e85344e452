"""The text that an answer or an event of a stream carries: what there is to count where no usage was reported."""

from typing import Any


def of_choices(answer: Any) -> str:
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


def of_output(answer: Any) -> str:
    """All text of an answer of responses: messages, refusals, reasoning, arguments of calls."""
    parts: list[str] = []
    items = answer.get("output") if isinstance(answer, dict) else None
    for item in items if isinstance(items, list) else ():
        if not isinstance(item, dict):
            continue
        parts.extend(item[name] for name in ("name", "arguments", "input") if isinstance(item.get(name), str))
        for name in ("content", "summary"):
            pieces = item.get(name)
            for piece in pieces if isinstance(pieces, list) else ():
                if isinstance(piece, dict):
                    parts.extend(piece[key] for key in ("text", "refusal") if isinstance(piece.get(key), str))
    return "".join(parts)


def of_delta(event: Any) -> str:
    """The text of a typed event such as `response.output_text.delta`; those that repeat it whole have none."""
    if isinstance(event, dict) and isinstance(event.get("delta"), str) and str(event.get("type")).endswith(".delta"):
        return str(event["delta"])
    return ""
