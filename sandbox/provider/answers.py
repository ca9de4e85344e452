"""What the sandbox says, and what it counts: text, tool calls, embeddings and usage for one request."""

import hashlib
import json
import math
import re
from dataclasses import dataclass, field
from typing import Any

from rs_bpe import bpe

from sandbox.provider.directives import Directives, without

_encoding = bpe.openai.o200k_base()
_ODD_USAGE: dict[str, Any] = {
    "null": None,
    "zero": 0,
    "negative": -7,
    "string": "12",
    "huge": 10**17,
    "nan": float("nan"),
    "float": 12.5,
    "bool": True,
    "list": [12],
}
DIMENSIONS = {"text-embedding-3-large": 3072, "text-embedding-3-small": 1536, "embed": 1024}
_MAX_DEPTH = 12
_OPENINGS = (
    "Hello! I am the sandbox, standing in for {model}.",
    "You have reached the sandbox, which answers in place of {model}.",
    "This is the sandbox speaking for {model}.",
)
_BODIES = (
    "I do not think, but I do count: every word you read here was measured by a real tokenizer and charged to the "
    "last fraction of a cent.",
    "Nothing left this machine, and still the request took the whole way: your key, a hold on the balance, the "
    "stream, the charge and the line in your request log.",
    "Everything around this text is real. The tokens, the price and the ledger entry behind it are the same that a "
    "commercial model would have caused.",
)
_ENDINGS = (
    "To hear a real model, add a provider in the admin and point this model at it. Your own code stays as it is.",
    "Try the same call with stream switched on, or open the request log to see what it cost.",
    "Ask me for trouble too: write [[status=500]] or [[cut=5]] into the prompt and see how your client takes it.",
)


def count(text: str) -> int:
    """Tokens of `text`; a lone surrogate, which JSON can carry and UTF-8 cannot, counts as a question mark."""
    return int(_encoding.count(text.encode(errors="replace").decode()))


@dataclass(slots=True)
class Answer:
    """The choices of one request and its usage."""

    texts: list[str]
    finish: list[str]
    usage: dict[str, Any] | None
    tool_call: dict[str, Any] | None = None
    extra: dict[str, Any] = field(default_factory=dict)


