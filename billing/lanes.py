"""Group commit: a lane is one connection to PostgreSQL and a loop that sends what has gathered as one function call.

While a call is under way the next batch gathers, so no timer is needed. A batch whose outcome is unknown is sent again
as it is: every function is idempotent by request id. A row that PostgreSQL refuses is found by bisection.
"""

import asyncio
import base64
import contextlib
import math
import os
import socket
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import orjson
import psycopg
import structlog

from billing.prepared import PreparedCalls

log = structlog.get_logger(__name__)

CONNECT_TIMEOUT_S = 2
FIRST_BACKOFF_S = 0.05
MAX_BACKOFF_S = 1.0
# How often an error that should not happen is tried again before its row counts as poison.
MAX_ODD_ERRORS = 4
_MAX_DEPTH = 40
_INT64 = range(-(2**63), 2**63)


class Observer(Protocol):
    """Hears how batches fare."""

    def batch(self, kind: str, size: int, seconds: float) -> None: ...

    def waited(self, kind: str, seconds: float) -> None: ...

    def dead_letter(self, kind: str) -> None: ...


class Job:
    """One row to send, and who waits for it. `expires_at` is None for what must not be given up."""

    __slots__ = ("expires_at", "future", "payload", "queued_at", "was_sent")

    def __init__(self, payload: Any, future: "asyncio.Future[Any]", queued_at: float, expires_at: float | None) -> None:
        self.payload = payload
        self.future = future
        self.queued_at = queued_at
        self.expires_at = expires_at
        self.was_sent = False


class Call:
    """One SQL function that takes a batch as JSON. `sql` has one placeholder for it, then those of `parameters`."""

    def __init__(
        self,
        kind: str,
        sql: str,
        *,
        resolve: Callable[[Job, Any], None],
        give_up: Callable[[Job], None] | None = None,
        parameters: tuple[bytes, ...] = (),
        same_row: Callable[[Any], Any] | None = None,
    ) -> None:
        self.kind = kind
        self.sql = sql
        self.resolve = resolve
        self.give_up = give_up  # the outcome is unknown and nobody waits any more; None: never given up
        self.parameters = parameters
        self.same_row = same_row  # at most one job of each in a batch
        self.queue: deque[Job] = deque()

    def take(self, limit: int) -> list[Job]:
        """The next batch."""
        queue = self.queue
        if self.same_row is None:
            return [queue.popleft() for _ in range(min(limit, len(queue)))]
        batch: dict[Any, Job] = {}
        later = []
        while queue and len(batch) < limit:
            job = queue.popleft()
            if (row := self.same_row(job.payload)) in batch:
                later.append(job)
            else:
                batch[row] = job
        queue.extendleft(reversed(later))
        return list(batch.values())


