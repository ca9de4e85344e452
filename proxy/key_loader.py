"""Keys are read in natural batches: what is asked for while one read is under way goes into the next."""

import asyncio
from collections.abc import Callable, Collection

from asgiref.sync import sync_to_async

from proxy.gateway.snapshots import Key

# In one read: more would make the first of them wait, and gain nothing.
MAX_BATCH = 500


class Loader:
    """`read` gives the keys of some digests and runs in a thread; a digest that it leaves out has no key."""

    def __init__(self, read: Callable[[Collection[str]], dict[str, Key | ValueError]]) -> None:
        self.reading: frozenset[str] = frozenset()
        self._read = read
        self._waiting: dict[str, asyncio.Future[Key | None]] = {}
        self._task: asyncio.Task[None] | None = None

    async def load(self, digest: str) -> Key | None:
        """The key as a read finds it that begins after this call. Raises what the read raises."""
        future = self._waiting.get(digest)
        if future is None:
            loop = asyncio.get_running_loop()
            future = self._waiting[digest] = loop.create_future()
            future.add_done_callback(_note_seen)
            if self._task is None:
                self._task = loop.create_task(self._run())
        return await asyncio.shield(future)

    async def _run(self) -> None:
        try:
            while self._waiting:
                batch = {digest: self._waiting.pop(digest) for digest in list(self._waiting)[:MAX_BATCH]}
                self.reading = frozenset(batch)
                await self._answer(batch)
        finally:
            self.reading, self._task = frozenset(), None

    async def _answer(self, batch: "dict[str, asyncio.Future[Key | None]]") -> None:
        try:
            found = await sync_to_async(self._read, thread_sensitive=False)(list(batch))
        except Exception as error:
            found = dict.fromkeys(batch, error)
        for digest, future in batch.items():
            one = found.get(digest)
            if isinstance(one, Exception):
                future.set_exception(one)
            else:
                future.set_result(one)


def _note_seen(future: "asyncio.Future[Key | None]") -> None:
    """Whoever asked may have gone: nobody need hear of the error then."""
    if not future.cancelled():
        future.exception()
