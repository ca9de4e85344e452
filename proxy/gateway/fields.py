"""Reading the fields of a body: each reader names the field that is wrong."""

from typing import Any

from proxy.gateway.errors import InvalidRequest, UnsupportedValue

MAX_TOKENS_BOUND = 100_000_000
# What limits the output: OpenAI's names, new and old, and llama.cpp's own, which there counts before them.
OUTPUT_LIMITS = ("max_output_tokens", "max_completion_tokens", "max_tokens", "n_predict")
TIERS = frozenset({"auto", "default", "flex", "scale", "priority", "fast", "standard_only", "ultrafast"})


def model(body: dict[str, Any]) -> str:
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise InvalidRequest("You must provide a 'model' parameter.", param="model", code="missing_required_parameter")
    return model


def boolean(body: dict[str, Any], name: str) -> bool:
    value = body.get(name)
    if value is None:
        return False
    if not isinstance(value, bool):
        raise InvalidRequest(f"'{name}' must be a boolean.", param=name, code="invalid_type")
    return value


def integer(body: dict[str, Any], name: str, default: int, minimum: int, maximum: int) -> int:
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or not minimum <= value <= maximum:
        raise InvalidRequest(f"'{name}' must be an integer from {minimum} to {maximum}.", param=name)
    return value


def maximum(body: dict[str, Any], name: str) -> int | None:
    """A limit of output tokens; llama.cpp's -1 means none."""
    if body.get(name) in (None, -1):
        return None
    return integer(body, name, 0, 0, MAX_TOKENS_BOUND)


def output_limit(body: dict[str, Any]) -> int | None:
    """The most output tokens by whichever of a body's limits the provider goes by; None: there is no limit."""
    limits = [maximum(body, name) for name in OUTPUT_LIMITS if body.get(name) is not None]
    known = [limit for limit in limits if limit is not None]
    return max(known) if known and len(known) == len(limits) else None


def wants_usage(body: dict[str, Any]) -> bool:
    options = body.get("stream_options")
    if options is None:
        return False
    if not isinstance(options, dict):
        raise InvalidRequest("'stream_options' must be an object.", param="stream_options", code="invalid_type")
    return options.get("include_usage") is True


def tier(body: dict[str, Any]) -> str:
    tier = body.get("service_tier")
    if tier is None:
        return "default"
    if tier not in TIERS:
        raise UnsupportedValue(f"'service_tier' must be one of {', '.join(sorted(TIERS))}.", param="service_tier")
    return str(tier)


def end_user(body: dict[str, Any]) -> str:
    for name in ("safety_identifier", "user"):
        value = body.get(name)
        if isinstance(value, str) and value:
            return value[:256]
    return ""
