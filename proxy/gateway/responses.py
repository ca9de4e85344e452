"""Bodies and answers of responses. What would build on objects of others, or has no price, is refused."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from billing.pricing import Rate, Usage
from proxy.gateway import fields, image_tool, tokens, upstream_errors
from proxy.gateway.errors import InvalidRequest, UnsupportedValue
from proxy.gateway.jobs import Job
from proxy.gateway.snapshots import Route
from proxy.gateway.typed_events import TypedMeter

# Tools that the client runs itself, or that only shape the text: nothing but tokens.
FREE_TOOLS = frozenset(
    {"function", "custom", "local_shell", "apply_patch", "computer", "computer_use_preview", "tool_search", "namespace"}
)
WEB_SEARCH = "web_search"
WEB_SEARCH_CALLS = "web_search_calls"
DEFAULT_TOOL_CALLS = 8
MAX_TOOL_CALLS = 128
# What an earlier response may add to the input where its model's context window is not known.
UNKNOWN_CONTEXT = 128_000
_ENDS = frozenset({"response.completed", "response.incomplete", "response.failed"})
_FAILURES = frozenset({"response.failed"})
_COUNTED = ("instructions", "text")
NO_BACKGROUND = "Background responses need an upstream key of your own; leave 'background' out."
_REFUSED = {
    "conversation": "Conversations are not kept here; send the turns in 'input', or use 'previous_response_id'.",
    "prompt": "Stored prompts are not offered here; send the prompt in 'instructions' and 'input'.",
}


@dataclass(frozen=True, slots=True)
class Hosted:
    """The hosted tools of a request, and how often they may be called in all."""

    has_searches: bool = False
    image_index: int | None = None
    calls: int = 0
    is_limited: bool = False


NO_TOOLS = Hosted()


def parse(body: dict[str, Any]) -> Job:
    model = fields.model(body)
    is_background = fields.boolean(body, "background")
    for name, why in _REFUSED.items():
        if body.get(name):
            raise UnsupportedValue(why, param=name)
    continues = body.get("previous_response_id") or ""
    if not isinstance(continues, str):
        raise InvalidRequest("'previous_response_id' must be a string.", param="previous_response_id")
    given = body.get("input")
    if not isinstance(given, str | list) or (not given and not continues):
        raise InvalidRequest("'input' must be a non-empty string or array.", param="input")
    if isinstance(given, list):
        _refuse_references(given)
    for name in ("store", "parallel_tool_calls"):
        fields.boolean(body, name)
    hosted = _hosted(body)
    bound = 3 + tokens.parts_bound(given, model)
    bound += sum(tokens.parts_bound(body[name], model) for name in _COUNTED if body.get(name) is not None)
    if hosted.image_index is not None:
        bound += tokens.parts_bound(image_tool.without_mask(body["tools"]), model)
    elif body.get("tools") is not None:
        bound += tokens.parts_bound(body["tools"], model)
    job = Job(
        model=model,
        body=body,
        is_stream=fields.boolean(body, "stream"),
        wants_usage=True,
        prompt_tokens=bound,
        input_tokens=tokens.with_margin(bound),
        output_tokens=fields.output_limit(body),
        answers=1,
        tier=fields.tier(body),
        end_user=fields.end_user(body),
        output_limit_field="max_output_tokens",
        continues=continues,
        units={WEB_SEARCH_CALLS: hosted.calls} if hosted.has_searches else {},
        details={"background": is_background},
    )
    if hosted.image_index is not None:
        tool = body["tools"][hosted.image_index]
        job.tool = image_tool.parse(tool, hosted.image_index, job, calls=hosted.calls, is_limited=hosted.is_limited)
    return job


def bound(job: Job, route: Route, rate: Rate) -> None:
    """Refuse tools without a price. What an earlier response adds is billed as input again, though it is not here."""
    for unit in job.units:
        if unit not in rate.units:
            raise UnsupportedValue(f"The model {job.model!r} has no price for web searches.", param="tools")
    if job.continues:
        job.input_tokens = max(job.input_tokens, route.context_window or UNKNOWN_CONTEXT)


def delivered(job: Job, answer: dict[str, Any]) -> Mapping[str, int]:
    """How often the answer's hosted tools were used."""
    return searches(answer)


