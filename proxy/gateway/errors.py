"""Errors in OpenAI's shape. Each knows its status, type, code and headers (OpenAI's "Error codes" guide).

GatewayError
├── InvalidRequest 400         (InvalidJson, UnsupportedValue)
├── Unauthenticated 401
├── RequestTimedOut 408
├── Forbidden 403              (ModelNotAllowed, ScopeMissing, AddressNotAllowed, UserBlocked)
├── ModelNotFound 404, UnknownUrl 404
├── MethodNotAllowed 405
├── IdempotencyConflict 409
├── RequestTooLarge 413
├── UnsupportedMediaType 415
├── RateLimited 429, TooManyAtOnce 429, InsufficientQuota 429, BudgetExceeded 429
├── UpstreamRejected 4xx       (the upstream's own words, scrubbed)
├── UpstreamFailed 502         (UpstreamCut)
├── UpstreamOverloaded 503, Unavailable 503
└── UpstreamTimeout 504
"""

from collections.abc import Sequence
from typing import Any

import orjson

Headers = Sequence[tuple[str, str]]


class GatewayError(Exception):
    """An answer other than 200. `message` is for people; `code` is for programs and never changes."""

    status = 500
    type = "server_error"
    code: str | None = "internal_error"
    headers: Headers = ()

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        if code is not None:
            self.code = code

    def body(self) -> bytes:
        """The JSON body: `{"error": {"message", "type", "param", "code"}}`, all four always present."""
        return orjson.dumps({"error": self.as_dict()})

    def as_dict(self) -> dict[str, Any]:
        return {"message": self.message, "type": self.type, "param": self.param, "code": self.code}


class InvalidRequest(GatewayError):
    status = 400
    type = "invalid_request_error"
    code = "invalid_value"


class InvalidJson(InvalidRequest):
    code = "invalid_json"

    def __init__(self, problem: str) -> None:
        super().__init__(f"We could not parse the JSON body of your request: {problem}")


class UnsupportedValue(InvalidRequest):
    code = "unsupported_value"


class Unauthenticated(GatewayError):
    status = 401
    type = "invalid_request_error"
    code = "invalid_api_key"
    headers = (("www-authenticate", "Bearer"), ("x-should-retry", "false"))

    def __init__(self, problem: str) -> None:
        super().__init__(problem)


class Forbidden(GatewayError):
    status = 403
    type = "permission_error"
    code = "permission_denied"


class ModelNotAllowed(Forbidden):
    code = "model_not_allowed"

    def __init__(self, model: str) -> None:
        super().__init__(
            f"This API key may not use the model {model!r}. Use a key that allows it, or change the key's limits.",
            param="model",
        )


class ScopeMissing(Forbidden):
    code = "scope_missing"

    def __init__(self, scope: str) -> None:
        super().__init__(f"This API key lacks the scope {scope!r}. Create a key that has it.")


class AddressNotAllowed(Forbidden):
    code = "ip_not_allowed"

    def __init__(self) -> None:
        super().__init__("This API key may not be used from your IP address.")


class UserBlocked(Forbidden):
    """`reason` is the tenant's own words, for the tenant's server."""

    code = "user_blocked"
    headers = (("x-should-retry", "false"),)

    def __init__(self, reason: str = "") -> None:
        super().__init__(f"This end user is blocked: {reason}" if reason else "This end user is blocked.")


class ModelNotFound(GatewayError):
    status = 404
    type = "invalid_request_error"
    code = "model_not_found"

    def __init__(self, model: str) -> None:
        super().__init__(
            f"The model {model[:200]!r} does not exist or is not offered here. GET /v1/models lists the models.",
            param="model",
        )


class UnknownUrl(GatewayError):
    status = 404
    type = "invalid_request_error"
    code = "unknown_url"

    def __init__(self, method: str, path: str, meant: str = "") -> None:
        advice = "Please check the URL for typos."
        if meant:
            advice = f"Did you mean {meant[:200]}? Let the base URL end in /v1, once and without a slash behind it."
        super().__init__(f"Unknown request URL: {method} {path[:200]}. {advice}")


class MethodNotAllowed(GatewayError):
    status = 405
    type = "invalid_request_error"
    code = "method_not_supported"

    def __init__(self, method: str, allowed: str) -> None:
        super().__init__(f"Not allowed to {method[:20]} on this URL; use {allowed}.")
        self.headers = (("allow", allowed),)


