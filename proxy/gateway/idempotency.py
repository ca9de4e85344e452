"""`Idempotency-Key`: the same key and body within a day is answered from the first one's result and charged once.

Only a charged answer is kept; a request that failed before it cost anything frees its key, so that a retry runs anew.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from uuid import UUID

from billing.teller import StoredResponse, Teller
from proxy.gateway.errors import IdempotencyConflict, InvalidRequest, Unavailable
from proxy.gateway.snapshots import Key
from proxy.gateway.wire import ClientGone, Request

MAX_KEY = 255
FIRST_POLL_S = 0.05
MAX_POLL_S = 1.0
MAX_WAIT_S = 300.0


@dataclass(frozen=True, slots=True)
class Replay:
    """The stored answer of an earlier request."""

    response: StoredResponse


def body_digest(path: str, body: bytes) -> bytes:
    """What must be the same for two requests to be one: the endpoint and the bytes of the body."""
    return hashlib.sha256(path.encode() + b"\0" + body).digest()


def read_key(value: str | None) -> str:
    """The header's value; "" if there is none. Raises `InvalidRequest`."""
    if value is None:
        return ""
    key = value.strip()
    if not key or len(key) > MAX_KEY or not key.isprintable():
        raise InvalidRequest(f"'Idempotency-Key' must have 1 to {MAX_KEY} printable characters.")
    return key


def pausing(request: Request, *, is_closing: Callable[[], bool]) -> Callable[[float], Awaitable[None]]:
    """How `request` waits for another one. That raises `ClientGone`, and `Unavailable` in a process that stops: the
    other one's worker may be dead, and its key free only minutes later."""

    async def pause(seconds: float) -> None:
        if is_closing():
            raise Unavailable("The server is restarting. Please retry.")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await request.wait_for_disconnect()
                raise ClientGone

    return pause


async def claim(
    teller: Teller,
    key: Key,
    idempotency_key: str,
    digest: bytes,
    request_id: UUID,
    *,
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Replay | None:
    """Claim the key for `request_id`; None if this request shall run, the replay if an earlier one has.

    Waits for one that is still running, by `pause` for so many seconds; what that raises ends the waiting. Raises
    `IdempotencyConflict`, `Unavailable` or `TellerUnavailable`.
    """
    loop = asyncio.get_running_loop()
    give_up_at = loop.time() + MAX_WAIT_S
    pause_s = FIRST_POLL_S
    while True:
        claimed = await teller.claim(
            organization_id=key.organization_id, key=idempotency_key, body_sha=digest, request_id=request_id
        )
        match claimed.state:
            case "new":
                return None
            case "done" if claimed.response is not None:
                return Replay(claimed.response)
            case "mismatch":
                raise IdempotencyConflict("This Idempotency-Key was used with another request body. Use a new key.")
            case "running" if loop.time() < give_up_at:
                await pause(pause_s)
                pause_s = min(MAX_POLL_S, pause_s * 2)
            case "running":
                raise Unavailable("The first request with this Idempotency-Key is still running.", retry_s=30)
            case _:
                raise IdempotencyConflict(
                    "The first request with this Idempotency-Key was charged, but its answer was interrupted or is too "
                    "large to be kept. Use a new key.",
                    code="idempotency_result_lost",
                )
