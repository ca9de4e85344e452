"""SIGTERM: first what the gateway has to end, then the server's own way of stopping."""

import asyncio
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from config import stopping


@pytest.fixture
def told() -> Iterator[list[str]]:
    """What happened, by a server that has set its handler; SIGTERM is as before afterwards."""
    happened: list[str] = []
    before = signal.signal(signal.SIGTERM, lambda *_: happened.append("server"))
    yield happened
    signal.signal(signal.SIGTERM, before)


async def _until(told: list[str], count: int) -> None:
    async with asyncio.timeout(20):
        while len(told) < count:  # noqa: ASYNC110 - filled by a signal
            await asyncio.sleep(0.01)


def test_the_server_hears_of_sigterm_when_the_sessions_are_over(told: list[str]) -> None:
    async def drain() -> None:
        os.kill(os.getpid(), signal.SIGTERM)  # a second one changes nothing
        await asyncio.sleep(0.05)
        told.append("drained")

    async def main() -> None:
        stopping.drain_first(drain)
        os.kill(os.getpid(), signal.SIGTERM)
        await _until(told, 2)
        await asyncio.sleep(0.05)

    asyncio.run(main())
    assert told == ["drained", "server"]


def test_the_server_hears_of_sigterm_though_the_draining_failed(told: list[str]) -> None:
    async def drain() -> None:
        raise OSError("no")

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        stopping.drain_first(drain)
        os.kill(os.getpid(), signal.SIGTERM)
        await _until(told, 1)

    asyncio.run(main())
    assert told == ["server"]


def test_where_no_server_listens_the_signal_is_left_alone(told: list[str]) -> None:
    async def main() -> Any:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        stopping.drain_first(asyncio.Event().wait)  # type: ignore[arg-type]
        return signal.getsignal(signal.SIGTERM)

    assert asyncio.run(main()) is signal.SIG_DFL
