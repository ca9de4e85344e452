"""An upstream's failure as we tell it: its own words only where the request was at fault, and never its secrets."""

import re
from collections.abc import Mapping
from typing import Any

import orjson

from proxy.gateway.errors import (
    GatewayError,
    UpstreamFailed,
    UpstreamOverloaded,
    UpstreamRejected,
    UpstreamTimeout,
)
from proxy.gateway.snapshots import Deployment
from proxy.gateway.upstream import TimedOut, UpstreamError

REJECTIONS = frozenset({400, 404, 409, 413, 415, 422})
_SECRETS = re.compile(
    r"sk-[\w*.-]{4,}|org-\w{8,}|proj_\w{8,}|https?://[^\s\"'<>]+|\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b", re.ASCII
)
MAX_MESSAGE = 1_000


def from_exception(error: UpstreamError) -> GatewayError:
    """The answer when no (whole) answer came."""
    return UpstreamTimeout() if isinstance(error, TimedOut) else UpstreamFailed()


def from_status(
    status: int, body: bytes, headers: Mapping[str, str], deployment: Deployment, model: str
) -> GatewayError:
    """The answer for an upstream's status that is not 200. `body` may be anything, HTML included."""
    if status in {401, 403} and deployment.is_own_key:
        return UpstreamRejected(
            400,
            "The model's provider refused your own upstream key.",
            type_="invalid_request_error",
            param="x-upstream-key",
            code="upstream_key_rejected",
        )
    if status in REJECTIONS:
        return _refused(status, body, deployment, model)
    if status in {408, 504}:
        return UpstreamTimeout()
    if status in {429, 503, 529}:
        retry = headers.get("retry-after", "")
        return UpstreamOverloaded(min(60, max(1, int(retry))) if retry.isdecimal() and len(retry) < 6 else 2)
    return UpstreamFailed()


def _refused(status: int, body: bytes, deployment: Deployment, model: str) -> GatewayError:
    error = _parse(body)
    if error is not None:
        return _rejected(status, error, deployment, model)
    if status not in {400, 413, 422}:
        return UpstreamFailed()
    message = "The model's provider refused the request."
    return UpstreamRejected(status, message, type_="invalid_request_error", param=None, code=None)


def may_try_elsewhere(error: GatewayError) -> bool:
    """Whether another deployment may do better: not when the request itself was refused."""
    return not isinstance(error, UpstreamRejected)


def scrub(text: str, deployment: Deployment, model: str) -> str:
    """Take keys, account ids, hosts and the upstream's own model name out of a message."""
    if deployment.api_key:
        text = text.replace(deployment.api_key, "[hidden]")
    if deployment.upstream_name != model:
        text = text.replace(deployment.upstream_name, model)
    return hide_secrets(text)


def hide_secrets(text: str) -> str:
    """Take what looks like a key, an account id or a host out of a message."""
    return _SECRETS.sub("[hidden]", text)[:MAX_MESSAGE]


def _rejected(status: int, error: dict[str, Any], deployment: Deployment, model: str) -> UpstreamRejected:
    def text(name: str) -> str | None:
        value = error.get(name)
        return scrub(str(value), deployment, model) if isinstance(value, str | int) and value != "" else None

    return UpstreamRejected(
        status,
        text("message") or "The model's provider refused the request.",
        type_=text("type") or "invalid_request_error",
        param=text("param"),
        code=text("code"),
    )


def _parse(body: bytes) -> dict[str, Any] | None:
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    error = parsed.get("error", parsed) if isinstance(parsed, dict) else None
    if isinstance(error, str):
        return {"message": error}
    return error if isinstance(error, dict) and ("message" in error or "detail" in error) else None
