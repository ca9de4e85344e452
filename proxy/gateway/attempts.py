"""Getting an answer: which deployment, how long to wait, when to try the next.

All of it happens before the first byte goes to the client; after that nothing is tried again.
"""

import asyncio
import random
import time
from dataclasses import dataclass
from typing import Any

import orjson
import structlog

from proxy.gateway import metrics, own, upstream_errors, workers_ai
from proxy.gateway.endpoints import upstream_body
from proxy.gateway.errors import GatewayError, Unavailable, UpstreamFailed, UpstreamOverloaded, UpstreamTimeout
from proxy.gateway.exchange import Exchange
from proxy.gateway.forms import Upload
from proxy.gateway.providers import headers_of, url_of
from proxy.gateway.routing import Router
from proxy.gateway.sinks import Sink
from proxy.gateway.snapshots import Deployment
from proxy.gateway.traces import Traces
from proxy.gateway.upstream import (
    Answer,
    AnswerTooLarge,
    Client,
    Disconnected,
    Finished,
    TimedOut,
    UpstreamError,
)

log = structlog.get_logger(__name__)

MAX_ANSWER_BYTES = 64 * 1024 * 1024
MAX_ERROR_BYTES = 64 * 1024
# How long a silent upstream is waited for before looking around: for a hang-up, a revoked key, a keep-alive.
LOOK_AROUND_S = 5.0
FIRST_PAUSE_S = 0.1
MAX_PAUSE_S = 2.0
SLOWEST_UPLOAD_BYTES_PER_S = 500_000
# An object with one of these is an answer, whatever its field `error` says.
_ANSWERS = frozenset({"choices", "data", "output", "results", "text"})


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds: until the status line, between two pieces, for all of it, for draining after the client left, and for
    a place at a deployment that is full. `retries` is how often a request is tried again once every deployment failed.
    """

    first_byte_s: float = 120.0
    idle_s: float = 60.0
    total_s: float = 900.0
    drain_s: float = 30.0
    queue_s: float = 1.0
    retries: int = 0


@dataclass(frozen=True, slots=True)
class Opened:
    """An upstream's answer of status 200. `body` is all of it, or of a stream the first piece (None: silent so far)."""

    answer: Answer
    body: bytes | None
    parsed: dict[str, Any] | None
    is_stream: bool
    deployment: Deployment


