"""One session: two pumps and a watch, from the upgrade to the last charge.

Frames pass as they came. Only events that cost something, or that would choose what costs something, are looked at
twice: `response.done` and a finished transcription go out after their charge is committed.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson
import structlog

from proxy.gateway.errors import (
    GatewayError,
    InvalidRequest,
    ModelNotAllowed,
    RateLimited,
    Unauthenticated,
    Unavailable,
)
from proxy.gateway.exchange import Ending
from proxy.gateway.keys import Keyring, authorize_model
from proxy.gateway.limits import Limiter
from proxy.gateway.realtime.client import ClientLeft, ClientSocket, Frame, close_code, error_event, sendable
from proxy.gateway.realtime.listening import TRANSCRIBED, Listener, transcription_of
from proxy.gateway.realtime.minutes import Minutes
from proxy.gateway.realtime.turns import Ticket, Turns
from proxy.gateway.realtime.upstream import UpstreamClosed, UpstreamSocket
from proxy.gateway.snapshots import Route

log = structlog.get_logger(__name__)

LOOK_S = 0.5
# How long a response that nobody waits for any longer may take to be cancelled and to say what it used.
CANCEL_S = 3.0
_CANCEL = orjson.dumps({"type": "response.cancel"}).decode()


class SessionOver(GatewayError):
    """A limit of ours, or a person, ended the session."""

    status = 400
    type = "invalid_request_error"
    code = "session_expired"


class EndedByStaff(SessionOver):
    code = "session_ended"


@dataclass(frozen=True, slots=True)
class Limits:
    """Of every session: seconds without a frame, seconds in all, bytes of one frame."""

    idle_s: float = 900.0
    session_s: float = 3_600.0
    frame_bytes: int = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Ended:
    """How a session ended: the code it was closed with, what became of a response under way, and the error that the
    client was told, if any."""

    code: int
    reason: str
    outcome: str
    error: GatewayError | None = None


class Session:
    """A session whose first turn is held and whose provider is connected. `run()` once."""

    def __init__(
        self,
        ticket: Ticket,
        client: ClientSocket,
        upstream: UpstreamSocket,
        *,
        turns: Turns,
        listener: Listener,
        minutes: Minutes,
        keyring: Keyring,
        limiter: Limiter,
        rpm: int,
        limits: Limits,
        route_of: Callable[[str], Route | None],
        configuration: dict[str, Any] | None = None,
    ) -> None:
        self.ticket = ticket
        self.turns = turns
        self.started_at = time.time()
        self.ended: Ended | None = None
        self._client = client
        self._upstream = upstream
        self._listener = listener
        self._minutes = minutes
        self._keyring = keyring
        self._limiter = limiter
        self._rpm = rpm
        self._limits = limits
        self._route_of = route_of
        self._configuration = configuration
        self._asked = 0
        self._leaving: GatewayError | None = None
        self._last_frame_at = self._opened_at = time.monotonic()
        self._end: asyncio.Future[GatewayError] = asyncio.get_running_loop().create_future()

    def end(self, error: GatewayError) -> None:
        """End the session with `error`, from anywhere in its loop. May be called twice."""
        if not self._end.done():
            self._end.set_result(error)

    def end_when_quiet(self, error: GatewayError) -> None:
        """End the session with `error` once no response is under way. May be called twice."""
        self._leaving = error
        if self._is_quiet:
            self.end(error)

    @property
    def _is_quiet(self) -> bool:
        return not self._listener.making and not self._asked

    async def run(self) -> Ended:
        """Relay until either side leaves or we end it; then every response is charged and nothing is held."""
        loop = asyncio.get_running_loop()
        from_upstream = loop.create_task(self._pump_upstream())
        tasks: list[asyncio.Task[Ended]] = [from_upstream, loop.create_task(self._pump_client())]
        tasks.append(loop.create_task(self._watch()))
        ended = Ended(1012, "", "interrupted", Unavailable("The server is restarting. Please reconnect."))
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            ended = next(task for task in tasks if task in done).result()
        finally:
            await asyncio.shield(self._finish(ended, tasks, from_upstream))
            self.ended = ended
        return ended

    # ------------------------------------------------------------ the two directions
    async def _pump_client(self) -> Ended:
        try:
            while True:
                frame = await self._client.receive()
                self._last_frame_at = time.monotonic()
                if len(frame) > self._limits.frame_bytes:
                    return Ended(1009, "frame too large", "client_closed")
                if not isinstance(frame, str):
                    self._listener.client_sent_bytes(len(frame))
                elif (refusal := await self._hear(frame)) is not None:
                    await self._client.send(error_event(refusal))
                    continue
                error = await self.turns.grow()
                if error is not None:
                    return _by_us(error)
                await self._upstream.send(frame)
        except ClientLeft as left:
            return Ended(sendable(left.code), "", "client_closed")
        except UpstreamClosed as closed:
            return _by_upstream(closed)

    async def _hear(self, frame: str) -> GatewayError | None:
        """Follow one client event; the error to answer it with in place of passing it on."""
        event = _parsed(frame)
        if event is None:
            return None
        session = event.get("session")
        if event.get("type") == "session.update" and isinstance(session, dict):
            refusal = self._unpriced(session)
            if refusal is not None:
                return refusal
        if event.get("type") == "response.create":
            try:
                await self._limiter.admit(self.ticket.key.id, rpm=self._rpm, tpm=0, tokens=0)
            except RateLimited as error:
                return error
            self._asked += 1
        self._listener.client_sent(event)
        self._minutes.client_sent(event)
        return None

    def _unpriced(self, session: dict[str, Any]) -> GatewayError | None:
        wanted = transcription_of(session)
        if not wanted:
            return None
        route = self._route_of(wanted)
        if route is not None and route.rate is not None:
            try:
                authorize_model(self.ticket.key, wanted, route.model)
            except ModelNotAllowed as error:
                return error
            return None
        return InvalidRequest(
            f"The transcription model {wanted!r} has no price and cannot be used here.",
            param="session.audio.input.transcription.model",
            code="model_not_priced",
        )

    async def _pump_upstream(self) -> Ended:
        try:
            while True:
                frame = await self._upstream.receive()
                self._last_frame_at = time.monotonic()
                event = _parsed(frame)
                error = await self._note(event) if event is not None else None
                await self._client.send(frame)
                if error is None and self._is_quiet:
                    error = self._leaving
                if error is not None:
                    return _by_us(error)
        except UpstreamClosed as closed:
            return _by_upstream(closed)

    async def _note(self, event: dict[str, Any]) -> GatewayError | None:
        """Follow one server event, and charge what it says is done; the error to end with once it has gone out."""
        kind = event.get("type")
        if not isinstance(kind, str):
            return None
        if kind == "response.done":
            response = event.get("response")
            return await self.turns.charge_response(response if isinstance(response, dict) else {})
        if kind == TRANSCRIBED:
            await self.turns.charge_transcription(event)
            return None
        self._listener.provider_sent(kind, event)
        self._minutes.provider_sent(kind, event)
        if kind == "response.created":
            self.turns.started()
            return await self._admit_spoken()
        if kind == "session.created" and self._configuration is not None:
            update = {"type": "session.update", "session": self._configuration}
            self._minutes.client_sent(update)
            await self._upstream.send(orjson.dumps(update).decode())
            self._configuration = None
        if kind.endswith(".delta"):
            self.turns.made_something()
            return await self.turns.grow()
        return None

    async def _admit_spoken(self) -> GatewayError | None:
        """A response that the user's voice began counts as a request too; one too many is cancelled."""
        if self._asked:
            self._asked -= 1
            return None
        try:
            await self._limiter.admit(self.ticket.key.id, rpm=self._rpm, tpm=0, tokens=0)
        except RateLimited as error:
            await self._upstream.send(_CANCEL)
            await self._client.send(error_event(error))
        return None

    # ------------------------------------------------------------ the end
    async def _watch(self) -> Ended:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    return _by_us(await asyncio.shield(self._end))
            now = time.monotonic()
            if self._keyring.is_revoked(self.ticket.key.id) or _has_expired(self.ticket):
                return _by_us(Unauthenticated("This API key has been revoked or has expired."))
            if now - self._opened_at > self._limits.session_s:
                return _by_us(SessionOver(f"A session lasts at most {self._limits.session_s / 60:g} minutes."))
            if now - self._last_frame_at > self._limits.idle_s:
                return _by_us(SessionOver(f"Nothing was said for {self._limits.idle_s / 60:g} minutes."))

    async def _finish(self, ended: Ended, tasks: list[asyncio.Task[Ended]], from_upstream: asyncio.Task[Ended]) -> None:
        """Tell the client why, let the provider say what the last response used, settle, and close."""
        for task in tasks:
            if task is not from_upstream:
                task.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CANCEL_S):
                if ended.error is not None:
                    await self._client.send(error_event(ended.error))
                await self._client.close(ended.code, ended.reason)
        if self._listener.making and not from_upstream.done():
            with contextlib.suppress(UpstreamClosed, TimeoutError):
                async with asyncio.timeout(CANCEL_S):
                    await self._upstream.send(_CANCEL)
                    while self._listener.making and not from_upstream.done():
                        await asyncio.wait([from_upstream], timeout=0.05)
        from_upstream.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.turns.end(Ending(ended.outcome, 200, ended.error.code or "" if ended.error else ""))
        with contextlib.suppress(TimeoutError, OSError):
            async with asyncio.timeout(CANCEL_S):
                await self._upstream.close(ended.code)


def _by_us(error: GatewayError) -> Ended:
    return Ended(close_code(error), error.code or "", "refused", error)


def _by_upstream(closed: UpstreamClosed) -> Ended:
    code = sendable(closed.code)
    is_broken = code == 1011 and closed.code != 1011
    error = GatewayError("The model's provider broke the connection.", code="upstream_cut") if is_broken else None
    return Ended(code, closed.reason, "upstream_cut", error)


def _has_expired(ticket: Ticket) -> bool:
    return ticket.key.expires_at is not None and ticket.key.expires_at <= time.time()


def _parsed(frame: Frame) -> dict[str, Any] | None:
    """An event; None where it is none, which is the other side's to say."""
    if not isinstance(frame, str):
        return None
    try:
        event = orjson.loads(frame)
    except orjson.JSONDecodeError:
        return None
    return event if isinstance(event, dict) else None
