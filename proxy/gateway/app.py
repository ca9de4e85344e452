"""The gateway as an ASGI application: authenticate, parse, limit, route, hold, relay, capture."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import unquote
from uuid import UUID

import orjson
import structlog
from uuid_utils.compat import uuid7

from billing.money import format_credits
from billing.teller import TellerUnavailable
from proxy.gateway import (
    idempotency,
    image_tool,
    keys,
    labels,
    messages,
    metrics,
    own,
    passthrough,
)
from proxy.gateway.admission import Cashier
from proxy.gateway.concurrency import Concurrency
from proxy.gateway.endpoints import ENDPOINTS
from proxy.gateway.errors import (
    GatewayError,
    InvalidRequest,
    MethodNotAllowed,
    ModelNotFound,
    Unavailable,
    UnknownUrl,
    UnsupportedValue,
    UpstreamFailed,
    UpstreamOverloaded,
    UpstreamTimeout,
)
from proxy.gateway.exchange import Exchange
from proxy.gateway.forms import Form
from proxy.gateway.intake import Arrival, open_exchange
from proxy.gateway.jobs import Endpoint, Job
from proxy.gateway.keys import Keyring
from proxy.gateway.limits import Limiter
from proxy.gateway.options import Options
from proxy.gateway.owned import RESPONSES, Keeper
from proxy.gateway.passthrough import Passthrough
from proxy.gateway.pulse import PULSE
from proxy.gateway.realtime import secrets
from proxy.gateway.realtime import upstream as realtime
from proxy.gateway.relay import Relay
from proxy.gateway.sinks import Sink
from proxy.gateway.snapshots import Catalog, Key, Route
from proxy.gateway.wire import ClientGone, Receive, Request, Response, Scope, Send, intended

log = structlog.get_logger(__name__)

BODY_TIMEOUT_S = 60.0
UPLOAD_TIMEOUT_S = 900.0


class Gateway:
    """Answers every path under `/v1`. `catalog` gives the current snapshot."""

    def __init__(
        self,
        *,
        keyring: Keyring,
        catalog: Callable[[], Catalog],
        limiter: Limiter,
        concurrency: Concurrency,
        cashier: Cashier,
        relay: Relay,
        keeper: Keeper,
        passthrough: Passthrough,
        client_secrets: secrets.ClientSecrets,
        options: Options,
    ) -> None:
        self._keyring = keyring
        self._catalog = catalog
        self._limiter = limiter
        self._concurrency = concurrency
        self._cashier = cashier
        self._relay = relay
        self._keeper = keeper
        self._passthrough = passthrough
        self._client_secrets = client_secrets
        self._options = options
        self._running: set[asyncio.Task[None]] = set()
        self._is_closing = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request. Its work is a task of the process: a server that cancels this call cancels no charge."""
        task = asyncio.get_running_loop().create_task(self._answer(Request(scope, receive), Response(send)))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        await asyncio.shield(task)

    @property
    def in_flight(self) -> int:
        return len(self._running)

    def stop_waiting(self) -> None:
        """The process stops: no request waits for another one any more. Those that run go on."""
        self._is_closing = True

    async def drain(self, timeout_s: float) -> None:
        """Let running requests finish for `timeout_s`, then end them; each is settled either way."""
        self.stop_waiting()
        if self._running:
            await asyncio.wait(self._running, timeout=timeout_s)
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running, timeout=10)

    async def _answer(self, request: Request, response: Response) -> None:
        request_id: UUID = uuid7()
        headers = [("x-request-id", f"req_{request_id.hex}"), ("openai-version", "2020-10-01")]
        try:
            await self._dispatch(request, response, request_id, headers)
        except GatewayError as error:
            await self._refuse(request, response, error, headers)
        except TellerUnavailable:
            PULSE.failed_ourselves()
            await self._refuse(request, response, Unavailable(), headers)
        except ClientGone:
            pass
        except asyncio.CancelledError:
            if not response.is_started:
                await self._refuse(request, response, Unavailable("The server is restarting. Please retry."), headers)
            raise
        except Exception:
            log.exception("gateway_failed", request_id=request_id.hex, path=request.path[:100])
            PULSE.failed_ourselves()
            await self._refuse(request, response, GatewayError("The server had an error. Please retry."), headers)

    async def _refuse(
        self, request: Request, response: Response, error: GatewayError, headers: list[tuple[str, str]]
    ) -> None:
        metrics.REFUSED.labels(error.code or "none").inc()
        if response.is_started:
            return
        body = b"" if request.method == "HEAD" else error.body()
        if body and request.path.startswith(messages.PATH):
            body = messages.error_body(error, dict(headers)["x-request-id"])
        await response.whole(error.status, [*headers, ("content-type", "application/json"), *error.headers], body)

    async def _dispatch(
        self, request: Request, response: Response, request_id: UUID, headers: list[tuple[str, str]]
    ) -> None:
        path = request.path
        endpoint = ENDPOINTS.get(path)
        if endpoint is not None:
            if request.method != "POST":
                raise MethodNotAllowed(request.method, "POST")
            await self._metered(endpoint, request, response, request_id, headers)
        elif path == "/v1/models" or path.startswith("/v1/models/"):
            if request.method not in {"GET", "HEAD"}:
                raise MethodNotAllowed(request.method, "GET")
            key = await keys.authenticate(request, self._keyring)
            keys.authorize(key, "/v1/models", "models", request, trusted_proxies=self._options.trusted_proxies)
            body = self._models(key, unquote(path.removeprefix("/v1/models").removeprefix("/")))
            headers.append(("content-type", "application/json"))
            await response.whole(200, headers, b"" if request.method == "HEAD" else orjson.dumps(body))
        elif path == messages.COUNT_PATH:
            await self._count(request, response, headers)
        elif path == secrets.PATH:
            await self._mint(request, response, headers)
        elif path.startswith(RESPONSES):
            await self._object(request, response, headers)
        elif (meant := intended(path)) != path:
            raise UnknownUrl(request.method, path, meant)
        else:
            await self._pass(request, response, headers)

    def _models(self, key: Key, name: str) -> dict[str, Any]:
        """The model `name`, or the list of those that this key may use ("List models", "Retrieve model")."""
        catalog = self._catalog()
        if name:
            route = catalog.find(name)
            if route is None:
                raise ModelNotFound(name)
            keys.authorize_model(key, name, route.model)
            return _model_object(name, route)
        return {
            "object": "list",
            "data": [
                _model_object(name, route)
                for name, route in catalog.routes.items()
                if name == route.model and route.is_listed and (not key.allowed_models or name in key.allowed_models)
            ],
        }

    async def _pass(self, request: Request, response: Response, headers: list[tuple[str, str]]) -> None:
        """A path that we do not know."""
        key = await keys.authenticate(request, self._keyring)
        own_key = own.read(request, is_offered=self._options.is_self_hosted)
        target = self._passthrough.target(request, key, own_key, self._catalog())
        keys.authorize(key, request.path, passthrough.SCOPE, request, trusted_proxies=self._options.trusted_proxies)
        rpm = self._options.default_rpm if key.rpm is None else key.rpm
        headers += (await self._limiter.admit(key.id, rpm=rpm, tpm=0, tokens=0)).headers()
        await self._passthrough.serve(request, response, key, target, headers)

    async def _count(self, request: Request, response: Response, headers: list[tuple[str, str]]) -> None:
        """How many tokens a message would have: free, by our own count ("Count tokens in a Message")."""
        if request.method != "POST":
            raise MethodNotAllowed(request.method, "POST")
        key = await keys.authenticate(request, self._keyring)
        keys.authorize(key, messages.PATH, "chat", request, trusted_proxies=self._options.trusted_proxies)
        rpm = self._options.default_rpm if key.rpm is None else key.rpm
        headers += (await self._limiter.admit(key.id, rpm=rpm, tpm=0, tokens=0)).headers()
        parsed, _ = await request.json(limit=self._options.max_body_bytes, timeout_s=BODY_TIMEOUT_S)
        job = messages.parse_for_count(parsed)
        if self._catalog().find(job.model) is None:
            raise ModelNotFound(job.model)
        headers.append(("content-type", "application/json"))
        await response.whole(200, headers, orjson.dumps({"input_tokens": job.prompt_tokens}))

    async def _mint(self, request: Request, response: Response, headers: list[tuple[str, str]]) -> None:
        """An ephemeral key for a browser's Realtime session: ours, so that the session passes through us."""
        if request.method != "POST":
            raise MethodNotAllowed(request.method, "POST")
        key = await keys.authenticate(request, self._keyring)
        keys.authorize(key, realtime.PATH, "realtime", request, trusted_proxies=self._options.trusted_proxies)
        rpm = self._options.default_rpm if key.rpm is None else key.rpm
        headers += (await self._limiter.admit(key.id, rpm=rpm, tpm=0, tokens=0)).headers()
        parsed, _ = await request.json(limit=self._options.max_body_bytes, timeout_s=BODY_TIMEOUT_S)
        wanted = secrets.parse(parsed, default_model=self._options.realtime_model)
        route = self._catalog().find(key.aliases.get(wanted.model, wanted.model), key.price_list)
        if route is None or realtime.PATH not in route.endpoints:
            raise ModelNotFound(wanted.model)
        keys.authorize_model(key, wanted.model, route.model)
        end_user = labels.read(request, labels.END_USER)
        secret = await self._client_secrets.mint(key.id, wanted, end_user=end_user)
        headers.append(("content-type", "application/json"))
        await response.whole(200, headers, orjson.dumps(secrets.answer(secret, wanted)))

    async def _object(self, request: Request, response: Response, headers: list[tuple[str, str]]) -> None:
        """An object that an earlier request made: free, and only for those who made it."""
        key = await keys.authenticate(request, self._keyring)
        addressed = self._keeper.address(request)
        keys.authorize(key, "/v1/responses", "responses", request, trusted_proxies=self._options.trusted_proxies)
        rpm = self._options.default_rpm if key.rpm is None else key.rpm
        headers += (await self._limiter.admit(key.id, rpm=rpm, tpm=0, tokens=0)).headers()
        status, body = await self._keeper.serve(key, request, addressed, self._catalog())
        headers.append(("content-type", "application/json"))
        await response.whole(status, headers, body)

    async def _pin(self, exchange: Exchange) -> None:
        """What builds on an earlier response must be its owner's, and go to the provider that has it."""
        upstream_id = exchange.job.continues
        made_by = await self._keeper.deployment_of(exchange.key, upstream_id, self._catalog())
        if made_by is None:
            raise InvalidRequest(
                f"Previous response with id {upstream_id[:100]!r} not found.",
                param="previous_response_id",
                code="previous_response_not_found",
            )
        if not any(deployment.provider == made_by.provider for deployment in exchange.route.deployments):
            raise UnsupportedValue(
                f"The previous response was made by a provider that does not serve {exchange.job.model!r}.",
                param="previous_response_id",
            )
        exchange.provider = made_by.provider

    async def _metered(
        self,
        endpoint: Endpoint,
        request: Request,
        response: Response,
        request_id: UUID,
        headers: list[tuple[str, str]],
    ) -> None:
        started_at = time.perf_counter()
        key = await keys.authenticate(request, self._keyring)
        arrival = Arrival(request, response, key, request_id, headers, started_at)
        keys.authorize(key, endpoint.path, endpoint.scope, request, trusted_proxies=self._options.trusted_proxies)
        if endpoint.fields_of is None:
            parsed, content = await request.json(limit=self._options.max_body_bytes, timeout_s=BODY_TIMEOUT_S)
            return await self._serve(arrival, endpoint, _parsed(endpoint, parsed, None), content)
        form = await request.form(limit=self._options.max_upload_bytes, idle_s=BODY_TIMEOUT_S, total_s=UPLOAD_TIMEOUT_S)
        try:
            await self._serve(arrival, endpoint, _parsed(endpoint, endpoint.fields_of(form), form), form.digest)
        finally:
            form.close()

    async def _serve(self, arrival: Arrival, endpoint: Endpoint, job: Job, content: bytes) -> None:
        """A parsed request: limit, route, hold, relay. `content` is what a repeat of it must have in common."""
        request, response, key, headers = arrival.request, arrival.response, arrival.key, arrival.headers
        idempotency_key = idempotency.read_key(request.headers.get("idempotency-key"))
        exchange = self._open(arrival, endpoint, job)
        if job.continues:
            await self._pin(exchange)
        rpm, tpm = self._options.default_rpm if key.rpm is None else key.rpm, key.tpm or 0
        counted = job.input_tokens + (job.output_tokens or 0) * job.answers
        if job.tool is not None:
            counted += image_tool.counted(job.tool)
        allowance = await self._limiter.admit(key.id, rpm=rpm, tpm=tpm, tokens=counted)
        headers += allowance.headers()
        if key.organization_rpm or key.organization_tpm:
            await self._limiter.admit(
                f"o{key.organization_id}", rpm=key.organization_rpm, tpm=key.organization_tpm, tokens=counted
            )
        if idempotency_key:
            digest = idempotency.body_digest(endpoint.path, content)
            pause = idempotency.pausing(request, is_closing=lambda: self._is_closing)
            replay = await idempotency.claim(
                self._cashier.teller, key, idempotency_key, digest, arrival.request_id, pause=pause
            )
            if replay is not None:
                stored = replay.response
                await response.whole(stored.status, [*stored.headers, ("idempotent-replayed", "true")], stored.body)
                return
            exchange.idempotency_key = idempotency_key
        try:
            if not key.max_concurrent and not key.organization_max_concurrent:
                return await self._run_or_fall_back(arrival, exchange)
            at_once = [
                (f"key{key.id}", key.max_concurrent),
                (f"organization{key.organization_id}", key.organization_max_concurrent),
            ]
            async with self._concurrency.place(at_once, arrival.request_id):
                await self._run_or_fall_back(arrival, exchange)
        except BaseException:
            # A charge that is still on its way ends the claim itself: freed, a repeat would be charged again.
            if exchange.idempotency_key and not response.is_started and not exchange.is_charged:
                await asyncio.shield(
                    self._cashier.teller.release(
                        organization_id=key.organization_id, key=idempotency_key, request_id=arrival.request_id
                    )
                )
            raise

    async def _run_or_fall_back(self, arrival: Arrival, exchange: Exchange) -> None:
        """Run it; if no deployment of the model answers, run the organization's fallback model in its place.

        That is a request of its own, with a hold and a record of its own, at its own price.
        """
        try:
            await self._run(arrival, exchange)
        except GatewayError as error:
            fallback = self._fallback(arrival, exchange, error)
            if fallback is None:
                raise
            if exchange.idempotency_key:
                raise  # the claim is the first request's; a repeat runs anew
            arrival.headers[:] = [
                (name, f"req_{fallback.request_id.hex}" if name == "x-request-id" else value)
                for name, value in arrival.headers
                if name != "x-credits-remaining"
            ]
            arrival.headers.append(("x-fallback-from", exchange.route.model))
            log.info("fell_back", model=exchange.route.model, to=fallback.route.model, error=error.code)
            await self._run(arrival, fallback)

    def _fallback(self, arrival: Arrival, exchange: Exchange, error: GatewayError) -> Exchange | None:
        name = arrival.key.fallback_model
        is_upstreams = isinstance(error, UpstreamFailed | UpstreamTimeout | UpstreamOverloaded)
        if not name or not is_upstreams or arrival.response.is_started or exchange.job.continues:
            return None
        again = replace(exchange.job, model=name, body={**exchange.job.body, "model": name})
        try:
            fallback = self._open(replace(arrival, request_id=uuid7()), exchange.endpoint, again)
        except GatewayError:
            return None
        return None if fallback.route.model == exchange.route.model else fallback

    def _open(self, arrival: Arrival, endpoint: Endpoint, job: Job) -> Exchange:
        return open_exchange(arrival, endpoint, job, catalog=self._catalog(), options=self._options)

    async def _run(self, arrival: Arrival, exchange: Exchange) -> None:
        """Hold, then relay."""
        available = await self._cashier.hold(exchange)
        if exchange.job.is_stream and not self._options.is_self_hosted:
            arrival.headers.append(("x-credits-remaining", format_credits(available)))
        metrics.HOLDS.inc()
        sink = Sink(arrival.request, arrival.response, timeout_s=self._options.deadlines.idle_s)
        try:
            await self._relay.run(exchange, sink, arrival.headers)
        finally:
            sink.close()
            metrics.HOLDS.dec()


def _parsed(endpoint: Endpoint, parsed: dict[str, Any], form: Form | None) -> Job:
    if form is not None and endpoint.parse_form is not None:
        return endpoint.parse_form(parsed, form)
    assert endpoint.parse is not None  # noqa: S101 - an endpoint takes one or the other
    return endpoint.parse(parsed)


def _model_object(name: str, route: Route) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": route.created, "owned_by": route.owned_by}
