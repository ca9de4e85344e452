"""What a metered request is to the gateway: the job that a body describes, and the endpoint that reads it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from billing.pricing import Rate, Usage
from billing.usage_counts import NO_UNITS
from proxy.gateway.forms import Form
from proxy.gateway.meters import Meter, StreamMeter
from proxy.gateway.snapshots import Route

DEFAULT_OUTPUT_TOKENS = 4_096


@dataclass(slots=True)
class Job:
    """One parsed request.

    `prompt_tokens` is our best count of the input, `input_tokens` an upper bound of it for the hold; `output_tokens` is
    the most that each of `answers` may produce by the client's own limit, None if it set none. `units` is the most that
    it may use of what is not a token. `continues` is the id of the upstream's object that it builds on. `form` is what
    came in place of a JSON body, and `replaces` what goes upstream in place of some of its fields. `own_limit` is the
    client's own limit of output tokens where `body` does not have it yet. `tool` is what its image tool may make.
    """

    model: str
    body: dict[str, Any]
    is_stream: bool
    wants_usage: bool
    prompt_tokens: int
    input_tokens: int
    output_tokens: int | None
    answers: int
    tier: str = "default"
    end_user: str = ""
    output_limit_field: str = ""
    embedding_format: str = ""
    units: Mapping[str, int] = NO_UNITS
    continues: str = ""
    form: Form | None = None
    own_limit: int | None = None
    replaces: Mapping[str, str | None] = field(default_factory=dict)
    tool: "Job | None" = None
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def keeps_cache_12h(self) -> bool:
        """Whether the body asks for a prompt cache that lasts longer, whose writes cost most."""
        options = self.body.get("prompt_cache_options")
        ttl = options.get("ttl") if isinstance(options, dict) else None
        retention = self.body.get("prompt_cache_retention")
        return ttl not in (None, "30m") or retention not in (None, "in_memory", "in-memory")


@dataclass(frozen=True, slots=True)
class Rendered:
    """An answer in another shape than the upstream's."""

    body: bytes
    media_type: str


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A metered path: its scope, how its body is read, and how its answers are understood.

    It takes JSON (`parse`) or a form (`parse_form`, after `fields_of` has read its texts). `render` writes an answer in
    the shape that the client asked for. `upstream_path` is where the upstream serves it, if not under `path`.

    `bound` is asked once the model is known: it completes what the job may use, or refuses it. `delivered` counts what
    an answer delivered beside tokens; `charge` turns that and the reported usage (None: none) into what is charged,
    None where that must be estimated; `estimate` is that estimate for so many output tokens. `keeps` is the kind of
    object that the upstream keeps of an answer, which only its owner may see again.
    """

    path: str
    scope: str
    parse: Callable[[dict[str, Any]], Job] | None = None
    parse_form: Callable[[dict[str, Any], Form], Job] | None = None
    fields_of: Callable[[Form], dict[str, Any]] | None = None
    makes_output: bool = True
    output_kind: Literal["text", "audio", "image"] = "text"
    asks_usage: bool = False
    rewrite_answer: Callable[[Job, dict[str, Any]], bool] | None = None
    text_of: Callable[[Any], str] | None = None
    bound: Callable[[Job, Route, Rate], None] | None = None
    delivered: Callable[[Job, dict[str, Any]], Mapping[str, int]] | None = None
    charge: Callable[[Job, Rate, Usage | None, Mapping[str, int]], Usage | None] | None = None
    estimate: Callable[[Job, Rate, int], Usage] | None = None
    render: Callable[[Job, dict[str, Any]], Rendered | None] | None = None
    accept: str = "text/event-stream"
    upstream_path: str = ""
    keeps: str = ""
    meter: Callable[[Job], Meter] = lambda job: StreamMeter(hides_usage=not job.wants_usage)

    @property
    def served_as(self) -> str:
        """The path by which models say that they serve this, and under which the upstream has it."""
        return self.upstream_path or self.path
