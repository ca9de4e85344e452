"""How many tokens a request can have: upper bounds for holds, estimates where an upstream reported no usage.

Never used to charge an answer whose upstream reported usage. Byte-pair encoding by `rs-bpe`, whose ranks ship with it.
"""

from functools import cache
from typing import Any

from rs_bpe import bpe

CL100K_MODELS = ("gpt-4-", "gpt-3.5", "text-embedding-")
O200K_MODELS = ("gpt-", "o1", "o3", "o4", "chatgpt", "chat-latest", "codex", "computer-use")
# Past this much text the bound is half the bytes: no known tokenizer does worse on text, and it costs nothing to count.
EXACT_COUNT_BYTES = 200_000
IMAGE_TOKENS = 1_600
FILE_TOKENS = 20_000
MESSAGE_OVERHEAD = 4
# A vocabulary that we do not have (Llama, Qwen, GLM) splits finer than o200k, by up to a fifth on usual text.
UNKNOWN_VOCABULARY_FACTOR = 1.2


@cache
def _encoding(name: str) -> Any:
    return getattr(bpe.openai, name)()


def warm_up() -> None:
    """Load the vocabulary of today's models (30 ms, 63 MB); that of older ones (28 MB) waits for who asks for them."""
    _encoding("o200k_base").count("warm")


def count(text: str, model: str) -> int:
    """Tokens of `text` by the model's vocabulary, or by o200k where it is unknown."""
    name = "cl100k_base" if model.startswith(CL100K_MODELS) else "o200k_base"
    tokens: int = _encoding(name).count(text)
    return tokens


def text_bound(text: str, model: str) -> int:
    """An upper bound of the tokens of `text`."""
    if len(text) > EXACT_COUNT_BYTES:
        return len(text.encode("utf-8", "replace")) // 2
    tokens = count(text, model)
    return (
        tokens if model.startswith((*O200K_MODELS, *CL100K_MODELS)) else round(tokens * UNKNOWN_VOCABULARY_FACTOR) + 1
    )


def with_margin(tokens: int) -> int:
    """A count as a hold uses it: 5 % and 20 tokens more, for templates and special tokens that we do not see."""
    return tokens + tokens // 20 + 20


def messages_bound(body: dict[str, Any], model: str) -> int:
    """An upper bound of the prompt tokens of a chat request: texts, tools, images, audio and files."""
    texts: list[str] = []
    extra = 3
    for message in body.get("messages", ()):
        extra += MESSAGE_OVERHEAD
        if not isinstance(message, dict):
            continue
        for name, value in message.items():
            extra += _collect(name, value, texts)
    for name in ("tools", "functions", "response_format", "tool_choice", "prediction"):
        if body.get(name) is not None:
            extra += _collect_all(body[name], texts)
    return text_bound("\n".join(texts), model) + extra


def parts_bound(value: Any, model: str) -> int:
    """An upper bound of the tokens of one value of a body: text, or content parts of any kind."""
    texts: list[str] = []
    extra = _collect("content", value, texts)
    return text_bound("\n".join(texts), model) + extra


def _collect(name: str, value: Any, texts: list[str]) -> int:
    if isinstance(value, str):
        texts.append(value)
        return 1
    if name == "content" and isinstance(value, list):
        return sum(_part(part, texts) for part in value)
    return _collect_all(value, texts)


def _part(part: Any, texts: list[str]) -> int:
    """Tokens of one content part beside its text."""
    if not isinstance(part, dict):
        return 1
    tokens = _media(part)
    return _collect_all(part, texts) if tokens is None else tokens


def _media(part: dict[str, Any]) -> int | None:
    """Tokens of a part that is no text; None if it is text. Its base64 is not read."""
    match part.get("type"):
        case "image_url" | "input_image" | "image" | "computer_screenshot" | "image_generation_call":
            return IMAGE_TOKENS
        case "input_audio":
            audio = part.get("input_audio")
            data = audio.get("data", "") if isinstance(audio, dict) else ""
            # 1,000 tokens a minute, ten times for safety, at the 2,000 bytes a second of the leanest format.
            return 170 + len(data) * 3 // 4 * 10_000 // (60 * 2_000) if isinstance(data, str) else FILE_TOKENS
        case "file" | "input_file":
            return FILE_TOKENS
    return None


def _collect_all(value: Any, texts: list[str]) -> int:
    """Gather every string below `value` that is text; the punctuation of its JSON counts as tokens."""
    extra = 0
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, str):
            texts.append(item)
            extra += 1
        elif isinstance(item, dict):
            tokens = _media(item)
            if tokens is not None:
                extra += tokens
                continue
            texts.extend(item)
            extra += 3 * len(item)
            pending.extend(item.values())
        elif isinstance(item, list):
            pending.extend(item)
        else:
            extra += 2
    return extra


def prompts_bound(prompt: Any, model: str) -> tuple[int, int]:
    """An upper bound of the tokens of `prompt` or `input` in any of its shapes, and how many prompts it holds.

    Shapes: a string, a list of strings, a list of token ids, a list of lists of token ids.
    """
    if isinstance(prompt, str):
        return text_bound(prompt, model), 1
    if not isinstance(prompt, list) or not prompt:
        return 0, 0
    if isinstance(prompt[0], int):
        return len(prompt), 1
    total = 0
    for item in prompt:
        total += text_bound(item, model) if isinstance(item, str) else len(item) if isinstance(item, list) else 0
    return total, len(prompt)
