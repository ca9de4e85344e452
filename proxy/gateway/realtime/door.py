"""`WS /v1/realtime`: who may come in, with which model, at which provider; then a session. One ASGI application."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl
from uuid import UUID

import structlog
from uuid_utils.compat import uuid7

from proxy.gateway import ceilings, keys, labels, own, upstream_errors
from proxy.gateway.admission import Cashier
from proxy.gateway.concurrency import Concurrency
from proxy.gateway.errors import (
    GatewayError,
    InvalidRequest,
    ModelNotFound,
    Unauthenticated,
    Unavailable,
    UpstreamFailed,
    UpstreamOverloaded,
)
from proxy.gateway.keys import MAX_CREDENTIAL, Keyring
from proxy.gateway.limits import Limiter
from proxy.gateway.realtime import secrets
from proxy.gateway.realtime.client import ClientLeft, ClientSocket, close_code, error_event
from proxy.gateway.realtime.listening import Listener
from proxy.gateway.realtime.minutes import Minutes
from proxy.gateway.realtime.session import CANCEL_S, EndedByStaff, Limits, Session
from proxy.gateway.realtime.turns import ENDPOINT, Settle, Ticket, Turns
from proxy.gateway.realtime.upstream import HandshakeRefused, Sockets, UpstreamSocket
from proxy.gateway.routing import Router
from proxy.gateway.snapshots import Catalog, Deployment, Key, Route
from proxy.gateway.transcripts import Transcripts
from proxy.gateway.upstream import UpstreamError
from proxy.gateway.wire import Receive, Request, Scope, Send

log = structlog.get_logger(__name__)

CONNECT_S = 15.0
QUEUE_S = 2.0
BETA_CLOSE = 4000


@dataclass(frozen=True, slots=True)
class DoorOptions:
    """What an operator may set."""

    site_url: str
    default_model: str
    default_rpm: int = 0
    trusted_proxies: int = 0
    is_self_hosted: bool = False
    requires_own_key: bool = False
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who stands at the door: a key, or an ephemeral key that it minted."""

    key: Key
    bound: secrets.Bound | None = None


