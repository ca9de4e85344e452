"""Events, signed as Stripe signs them (docs.stripe.com/webhooks, "Verify manually") and sent until they are taken."""

import asyncio
import hashlib
import hmac
import json
import secrets
import time
from typing import Any

import httpx

TRIES = 8
TIMEOUT_S = 10


def event_of(kind: str, subject: dict[str, Any]) -> dict[str, Any]:
    """An event as it stands now."""
    return {
        "id": f"evt_{secrets.token_hex(12)}",
        "object": "event",
        "api_version": "2026-10-28.endive",
        "type": kind,
        "created": int(time.time()),
        "livemode": False,
        "data": {"object": json.loads(json.dumps({k: v for k, v in subject.items() if k != "sandbox"}))},
    }


def signature(payload: bytes, secret: str, at: int | None = None) -> str:
    """The `Stripe-Signature` header of a payload."""
    moment = int(time.time()) if at is None else at
    digest = hmac.new(secret.encode(), f"{moment}.".encode() + payload, hashlib.sha256).hexdigest()
    return f"t={moment},v1={digest}"


class Courier:
    """Sends events to one endpoint, each until it is answered with 2xx or has been tried often enough."""

    def __init__(self, endpoint: str, secret: str) -> None:
        self.endpoint = endpoint
        self.secret = secret
        self.sent: list[dict[str, Any]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def tell(self, kind: str, subject: dict[str, Any]) -> None:
        event = event_of(kind, subject)
        self.sent.append(event)
        if self.endpoint:
            task = asyncio.get_running_loop().create_task(self._deliver(event))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _deliver(self, event: dict[str, Any]) -> None:
        payload = json.dumps(event).encode()
        async with httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False) as client:
            for number in range(TRIES):
                headers = {"stripe-signature": signature(payload, self.secret), "content-type": "application/json"}
                try:
                    answer = await client.post(self.endpoint, content=payload, headers=headers)
                except httpx.HTTPError:
                    pass
                else:
                    if answer.is_success:
                        return
                await asyncio.sleep(min(30, 2**number))
