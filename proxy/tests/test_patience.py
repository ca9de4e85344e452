import asyncio

import pytest

from proxy.gateway.patience import within


async def _at_once(value):
    return value


async def test_what_need_not_wait_is_answered_without_a_timer(monkeypatch):
    monkeypatch.setattr(asyncio, "timeout", None)
    assert await within(0, _at_once(3)) == 3
    with pytest.raises(ZeroDivisionError):
        await within(0, _divide())


async def _divide():
    return 1 / 0


async def test_what_waits_is_resumed_until_it_is_done():
    async def count():
        total = 0
        for number in range(3):
            await asyncio.sleep(0)
            total += await asyncio.sleep(0.001, number)
        return total

    assert await within(30, count()) == 3


async def test_what_waits_too_long_is_cancelled_where_it_waits():
    ended = []

    async def hang():
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(asyncio.current_task())

    with pytest.raises(TimeoutError):
        await within(0.01, hang())
    assert ended == [asyncio.current_task()]


async def test_an_error_is_handed_in_and_may_be_handled_there():
    future = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(future.set_exception, ValueError("no"))

    async def handles():
        try:
            await future
        except ValueError:
            await asyncio.sleep(0)
            return "handled"

    assert await within(30, handles()) == "handled"


async def test_a_cancelled_caller_cancels_the_work():
    seen = []

    async def hang():
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    task = asyncio.ensure_future(within(30, hang()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == ["cancelled"]