class Lane:
    """One connection and its loop. `chores` runs in each turn; `bury` keeps a row that PostgreSQL refused."""

    def __init__(
        self,
        name: str,
        dsn: str,
        *,
        settings: dict[str, str],
        deadline_s: float,
        max_batch: int,
        observer: Observer | None,
        chores: "Callable[[Lane], Any] | None" = None,
        bury: "Callable[[Lane, Call, Job, psycopg.Error], Any] | None" = None,
    ) -> None:
        self.name = name
        self.calls: list[Call] = []
        self.is_closing = False
        self.down_since: float | None = None
        self.attempted = asyncio.Event()
        self._dsn = dsn
        self._settings = settings
        self._deadline_s = deadline_s
        self._max_batch = max_batch
        self._observer = observer
        self._chores = chores
        self._bury = bury
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._calls: PreparedCalls | None = None
        self._wake = asyncio.Event()
        self._in_flight: list[Job] = []
        self._loop = asyncio.get_running_loop()
        self.down_since = self._loop.time()

    @property
    def is_up(self) -> bool:
        return self.down_since is None

    @property
    def size(self) -> int:
        """How many rows wait or are being sent."""
        size = len(self._in_flight)
        for call in self.calls:
            size += len(call.queue)
        return size

    def put(self, call: Call, payload: Any, *, expires_in_s: float | None = None) -> "asyncio.Future[Any]":
        """Queue `payload`; the future is resolved after the commit. Cancelling it does not take back what was sent."""
        now = self._loop.time()
        future: asyncio.Future[Any] = self._loop.create_future()
        call.queue.append(Job(payload, future, now, None if expires_in_s is None else now + expires_in_s))
        self._wake.set()
        return future

    def wake(self) -> None:
        self._wake.set()

    def expire(self, error: Callable[[], Exception]) -> None:
        """Fail what has waited too long. What was sent already is given up by the loop, once it knows more."""
        now = self._loop.time()
        for call in self.calls:
            while call.queue and (call.queue[0].expires_at or math.inf) <= now:
                _fail(call.queue.popleft(), error())
        for job in self._in_flight:
            if (job.expires_at or math.inf) <= now:
                _fail(job, error())

    async def run(self) -> None:
        """Send batches until `is_closing` and everything is sent."""
        try:
            while True:
                if self._connection is None:
                    await self._connect_until_up()
                await self._wake.wait()
                self._wake.clear()
                try:
                    await self._turn()
                except Exception:
                    log.exception("teller_turn_failed", lane=self.name)
                    failed, self._in_flight = self._in_flight, []
                    for job in failed:
                        _fail(job, RowRefused(""))
                if self.is_closing and not any(call.queue for call in self.calls):
                    return
        finally:
            self._disconnect()

    async def _turn(self) -> None:
        """The chores and one batch of each call: so that under load nothing starves."""
        if self._chores is not None:
            await self._chores(self)
        for call in self.calls:
            if call.queue:
                await self._flush(call, call.take(self._max_batch))
        if any(call.queue for call in self.calls):
            self._wake.set()

    async def execute(self, sql: str, *parameters: str) -> None:
        """One statement, tried again until PostgreSQL answers."""
        attempt = 0
        while True:
            try:
                await self._value(sql, tuple(parameter.encode() for parameter in parameters))
                return
            except (psycopg.Error, OSError) as error:
                attempt += 1
                if _is_poison(error, attempt):
                    raise
                await self._recover(error, attempt)

    # ------------------------------------------------------------ one batch

    async def _flush(self, call: Call, jobs: list[Job]) -> None:
        jobs = [job for job in jobs if job.expires_at is None or job.was_sent or not job.future.done()]
        if not jobs:
            return
        self._in_flight = jobs
        payload = encode([job.payload for job in jobs])
        started = self._loop.time()
        attempt = 0
        while True:
            try:
                if self._connection is not None:
                    for job in jobs:
                        job.was_sent = True
                answers = await self._call(call.sql, (payload, *call.parameters))
                break
            except (psycopg.Error, OSError) as error:
                attempt += 1
                if isinstance(error, psycopg.Error) and _is_poison(error, attempt):
                    self._in_flight = []
                    return await self._divide(call, jobs, error)
                await self._recover(error, attempt)
                if call.give_up is not None and all(job.future.done() for job in jobs):
                    self._in_flight = []
                    for job in jobs:
                        if job.was_sent:
                            call.give_up(job)
                    return None
        self._in_flight = []
        now = self._loop.time()
        observer = self._observer
        if observer is not None:
            observer.batch(call.kind, len(jobs), now - started)
        for number, job in enumerate(jobs):
            call.resolve(job, answers[number] if answers is not None else None)
            if observer is not None:
                observer.waited(call.kind, now - job.queued_at)
        return None

    async def _divide(self, call: Call, jobs: list[Job], error: psycopg.Error) -> None:
        """PostgreSQL refused the batch: find the row that it means, let the others pass."""
        if len(jobs) > 1:
            middle = len(jobs) // 2
            await self._flush(call, jobs[:middle])
            await self._flush(call, jobs[middle:])
            return
        log.error("row_refused", kind=call.kind, sqlstate=error.sqlstate, problem=error.diag.message_primary)
        if self._observer is not None:
            self._observer.dead_letter(call.kind)
        if self._bury is not None:
            await self._bury(self, call, jobs[0], error)
        _fail(jobs[0], RowRefused(error.sqlstate or ""))

    # ------------------------------------------------------------ the connection

    async def _call(self, sql: str, parameters: tuple[bytes, ...]) -> Any:
        """The JSON that one call of a function answers."""
        answer = await self._value(sql, parameters)
        return None if not answer else orjson.loads(answer)

    async def _value(self, sql: str, parameters: tuple[bytes, ...]) -> bytes | None:
        """The first value of the first row. A stalled network raises nothing: past the deadline the socket is shut
        down, and the connection fails."""
        connection, calls = self._connection, self._calls
        if connection is None or calls is None or connection.closed:
            raise psycopg.OperationalError("not connected")
        watchdog = self._loop.call_later(self._deadline_s, _sever, connection)
        try:
            value = await calls.value(sql, parameters)
        finally:
            watchdog.cancel()
        self.down_since = None
        return value

    async def _recover(self, error: Exception, attempt: int) -> None:
        """Wait a moment after a failure; connect again if the connection is gone."""
        log.warning("teller_retries", lane=self.name, attempt=attempt, problem=_problem(error))
        if self.down_since is None:
            self.down_since = self._loop.time()
        if self._connection is None or self._connection.closed:
            await self._connect_until_up()
        else:
            await asyncio.sleep(_backoff(attempt))

    async def _connect_until_up(self) -> None:
        attempt = 0
        while True:
            self._disconnect()
            try:
                await self._connect()
            except (psycopg.Error, OSError) as error:
                attempt += 1
                self.attempted.set()
                log.warning("teller_cannot_connect", lane=self.name, attempt=attempt, problem=_problem(error))
                if self._give_up_waiting() or (self.is_closing and not self.size):
                    return
                await asyncio.sleep(_backoff(attempt))
                continue
            self.down_since = None
            self.attempted.set()
            return

    def _give_up_waiting(self) -> bool:
        """Whether a batch is under way that nobody waits for any more: its loop must get its turn."""
        jobs = self._in_flight
        return bool(jobs) and all(job.expires_at is not None and job.future.done() for job in jobs)

    async def _connect(self) -> None:
        connection = await psycopg.AsyncConnection.connect(
            self._dsn,
            autocommit=True,
            connect_timeout=CONNECT_TIMEOUT_S,
            application_name=f"tuppence {self.name}",
            tcp_user_timeout=10_000,
            keepalives_idle=5,
            keepalives_interval=2,
            keepalives_count=3,
        )
        self._connection = connection
        watchdog = self._loop.call_later(self._deadline_s, _sever, connection)
        try:
            for name, value in self._settings.items():
                await connection.execute("SELECT set_config(%s, %s, false)", (name, value))
        finally:
            watchdog.cancel()
        self._calls = PreparedCalls(connection)

    def _disconnect(self) -> None:
        if self._calls is not None:
            self._calls.close()
        if self._connection is not None:
            with contextlib.suppress(psycopg.Error):
                self._connection.pgconn.finish()
            self._connection = self._calls = None


