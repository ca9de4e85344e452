"""What the gateway takes down of requests, for whom, and that nothing waits for it."""

import asyncio
from dataclasses import replace
from typing import Any

import orjson
import pytest

from proxy.gateway import transcripts
from proxy.gateway.transcripts import Transcript, Transcripts, text_of, without_files
from proxy.tests.kit import CUT, DONE, KEY, Kit, Script, answer, chat, delta, stream, usage, usage_chunk

KEEPING = replace(KEY, transcript_days=7)
OK = Script([answer(usage())])


class Store:
    """Keeps what it is given; the first `fails` times it does not."""

    def __init__(self, fails: int = 0) -> None:
        self.fails = fails
        self.kept: list[Transcript] = []
        self.has_some = asyncio.Event()

    async def keep(self, taken: list[Transcript]) -> None:
        if self.fails:
            self.fails -= 1
            raise OSError
        self.kept += taken
        self.has_some.set()


async def kept(*scripts: Script, key: Any = KEEPING, body: Any = None, **call: Any) -> list[Transcript]:
    store = Store()
    queue = Transcripts(store)
    await Kit(*(scripts or (OK,)), key=key, transcripts=queue).call(body=chat() if body is None else body, **call)
    await queue.close()
    return store.kept


async def test_a_whole_answer_is_taken_down() -> None:
    (taken,) = await kept()
    assert (taken.organization_id, taken.days) == (3, 7)
    assert orjson.loads(taken.request) == chat()
    assert text_of(taken.answer) == "hello world"


async def test_a_stream_is_taken_down() -> None:
    script = stream(delta("Hel"), delta("lo"), delta("", "stop"), usage_chunk(), DONE)
    (taken,) = await kept(script, body=chat(stream=True))
    assert text_of(taken.answer) == "Hello"


async def test_a_stream_that_is_cut_or_left_keeps_what_came() -> None:
    (taken,) = await kept(stream(delta("Hel"), CUT), body=chat(stream=True))
    assert text_of(taken.answer) == "Hel"
    script = stream(delta("Hel"), delta("lo"), delta("", "stop"), usage_chunk(), DONE)
    (taken,) = await kept(script, body=chat(stream=True), leaves_after=1)
    assert text_of(taken.answer) == "Hello"


async def test_what_fails_is_taken_down_without_an_answer() -> None:
    (taken,) = await kept(Script([b'{"error": {"message": "no"}}'], status=400))
    assert taken.answer == b""
    assert orjson.loads(taken.request)["model"] == "m"


async def test_nothing_is_taken_down_where_it_is_off() -> None:
    assert await kept(key=KEY) == []
    assert await kept(key=KEY, body=chat(stream=True)) == []


async def test_a_stored_answer_is_only_made_for_an_idempotency_key() -> None:
    script = stream(delta("Hel"), delta("", "stop"), usage_chunk(), DONE)
    kit = Kit(script, key=KEEPING, transcripts=Transcripts(Store()))
    await kit.call(body=chat(stream=True))
    assert kit.teller.captures[0].response is None


async def test_a_store_that_is_away_gets_it_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transcripts, "RETRY_S", 0.01)
    store = Store(fails=2)
    queue = Transcripts(store)
    running = asyncio.create_task(queue.run())
    answered = await Kit(OK, key=KEEPING, transcripts=queue).call(body=chat())
    assert answered.status == 200
    async with asyncio.timeout(5):
        await store.has_some.wait()
    running.cancel()
    assert len(store.kept) == 1


async def test_what_does_not_fit_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transcripts, "MAX_QUEUED_BYTES", 600)
    store = Store()
    queue = Transcripts(store)
    kit = Kit(*(Script([answer(usage())]) for _ in range(5)), key=KEEPING, transcripts=queue)
    for _ in range(5):
        assert (await kit.call(body=chat())).status == 200
    await queue.close()
    assert 0 < len(store.kept) < 5


def test_files_and_vectors_are_left_out() -> None:
    body = {
        "messages": [{"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 600}},
            {"type": "input_audio", "input_audio": {"data": "B" * 900}},
            {"type": "text", "text": "word " * 500},
        ]}],
        "input": list(range(100)),
        "few": [1, 2],
    }  # fmt: skip
    left = without_files(body)
    image, sound, text = left["messages"][0]["content"]
    assert image["image_url"]["url"] == "[622 characters left out]"
    assert sound["input_audio"]["data"] == "[900 characters left out]"
    assert text["text"] == "word " * 500
    assert (left["input"], left["few"]) == ("[100 numbers left out]", [1, 2])
    deep: Any = "x"
    for _ in range(100):
        deep = [deep]
    assert "left out" in str(without_files(deep))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (b'{"output":[{"content":[{"type":"output_text","text":"Hi"}]}]}', "Hi"),
        (b'{"content":[{"type":"text","text":"Hi"},{"type":"tool_use","input":{"a":1}}]}', 'Hi{"a":1}'),
        (b'{"object":"list","data":[{"b64_json":"' + b"A" * 600 + b'"}]}', "left out"),
        (b'event: x\ndata: {"type":"response.output_text.delta","delta":"Hi"}\n\n', "Hi"),
        (b'data: {"type":"content_block_delta","delta":{"type":"text_delta","text":"Hi"}}\n\n', "Hi"),
        (b"plain words", "plain words"),
        (b"\xff\xfb\x90 sound", "8 bytes? no"),
        (b"", ""),
    ],
)
def test_the_text_of_an_answer(given: bytes, said: str) -> None:
    found = text_of(given)
    if said == "8 bytes? no":
        assert found == "[9 bytes that are no text]"
    elif said == "left out":
        assert said in found
    else:
        assert found == said
