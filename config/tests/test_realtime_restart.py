"""A worker that stops: what becomes of its Realtime sessions."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import Future

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection

from config.tests.surface_kit import Surface, running
from config.tests.test_realtime import Talk, charged, connect_to, cost_of, settled


@pytest.fixture
def surface() -> Iterator[Surface]:
    with running() as one:
        yield one


def answering(socket: ClientConnection, *, words: int) -> Talk:
    """A session in the middle of an answer of so many words."""
    talk = Talk(socket)
    talk.write(f"[[slow=20ms; words={words}]]")
    talk.say("response.create")
    talk.until("response.output_audio.delta")
    return talk


def drain(surface: Surface, seconds: float) -> Future[None]:
    """Begin to stop the worker."""
    loop = next(iter(surface.door.sessions.values()))._end.get_loop()
    return asyncio.run_coroutine_threadsafe(surface.door.drain(seconds), loop)


def test_a_restart_settles_what_is_open(surface: Surface) -> None:
    with connect_to(surface) as socket:
        talk = answering(socket, words=500)
        drain(surface, 5).result(10)
        assert surface.teller.holds == {}
        events, code = talk.closing()
    assert (events[-1]["error"]["code"], code) == ("service_unavailable", 1013)
    settled(surface, 1)


def test_a_restart_lets_a_response_come_to_its_end_and_nobody_in(surface: Surface) -> None:
    with connect_to(surface) as socket:
        talk = answering(socket, words=40)
        draining = drain(surface, 60)
        events, code = talk.closing()
        draining.result(10)
    ends = [event for event in events if event["type"] in {"response.done", "error"}]
    assert ends[0]["response"]["status"] == "completed"
    assert (ends[-1]["error"]["code"], code) == ("service_unavailable", 1013)
    settled(surface, 1)
    assert charged(surface)[0].cost == cost_of(ends[0]["response"]["usage"])
    with pytest.raises(InvalidStatus) as raised:
        connect_to(surface)
    assert raised.value.response.status_code == 503
    assert raised.value.response.headers["retry-after"]
