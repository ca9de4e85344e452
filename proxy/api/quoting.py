"""What a request would hold and cost, by the gateway's own parser and prices. Nothing is sent and nothing is held."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from billing import pricing
from billing.pricing import Rate, Unpriced, Usage
from proxy.gateway import audio, fields, image_tool
from proxy.gateway.endpoints import DEFAULT_OUTPUT_TOKENS, ENDPOINTS, Endpoint, Job
from proxy.gateway.errors import InvalidRequest, ModelNotFound
from proxy.gateway.forms import FilePart, Form
from proxy.gateway.images import DEFAULT_MODEL
from proxy.gateway.intake import rate_of
from proxy.gateway.snapshots import Catalog, Route

# By which field a body shows what it is for, the most telling first.
_TELLTALES = (
    ("messages", "/v1/chat/completions"),
    ("tools", "/v1/responses"),
    ("voice", "/v1/audio/speech"),
    ("prompt", "/v1/images/generations"),
    ("prompt", "/v1/completions"),
    ("input", "/v1/embeddings"),
    ("input", "/v1/responses"),
    ("input", "/v1/audio/speech"),
    ("input", "/v1/moderations"),
)


_OUTPUTS = {"text": "output", "audio": "audio_output", "image": "image_output"}


@dataclass(frozen=True, slots=True)
class Quote:
    """A priced request. `output_tokens` is the most that it may produce in all, `is_open_ended` that the client set no
    limit of its own, so that less credit means a shorter answer and not a refusal. `images` is what its image tool may
    make, and `one_image_nanos` what is held for one call of it; `hold_nanos` is for both."""

    endpoint: Endpoint
    job: Job
    route: Route
    rate: Rate
    output_tokens: int
    hold_nanos: int
    images: "Quote | None" = None
    one_image_nanos: int = 0

    @property
    def is_open_ended(self) -> bool:
        return self.job.output_tokens is None

    @property
    def likely_tokens(self) -> int | None:
        """The output tokens that the body itself decides, such as those of an image of a given size and quality."""
        found: int | None = self.job.details.get("likely")
        return found

    @property
    def hold_tokens(self) -> int:
        beside = 0 if self.images is None else self.images.hold_tokens
        return self.job.input_tokens + self.output_tokens + beside

    @property
    def counted_tokens(self) -> int:
        """What the rate limit of tokens counts before the call."""
        beside = 0 if self.job.tool is None else image_tool.counted(self.job.tool)
        return self.job.input_tokens + (self.job.output_tokens or 0) * self.job.answers + beside

    def expected_nanos(self, output_tokens: int) -> int:
        """The cost if the answer has `output_tokens` in all, and one image where it may make some."""
        outputs = {_OUTPUTS[self.endpoint.output_kind]: output_tokens}
        usage = Usage(input=self.job.prompt_tokens, units=_units(self.job), **outputs)
        try:
            return min(self.hold_nanos, pricing.cost(usage, self.rate, self.job.tier) + self.one_image_nanos)
        except Unpriced:
            return self.hold_nanos

    def affordable_outputs(self, available: int) -> int:
        """How many output tokens of each answer `available` nano-dollars pay for beside the input."""
        low, high = 0, self.output_tokens // self.job.answers
        while low < high:
            middle = (low + high + 1) // 2
            if _worst_case(self.job, self.rate, middle * self.job.answers) + self.one_image_nanos <= available:
                low = middle
            else:
                high = middle - 1
        return low


def quote(body: dict[str, Any], catalog: Catalog, *, endpoint: str = "") -> Quote:
    """Price `body` of `endpoint` (a path such as `/v1/embeddings`; empty: seen from the body).

    Raises the `GatewayError` with which the gateway would refuse it as wrong.
    """
    if "model" not in body and "prompt" in body and ("size" in body or "quality" in body):
        body = body | {"model": DEFAULT_MODEL}
    parsed_by = _endpoint(body, catalog, endpoint)
    job = _parsed(parsed_by, body)
    route = catalog.find(job.model)
    if route is None or not route.deployments:
        raise ModelNotFound(job.model)
    rate = rate_of(job, parsed_by, route)
    outputs = _outputs(job, route)
    hold = max(1, _worst_case(job, rate, outputs))
    if job.tool is None:
        return Quote(parsed_by, job, route, rate, outputs, hold)
    images, one = _images(job, job.tool, route, catalog)
    return Quote(parsed_by, job, route, rate, outputs, hold + images.hold_nanos, images, one)


def _images(job: Job, tool: Job, route: Route, catalog: Catalog) -> tuple[Quote, int]:
    """What the image tool may make, as it is held; and what one call of it is held for."""
    target = image_tool.target(job, route, catalog.find)
    every, one = image_tool.bounded(tool, target), image_tool.bounded(tool, target, calls=1)
    outputs, least = _outputs(every, target.route), _outputs(one, target.route)
    hold = max(1, _worst_case(every, target.rate, outputs))
    quoted = Quote(ENDPOINTS[image_tool.PATH], every, target.route, target.rate, outputs, hold)
    return quoted, max(1, _worst_case(one, target.rate, least))


def _parsed(endpoint: Endpoint, body: dict[str, Any]) -> Job:
    """The body as the gateway reads it. A form has no files here: `duration_seconds` and `images` stand for them."""
    if endpoint.parse is not None:
        return endpoint.parse(body)
    assert endpoint.parse_form is not None  # noqa: S101 - an endpoint takes one or the other
    seconds = fields.integer(body, "duration_seconds", 60, 1, audio.MAX_SECONDS)
    images = fields.integer(body, "images", 1, 1, 16)
    files = [FilePart("file", "recording", "", 0, seconds * audio.UNKNOWN_BYTES_PER_S)]
    files += [FilePart("image", "image", "", 0, 1) for _ in range(images)]
    rest = {name: value for name, value in body.items() if name not in {"duration_seconds", "images"}}
    return endpoint.parse_form(rest, Form(io.BytesIO(), [(part.name, part) for part in files]))


def _outputs(job: Job, route: Route) -> int:
    """The most output tokens of all answers, as admission bounds them."""
    outputs = job.output_tokens
    if outputs is None:
        outputs = min(DEFAULT_OUTPUT_TOKENS, route.max_output_tokens or DEFAULT_OUTPUT_TOKENS)
    elif route.max_output_tokens:
        outputs = min(outputs, route.max_output_tokens)
    return outputs * job.answers


def _worst_case(job: Job, rate: Rate, outputs: int) -> int:
    try:
        return pricing.worst_case(
            job.input_tokens, outputs, rate, job.tier, units=_units(job), keeps_cache_12h=job.keeps_cache_12h
        )
    except Unpriced as error:
        raise InvalidRequest(
            f"The model {job.model!r} has no price for {error.unit} and cannot be used here.",
            param="model",
            code="model_not_priced",
        ) from None


def _units(job: Job) -> Mapping[str, int]:
    """What the job counts beside tokens: images, characters and the like."""
    units: Mapping[str, int] = getattr(job, "units", {})
    return units


def _endpoint(body: dict[str, Any], catalog: Catalog, path: str) -> Endpoint:
    if path:
        path = path if path.startswith("/v1/") else f"/v1/{path.lstrip('/')}"
        found = ENDPOINTS.get(path)
        if found is None:
            raise InvalidRequest(f"{path[:100]!r} is not a metered endpoint.", param="endpoint")
        return found
    name = body.get("model")
    route = catalog.find(name) if isinstance(name, str) else None
    served = route.endpoints if route is not None else frozenset()
    fits = [candidate for field, candidate in _TELLTALES if field in body and candidate in ENDPOINTS]
    for candidate in fits:
        if not served or candidate in served:
            return ENDPOINTS[candidate]
    if fits:
        return ENDPOINTS[fits[0]]
    raise InvalidRequest(
        "Say which endpoint the body is for: add 'endpoint', such as '/v1/chat/completions'.", param="endpoint"
    )