class RequestTimedOut(GatewayError):
    status = 408
    type = "invalid_request_error"
    code = "request_timeout"
    headers = (("connection", "close"), ("x-should-retry", "false"))

    def __init__(self) -> None:
        super().__init__("The body of your request did not arrive in time.")


class IdempotencyConflict(GatewayError):
    status = 409
    type = "invalid_request_error"
    code = "idempotency_key_reused"
    headers = (("x-should-retry", "false"),)


class RequestTooLarge(GatewayError):
    status = 413
    type = "invalid_request_error"
    code = "request_too_large"
    headers = (("connection", "close"),)

    def __init__(self, limit: int) -> None:
        super().__init__(f"The body of your request is larger than {limit} bytes.")


class UnsupportedMediaType(GatewayError):
    status = 415
    type = "invalid_request_error"
    code = "unsupported_media_type"

    def __init__(self, expected: str) -> None:
        super().__init__(f"Send the body with Content-Type: {expected}.")


class RateLimited(GatewayError):
    """`unit` is `requests` or `tokens`; `retry_after_s` is when the next one passes."""

    status = 429
    code = "rate_limit_exceeded"

    def __init__(self, *, unit: str, limit: int, retry_after_s: float) -> None:
        super().__init__(
            f"Rate limit reached for {unit} per minute: limit {limit}. Please try again in {retry_after_s:.3f}s."
        )
        self.type = unit
        milliseconds = max(1, round(retry_after_s * 1000))
        self.headers = (("retry-after", str(-(-milliseconds // 1000))), ("retry-after-ms", str(milliseconds)))


class TooManyAtOnce(GatewayError):
    """As many requests run already as may. `who` begins with `key` or `organization`."""

    status = 429
    type = "requests"
    code = "concurrency_limit_exceeded"
    headers = (("retry-after", "1"), ("retry-after-ms", "1000"))

    def __init__(self, who: str, limit: int) -> None:
        whose = "This API key" if who.startswith("key") else "This organization"
        super().__init__(f"{whose} has {limit} requests running, which is its limit. Retry when one has ended.")


class InsufficientQuota(GatewayError):
    status = 429
    type = "insufficient_quota"
    code = "insufficient_quota"

    def __init__(self, message: str, *, top_up_url: str) -> None:
        super().__init__(message)
        self.headers = (("x-should-retry", "false"), ("x-top-up-url", top_up_url))


class BudgetExceeded(GatewayError):
    """A cap of the organization's own. `rule` is the budget that binds, as the teller gives it."""

    status = 429
    type = "insufficient_quota"
    code = "budget_exceeded"
    headers = (("x-should-retry", "false"),)

    def __init__(self, message: str, *, rule: dict[str, Any]) -> None:
        super().__init__(message)
        self.rule = rule

    def as_dict(self) -> dict[str, Any]:
        return super().as_dict() | {"rule": self.rule}


class UpstreamRejected(GatewayError):
    """The upstream refused the request as wrong (400, 404, 413, 422); its words pass, scrubbed."""

    type = "invalid_request_error"

    def __init__(self, status: int, message: str, *, type_: str, param: str | None, code: str | None) -> None:
        super().__init__(message, param=param)
        self.status = status
        self.type = type_
        self.code = code


class UpstreamFailed(GatewayError):
    status = 502
    code = "upstream_error"

    def __init__(self, message: str = "The model's provider failed to answer. Please try again.") -> None:
        super().__init__(message)


class UpstreamCut(UpstreamFailed):
    """The upstream broke off after its answer had begun."""

    def __init__(self) -> None:
        super().__init__("The model's provider broke off its answer.")


class Unavailable(GatewayError):
    status = 503
    code = "service_unavailable"

    def __init__(self, message: str = "The service is briefly unavailable. Please retry.", retry_s: int = 1) -> None:
        super().__init__(message)
        self.headers = (("retry-after", str(retry_s)),)


class UpstreamOverloaded(Unavailable):
    code = "upstream_overloaded"

    def __init__(self, retry_s: int = 2) -> None:
        super().__init__("The model's provider is overloaded. Please retry shortly.", retry_s)


class UpstreamTimeout(GatewayError):
    status = 504
    code = "upstream_timeout"

    def __init__(self) -> None:
        super().__init__("The model's provider did not answer in time.")