def text_of(content: Any) -> str:
    """The words of a message's content: a string, or the text parts of a list."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return ""


def prompt_of(body: dict[str, Any]) -> str:
    """The words that a person wrote in this request: the last user message, the prompt, or the input."""
    for message in reversed(body.get("messages") or []):
        if isinstance(message, dict) and message.get("role") == "user":
            return text_of(message.get("content"))
    prompt = body.get("prompt", body.get("input", ""))
    if isinstance(prompt, list) and prompt and isinstance(prompt[-1], dict):
        return text_of(prompt[-1].get("content", [prompt[-1]]))
    if isinstance(prompt, list):
        prompt = " ".join(item for item in prompt if isinstance(item, str))
    return prompt if isinstance(prompt, str) else ""


def chat(body: dict[str, Any], directives: Directives) -> Answer:
    """Answer a chat request."""
    prompt_tokens = 3
    for message in body.get("messages") or []:
        if isinstance(message, dict):
            prompt_tokens += 3 + count(text_of(message.get("content"))) + count(str(message.get("role", "")))
    limit = body.get("max_completion_tokens") or body.get("max_tokens")
    if "tools" in directives or body.get("tool_choice") == "required":
        return _tool_call(body, directives, prompt_tokens)
    structure = structured(body)
    if structure:
        return _finish([structure], limit, directives, prompt_tokens)
    texts = [compose(body, directives, index) for index in range(_choices(body))]
    return _finish(texts, limit, directives, prompt_tokens)


def structured(body: dict[str, Any]) -> str:
    """The JSON that the body asks for, as chat or responses do; "" if it asks for words."""
    text = body.get("text")
    wanted = text.get("format") if isinstance(text, dict) else body.get("response_format")
    if not isinstance(wanted, dict) or wanted.get("type", "text") == "text":
        return ""
    schema = (wanted.get("json_schema") or wanted).get("schema")
    return _json(_example(schema, schema) if schema else {"answer": "sandbox"})


def typed_call(body: dict[str, Any], directives: Directives) -> dict[str, str] | None:
    """The function that a response calls: the first one, where the body or a directive insists."""
    tools = body.get("tools")
    functions = [one for one in tools if isinstance(one, dict) and one.get("type") == "function"] if tools else []
    if not functions or not ("tools" in directives or body.get("tool_choice") == "required"):
        return None
    arguments = _json(_example(schema := functions[0].get("parameters") or {}, schema))
    return {"name": str(functions[0].get("name", "sandbox")), "arguments": arguments}


def completion(body: dict[str, Any], directives: Directives) -> Answer:
    """Answer a legacy completion: one text for each prompt and choice."""
    prompt = body.get("prompt", "")
    prompts = prompt if isinstance(prompt, list) and prompt and not isinstance(prompt[0], int) else [prompt]
    tokens = sum(count(one) if isinstance(one, str) else len(one) for one in prompts)
    texts = [compose(body, directives, index) for index in range(_choices(body) * len(prompts))]
    return _finish(texts, body.get("max_tokens", 16), directives, tokens)


def compose(body: dict[str, Any], directives: Directives, index: int) -> str:
    """The text of one choice: what was asked for, or several helpful sentences that vary with prompt and index."""
    if "say" in directives:
        return directives["say"]
    prompt = without(prompt_of(body))
    seed = hashlib.sha256(f"{prompt}/{index}".encode(errors="replace")).digest()
    sentences = [_OPENINGS[seed[0] % 3].format(model=body.get("model", "a model"))]
    if prompt:
        heard = prompt if len(prompt) <= 120 else prompt[:117].rstrip() + "…"
        sentences.append(f"You wrote: “{' '.join(heard.split())}”")
    sentences += [_BODIES[seed[1] % 3], _ENDINGS[seed[2] % 3]]
    words = directives.number("words")
    if words is None:
        return "\n\n".join(sentences)
    endless = " ".join(sentences).split()
    return " ".join(endless[position % len(endless)] for position in range(words))


def _choices(body: dict[str, Any]) -> int:
    n = body.get("n")
    return n if isinstance(n, int) and not isinstance(n, bool) and 1 <= n <= 128 else 1


def _finish(texts: list[str], limit: Any, directives: Directives, prompt_tokens: int) -> Answer:
    finish = []
    tokens = 0
    for index, text in enumerate(texts):
        texts[index], is_cut = limited(text, limit)
        finish.append("length" if is_cut else "stop")
        tokens += limit if is_cut else count(text)
    return Answer(texts, finish, usage(directives, prompt_tokens, tokens))


def limited(text: str, limit: Any) -> tuple[str, bool]:
    """The text within a limit of tokens, and whether that cut it."""
    ids = _encoding.encode(text.encode(errors="replace").decode())
    if not isinstance(limit, int) or not 0 < limit < len(ids):
        return text, False
    return _decoded(ids[:limit]), True


def _decoded(ids: list[int]) -> str:
    """The text of these tokens; a character that the limit cut in two is left out, as real servers do."""
    while ids:
        text: str | None = _encoding.decode(ids)
        if text is not None and "\ufffd" not in text:
            return text
        ids = ids[:-1]
    return ""


def _tool_call(body: dict[str, Any], directives: Directives, prompt_tokens: int) -> Answer:
    tools = [tool.get("function") or {} for tool in body.get("tools") or [] if isinstance(tool, dict)]
    function = tools[0] if tools else {"name": "sandbox"}
    arguments = _json(_example(schema := function.get("parameters") or {}, schema))
    call = {
        "id": "call_sandbox0001",
        "type": "function",
        "function": {"name": function.get("name", "sandbox"), "arguments": arguments},
    }
    tokens = count(arguments) + 8
    return Answer([""], ["tool_calls"], usage(directives, prompt_tokens, tokens), tool_call=call)


def usage(directives: Directives, prompt_tokens: int, completion_tokens: int) -> dict[str, Any] | None:
    """OpenAI's usage object, bent as the directives ask; None for `usage=null`."""
    reasoning = directives.number("reasoning") or 0
    prompt = directives.number("prompt-tokens")
    completion = directives.number("completion-tokens")
    prompt_tokens = prompt_tokens if prompt is None else prompt
    completion_tokens = completion_tokens + reasoning if completion is None else completion
    cached = min(directives.number("cached-tokens") or 0, prompt_tokens)
    odd = directives.get("usage", "")
    if odd == "null":
        return None
    if odd in _ODD_USAGE:
        value = _ODD_USAGE[odd]
        return {"prompt_tokens": value, "completion_tokens": value, "total_tokens": value}
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": cached, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def embedding(item: Any, dimensions: int) -> list[float]:
    """A unit vector in which texts that share words lie close together; the same text gives the same vector."""
    text = item if isinstance(item, str) else " ".join(map(str, item))
    vector = [0.0] * dimensions
    for word in re.findall(r"\w+", text.lower()) or [text]:
        for piece in (word, *(word[at : at + 3] for at in range(len(word) - 2))):
            digest = hashlib.blake2b(piece.encode(errors="replace"), digest_size=8).digest()
            vector[int.from_bytes(digest[:4]) % dimensions] += 1.0 if digest[4] & 1 else -1.0
    length = math.sqrt(sum(value * value for value in vector)) or 1.0
    return [value / length for value in vector]


def _example(schema: Any, root: Any, depth: int = 0) -> Any:  # noqa: PLR0911 - one line per kind
    """The smallest value that fits a JSON schema of the common kinds; `root` has its definitions."""
    if not isinstance(schema, dict) or depth > _MAX_DEPTH:
        return None
    name = str(schema.get("$ref", "")).removeprefix("#/$defs/")
    if name:
        return _example((root.get("$defs") or {}).get(name), root, depth + 1)
    if schema.get("anyOf"):
        return _example(schema["anyOf"][-1 if depth > _MAX_DEPTH // 2 else 0], root, depth + 1)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    kind = schema.get("type", "object")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        return {name: _example(inner, root, depth + 1) for name, inner in (schema.get("properties") or {}).items()}
    if kind == "array":
        is_deep = depth > _MAX_DEPTH // 2
        return [] if is_deep or "items" not in schema else [_example(schema["items"], root, depth + 1)]
    return {"string": "sandbox", "integer": 1, "number": 1, "boolean": True}.get(kind)


def _json(value: Any) -> str:
    return json.dumps(value)
