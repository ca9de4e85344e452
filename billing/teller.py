"""The teller: holds, captures and voids of one worker process, in group commits. DESIGN.md section 3.

Pure asyncio and psycopg. What is promised is kept by the functions in PostgreSQL (migrations 0011 and 0012); this
module gathers rows, sends them, and tries again with the same ids when the outcome of a commit is unknown.
"""

import asyncio
import base64
import contextlib
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import orjson
import psycopg
import structlog

from billing.lanes import Call, Job, Lane, Observer, RowRefused, clean
from billing.slips import (
    Capture,
    Claim,
    ClaimRequest,
    Extension,
    Granted,
    HoldRequest,
    Refused,
    Release,
    Settled,
    StoredResponse,
    rest_id,
    unused,
)

__all__ = [
    "Capture", "Claim", "Granted", "HoldRequest", "Refused", "RowRefused", "Settled", "StoredResponse", "Teller",
    "TellerUnavailable",
]  # fmt: skip

log = structlog.get_logger(__name__)

PATIENCE_S = 2.0
HEARTBEAT_S = 5.0
TICK_S = 0.25
START_WAIT_S = 3.0
CLOSE_WAIT_S = 30.0
REPEATED_POLL_S = 0.5
ADMIT_TIMEOUT_MS, SETTLE_TIMEOUT_MS = 3_000, 15_000


class TellerUnavailable(Exception):
    """PostgreSQL does not answer, or too much waits for it: nothing has been held, try again later."""


