"""Bodies and answers of responses. What would build on objects of others, or has no price, is refused."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from billing.pricing import Rate, Usage
from proxy.gateway import fields, tokens, upstream_errors
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
_COUNTED = ("instructions", "tools", "text")
NO_BACKGROUND = "Background responses need an upstream key of your own; leave 'background' out."
_REFUSED = {
    "conversation": "Conversations are not kept here; send the turns in 'input', or use 'previous_response_id'.",
    "prompt": "Stored prompts are not offered here; send the prompt in 'instructions' and 'input'.",
}


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
    bound = 3 + tokens.parts_bound(given, model)
    bound += sum(tokens.parts_bound(body[name], model) for name in _COUNTED if body.get(name) is not None)
    return Job(
        model=model,
        body=body,
        is_stream=fields.boolean(body, "stream"),
        wants_usage=True,
        prompt_tokens=bound,
        input_tokens=tokens.with_margin(bound),
        output_tokens=fields.maximum(body, "max_output_tokens"),
        answers=1,
        tier=fields.tier(body),
        end_user=fields.end_user(body),
        output_limit_field="max_output_tokens",
        continues=continues,
        units=_tool_units(body),
        details={"background": is_background},
    )


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
    return TypedMeter(ends=_ENDS, failures=_FAILURES, inside="response", delivered=searches)


def searches(answer: dict[str, Any]) -> Mapping[str, int]:
    """The web searches of a response, by its own count or by its items, whichever is more."""
    output = answer.get("output")
    items = [item for item in output if isinstance(item, dict)] if isinstance(output, list) else []
    calls = sum(item.get("type") == "web_search_call" for item in items)
    told: Any = answer.get("tool_usage")
    for name in (WEB_SEARCH, "num_requests"):
        told = told.get(name) if isinstance(told, dict) else None
    if type(told) is int and told > calls:
        calls = told
    return {WEB_SEARCH_CALLS: calls} if calls else {}


def rewrite(job: Job, answer: dict[str, Any]) -> bool:
    """A failed response says why; what it says is scrubbed. Returns whether anything changed."""
    error = answer.get("error")
    if not isinstance(error, dict) or not isinstance(error.get("message"), str):
        return False
    error["message"] = upstream_errors.hide_secrets(error["message"])
    return True


def _tool_units(body: dict[str, Any]) -> Mapping[str, int]:
    """The most that hosted tools with a price may be used; a limit is set where the client set none."""
    tools = body.get("tools")
    if tools is None:
        return {}
    if not isinstance(tools, list):
        raise InvalidRequest("'tools' must be an array.", param="tools")
    has_searches = False
    for index, tool in enumerate(tools):
        kind = tool.get("type") if isinstance(tool, dict) else None
        if not isinstance(kind, str):
            raise InvalidRequest("Every tool must be an object with a 'type'.", param=f"tools[{index}].type")
        if kind == WEB_SEARCH or kind.startswith("web_search_"):
            has_searches = True
        elif kind not in FREE_TOOLS:
            raise UnsupportedValue(f"The hosted tool {kind[:60]!r} is not offered here.", param=f"tools[{index}].type")
    if not has_searches:
        return {}
    calls = fields.integer(body, "max_tool_calls", DEFAULT_TOOL_CALLS, 1, MAX_TOOL_CALLS)
    body["max_tool_calls"] = calls
    return {WEB_SEARCH_CALLS: calls}


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
            if item.get("file_id"):
                raise UnsupportedValue("Files by id are not offered here; send them in 'file_data'.", param="input")
            pending.extend(value for value in item.values() if isinstance(value, list | dict))
