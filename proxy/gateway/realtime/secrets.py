"""Ephemeral keys: what a server mints for a browser, good for one model and its settings, and only for Realtime.

`POST /v1/realtime/client_secrets` (OpenAI's "Create client secret"). A provider's own would let browsers talk past us.
"""

import time
from dataclasses import dataclass
from typing import Any, Protocol

from proxy.gateway.errors import InvalidRequest

PATH = "/v1/realtime/client_secrets"
PREFIX = "ek_"
DEFAULT_SECONDS, MIN_SECONDS, MAX_SECONDS = 600, 10, 7_200
MAX_MODEL = 200


@dataclass(frozen=True, slots=True)
class Bound:
    """What an ephemeral key stands for: the key that minted it, and the session that it may open."""

    key_digest: str
    model: str
    session: dict[str, Any]
    end_user: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """A secret to mint. `session` is the client's, with the model filled in; `expires_at` in Unix seconds."""

    model: str
    session: dict[str, Any]
    expires_at: int


class ClientSecrets(Protocol):
    """Where ephemeral keys are kept. Both raise `Unavailable` while PostgreSQL is away."""

    async def mint(self, key_id: int, wanted: Wanted, *, end_user: str) -> str:
        """A new secret."""

    async def find(self, secret: str) -> Bound | None:
        """What `secret` stands for; None if it is unknown or has expired."""


def parse(body: dict[str, Any], *, default_model: str) -> Wanted:
    """The body of a request for a secret. Raises `InvalidRequest`."""
    session = body.get("session", {})
    if session is None:
        session = {}
    if not isinstance(session, dict):
        raise InvalidRequest("'session' must be an object.", param="session")
    kind = session.get("type", "realtime")
    if kind != "realtime":
        raise InvalidRequest("'session.type' must be 'realtime'.", param="session.type")
    model = session.get("model", default_model)
    if not isinstance(model, str) or not model or len(model) > MAX_MODEL:
        raise InvalidRequest("'session.model' must name a model.", param="session.model")
    return Wanted(model, {**session, "type": kind, "model": model}, int(time.time()) + _seconds(body))


def answer(secret: str, wanted: Wanted) -> dict[str, Any]:
    """The answer's body."""
    session = {"object": "realtime.session", **wanted.session}
    return {"value": secret, "expires_at": wanted.expires_at, "session": session}


def configuration(bound: Bound) -> dict[str, Any] | None:
    """What of the bound session has to be told to the provider; the model is in the address."""
    told = {name: value for name, value in bound.session.items() if name not in {"model", "type"}}
    return {"type": "realtime", **told} if told else None


def _seconds(body: dict[str, Any]) -> int:
    expires = body.get("expires_after")
    if expires is None:
        return DEFAULT_SECONDS
    seconds = expires.get("seconds", DEFAULT_SECONDS) if isinstance(expires, dict) else None
    if isinstance(expires, dict) and expires.get("anchor", "created_at") != "created_at":
        raise InvalidRequest("'expires_after.anchor' must be 'created_at'.", param="expires_after.anchor")
    if not isinstance(seconds, int) or isinstance(seconds, bool) or not MIN_SECONDS <= seconds <= MAX_SECONDS:
        raise InvalidRequest(
            f"'expires_after.seconds' must be from {MIN_SECONDS} to {MAX_SECONDS}.", param="expires_after.seconds"
        )
    return seconds
