"""Bodies, answers and streams of images: generated, edited, varied. Priced by tokens, or by what was delivered.

Output tokens of an image are OpenAI's figures for the GPT-image family ("Image generation", cost and latency); other
sizes count by their area.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from billing.pricing import Rate, Usage
from proxy.gateway import fields, tokens
from proxy.gateway.errors import InvalidRequest, UnsupportedValue
from proxy.gateway.forms import Form, typed
from proxy.gateway.jobs import Job
from proxy.gateway.snapshots import Route
from proxy.gateway.sse import Frame
from proxy.gateway.typed_events import TypedMeter

# A request without a model means the one that the API always meant; an alias leads to its successor.
DEFAULT_MODEL = "gpt-image-1"
MAX_PROMPT = 32_000
MAX_IMAGES = 10
MAX_SIDE = 3_840
MAX_FRAME_BYTES = 48 * 1024 * 1024
# Output tokens by quality for 1024x1024, 1024x1536 and 1536x1024.
_TOKENS = {"low": (272, 408, 400), "medium": (1_056, 1_584, 1_568), "high": (4_160, 6_240, 6_208)}
_QUALITIES = {"auto": 1, "standard": 1, "hd": 1, "low": 1, "medium": 1, "high": 1, "xhigh": 2, "max": 4}
_KNOWN_SIZES = {"1024x1024": 0, "1024x1536": 1, "1536x1024": 2}
_SQUARE = 1024 * 1024
_SIZE = re.compile(r"(\d{2,4})x(\d{2,4})")
PARTIAL_TOKENS = 100
# An image that comes in costs at most this many tokens (high fidelity).
INPUT_TOKENS = 6_500
_TILE = 512
_DEFAULT_STEPS, _MAX_STEPS = 4, 50
_UNPRICED = {
    "svg": "SVG output has a second bill, for which there is no price here.",
    "frame_count": "Animations are not offered here.",
    "response_format": "Images come as 'b64_json' here.",
}


def generations(body: dict[str, Any]) -> Job:
    return _job(body, inputs=0)


def edits(body: dict[str, Any], form: Form) -> Job:
    given = form.files("image", "image[]")
    if not given:
        raise InvalidRequest("'image' must be a file of the form.", param="image", code="missing_required_parameter")
    return _job(body, inputs=len(given) + len(form.files("mask", "markup")), form=form)


def variations(body: dict[str, Any], form: Form) -> Job:
    if not form.files("image"):
        raise InvalidRequest("'image' must be a file of the form.", param="image", code="missing_required_parameter")
    return _job(body | {"prompt": body.get("prompt", "")}, inputs=1, form=form, needs_prompt=False)


def fields_of(form: Form) -> dict[str, Any]:
    """A form of images as a JSON body would have it."""
    return typed(form, integers=("n", "partial_images", "output_compression", "steps"), booleans=("stream",))


def _job(body: dict[str, Any], *, inputs: int, form: Form | None = None, needs_prompt: bool = True) -> Job:
    body = body if body.get("model") else body | {"model": DEFAULT_MODEL}
    prompt = body.get("prompt")
    if not isinstance(prompt, str) or (needs_prompt and not prompt.strip()) or len(prompt) > MAX_PROMPT:
        raise InvalidRequest(f"'prompt' must be a text of 1 to {MAX_PROMPT:,} characters.", param="prompt")
    for name, why in _UNPRICED.items():
        value = body.get(name)
        if value and not (name == "response_format" and value == "b64_json"):
            raise UnsupportedValue(why, param=name)
    images = fields.integer(body, "n", 1, 1, MAX_IMAGES)
    partials = fields.integer(body, "partial_images", 0, 0, 3)
    each = _tokens_of(body) + partials * PARTIAL_TOKENS
    text = tokens.count(prompt, fields.model(body))
    return Job(
        model=fields.model(body),
        body=body,
        form=form,
        is_stream=fields.boolean(body, "stream"),
        wants_usage=True,
        prompt_tokens=text,
        input_tokens=tokens.with_margin(text) + inputs * INPUT_TOKENS,
        output_tokens=each,
        answers=images,
        tier=fields.tier(body),
        end_user=fields.end_user(body),
        details={"inputs": inputs, "each": each, "likely": each * images if _is_decided(body) else None},
    )


def bound(job: Job, route: Route, rate: Rate) -> None:
    """Count what the model is priced by: tokens, or images, tiles, steps, megapixels."""
    if rate.base.image_output is not None or rate.base.output is not None:
        return
    job.output_tokens = 0
    if rate.base.input is None and rate.base.image_input is None:
        job.prompt_tokens = job.input_tokens = 0
    job.units = _units(job, rate, job.answers)


def delivered(job: Job, answer: dict[str, Any]) -> Mapping[str, int]:
    """The images that came."""
    data = answer.get("data")
    count = sum(isinstance(item, dict) for item in data) if isinstance(data, list) else 0
    job.details["delivered"] = count
    return {"images": count}


def charge(job: Job, rate: Rate, usage: Usage | None, delivered: Mapping[str, int]) -> Usage | None:
    """Reported tokens; of models without a price for tokens what was delivered, which needs no report."""
    count = min(delivered.get("images", 0), job.answers)
    job.details["delivered"] = count
    if not job.units:
        return usage
    return Usage(units=_units(job, rate, count) if count else {})


def estimate(job: Job, rate: Rate, output_tokens: int) -> Usage:
    """Of tokens that nobody reported: those of the images that came, or as far as a stream got."""
    image = output_tokens or job.details.get("delivered", 0) * job.details["each"]
    if not image:
        return Usage()
    return Usage(input=job.prompt_tokens, image_input=job.details["inputs"] * INPUT_TOKENS, image_output=image)


def generation_meter(job: Job) -> "ImageMeter":
    return ImageMeter(job, "image_generation")


def edit_meter(job: Job) -> "ImageMeter":
    return ImageMeter(job, "image_edit")


class ImageMeter(TypedMeter):
    """The stream of one or more images, each of which ends with an event of its own that carries its usage."""

    def __init__(self, job: Job, verb: str) -> None:
        super().__init__(
            ends=frozenset({f"{verb}.completed"}),
            endings=job.answers,
            unit="images",
            text_of=self._note,
            max_frame_bytes=MAX_FRAME_BYTES,
        )
        self._each: int = job.details["each"]
        self._partials = 0
        self.name: Callable[[dict[str, Any]], bool] | None = None  # puts the image's address into its event

    @property
    def is_whole(self) -> bool:
        return self.error is None and self._ended >= self._endings

    def output_tokens(self, model: str) -> int:
        """Those of the images that came, and of the partial ones of an image that did not."""
        super().output_tokens(model)
        return self._ended * self._each + (0 if self._ended else self._partials * PARTIAL_TOKENS)

    def _told(self, frame: Frame, event: dict[str, Any]) -> bytes:
        if self.name is None or not self.name(event):
            return frame.raw
        return f"event: {event['type']}\n".encode() + b"data: " + orjson.dumps(event) + b"\n\n"

    def _note(self, event: Any) -> str:
        if isinstance(event, dict) and str(event.get("type", "")).endswith(".partial_image"):
            self._partials += 1
        return ""


def _tokens_of(body: dict[str, Any]) -> int:
    """Output tokens of one image; of what is left to the model, those of the dearest."""
    quality, size = body.get("quality") or "auto", body.get("size") or "auto"
    if quality not in _QUALITIES:
        raise UnsupportedValue(f"'quality' must be one of {', '.join(_QUALITIES)}.", param="quality")
    row = _TOKENS.get(quality, _TOKENS["high"])
    factor = _QUALITIES[quality]
    if size == "auto":
        return max(row) * factor
    if size in _KNOWN_SIZES:
        return row[_KNOWN_SIZES[size]] * factor
    width, height = _sides(size)
    return -(-row[0] * factor * width * height * 3 // (_SQUARE * 2))


def _is_decided(body: dict[str, Any]) -> bool:
    """Whether the body says how many tokens come out, and leaves neither quality nor size to the model."""
    return body.get("quality") in {*_TOKENS, "xhigh", "max"} and (body.get("size") or "auto") != "auto"


def _sides(size: Any) -> tuple[int, int]:
    found = _SIZE.fullmatch(size) if isinstance(size, str) else None
    width, height = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 64 <= width <= MAX_SIDE or not 64 <= height <= MAX_SIDE:
        raise UnsupportedValue(f"'size' must be 'auto' or WIDTHxHEIGHT of at most {MAX_SIDE}.", param="size")
    return width, height


def _units(job: Job, rate: Rate, images: int) -> dict[str, int]:
    """What `images` count in the meters that the model has a price for."""
    size = job.body.get("size") or "auto"
    width, height = (1024, 1024) if size == "auto" else _sides(size)
    steps = job.body.get("steps")
    steps = (
        steps if isinstance(steps, int) and not isinstance(steps, bool) and 0 < steps <= _MAX_STEPS else _DEFAULT_STEPS
    )
    tiles = -(-width // _TILE) * -(-height // _TILE)
    inputs = job.details["inputs"]
    counts = {
        "images": images,
        "tiles": images * tiles,
        "steps": images * steps,
        "tile_steps": images * tiles * steps,
        "megapixels": images * -(-width * height // 1_000_000),
        "input_images": inputs,
        "input_tiles": inputs * tiles,
        "input_tile_steps": inputs * tiles * steps,
        "requests": 1,
    }
    if "tile_steps" in rate.units or "tiles" in rate.units or "megapixels" in rate.units:
        # Priced by its size: the price of a usual image is only told beside it.
        counts.pop("images")
    return {meter: count for meter, count in counts.items() if meter in rate.units and count}
