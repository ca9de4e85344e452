"""The server-sent events of one answer, with the faults that lie in what they say. Pure; sending is `delivery`'s."""

import json
import re
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from sandbox.provider.answers import Answer
from sandbox.provider.directives import Directives

_WORD = re.compile(r"\S+\s*|\s+")
DONE = b"data: [DONE]\n\n"


@dataclass(slots=True)
class Event:
    """One event on the wire; `is_content` ones are counted by directives, and wait for the next word."""

    data: bytes
    is_content: bool = False


def encode(value: Any) -> bytes:
    """JSON in UTF-8; a lone surrogate stays an escape, NaN stays NaN."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")


def event(value: Any) -> bytes:
    return b"data: " + encode(value) + b"\n\n"


def error_event(message: str = "The sandbox was asked to fail here.") -> bytes:
    return event({"error": {"message": message, "type": "server_error", "param": None, "code": "sandbox_error"}})


class Stream:
    """Turns an answer into its events, chat's or the legacy completion's."""

    def __init__(self, base: dict[str, Any], body: dict[str, Any], answer: Answer, directives: Directives) -> None:
        self.is_chat = base["object"].startswith("chat")
        self.base = {**base, "object": "chat.completion.chunk" if self.is_chat else "text_completion"}
        self.answer = answer
        self.directives = directives
        options = body.get("stream_options")
        asked = isinstance(options, dict) and bool(options.get("include_usage"))
        self.place = directives.get("usage", "")
        self.sends_usage = (asked or bool(self.place)) and "no-usage" not in directives

    def events(self) -> list[Event]:
        out: list[Event] = []
        line = self.directives.size("line")
        if "line" in self.directives:
            out.append(Event(event({**self._chunk([]), "obfuscation": "x" * (line or 10 * 1024**2)})))
        if self.is_chat:
            roles = [
                self._choice(index, {"role": "assistant", "content": "", "refusal": None})
                for index in range(len(self.answer.texts))
            ]
            out += [Event(event(self._chunk([role]))) for role in roles]
        out += self._content()
        for index, finish in enumerate(self.answer.finish):
            is_last = index == len(self.answer.finish) - 1
            chunk = self._chunk([self._choice(index, {}, finish)])
            if self.sends_usage and self.place in {"content", "every"} and is_last:
                chunk["usage"] = self.answer.usage
            out.append(Event(event(chunk)))
        out += self._usage()
        if self.directives.get("done") != "missing":
            out += [Event(DONE)] * (2 if self.directives.get("done") == "twice" else 1)
        return [Event(self._shaped(one.data), one.is_content) for one in out]

    # ------------------------------------------------------------ inside
    def _content(self) -> list[Event]:
        if self.answer.tool_call is not None:
            return self._tool_call(self.answer.tool_call)
        deltas = [
            (index, piece)
            for row in zip_longest(*(_WORD.findall(text) for text in self.answer.texts))
            for index, piece in enumerate(row)
            if piece is not None
        ]
        if "nul" in self.directives:
            deltas.insert(1, (0, "NUL \x00 and half a pair \ud800 "))
        out = []
        for number, (index, piece) in enumerate(deltas, 1):
            text = piece + "é" if self.directives.inside("cut") == ("utf8", number) else piece
            choices = [self._choice(index, {"content": text} if self.is_chat else text)]
            if "duplicate-index" in self.directives:
                choices *= 2
            chunk = self._chunk(choices)
            if self.place == "every" and self.answer.usage:
                prompt = self.answer.usage["prompt_tokens"]
                said = self.answer.usage["completion_tokens"] * number // len(deltas)
                chunk["usage"] = {"prompt_tokens": prompt, "completion_tokens": said, "total_tokens": prompt + said}
            data = event(chunk)
            if "bad-json" in self.directives and number == 3:
                data = b"data: " + encode(chunk)[:-4] + b"\n\n"
            out.append(Event(data, is_content=True))
        return out

    def _tool_call(self, call: dict[str, Any]) -> list[Event]:
        arguments = call["function"]["arguments"]
        first = {"index": 0, **call, "function": {"name": call["function"]["name"], "arguments": ""}}
        pieces = [arguments[at : at + 8] for at in range(0, len(arguments), 8)]
        deltas = [first, *({"index": 0, "function": {"arguments": piece}} for piece in pieces)]
        return [Event(event(self._chunk([self._choice(0, {"tool_calls": [delta]})])), True) for delta in deltas]

    def _usage(self) -> list[Event]:
        if not self.sends_usage or self.place in {"content", "every"}:
            return []
        full = self.answer.usage
        sent = [full]
        if self.place == "twice" and full:
            half = full["completion_tokens"] // 2
            first = {**full, "completion_tokens": half, "total_tokens": full["prompt_tokens"] + half}
            sent = [first, full]
        return [Event(event({**self._chunk([]), "usage": usage})) for usage in sent]

    def _chunk(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        chunk = {**self.base, "choices": choices}
        if self.sends_usage and not self.place:
            chunk["usage"] = None
        return chunk

    def _choice(self, index: int, delta: Any, finish: str | None = None) -> dict[str, Any]:
        if self.is_chat:
            return {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
        return {"index": index, "text": delta or "", "logprobs": None, "finish_reason": finish}

    def _shaped(self, data: bytes) -> bytes:
        if "comments" in self.directives:
            data = b": keep-alive\n\n" + data
        return data.replace(b"\n", b"\r\n") if "crlf" in self.directives else data


def whole(base: dict[str, Any], answer: Answer, directives: Directives) -> dict[str, Any]:
    """The answer as one object."""
    is_chat = base["object"].startswith("chat")
    choices = []
    for index, (text, finish) in enumerate(zip(answer.texts, answer.finish, strict=True)):
        said = text + ("NUL \x00 and half a pair \ud800" if "nul" in directives else "")
        choice: dict[str, Any] = {"index": index, "logprobs": None, "finish_reason": finish}
        if is_chat:
            calls = {"content": None, "tool_calls": [answer.tool_call]} if answer.tool_call else {"content": said}
            choice["message"] = {"role": "assistant", "refusal": None, **calls}
        else:
            choice["text"] = said
        choices.append(choice)
    result = {**base, "choices": choices, "usage": answer.usage}
    if "line" in directives:
        result["obfuscation"] = "x" * (directives.size("line") or 10 * 1024**2)
    if "no-usage" in directives:
        del result["usage"]
    return result