class RowRefused(Exception):
    """PostgreSQL refuses this row whatever else is in its batch; a capture has been kept as a dead letter."""

    def __init__(self, sqlstate: str) -> None:
        super().__init__(f"refused with SQLSTATE {sqlstate}")
        self.sqlstate = sqlstate


def encode(payloads: list[Any]) -> bytes:
    """The rows as JSON that PostgreSQL can read: without NUL, lone surrogates or numbers beyond 64 bits."""
    try:
        data = orjson.dumps(payloads, default=_default)
    except TypeError:
        data = b"\\u0000"
    if b"\\u0000" in data:
        data = orjson.dumps([clean(payload) for payload in payloads])
    return data


def clean(value: Any, depth: int = 0) -> Any:  # noqa: PLR0911 - one line per type
    """`value` in terms of JSON that PostgreSQL can read."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if value in _INT64 else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
    if depth > _MAX_DEPTH:
        return None
    if isinstance(value, bytes | bytearray):
        return _default(value)
    if isinstance(value, dict):
        return {clean(str(key)): clean(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [clean(item, depth + 1) for item in value]
    if hasattr(value, "__dataclass_fields__"):
        return {name: clean(getattr(value, name), depth + 1) for name in value.__dataclass_fields__}
    return clean(str(value))


def _default(value: Any) -> str:
    if isinstance(value, bytes | bytearray):
        return base64.b64encode(value).decode()
    raise TypeError


def _fail(job: Job, error: Exception) -> None:
    if not job.future.done():
        job.future.set_exception(error)
        job.future.exception()  # nobody may be waiting any more


def _is_poison(error: Exception, attempt: int) -> bool:
    """Whether the rows are at fault, and not the moment or the connection."""
    if isinstance(error, psycopg.DataError | psycopg.IntegrityError):
        return True
    if not isinstance(error, psycopg.Error) or error.sqlstate is None:
        return False
    if error.sqlstate.startswith("54"):  # program_limit_exceeded: too deep, too wide
        return True
    odd = not isinstance(error, psycopg.OperationalError | psycopg.InterfaceError | psycopg.ProgrammingError)
    return odd and error.sqlstate != "25006" and attempt > MAX_ODD_ERRORS  # 25006: a standby answers


def _backoff(attempt: int) -> float:
    return min(MAX_BACKOFF_S, FIRST_BACKOFF_S * (1 << min(attempt - 1, 10)))


def _problem(error: Exception) -> str:
    return f"{type(error).__name__} {getattr(error, 'sqlstate', None) or ''}".strip()


def _sever(connection: psycopg.AsyncConnection[Any]) -> None:
    """Shut the socket down beneath libpq, which then sees the connection as lost. Asks nothing of the server."""
    with (
        contextlib.suppress(OSError, psycopg.Error),
        socket.socket(fileno=os.dup(connection.pgconn.socket)) as twin,
    ):
        twin.shutdown(socket.SHUT_RDWR)
