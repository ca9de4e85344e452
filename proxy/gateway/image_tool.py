"""The hosted tool `image_generation` of responses: what it makes is a request of its own, at the image model's price.

A usage record has one price row. So a response that may make images is two exchanges: its own, and a companion for the
images. Both are held before the call, and end together (`docs/settlement.md`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson
from uuid_utils.compat import uuid7

from billing.pricing import Rate
from billing.teller import Capture
from proxy.gateway import images, keys, tokens
from proxy.gateway.errors import InvalidRequest, UnsupportedValue
from proxy.gateway.exchange import NOTHING, Ending, Exchange, Measured, capture_of, measure
from proxy.gateway.jobs import Endpoint, Job
from proxy.gateway.snapshots import Catalog, Deployment, Route
from proxy.gateway.sse import Frame
from proxy.gateway.typed_events import TypedMeter

KIND = "image_generation"
CALL = "image_generation_call"
PATH = "/v1/images/generations"
HEADER = "x-image-request-id"
# The tool's part of a response that made no image: on the books, because it was held, but of no account.
UNUSED = "tool_not_used"
# The most calls of a request that says nothing of `max_tool_calls`; where credit does not suffice for them, one.
DEFAULT_CALLS = 4
MAX_FRAME_BYTES = 64 * 1024 * 1024
# The image model reads no more of a conversation than this, however long that is (its `prompt` ends at 32,000 bytes).
MAX_TEXT_TOKENS = 8_000
_FIELDS = ("model", "size", "quality", "n", "partial_images", "svg", "frame_count")
# Of these the second bill, or the number of pictures, is nowhere in the price.
_FORMATS = frozenset({"svg", "gif"})
_REPORTED = ("input_tokens", "output_tokens", "total_tokens")


@dataclass(frozen=True, slots=True)
class Target:
    """Who makes the images: the image model's route and price, and the `deployments` of the response's own model whose
    provider has it too. `names` is what each of these providers calls it."""

    route: Route
    rate: Rate
    deployments: tuple[Deployment, ...]
    names: Mapping[str, str]


# ------------------------------------------------------------ the request


def parse(tool: dict[str, Any], index: int, response: Job, *, calls: int, is_limited: bool) -> Job:
    """The job of the tool, of `response`'s `tools[index]`. `is_limited`: the client itself set the limit of `calls`.

    Raises `InvalidRequest`.
    """
    prompt = _prompt_of(response.body.get("input"))[: images.MAX_PROMPT]
    body = {name: tool[name] for name in _FIELDS if tool.get(name) is not None}
    try:
        if tool.get("output_format") in _FORMATS:
            raise UnsupportedValue("Images come as 'png', 'webp' or 'jpeg' here.", param="output_format")
        if not isinstance(body.get("model", ""), str):
            raise InvalidRequest("'model' must be a string.", param="model")
        job = images.generations(body | {"prompt": prompt if prompt.strip() else "an image"})
    except InvalidRequest as error:
        error.param = f"tools[{index}].{error.param}"
        raise
    mask = tool.get("input_image_mask")
    if isinstance(mask, dict) and mask.get("file_id"):
        param = f"tools[{index}].input_image_mask"
        raise UnsupportedValue("Files by id are not offered here; send the mask in 'image_url'.", param=param)
    job.is_stream = response.is_stream
    job.details |= {
        "inputs": _images_in(response.body.get("input")) + bool(mask),
        "index": index,
        "is_named": "model" in body,
        "each_call": job.answers,
        "is_limited": is_limited,
        "text": min(response.prompt_tokens, MAX_TEXT_TOKENS),
        "is_continued": bool(response.continues),
    }
    return _sized(job, calls)


def without_mask(tools: Any) -> Any:
    """The tools as their tokens are counted: a mask is an image, not text."""
    if not isinstance(tools, list):
        return tools
    return [
        {name: value for name, value in tool.items() if name != "input_image_mask"} if _is_tool(tool) else tool
        for tool in tools
    ]


def target(response: Job, route: Route, find: Callable[[str], Route | None]) -> Target:
    """Who makes the images of `response`, whose model has this `route`. Raises `UnsupportedValue`."""
    tool = response.tool
    assert tool is not None  # noqa: S101 - asked of responses with the tool alone
    found = find(tool.model)
    param = f"tools[{tool.details['index']}].{'model' if tool.details['is_named'] else 'type'}"
    if found is None or found.rate is None or (found.endpoints and PATH not in found.endpoints):
        raise UnsupportedValue(f"The tool {KIND!r} is not offered here with the model {tool.model!r}.", param=param)
    names = {one.provider: one.upstream_name for one in found.deployments if one.kind != "cloudflare"}
    deployments = tuple(one for one in route.deployments if one.provider in names)
    if not deployments:
        raise UnsupportedValue(
            f"No provider of {response.model!r} makes images with {tool.model!r}; name another model in the tool.",
            param=param,
        )
    return Target(found, found.rate, deployments, names)


def bounded(tool: Job, aim: Target, calls: int | None = None) -> Job:
    """The job as it is held, for so many calls (None: as many as it may make)."""
    job = _sized(tool, tool.details["calls"] if calls is None else calls)
    images.bound(job, aim.route, aim.rate)
    return job


def counted(tool: Job) -> int:
    """What the rate limit of tokens counts before the call; of a request without a limit, one call."""
    calls: int = tool.details["calls"]
    one = (tool.input_tokens + (tool.output_tokens or 0) * tool.answers) // calls
    return one * calls if tool.details["is_limited"] else one


def upstream_tools(response: Job, deployment: Deployment) -> list[Any]:
    """`tools` for the upstream: the image model by the name that it has there, so that it is the one of our price."""
    assert response.tool is not None  # noqa: S101 - asked of responses with the tool alone
    tools: list[Any] = list(response.body["tools"])
    index = response.tool.details["index"]
    tools[index] = {**tools[index], "model": response.details["image_models"][deployment.provider]}
    return tools


# ------------------------------------------------------------ the exchange


def accompany(exchange: Exchange, catalog: Catalog, endpoint: Endpoint) -> None:
    """Give `exchange` its companion. Raises `UnsupportedValue`, `ModelNotAllowed`; nothing is held yet.

    The response itself may then only go where the images are made too.
    """
    tool, key = exchange.job.tool, exchange.key
    assert tool is not None  # noqa: S101 - called for responses with the tool alone
    aim = target(exchange.job, exchange.route, lambda name: catalog.find(key.aliases.get(name, name), key.price_list))
    keys.authorize_model(key, tool.model, aim.route.model)
    exchange.route = replace(exchange.route, deployments=aim.deployments)
    exchange.job.details["image_models"] = aim.names
    exchange.companion = replace(
        exchange,
        request_id=uuid7(),
        endpoint=endpoint,
        job=bounded(tool, aim),
        route=aim.route,
        rate=aim.rate,
        attempts=[],
    )


def make_do(exchange: Exchange) -> bool:
    """Let the tool be called once, where the client set no limit; whether that is less than it was."""
    companion = exchange.companion
    if companion is None or companion.job.details["is_limited"] or companion.job.details["calls"] == 1:
        return False
    companion.job = bounded(companion.job, Target(companion.route, companion.rate, (), {}), calls=1)
    exchange.job.body["max_tool_calls"] = 1
    return True


def capture(exchange: Exchange, ending: Ending, made: Measured) -> Capture:
    """The capture that ends the companion of `exchange`, which ended so."""
    companion = exchange.companion
    assert companion is not None  # noqa: S101 - asked of exchanges with a companion alone
    companion.first_byte_at = exchange.first_byte_at
    companion.upstream_request_id = exchange.upstream_request_id
    served = exchange.deployment
    if served is not None and exchange.attempts:
        companion.deployment = next(one for one in companion.route.deployments if one.provider == served.provider)
        label = companion.deployment.label
        companion.attempts = [{**exchange.attempts[-1], "deployment": label, "of": str(exchange.request_id)}]
        exchange.attempts[-1]["images"] = str(companion.request_id)
    if made.usage is None and ending.outcome == "completed":
        ending = replace(ending, error_code=UNUSED)
    return capture_of(companion, ending, made)


def released(exchange: Exchange, ending: Ending) -> Capture:
    """The capture of a companion that made nothing."""
    return capture(exchange, ending, NOTHING)


# ------------------------------------------------------------ the answer


def of_answer(companion: Exchange, answer: dict[str, Any]) -> Measured:
    """What a whole response made."""
    return _measured(companion, _usage_in(answer), sum(_is_image(item) for item in items(answer)), 0)


def of_stream(companion: Exchange, meter: Any) -> Measured:
    """What a stream made, as far as it came."""
    if not isinstance(meter, ToolMeter):
        return NOTHING
    return _measured(companion, meter.tool_usage, meter.images, meter.partials)


def items(answer: Any) -> list[dict[str, Any]]:
    """The calls of the tool in a response."""
    output = answer.get("output") if isinstance(answer, dict) else None
    return [one for one in output if _is_call(one)] if isinstance(output, list) else []


class ToolMeter(TypedMeter):
    """The stream of a response that may make images. An image comes in an event of its own, and again in the last one.

    After the stream: `tool_usage` is what was reported of the tool (None: nothing), `images` how many came whole,
    `partials` how many partial ones came of one that did not.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, max_frame_bytes=MAX_FRAME_BYTES)
        self._markers = (*self._markers, CALL.encode())
        self._seen: dict[str, str | None] = {}
        self._is_changed = False
        self.tool_usage: Any = None
        self.partials = 0
        self.name: Callable[[dict[str, Any]], bool] | None = None  # puts an image's address into its item

    @property
    def images(self) -> int:
        return len(self._seen)

    def output_tokens(self, model: str) -> int:
        """The text's; where there is none, a call of the tool shows that the model has read and written."""
        return super().output_tokens(model) or int(bool(self._seen or self.partials))

    def _passing(self, frame: Frame, event: dict[str, Any]) -> bytes:
        kind, item = event.get("type"), event.get("item")
        if kind == f"response.{CALL}.partial_image":
            self.partials += 1
        elif kind == "response.output_item.done" and self._take(item):
            return _encoded(event)
        return frame.raw

    def _end(self, event: dict[str, Any], kind: str) -> None:
        super()._end(event, kind)
        response = event.get("response")
        self.tool_usage = _usage_in(response)
        self._is_changed = any([self._take(item) for item in items(response)])

    def _told(self, frame: Frame, event: dict[str, Any]) -> bytes:
        return _encoded(event) if self._is_changed else frame.raw

    def _scrubbed(self, frame: Frame, event: dict[str, Any]) -> bytes:
        scrubbed = super()._scrubbed(frame, event)
        return _encoded(event) if self._is_changed else scrubbed

    def _take(self, item: Any) -> bool:
        """Count an image once, however often it comes; whether it got an address."""
        if not _is_image(item):
            return False
        which = item.get("id")
        if not isinstance(which, str) or not which:
            which = item["result"]
        if which not in self._seen:
            self.partials = 0
            is_named = self.name is not None and self.name(item)
            self._seen[which] = item["url"] if is_named else None
            return is_named
        url = self._seen[which]
        if url is not None:
            item["url"] = url
        return url is not None


