"""Deadlines for what mostly need not wait at all: a timer is set only for what does."""

import asyncio
from collections.abc import Awaitable, Generator
from typing import Any, cast


async def within[T](seconds: float, work: Awaitable[T]) -> T:
    """The result of `work`; `asyncio.timeout(seconds)` around it begins when it first waits. Raises `TimeoutError`."""
    steps = work.__await__()
    try:
        awaited = next(steps)
    except StopIteration as done:
        return cast(T, done.value)
    async with asyncio.timeout(seconds):
        return await _Begun(steps, awaited)


class _Begun[T]:
    """The rest of what was begun and now waits for `awaited`; goes on with it as `yield from` would (PEP 380)."""

    __slots__ = ("_awaited", "_steps")

    def __init__(self, steps: Generator[Any, Any, T], awaited: object) -> None:
        self._steps = steps
        self._awaited = awaited

    def __await__(self) -> Generator[Any, Any, T]:
        steps, awaited = self._steps, self._awaited
        try:
            while True:
                try:
                    sent = yield awaited
                except GeneratorExit:
                    steps.close()
                    raise
                except BaseException as error:
                    awaited = steps.throw(error)
                else:
                    awaited = steps.send(sent)
        except StopIteration as done:
            return cast(T, done.value)