class Attempts:
    """Calls a route's deployments, best first, until one answers."""

    def __init__(self, *, client: Client, router: Router, deadlines: Deadlines, traces: Traces | None = None) -> None:
        self._client = client
        self._traces = traces
        self._router = router
        self._deadlines = deadlines

    async def open(self, exchange: Exchange, sink: Sink) -> Opened:
        """Try the route's deployments until one answers 200. Raises the last one's error.

        Each is tried once; then, after a pause, the best again, as often as `retries` says. What the caller opens, it
        gives back with `close`.
        """
        last: GatewayError = Unavailable("No provider serves this model at the moment.", retry_s=5)
        waiting = self._router.candidates(exchange.route, provider=exchange.provider)
        retries = self._deadlines.retries
        while True:
            candidate = await self._router.enter(waiting, wait_s=self._deadlines.queue_s)
            if candidate is None:
                if not exchange.attempts and exchange.route.deployments:
                    last = UpstreamOverloaded()
                if not retries or not _is_brief(last) or sink.is_gone:
                    raise last
                retries -= 1
                await asyncio.sleep(self._pause(last, self._deadlines.retries - retries))
                waiting = self._router.candidates(exchange.route, provider=exchange.provider)[:1]
                continue
            waiting = [each for each in waiting if each.id != candidate.id]
            try:
                return await self._try(exchange, candidate)
            except BaseException as error:
                self._router.leave(candidate)
                if not isinstance(error, GatewayError) or not upstream_errors.may_try_elsewhere(error) or sink.is_gone:
                    raise
                last = error

    def close(self, opened: Opened) -> None:
        """The exchange has ended: close the answer and let another request take its place."""
        opened.answer.close()
        self._router.leave(opened.deployment)

    async def _try(self, exchange: Exchange, candidate: Deployment) -> Opened:
        started = time.perf_counter()
        deployment = own.with_own_key(candidate, exchange.key, exchange.own_key)
        exchange.deployment = deployment
        try:
            opened = await self._attempt(exchange, deployment)
        except GatewayError as error:
            self._note(exchange, deployment, started, error.status, error.code or "")
            if upstream_errors.may_try_elsewhere(error):
                self._router.failed(deployment)
                metrics.UPSTREAM_FAILURES.labels(deployment.label, error.code).inc()
            raise
        self._note(exchange, deployment, started, 200, "")
        self._router.succeeded(deployment, time.perf_counter() - started)
        return opened

    def _pause(self, error: GatewayError, number: int) -> float:
        """Seconds before the `number`th retry: what the upstream asked for if that is short, else a little more each
        time, with jitter so that not all come back at once."""
        asked = dict(error.headers).get("retry-after", "")
        if isinstance(error, UpstreamOverloaded) and asked.isdecimal() and int(asked) <= MAX_PAUSE_S:
            return float(asked)
        jitter = random.uniform(0.5, 1.0)  # noqa: S311 - spreads load
        return min(MAX_PAUSE_S, FIRST_PAUSE_S * float(2**number)) * jitter

    def _note(self, exchange: Exchange, deployment: Deployment, started: float, status: int, code: str) -> None:
        ended = time.perf_counter()
        exchange.attempt_times.append((started, ended))
        exchange.attempts.append(
            {
                "deployment": deployment.label,
                "status": status,
                "error": code,
                "ms": round((ended - started) * 1000),
            }
        )

    async def _attempt(self, exchange: Exchange, deployment: Deployment) -> Opened:
        """One deployment's answer of status 200. Raises `GatewayError`."""
        if workers_ai.handles(deployment, exchange.endpoint):
            return await self._run_workers_ai(exchange, deployment)
        answer = await self._post(exchange, deployment)
        try:
            exchange.upstream_request_id = answer.headers.get("x-request-id", "")[:200]
            if answer.status != 200:
                body = await self._read(answer, MAX_ERROR_BYTES)
                raise upstream_errors.from_status(answer.status, body, answer.headers, deployment, exchange.route.model)
            media_type = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
            if exchange.job.is_stream and media_type not in {"application/json", "text/html"}:
                return Opened(answer, await self._first_piece(answer), None, is_stream=True, deployment=deployment)
            return self._parse(exchange, deployment, answer, await self._read(answer, MAX_ANSWER_BYTES))
        except UpstreamError as error:
            answer.close()
            raise upstream_errors.from_exception(error) from None
        except BaseException:
            answer.close()
            raise

    async def _run_workers_ai(self, exchange: Exchange, deployment: Deployment) -> Opened:
        """The answer of a model that Workers AI has under its own name and JSON, as OpenAI's API tells it."""
        job, path = exchange.job, exchange.endpoint.path
        answers = []
        for call in await workers_ai.calls_of(deployment, exchange.endpoint, job):
            answers.append(await self._fetch(exchange, deployment, call))
        media_type, body = answers[0]
        if path == workers_ai.SPEECH:
            sound = workers_ai.sound_of(media_type, body)
            return Opened(Finished(), sound, None, is_stream=True, deployment=deployment)
        if path == workers_ai.IMAGES:
            parsed = workers_ai.images_answer([workers_ai.image_of(*answer) for answer in answers])
        else:
            parsed = workers_ai.transcription_of(body)
        return Opened(Finished(), orjson.dumps(parsed), parsed, is_stream=False, deployment=deployment)

    async def _fetch(self, exchange: Exchange, deployment: Deployment, call: workers_ai.Call) -> tuple[str, bytes]:
        """(media type, body) of an answer of status 200. Raises `GatewayError`."""
        timeout_s = deployment.timeout_s or self._deadlines.first_byte_s
        try:
            answer = await self._client.post(call.url, headers=call.headers, body=call.body, timeout_s=timeout_s)
        except UpstreamError as error:
            raise upstream_errors.from_exception(error) from None
        try:
            exchange.upstream_request_id = answer.headers.get("cf-ray", "")[:200]
            body = await self._read(answer, MAX_ANSWER_BYTES if answer.status == 200 else MAX_ERROR_BYTES)
            if answer.status != 200:
                raise upstream_errors.from_status(answer.status, body, answer.headers, deployment, exchange.route.model)
            return answer.headers.get("content-type", "").lower(), body
        except UpstreamError as error:
            raise upstream_errors.from_exception(error) from None
        finally:
            answer.close()

    async def _post(self, exchange: Exchange, deployment: Deployment) -> Answer:
        url = url_of(deployment, exchange.endpoint.served_as, api_version=exchange.api_version)
        headers = headers_of(deployment) | {
            "content-type": "application/json",
            "accept": exchange.endpoint.accept if exchange.job.is_stream else "application/json",
        }
        if self._traces is not None:
            headers |= self._traces.headers(exchange, deployment)
        body = upstream_body(exchange.endpoint, exchange.job, deployment, output_cap=exchange.output_cap)
        if isinstance(body, Upload):
            headers |= {"content-type": body.content_type, "content-length": str(body.length)}
        timeout_s = deployment.timeout_s or self._deadlines.first_byte_s
        if isinstance(body, Upload):
            timeout_s += body.length / SLOWEST_UPLOAD_BYTES_PER_S
        try:
            return await self._client.post(url, headers=headers, body=body, timeout_s=timeout_s)
        except UpstreamError as error:
            if not error.is_stale:
                raise upstream_errors.from_exception(error) from None
        try:
            return await self._client.post(url, headers=headers, body=body, timeout_s=timeout_s)
        except UpstreamError as error:
            raise upstream_errors.from_exception(error) from None

    async def _read(self, answer: Answer, limit: int) -> bytes:
        try:
            return await answer.read(limit=limit, timeout_s=self._deadlines.total_s)
        except AnswerTooLarge:
            log.warning("upstream_answer_too_large", limit=limit)
            raise UpstreamFailed from None

    async def _first_piece(self, answer: Answer) -> bytes | None:
        """The stream's first bytes, so that a stream cut before them can still fail over; None: silent so far."""
        try:
            piece = await answer.chunk(LOOK_AROUND_S)
        except TimedOut:
            return None
        if not piece:
            raise Disconnected("empty stream")
        return piece

    def _parse(self, exchange: Exchange, deployment: Deployment, answer: Answer, body: bytes) -> Opened:
        try:
            parsed = orjson.loads(body)
        except orjson.JSONDecodeError:
            log.warning("upstream_answer_not_json", request_id=str(exchange.request_id), bytes=len(body))
            raise UpstreamFailed from None
        if not isinstance(parsed, dict) or (parsed.get("error") and not _ANSWERS.intersection(parsed)):
            raise UpstreamFailed
        rewrite = exchange.endpoint.rewrite_answer
        if rewrite is not None:
            try:
                if rewrite(exchange.job, parsed):
                    body = orjson.dumps(parsed)
            except (ValueError, OverflowError, TypeError, ArithmeticError):
                raise UpstreamFailed from None
        return Opened(answer, body, parsed, is_stream=False, deployment=deployment)


def _is_brief(error: GatewayError) -> bool:
    """Whether a retry may soon do better, and cost the client no second deadline."""
    return not isinstance(error, UpstreamTimeout)