def _measured(companion: Exchange, usage: Any, made: int, partials: int) -> Measured:
    """What was reported, else an estimate of the images that came; `NOTHING` where the tool was not used.

    Zero is what is told of a tool that nobody counted ("Response object", `tool_usage`): with images it is no report.
    """
    reported = _report(usage)
    if made and reported is not None and not reported.get("output_tokens"):
        reported = None

    def produced() -> int | None:
        return made * companion.job.details["each"] + partials * images.PARTIAL_TOKENS or None

    measured = measure(companion, reported, produced, delivered={"images": made})
    used = measured.usage
    return measured if used is not None and (used.total_tokens or used.units) else NOTHING


def _report(usage: Any) -> dict[str, Any] | None:
    """The tool's usage in the words of the Images API, which has what is cached among the input's details."""
    if not isinstance(usage, dict):
        return None
    report = {name: usage[name] for name in _REPORTED if usage.get(name) is not None}
    details = usage.get("input_tokens_details")
    inputs = dict(details) if isinstance(details, dict) else {}
    for name in ("cached_tokens", "cached_tokens_details"):
        if usage.get(name) is not None:
            inputs[name] = usage[name]
    outputs = usage.get("output_tokens_details")
    report["input_tokens_details"] = inputs
    report["output_tokens_details"] = outputs if outputs else {"image_tokens": usage.get("output_tokens")}
    return report


