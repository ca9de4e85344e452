"""The error reference: every code that `/v1` answers with, read from the errors themselves.

What a code means and what to do about it is written here; that no code is missing is proven by
`proxy/tests/test_error_reference.py`, which reads the source.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from proxy.api import errors as api_errors
from proxy.api import signing_in
from proxy.gateway import errors, own
from proxy.gateway.errors import GatewayError
from proxy.gateway.owned import ObjectNotFound
from proxy.gateway.realtime.session import EndedByStaff, SessionOver

# Codes that are given where an error is raised, and the class that then says status and type.
GIVEN: Mapping[str, type[GatewayError]] = {
    "account_frozen": errors.Forbidden,
    "api_key_required": errors.Forbidden,
    "beta_api_shape_disabled": errors.InvalidRequest,
    "email_not_verified": errors.Forbidden,
    "endpoint_not_allowed": errors.Forbidden,
    "idempotency_result_lost": errors.IdempotencyConflict,
    "insufficient_credit": errors.InvalidRequest,
    "invalid_credentials": signing_in.SignInRefused,
    "invalid_multipart": errors.InvalidRequest,
    "invalid_refresh_token": signing_in.SignInRefused,
    "invalid_type": errors.InvalidRequest,
    "mfa_invalid": signing_in.SignInRefused,
    "mfa_required": signing_in.SignInRefused,
    "missing_required_parameter": errors.InvalidRequest,
    "model_not_priced": errors.InvalidRequest,
    "not_a_member": errors.Forbidden,
    "organization_inactive": errors.Forbidden,
    "payments_off": errors.InvalidRequest,
    "previous_response_not_found": errors.InvalidRequest,
    "refresh_token_reused": signing_in.SignInRefused,
    "reservation_cancelled": api_errors.Conflict,
    "reservation_committed": api_errors.Conflict,
    "reservation_expired": api_errors.Conflict,
    "reservation_not_found": api_errors.NotFound,
    "role": errors.Forbidden,
    "second_factor_needed": errors.Forbidden,
    "staff_only": errors.Forbidden,
    "too_many_keys": api_errors.Conflict,
    "unsupported_content_encoding": errors.InvalidRequest,
    "unsupported_model": errors.InvalidRequest,
    "unsupported_parameter": errors.InvalidRequest,
    "upstream_cut": errors.GatewayError,
    "upstream_key_rejected": errors.UpstreamRejected,
    "upstream_key_required": own.UpstreamKeyRequired,
}
# Defined elsewhere than in `errors`.
ELSEWHERE = (
    ObjectNotFound,
    SessionOver,
    EndedByStaff,
    api_errors.NotFound,
    api_errors.Conflict,
    api_errors.TooManyAttempts,
)
# Statuses that an instance, not its class, decides.
_STATUS_OF = {"upstream_key_rejected": 400, "upstream_cut": 502}


@dataclass(frozen=True, slots=True)
class Advice:
    means: str
    do: str


ADVICE: Mapping[str, Advice] = {
    "invalid_value": Advice("A field has a value that is not allowed.", "Read `param`: it names the field."),
    "invalid_json": Advice("The body is no JSON object.", "Send valid JSON with `Content-Type: application/json`."),
    "invalid_type": Advice("A field has the wrong type.", "Read `param`: it names the field."),
    "invalid_multipart": Advice("The form cannot be read.", "Let your HTTP library build the multipart body."),
    "missing_required_parameter": Advice("A required field is missing.", "Send the field that `param` names."),
    "unsupported_value": Advice("The model or this installation does not offer the value.", "Choose another value."),
    "unsupported_parameter": Advice("The field or header is not used here.", "Leave out what `param` names."),
    "unsupported_model": Advice(
        "The model is not served at this endpoint.", "The model's page in the catalogue lists its endpoints."
    ),
    "unsupported_content_encoding": Advice("Compressed bodies are not read.", "Send the body uncompressed."),
    "model_not_priced": Advice(
        "The model, or the unit that the request uses, has no price: it is refused, never billed as 0.",
        "Choose another model or service tier.",
    ),
    "previous_response_not_found": Advice(
        "`previous_response_id` is not a response of this organization, or it is no longer kept.",
        "Send the conversation in `input` instead.",
    ),
    "beta_api_shape_disabled": Advice("The Realtime beta's events are no longer spoken.", "Use the current events."),
    "insufficient_credit": Advice("The organization has less credit than is to be moved.", "Move less."),
    "payments_off": Advice("This installation sells no credit online.", "Ask its operator for credit."),
    "upstream_key_rejected": Advice(
        "The provider refused your organization's own upstream key.", "Replace it under Upstream keys."
    ),
    "session_expired": Advice("The Realtime session reached its longest time, or was idle.", "Open a new one."),
    "session_ended": Advice("A member of your organization ended the Realtime session.", "Ask them, or open another."),
    "invalid_api_key": Advice(
        "The key is missing, mistyped, revoked or expired.", "Send `Authorization: Bearer` with a live key."
    ),
    "permission_denied": Advice("The key may not do this.", "Use a key with other scopes or limits."),
    "model_not_allowed": Advice("The key is limited to other models.", "Use another key, or change its limits."),
    "api_key_required": Advice("This is for keys, not for people.", "Call it with an API key."),
    "email_not_verified": Advice("The address of the account is not confirmed.", "Follow the link that was mailed."),
    "invalid_credentials": Advice("Email address or password is wrong.", "Correct it, or reset the password."),
    "invalid_refresh_token": Advice("The refresh token is unknown or its session is over.", "Sign in again."),
    "refresh_token_reused": Advice(
        "A refresh token came a second time, so its session was ended.", "Sign in again; keep only the newest token."
    ),
    "mfa_required": Advice("The account has, or needs, a second factor.", "Send `code`; staff set one up first."),
    "mfa_invalid": Advice("The code is wrong or was used.", "Send the next code of your app."),
    "not_a_member": Advice("The person does not belong to this organization.", "Name one of your own."),
    "role": Advice("Your role in the organization does not allow this.", "Ask an owner or admin."),
    "second_factor_needed": Advice("Staff need a second factor for this.", "Set one up under /account/."),
    "staff_only": Advice("Only the operator's staff may do this.", "Use the operator's token or a staff key."),
    "too_many_attempts": Advice("Too many sign-ins were tried.", "Wait as `retry-after` says."),
    "too_many_keys": Advice("This name has as many keys as it may.", "Revoke one first."),
    "scope_missing": Advice("The key lacks the scope of this endpoint.", "Create a key that has it."),
    "endpoint_not_allowed": Advice("The key is limited to other endpoints.", "Use another key."),
    "ip_not_allowed": Advice("The key is limited to other networks.", "Call from an allowed address."),
    "user_blocked": Advice(
        "Your own end user (`x-user-id`) is blocked by your organization.", "Unblock them under End users."
    ),
    "account_frozen": Advice(
        "The account was frozen: by the operator, or after a payment was taken back.", "Write to the operator."
    ),
    "organization_inactive": Advice("The organization is frozen or closing.", "Write to the operator."),
    "upstream_key_required": Advice(
        "This installation uses your own key at the provider, and there is none.",
        "Store one under Upstream keys, or send it in `x-upstream-key`.",
    ),
    "model_not_found": Advice("No such model is offered.", "`GET /v1/models` lists the models."),
    "unknown_url": Advice(
        "There is no such path.",
        "Check the address; `/docs` lists every path. The base URL ends in `/v1`, once and without a slash behind it.",
    ),
    "not_found": Advice("No such object, or one of another organization.", "Check the id."),
    "reservation_not_found": Advice("No such reservation.", "Check the id that `/v1/sdk/reserve` gave."),
    "method_not_supported": Advice("The path takes another method.", "The `allow` header names it."),
    "request_timeout": Advice("The body did not arrive in time.", "Check your connection and send it again."),
    "conflict": Advice("The object is in another state than this needs.", "Read it again, then decide."),
    "idempotency_key_reused": Advice(
        "The `Idempotency-Key` belongs to another request.", "Use a new key for a new request."
    ),
    "idempotency_result_lost": Advice(
        "The first request with this `Idempotency-Key` was charged, but its answer was not kept.",
        "Look at it in the request log; send again with a new key if you need the answer.",
    ),
    "reservation_cancelled": Advice("The reservation was cancelled.", "Reserve again."),
    "reservation_committed": Advice("The reservation was charged already.", "Nothing: it counts once."),
    "reservation_expired": Advice("The reservation has expired.", "Record the usage with `/v1/sdk/record`."),
    "request_too_large": Advice("The body is larger than is taken here.", "Send less; link images by URL."),
    "unsupported_media_type": Advice("The body's type is not the endpoint's.", "Send the type that is named."),
    "rate_limit_exceeded": Advice(
        "More requests or tokens a minute than the key or the organization may send; `type` says which.",
        "Wait for `retry-after`. The SDKs do so by themselves.",
    ),
    "concurrency_limit_exceeded": Advice(
        "As many requests run already as may.", "Wait until one has ended; the SDKs retry by themselves."
    ),
    "insufficient_quota": Advice(
        "There is not enough credit for the most that this request may cost.",
        "Top up at the address in `x-top-up-url`, or set a smaller `max_tokens`.",
    ),
    "budget_exceeded": Advice(
        "A cap of your own would be passed. `rule` names it, its number, when it resets and where to change it.",
        "Wait for the reset, or raise the cap.",
    ),
    "internal_error": Advice("We failed.", "Retry; write to the operator with the `x-request-id`."),
    "upstream_error": Advice("The model's provider failed.", "Retry. Nothing was charged where nothing came."),
    "upstream_cut": Advice(
        "The provider broke off; what had arrived is charged.", "Retry, or go on with what you have."
    ),
    "service_unavailable": Advice("Briefly not available.", "Retry after `retry-after`."),
    "upstream_overloaded": Advice("The provider has no room.", "Retry after `retry-after`, or use another model."),
    "upstream_timeout": Advice("The provider took too long.", "Retry, stream, or ask for a shorter answer."),
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One code. `is_retryable`: the official SDKs send such a request again by themselves."""

    status: int
    code: str
    type: str
    means: str
    do: str
    is_retryable: bool


def entries() -> list[Entry]:
    """Every code, by status and name."""
    found = {code: entry for code, entry in _entries()}
    return sorted(found.values(), key=lambda entry: (entry.status, entry.code))


def classes() -> list[type[GatewayError]]:
    """Every error that has a code of its own."""
    ours = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, GatewayError)]
    return [kind for kind in [*ours, *ELSEWHERE] if "code" in vars(kind)]


def _entries() -> Iterator[tuple[str, Entry]]:
    for code, kind in [(kind.code, kind) for kind in classes()] + list(GIVEN.items()):
        advice = ADVICE.get(code or "")
        if code is None or advice is None:
            continue
        status = _STATUS_OF.get(code, kind.status)
        stops = ("x-should-retry", "false") in kind.headers or kind in {errors.InsufficientQuota}
        is_retryable = not stops and (status in {408, 409, 429} or status >= 500)
        # `type` of a rate limit says what ran out: requests or tokens.
        named = "requests or tokens" if code == "rate_limit_exceeded" else kind.type
        yield code, Entry(status, code, named, advice.means, advice.do, is_retryable)