def charge(job: Job, rate: Rate, usage: Usage | None, delivered: Mapping[str, int]) -> Usage | None:
    """The reported usage and the fees that are not in it."""
    calls = delivered.get(WEB_SEARCH_CALLS, 0)
    if usage is None or not calls or WEB_SEARCH_CALLS not in rate.units:
        return usage
    return replace(usage, units={**usage.units, WEB_SEARCH_CALLS: calls})


def meter(job: Job) -> TypedMeter:
    make = TypedMeter if job.tool is None else image_tool.ToolMeter
    return make(ends=_ENDS, failures=_FAILURES, inside="response", delivered=searches)


def searches(answer: dict[str, Any]) -> Mapping[str, int]:
    """The web searches of a response, by its own count or by its items, whichever is more."""
    output = answer.get("output")
    items = [item for item in output if isinstance(item, dict)] if isinstance(output, list) else []
    calls = sum(item.get("type") == "web_search_call" for item in items)
    told: Any = answer.get("tool_usage")
    for name in (WEB_SEARCH, "num_requests"):
        told = told.get(name) if isinstance(told, dict) else None
    if type(told) is int and calls < told <= MAX_TOOL_CALLS:
        calls = told
    return {WEB_SEARCH_CALLS: calls} if calls else {}


def rewrite(job: Job, answer: dict[str, Any]) -> bool:
    """A failed response says why; what it says is scrubbed. Returns whether anything changed."""
    error = answer.get("error")
    if not isinstance(error, dict) or not isinstance(error.get("message"), str):
        return False
    error["message"] = upstream_errors.hide_secrets(error["message"])
    return True


def _hosted(body: dict[str, Any]) -> Hosted:
    """The hosted tools of a body, all of which must have a price; a limit is set where the client set none."""
    tools = body.get("tools")
    if tools is None:
        return NO_TOOLS
    if not isinstance(tools, list):
        raise InvalidRequest("'tools' must be an array.", param="tools")
    has_searches, image_index = False, None
    for index, tool in enumerate(tools):
        kind = tool.get("type") if isinstance(tool, dict) else None
        if not isinstance(kind, str):
            raise InvalidRequest("Every tool must be an object with a 'type'.", param=f"tools[{index}].type")
        if kind == WEB_SEARCH or kind.startswith("web_search_"):
            has_searches = True
        elif kind == image_tool.KIND:
            if image_index is not None:
                raise InvalidRequest(f"The tool {kind!r} can be given once.", param=f"tools[{index}].type")
            image_index = index
        elif kind not in FREE_TOOLS:
            raise UnsupportedValue(f"The hosted tool {kind[:60]!r} is not offered here.", param=f"tools[{index}].type")
    if not has_searches and image_index is None:
        return NO_TOOLS
    is_limited = body.get("max_tool_calls") is not None
    default = DEFAULT_TOOL_CALLS if image_index is None else image_tool.DEFAULT_CALLS
    body["max_tool_calls"] = calls = fields.integer(body, "max_tool_calls", default, 1, MAX_TOOL_CALLS)
    return Hosted(has_searches, image_index, calls, is_limited)


def _refuse_references(given: list[Any]) -> None:
    """Objects of the upstream are shared by all who use its key: only what is here in full may be used."""
    pending: list[Any] = list(given)
    while pending:
        item = pending.pop()
        if isinstance(item, list):
            pending.extend(item)
        elif isinstance(item, dict):
            if item.get("type") == "item_reference":
                raise UnsupportedValue("Items by reference are not offered here; send them in full.", param="input")
            if item.get("type") == image_tool.CALL:
                _check_image(item, given)
            if item.get("file_id"):
                raise UnsupportedValue("Files by id are not offered here; send them in 'file_data'.", param="input")
            pending.extend(value for value in item.values() if isinstance(value, list | dict))


def _check_image(item: dict[str, Any], given: list[Any]) -> None:
    """An image of an earlier answer: what came of it must be here; one that failed is left out. Its `url` is ours."""
    item.pop("url", None)
    if item.get("result"):
        return
    if item.get("status") != "failed" or item not in given:
        raise UnsupportedValue("Images by id are not offered here; send their 'result'.", param="input")
    given.remove(item)