class Teller:
    """One per worker process. Holds and captures go over two connections, so that neither waits for the other."""

    def __init__(
        self,
        dsn: str,
        *,
        worker_id: UUID | None = None,
        holds_wait_for_disk: bool = False,
        max_batch: int = 256,
        max_queue: int = 10_000,
        observer: Observer | None = None,
    ) -> None:
        self.worker_id = worker_id or uuid4()
        self._dsn = dsn
        self._holds_wait_for_disk = holds_wait_for_disk
        self._max_batch = max_batch
        self._max_queue = max_queue
        self._observer = observer
        self._admit: Lane | None = None
        self._settle: Lane | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._ticker: asyncio.Task[None] | None = None
        self._progress: dict[UUID, int] = {}
        self._claims: dict[UUID, ClaimRequest] = {}  # of requests that run
        self._rests: set[asyncio.Task[None]] = set()
        self._beat_at = 0.0
        self._extensions = 0
        worker = (str(self.worker_id).encode(),)
        self._hold = Call(
            "hold",
            "SELECT billing_admit(%s::json, %s)",
            parameters=worker,
            resolve=self._held,
            give_up=self._abandon_hold,
        )
        self._extend = Call(
            "extend",
            "SELECT billing_extend(%s::json)",
            resolve=_answered,
            give_up=_ignore,
            same_row=lambda extension: extension.request_id,
        )
        self._claim = Call(
            "claim",
            "SELECT billing_claim(%s::json, %s)",
            parameters=worker,
            resolve=self._claimed,
            give_up=self._abandon_claim,
        )
        self._release = Call("release", "SELECT billing_release(%s::json)", resolve=_done, give_up=_ignore)
        self._capture = Call("capture", "SELECT billing_settle(%s::json)", resolve=self._captured)

    # ------------------------------------------------------------ life

    async def start(self) -> None:
        """Start the loops; returns when they are connected, or after a moment when PostgreSQL is away."""
        durable = "on" if self._holds_wait_for_disk else "off"
        self._admit = Lane(
            "admit",
            self._dsn,
            settings=_settings(ADMIT_TIMEOUT_MS) | {"synchronous_commit": durable},
            deadline_s=ADMIT_TIMEOUT_MS / 1000 + 2,
            max_batch=self._max_batch,
            observer=self._observer,
        )
        self._admit.calls = [self._claim, self._hold, self._extend, self._release]
        self._settle = Lane(
            "settle",
            self._dsn,
            settings=_settings(SETTLE_TIMEOUT_MS) | {"synchronous_commit": "on"},
            deadline_s=SETTLE_TIMEOUT_MS / 1000 + 2,
            max_batch=self._max_batch,
            observer=self._observer,
            chores=self._chores,
            bury=_bury,
        )
        self._settle.calls = [self._capture]
        self._settle.wake()
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(lane.run()) for lane in (self._admit, self._settle)]
        self._ticker = loop.create_task(self._tick())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(START_WAIT_S):
                await self._admit.attempted.wait()
                await self._settle.attempted.wait()

    async def close(self) -> None:
        """Send what is queued (for a bounded time when PostgreSQL is away) and say that this worker has stopped."""
        if self._admit is None or self._settle is None:
            return
        admit, settle = self._tasks
        if self._rests:
            await asyncio.wait(self._rests, timeout=CLOSE_WAIT_S)
        for rest in self._rests:
            rest.cancel()
        for lane, task in ((self._admit, admit), (self._settle, settle)):
            lane.is_closing = True
            lane.wake()
            await asyncio.wait([task], timeout=CLOSE_WAIT_S)
        if self._ticker is not None:
            self._ticker.cancel()
        for task in (admit, settle):
            task.cancel()
        await asyncio.gather(admit, settle, *([self._ticker] if self._ticker else []), return_exceptions=True)
        unsettled = self._settle.size
        if unsettled:
            log.error("captures_not_committed", count=unsettled)
            return
        with contextlib.suppress(psycopg.Error, OSError, TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                async with await psycopg.AsyncConnection.connect(self._dsn, autocommit=True) as connection:
                    await connection.execute(
                        "UPDATE billing_worker SET stopped_at = clock_timestamp() WHERE id = %s", (self.worker_id,)
                    )

    @property
    def healthy(self) -> bool:
        """Whether both connections work."""
        return all(lane is not None and lane.is_up for lane in (self._admit, self._settle))

    # ------------------------------------------------------------ verbs

    async def hold(self, r: HoldRequest) -> Granted | Refused:
        """Set credit aside. Raises `TellerUnavailable`; then, or if the caller is cancelled, no hold stays behind."""
        future = self._ask(self._hold, r)
        try:
            answer: Granted | Refused = await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and isinstance(future.result(), Granted):
                self._void_unused(r)
            raise
        return answer

    async def extend(self, request_id: UUID, amount: int, tokens: int = 0) -> Granted | Refused:
        """Add to a hold. Each call adds once. Raises `TellerUnavailable`."""
        self._extensions += 1
        answer: Granted | Refused = await self._ask(
            self._extend, Extension(request_id, amount, tokens, self._extensions)
        )
        return answer

    def checkpoint(self, request_id: UUID, progress: int) -> None:
        """Note what a running request has cost so far: charged if this worker dies. Written within a second."""
        self._progress[request_id] = max(progress, self._progress.get(request_id, 0))

    async def capture(self, c: Capture) -> Settled:
        """Charge a request and end its hold; may be repeated. Returns after the commit, however long that takes.

        A cancelled caller takes nothing back. Raises `RowRefused` when PostgreSQL refuses the row for good (it is kept
        as a dead letter, with its hold), and `TellerUnavailable` when more waits than this worker may keep.
        """
        lane = self._settle
        if lane is None or lane.size >= 2 * self._max_queue:
            raise TellerUnavailable
        self._progress.pop(c.request_id, None)
        settled: Settled = await lane.put(self._capture, c)
        return settled

    async def void(self, c: Capture) -> Settled:
        """End a hold without a charge."""
        return await self.capture(replace(c, cost=0))

    async def claim(self, *, organization_id: int, key: str, body_sha: bytes, request_id: UUID) -> Claim:
        """Claim an Idempotency-Key for a request. Raises `TellerUnavailable`; then nothing is claimed."""
        request = ClaimRequest(organization_id, key, body_sha.hex(), request_id)
        future = self._ask(self._claim, request)
        try:
            claimed: Claim = await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self._forget(request, future.result())
            raise
        return claimed

    async def release(self, *, organization_id: int, key: str, request_id: UUID) -> None:
        """Forget the claim of a request that was not charged."""
        self._claims.pop(request_id, None)
        await self._ask(self._release, Release(organization_id, key, request_id))

    # ------------------------------------------------------------ what becomes of rows

    def _ask(self, call: Call, payload: Any) -> "asyncio.Future[Any]":
        admit, settle = self._admit, self._settle
        if admit is None or settle is None or admit.is_closing:
            raise TellerUnavailable
        if admit.size >= self._max_queue or settle.size >= self._max_queue:
            raise TellerUnavailable
        if admit.down_since is not None and asyncio.get_running_loop().time() - admit.down_since > PATIENCE_S:
            raise TellerUnavailable
        return admit.put(call, payload, expires_in_s=PATIENCE_S)

    def _held(self, job: Job, answer: list[Any]) -> None:
        result = _verdict(answer)
        if not job.future.done():
            job.future.set_result(result)
        elif isinstance(result, Granted):
            self._void_unused(job.payload)

    def _abandon_hold(self, job: Job) -> None:
        self._void_unused(job.payload)

    def _void_unused(self, r: HoldRequest) -> None:
        """End a hold that may exist and that nobody will use. Its usage record keeps a late commit from making it."""
        if self._settle is not None:
            self._settle.put(self._capture, unused(r))

    def _captured(self, job: Job, answer: list[Any]) -> None:
        available, version, recorded, charged = answer
        c: Capture = job.payload
        settled = Settled(available, version, recorded and not _is_final(c))
        if charged is not None and not recorded and self._settle is not None and not _is_final(c):
            # This worker was declared dead and the request settled at its last checkpoint: charge the rest.
            rest = replace(
                c,
                request_id=rest_id(c.request_id),
                cost=max(0, c.cost - charged),
                hold=0,
                outcome="adjustment",
                response=None,
            )
            claim = self._claims.get(c.request_id)
            if claim is None or not rest.cost:
                self._capture.queue.appendleft(Job(rest, job.future, job.queued_at, None))
                return
            task = asyncio.get_running_loop().create_task(self._charge_rest(job, rest, claim, settled))
            self._rests.add(task)
            task.add_done_callback(self._rests.discard)
            return
        self._claims.pop(c.request_id, None)
        if not job.future.done():
            job.future.set_result(settled)

    async def _charge_rest(self, job: Job, rest: Capture, claim: ClaimRequest, settled: Settled) -> None:
        """Charge the rest of a request with an Idempotency-Key, unless it was repeated and charged meanwhile.

        The reaper has freed its key, so its client may have asked again. Of all under one key, one is charged.
        """
        again = replace(claim, request_id=rest.request_id)
        while True:
            with contextlib.suppress(TellerUnavailable):
                claimed: Claim = await self._ask(self._claim, again)
                if claimed.state != "running":
                    break
            await asyncio.sleep(REPEATED_POLL_S)
        if claimed.state in {"done", "lost"} and claimed.request_id != job.payload.request_id:
            log.warning("repeated_meanwhile", request_id=str(job.payload.request_id), not_charged=rest.cost)
            if not job.future.done():
                job.future.set_result(settled)
            return
        self._claims.pop(rest.request_id, None)
        if claimed.state == "new":
            rest = replace(rest, response=job.payload.response)
        assert self._settle is not None  # noqa: S101 - for the type checker
        self._capture.queue.append(Job(rest, job.future, job.queued_at, None))
        self._settle.wake()

    def _claimed(self, job: Job, answer: list[Any]) -> None:
        state, request_id, response = answer
        result = Claim(state, UUID(request_id), None if response is None else _stored(response))
        if not job.future.done():
            if state == "new":
                self._claims[job.payload.request_id] = job.payload
            job.future.set_result(result)
        else:
            self._forget(job.payload, result)

    def _abandon_claim(self, job: Job) -> None:
        self._forget(job.payload, None)

    def _forget(self, request: ClaimRequest, result: Claim | None) -> None:
        self._claims.pop(request.request_id, None)
        if self._admit is not None and (result is None or result.state == "new"):
            release = Release(request.organization_id, request.key, request.request_id)
            self._admit.put(self._release, release)

    # ------------------------------------------------------------ beside the rows

    async def _tick(self) -> None:
        """Four times a second: fail holds that waited too long, and wake the loops for their chores."""
        assert self._admit is not None  # noqa: S101 - for the type checker
        assert self._settle is not None  # noqa: S101
        while True:
            await asyncio.sleep(TICK_S)
            self._admit.expire(TellerUnavailable)
            if self._progress or asyncio.get_running_loop().time() - self._beat_at >= HEARTBEAT_S:
                self._settle.wake()

    async def _chores(self, lane: Lane) -> None:
        if lane.is_closing:
            return
        now = asyncio.get_running_loop().time()
        if not self._beat_at or now - self._beat_at >= HEARTBEAT_S:
            await lane.execute(
                "INSERT INTO billing_worker (id, seen_at) VALUES (%s, clock_timestamp()) "
                "ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at, stopped_at = NULL",
                str(self.worker_id),
            )
            self._beat_at = now
        if self._progress:
            batch, self._progress = self._progress, {}
            rows = [{"request_id": request_id, "progress": progress} for request_id, progress in batch.items()]
            with contextlib.suppress(psycopg.DataError):
                await lane.execute("SELECT billing_checkpoint(%s::json)", orjson.dumps(clean(rows)).decode())


def _verdict(answer: list[Any]) -> Granted | Refused:
    reason, affordable, rule, available, version = answer
    return Granted(available, version) if reason is None else Refused(reason, affordable or 0, rule)


def _answered(job: Job, answer: list[Any]) -> None:
    if not job.future.done():
        job.future.set_result(_verdict(answer))


def _done(job: Job, _answer: Any) -> None:
    if not job.future.done():
        job.future.set_result(None)


def _ignore(_job: Job) -> None:
    """Nothing is left behind that matters: a hold that is too big, or a claim that lapses by itself."""


def _is_final(capture: Capture) -> bool:
    return capture.outcome == "adjustment"


def _stored(text: str) -> StoredResponse:
    raw = orjson.loads(text)
    headers = [(name, value) for name, value in raw["headers"]]
    return StoredResponse(raw["status"], headers, base64.b64decode(raw["body"]))


def _settings(timeout_ms: int) -> dict[str, str]:
    return {
        "statement_timeout": str(timeout_ms),
        "lock_timeout": str(timeout_ms * 2 // 3),
        "jit": "off",
        "plan_cache_mode": "force_generic_plan",  # planned anew for every batch, a call costs twice as much
        "timezone": "UTC",
    }


async def _bury(lane: Lane, call: Call, job: Job, error: psycopg.Error) -> None:
    """Keep what PostgreSQL refused, without the answer: its hold stays until people have looked."""
    payload = clean(job.payload)
    payload.pop("response", None)
    reason = f"{error.sqlstate}: {error.diag.message_primary}".replace("\0", "")
    insert = "INSERT INTO billing_deadletter (kind, request_id, payload, error) VALUES (%s, %s, %s::jsonb, %s)"
    request_id = str(job.payload.request_id)
    try:
        await lane.execute(insert, call.kind, request_id, orjson.dumps(payload).decode(), reason)
    except psycopg.Error:
        await lane.execute(insert, call.kind, request_id, "{}", reason)