class Door:
    """Opens sessions and knows those that are open in this process."""

    def __init__(
        self,
        *,
        keyring: Keyring,
        client_secrets: secrets.ClientSecrets,
        catalog: Callable[[], Catalog],
        limiter: Limiter,
        concurrency: Concurrency,
        cashier: Cashier,
        settle: Settle,
        router: Router,
        sockets: Sockets,
        options: DoorOptions,
        transcripts: Transcripts | None = None,
    ) -> None:
        self._keyring = keyring
        self._secrets = client_secrets
        self._catalog = catalog
        self._limiter = limiter
        self._concurrency = concurrency
        self._cashier = cashier
        self._settle = settle
        self._router = router
        self._sockets = sockets
        self._options = options
        self._transcripts = transcripts
        self._running: set[asyncio.Task[None]] = set()
        self._is_closing = False
        self.sessions: dict[UUID, Session] = {}
        self.over: list[Session] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection. Its work is a task of the process: a server that cancels this call cancels no charge."""
        task = asyncio.get_running_loop().create_task(self._answer(scope, ClientSocket(scope, receive, send)))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        await asyncio.shield(task)

    def end(self, session_id: UUID, reason: str) -> bool:
        """End a session by staff's or its organization's word; False if it is not open here."""
        session = self.sessions.get(session_id)
        if session is not None:
            session.end(EndedByStaff(reason or "This session was ended."))
        return session is not None

    def end_those_of(self, organization_id: int, end_user: str, error: GatewayError) -> None:
        """End the open sessions of an end user who is blocked."""
        for session in list(self.sessions.values()):
            if session.ticket.key.organization_id == organization_id and session.ticket.end_user == end_user:
                session.end(error)

    async def drain(self, timeout_s: float) -> None:
        """The process stops: nobody comes in any more, a response under way may come to its end while there is time,
        and all is settled. May be called twice."""
        self._is_closing = True
        for session in list(self.sessions.values()):
            session.end_when_quiet(_restarting())
        if self._running:
            await asyncio.wait(self._running, timeout=max(0.0, timeout_s - 2 * CANCEL_S))
        for session in list(self.sessions.values()):
            session.end(_restarting())
        if self._running:
            await asyncio.wait(self._running, timeout=min(timeout_s, 2 * CANCEL_S))

    # ------------------------------------------------------------ one connection
    async def _answer(self, scope: Scope, client: ClientSocket) -> None:
        request = Request({**scope, "method": "GET"}, _nothing)
        session_id: UUID = uuid7()
        headers = [("x-request-id", f"req_{session_id.hex}")]
        try:
            await client.arrive()
            if self._is_closing:
                raise _restarting()
            if client.wants_beta or request.headers.get("openai-beta") == "realtime=v1":
                return await _refuse_beta(client, headers)
            await self._serve(request, client, session_id, headers)
        except ClientLeft:
            pass
        except GatewayError as error:
            await client.refuse(error, headers, code=close_code(error))
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("realtime_failed", session_id=session_id.hex)
            await client.refuse(GatewayError("The server had an error. Please retry."), headers, code=1011)

    async def _serve(
        self, request: Request, client: ClientSocket, session_id: UUID, headers: list[tuple[str, str]]
    ) -> None:
        options = self._options
        visitor = await self._authenticate(request, client)
        key, bound = visitor.key, visitor.bound
        keys.authorize(key, ENDPOINT.path, ENDPOINT.scope, request, trusted_proxies=options.trusted_proxies)
        ticket = self._ticket(request, visitor, session_id)
        rpm = options.default_rpm if key.rpm is None else key.rpm
        headers += (await self._limiter.admit(key.id, rpm=rpm, tpm=0, tokens=0)).headers()
        at_once = [
            (f"key{key.id}", key.max_concurrent),
            (f"organization{key.organization_id}", key.organization_max_concurrent),
        ]
        listener = Listener(ticket.route.model)
        configuration = secrets.configuration(bound) if bound is not None else None
        listener.configured(configuration)
        minutes = Minutes(self._transcripts, days=key.transcript_days)
        turns = Turns(
            ticket,
            listener,
            cashier=self._cashier,
            settle=self._settle,
            route_of=lambda name: self._route(key, name),
            minutes=minutes,
        )
        place_s = round(options.limits.session_s) + 60
        async with self._concurrency.place(at_once, session_id, seconds=place_s):
            await turns.begin()
            async with self._connected(ticket, turns) as upstream:
                if turns.deployment is not None:
                    headers.append(("x-upstream", turns.deployment.label))
                await client.accept(headers)
                session = Session(
                    ticket,
                    client,
                    upstream,
                    turns=turns,
                    listener=listener,
                    minutes=minutes,
                    keyring=self._keyring,
                    limiter=self._limiter,
                    rpm=rpm,
                    limits=options.limits,
                    route_of=lambda name: self._route(key, name),
                    configuration=configuration,
                )
                self.sessions[session_id] = session
                try:
                    ended = await session.run()
                finally:
                    del self.sessions[session_id]
                    self.over.append(session)
        log.info(
            "realtime_session",
            session_id=session_id.hex,
            organization_id=key.organization_id,
            model=ticket.route.model,
            seconds=round(time.time() - session.started_at),
            responses=turns.responses,
            cost_nanos=turns.cost_nanos,
            code=ended.code,
            reason=ended.reason,
        )

    async def _authenticate(self, request: Request, client: ClientSocket) -> Visitor:
        """Raises `Unauthenticated`, `Unavailable`."""
        secret = keys.credential(request) or client.protocol_key
        if not secret:
            raise Unauthenticated(
                "You didn't provide an API key. Send it in the Authorization header, or from a browser as the "
                "subprotocol 'openai-insecure-api-key.YOUR_KEY'."
            )
        if secret.startswith(secrets.PREFIX):
            bound = await self._secrets.find(secret) if len(secret) <= MAX_CREDENTIAL else None
            key = await self._keyring.find_digest(bound.key_digest) if bound is not None else None
            if key is not None:
                return Visitor(key, bound)
        elif len(secret) <= MAX_CREDENTIAL and secret.isascii():
            key = await self._keyring.find(secret)
            if key is not None:
                return Visitor(key)
        raise Unauthenticated(f"Incorrect API key provided: {keys.mask(secret)}. It is unknown, revoked or expired.")

    def _ticket(self, request: Request, visitor: Visitor, session_id: UUID) -> Ticket:
        """What the session will be. Raises the error to refuse it with; nothing is held yet."""
        key, bound, options = visitor.key, visitor.bound, self._options
        query = dict(parse_qsl(request.query))
        if "call_id" in query:
            raise InvalidRequest("Calls are not offered here: connect with 'model'.", param="call_id")
        asked = query.get("model") or (bound.model if bound is not None else options.default_model)
        if bound is not None and asked != bound.model:
            raise InvalidRequest(f"This ephemeral key is for the model {bound.model!r}.", param="model")
        route = self._catalog().find(key.aliases.get(asked, asked), key.price_list)
        if route is None or not route.deployments:
            raise ModelNotFound(asked[:200])
        keys.authorize_model(key, asked, route.model)
        if ENDPOINT.path not in route.endpoints:
            raise InvalidRequest(
                f"The model {asked!r} does not speak Realtime.", param="model", code="unsupported_model"
            )
        if route.rate is None:
            raise InvalidRequest(
                f"The model {asked!r} has no price yet and cannot be used.", param="model", code="model_not_priced"
            )
        own_key = own.read(request, is_offered=options.is_self_hosted)
        if options.requires_own_key and not own.has_key(route.deployments, key, own_key):
            raise own.UpstreamKeyRequired(f"{options.site_url}/o/{key.organization_slug}/upstream-keys/")
        end_user = bound.end_user if bound is not None and bound.end_user else labels.read(request, labels.END_USER)
        return Ticket(
            session_id=session_id,
            key=key,
            route=route,
            rate=route.rate,
            end_user=end_user[: labels.MAX_LABEL],
            run_id=labels.read(request, labels.RUN),
            org_label=labels.read(request, labels.ORGANIZATION),
            own_key=own_key,
            max_nanos=ceilings.read(request, ceilings.OF_CALL),
            run_max_nanos=ceilings.read(request, ceilings.OF_RUN),
        )

    def _route(self, key: Key, name: str) -> Route | None:
        return self._catalog().find(key.aliases.get(name, name), key.price_list) if name else None

    @contextlib.asynccontextmanager
    async def _connected(self, ticket: Ticket, turns: Turns) -> AsyncIterator[UpstreamSocket]:
        """A socket to the first deployment that takes the session. Raises `GatewayError`; then nothing is held."""
        upstream: UpstreamSocket | None = None
        entered: Deployment | None = None
        try:
            upstream, entered = await self._connect(ticket, turns)
            yield upstream
        finally:
            if entered is not None:
                self._router.leave(entered)
            if upstream is None:
                await asyncio.shield(turns.give_up())

    async def _connect(self, ticket: Ticket, turns: Turns) -> tuple[UpstreamSocket, Deployment]:
        attempts: list[dict[str, Any]] = []
        last: GatewayError = UpstreamOverloaded(2)
        left = self._router.candidates(ticket.route)
        while left:
            candidate = await self._router.enter(left, wait_s=QUEUE_S)
            if candidate is None:
                break
            left.remove(candidate)
            deployment = own.with_own_key(candidate, ticket.key, ticket.own_key)
            started = time.perf_counter()
            try:
                socket = await self._sockets.open(deployment, timeout_s=deployment.timeout_s or CONNECT_S)
            except UpstreamError as error:
                self._router.leave(candidate)
                last = _told(error, deployment, ticket.route.model)
                attempts.append(_attempt(deployment, last.status, last.code or "", started))
                turns.connected(deployment, attempts)
                if not upstream_errors.may_try_elsewhere(last):
                    raise last from None
                self._router.failed(deployment)
                continue
            except BaseException:
                self._router.leave(candidate)
                raise
            self._router.succeeded(deployment, time.perf_counter() - started)
            attempts.append(_attempt(deployment, 101, "", started))
            turns.connected(deployment, attempts)
            return socket, candidate
        raise last


def _restarting() -> Unavailable:
    return Unavailable("The server is restarting. Please reconnect.")


def _told(error: UpstreamError, deployment: Deployment, model: str) -> GatewayError:
    if isinstance(error, HandshakeRefused):
        if error.status in {404, 405, 426}:
            return UpstreamFailed()
        return upstream_errors.from_status(error.status, b"", {}, deployment, model)
    return upstream_errors.from_exception(error)


def _attempt(deployment: Deployment, status: int, code: str, started: float) -> dict[str, Any]:
    ms = round((time.perf_counter() - started) * 1000)
    return {"deployment": deployment.label, "status": status, "error": code, "ms": ms}


async def _refuse_beta(client: ClientSocket, headers: list[tuple[str, str]]) -> None:
    """As OpenAI does: the upgrade, an error event, close 4000."""
    error = InvalidRequest(
        "The Realtime beta API is no longer supported. Please use the GA API.", code="beta_api_shape_disabled"
    )
    await client.accept(headers)
    await client.send(error_event(error))
    await client.close(BETA_CLOSE, error.code or "")


async def _nothing() -> dict[str, Any]:
    return {"type": "websocket.disconnect"}
