"""PostgreSQL's notifications: a key, an organization, the catalogue changed, an end user was blocked, a member left."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import psycopg
import structlog

log = structlog.get_logger(__name__)

KEYS, ORGANIZATIONS, CATALOG = "tuppence_keys", "tuppence_organizations", "tuppence_catalog"
BLOCKS, MEMBERS = "tuppence_blocks", "tuppence_members"
RETRY_S = 0.5
# A quiet connection is proved alive this often: a cut network looks like silence.
PROBE_S = 10.0


class Listener:
    """Listens on one connection of its own and tells `on_change(channel, payload)`; `on_state` hears of gaps."""

    def __init__(
        self,
        dsn: str,
        *,
        on_change: Callable[[str, str], Awaitable[None]],
        on_state: Callable[[bool], Awaitable[None]],
    ) -> None:
        self._dsn = dsn
        self._on_change = on_change
        self._on_state = on_state
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            try:
                await self._listen()
            except (psycopg.Error, OSError, TimeoutError) as error:
                log.warning("listener_lost", error=type(error).__name__)
            await self._on_state(False)
            await asyncio.sleep(RETRY_S)

    async def _listen(self) -> None:
        async with await psycopg.AsyncConnection.connect(self._dsn, autocommit=True, connect_timeout=5) as connection:
            for channel in (KEYS, ORGANIZATIONS, CATALOG, BLOCKS, MEMBERS):
                await connection.execute(f"LISTEN {channel}")
            await self._on_state(True)
            while True:
                async for notice in connection.notifies(timeout=PROBE_S):
                    await self._on_change(notice.channel, notice.payload)
                async with asyncio.timeout(5):
                    await connection.execute("SELECT 1")