def _usage_in(answer: Any) -> Any:
    told = answer.get("tool_usage") if isinstance(answer, dict) else None
    return told.get("image_gen") if isinstance(told, dict) else None


def _sized(job: Job, calls: int) -> Job:
    """The same job for so many calls: each reads the conversation, and the later ones what the earlier ones made."""
    details = {**job.details, "calls": calls}
    pictures = calls * (details["inputs"] + details["is_continued"]) + calls - 1
    return replace(
        job,
        answers=details["each_call"] * calls,
        input_tokens=calls * tokens.with_margin(details["text"]) + pictures * images.INPUT_TOKENS,
        details=details,
    )


def _prompt_of(given: Any) -> str:
    """The words of the user's last turn."""
    if isinstance(given, str):
        return given
    for item in reversed(given if isinstance(given, list) else []):
        if isinstance(item, dict) and item.get("role") == "user":
            content = item.get("content")
            parts = content if isinstance(content, list) else []
            texts = [part["text"] for part in parts if isinstance(part, dict) and isinstance(part.get("text"), str)]
            return content if isinstance(content, str) else "\n".join(texts)
    return ""


def _images_in(given: Any) -> int:
    """How many images the input has."""
    count, pending = 0, [given]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            count += item.get("type") in ("input_image", CALL)
            pending.extend(value for value in item.values() if isinstance(value, list | dict))
        elif isinstance(item, list):
            pending.extend(item)
    return count


def _is_tool(tool: Any) -> bool:
    return isinstance(tool, dict) and tool.get("type") == KIND


def _is_call(item: Any) -> bool:
    return isinstance(item, dict) and item.get("type") == CALL


def _is_image(item: Any) -> bool:
    return _is_call(item) and isinstance(item.get("result"), str) and bool(item["result"])


def _encoded(event: dict[str, Any]) -> bytes:
    return f"event: {event['type']}\n".encode() + b"data: " + orjson.dumps(event) + b"\n\n"
