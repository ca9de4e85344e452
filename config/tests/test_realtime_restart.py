"""A worker that stops: what becomes of its Realtime sessions."""

import asyncio
from collections.abc import Iterator

import pytest
from websockets.exceptions import InvalidStatus

from config.tests.surface_kit import Surface, running
from config.tests.test_realtime import Talk, charged, connect_to, cost_of, settled


@pytest.fixture
def surface() -> Iterator[Surface]:
    with running() as one:
        yield one


def test_a_restart_settles_what_is_open(surface: Surface) -> None:
    with connect_to(surface) as socket:
        talk = Talk(socket)
        talk.write("[[slow=20ms; words=500]]")
        talk.say("response.create")
        talk.until("response.output_audio.delta")
        loop = next(iter(surface.door.sessions.values()))._end.get_loop()
        asyncio.run_coroutine_threadsafe(surface.door.drain(5), loop).result(10)
        assert surface.teller.holds == {}
        events, code = talk.closing()
    assert (events[-1]["error"]["code"], code) == ("service_unavailable", 1013)
    settled(surface, 1)


def test_a_restart_lets_a_response_come_to_its_end_and_nobody_in(surface: Surface) -> None:
    with connect_to(surface) as socket:
        talk = Talk(socket)
        talk.write("[[slow=20ms; words=40]]")
        talk.say("response.create")
        talk.until("response.output_audio.delta")
        loop = next(iter(surface.door.sessions.values()))._end.get_loop()
        draining = asyncio.run_coroutine_threadsafe(surface.door.drain(60), loop)
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
