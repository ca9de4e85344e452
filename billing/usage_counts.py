"""What a request used, counted: read from every usage object of OpenAI's API, and the odd ones of its imitators."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from types import MappingProxyType
from typing import Any, Literal

MAX_COUNT = 10**12
MAX_SECONDS = 10**6

_INPUT_NAMES = ("prompt_tokens", "input_tokens")
_OUTPUT_NAMES = ("completion_tokens", "output_tokens")
_INPUT_DETAILS = ("prompt_tokens_details", "input_tokens_details", "input_token_details")
_OUTPUT_DETAILS = ("completion_tokens_details", "output_tokens_details", "output_token_details")

# The kinds of token that have a price. Every token of an answer's usage is in exactly one of them.
INPUT_COMPONENTS = (
    "input",
    "cached_input",
    "cache_write",
    "cache_write_12h",
    "audio_input",
    "cached_audio_input",
    "image_input",
    "cached_image_input",
)
OUTPUT_COMPONENTS = ("output", "audio_output", "image_output")
COMPONENTS = INPUT_COMPONENTS + OUTPUT_COMPONENTS

_NOTHING: Mapping[str, Any] = MappingProxyType({})
NO_UNITS: Mapping[str, int] = MappingProxyType({})


class InvalidUsage(ValueError):
    """A usage object is no usage: `field` is not a count of tokens, or not an object."""

    def __init__(self, field: str, value: object) -> None:
        super().__init__(f"{field} is not valid: {str(value)[:80]!r}")
        self.field = field


@dataclass(frozen=True, slots=True)
class Usage:
    """What a request used: disjoint counts of tokens, and other units by meter.

    `reasoning` is the part of `output` that was reasoning: told, not charged again.
    Meters: images, milliseconds, characters, tiles, steps, web_search_calls and the like (`billing.rate_json.UNITS`).
    """

    input: int = 0
    cached_input: int = 0
    cache_write: int = 0
    cache_write_12h: int = 0
    audio_input: int = 0
    cached_audio_input: int = 0
    image_input: int = 0
    cached_image_input: int = 0
    output: int = 0
    audio_output: int = 0
    image_output: int = 0
    reasoning: int = 0
    units: Mapping[str, int] = NO_UNITS

    @property
    def input_tokens(self) -> int:
        """All input tokens, whatever their kind."""
        return (
            self.input + self.cached_input + self.cache_write + self.cache_write_12h
            + self.audio_input + self.cached_audio_input + self.image_input + self.cached_image_input
        )  # fmt: skip

    @property
    def output_tokens(self) -> int:
        """All output tokens, whatever their kind."""
        return self.output + self.audio_output + self.image_output

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens

    def columns(self) -> dict[str, Any]:
        """The counts as `teller.Capture` and the usage record name them; subsets count inside their totals."""
        return {
            "input_tokens": self.input_tokens,
            "cached_tokens": self.cached_input + self.cached_audio_input + self.cached_image_input,
            "cache_write_tokens": self.cache_write + self.cache_write_12h,
            "output_tokens": self.output_tokens,
            "reasoning_tokens": self.reasoning,
            "audio_input_tokens": self.audio_input + self.cached_audio_input,
            "audio_output_tokens": self.audio_output,
            "image_input_tokens": self.image_input + self.cached_image_input,
            "image_output_tokens": self.image_output,
            "units": dict(self.units),
        }

    def __add__(self, other: "Usage") -> "Usage":
        counts = {name: getattr(self, name) + getattr(other, name) for name in (*COMPONENTS, "reasoning")}
        units = {
            name: self.units.get(name, 0) + other.units.get(name, 0) for name in sorted({*self.units, *other.units})
        }
        return Usage(**counts, units=units)


def usage_from_openai(
    raw: Any, *, output_kind: Literal["text", "audio", "image"] = "text", needs_output: bool = False
) -> Usage | None:
    """The usage object of an answer as disjoint counts; None where nothing was reported, which is not 0.

    Reads the shapes of chat, completions, embeddings, responses, images, audio and realtime. `output_kind` is what
    output is made of where the answer does not say. With `needs_output` an object that tells neither output nor total
    is nothing. Subsets never exceed what they are part of, the dearest kinds first. Raises `InvalidUsage`.
    """
    if raw is None:
        return None
    if not isinstance(raw, dict):
        raise InvalidUsage("usage", raw)
    if raw.get("type") == "duration" or ("seconds" in raw and not any(name in raw for name in _INPUT_NAMES)):
        return _duration(raw)
    totals = _totals(raw, needs_output)
    if totals is None:
        return None
    input_tokens, output_tokens = totals
    return Usage(
        **_input_kinds(input_tokens, *_details(raw, _INPUT_DETAILS)),
        **_output_kinds(output_tokens, *_details(raw, _OUTPUT_DETAILS), output_kind),
    )


def _totals(raw: dict[str, Any], needs_output: bool) -> tuple[int, int] | None:
    input_tokens, output_tokens = _first(raw, _INPUT_NAMES), _first(raw, _OUTPUT_NAMES)
    total = _count(raw, "total_tokens")
    if input_tokens is None:
        if output_tokens is None or total is None:
            return None
        return max(0, total - output_tokens), output_tokens
    if output_tokens is None and total is None:
        return None if needs_output else (input_tokens, 0)
    # Some servers report reasoning outside the completion: then the total says more than the sum.
    return input_tokens, max(output_tokens or 0, (total or 0) - input_tokens)


def _input_kinds(total: int, details: Mapping[str, Any], path: str) -> dict[str, Any]:
    if _tells_nothing(details):
        return {"input": total}
    audio = min(_count(details, "audio_tokens", path) or 0, total)
    image = min(_count(details, "image_tokens", path) or 0, total - audio)
    text = total - audio - image
    writes = min(_count(details, "cache_write_tokens", path) or 0, text)
    ttls, ttls_path = _details(details, ("cache_write_tokens_details",), path)
    writes_12h = min(_count(ttls, "ttl_12h_tokens", ttls_path) or 0, writes)
    cached = min(_count(details, "cached_tokens", path) or 0, total - writes)

    split, split_path = _details(details, ("cached_tokens_details",), path)
    cached_audio = min(_either(split, "audio_tokens", split_path), audio, cached)
    cached_image = min(_either(split, "image_tokens", split_path), image, cached - cached_audio)
    # What is not said to be cached audio or image is text, as far as there is text.
    cached_text = min(cached - cached_audio - cached_image, text - writes)
    rest = cached - cached_audio - cached_image - cached_text
    more_image = min(rest, image - cached_image)
    cached_image += more_image
    cached_audio += min(rest - more_image, audio - cached_audio)
    return {
        "input": text - writes - cached_text,
        "cached_input": cached_text,
        "cache_write": writes - writes_12h,
        "cache_write_12h": writes_12h,
        "audio_input": audio - cached_audio,
        "cached_audio_input": cached_audio,
        "image_input": image - cached_image,
        "cached_image_input": cached_image,
    }


def _output_kinds(total: int, details: Mapping[str, Any], path: str, kind: str) -> dict[str, Any]:
    if kind == "text" and _tells_nothing(details):
        return {"output": total}
    audio, image = _count(details, "audio_tokens", path), _count(details, "image_tokens", path)
    text = _count(details, "text_tokens", path)
    if audio is None and image is None and text is None and kind != "text":
        return {f"{kind}_output": total}
    if kind == "audio" and audio is None:
        audio = total - min(text or 0, total)
    if kind == "image" and image is None:
        image = total - min(text or 0, total)
    audio = min(audio or 0, total)
    image = min(image or 0, total - audio)
    reasoning = min(_count(details, "reasoning_tokens", path) or 0, total - audio - image)
    return {
        "output": total - audio - image,
        "audio_output": audio,
        "image_output": image,
        "reasoning": reasoning,
    }


def _duration(raw: dict[str, Any]) -> Usage | None:
    """Seconds may have a fraction; they are counted in milliseconds."""
    seconds = raw.get("seconds")
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise InvalidUsage("seconds", seconds)
    if not isfinite(seconds) or not 0 <= seconds <= MAX_SECONDS:
        raise InvalidUsage("seconds", seconds)
    return Usage(units={"milliseconds": round(seconds * 1000)})


def _first(raw: dict[str, Any], names: tuple[str, ...]) -> int | None:
    counts = [count for name in names if (count := _count(raw, name)) is not None]
    return max(counts) if counts else None


def _count(values: Mapping[str, Any], name: str, path: str = "") -> int | None:
    value = values.get(name)
    if value is None:
        return None
    if type(value) is not int or not 0 <= value <= MAX_COUNT:
        raise InvalidUsage(f"{path}.{name}" if path else name, value)
    return value


def _tells_nothing(details: Mapping[str, Any]) -> bool:
    """Whether all of it is null or 0, as in most answers."""
    return all(value is None or (type(value) is int and not value) for value in details.values())


def _either(split: Mapping[str, Any], name: str, path: str) -> int:
    """The image tool of responses writes `cached_image_tokens` for `image_tokens`."""
    return _count(split, name, path) or _count(split, f"cached_{name}", path) or 0


def _details(values: Mapping[str, Any], names: tuple[str, ...], path: str = "") -> tuple[Mapping[str, Any], str]:
    for name in names:
        found = values.get(name)
        if found is not None:
            full = f"{path}.{name}" if path else name
            if not isinstance(found, dict):
                raise InvalidUsage(full, found)
            return found, full
    return _NOTHING, path
