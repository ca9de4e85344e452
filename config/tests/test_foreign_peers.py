"""Peers that this project did not write: aimock as the upstream, and OpenAI's Node SDK as the client.

Both come from npm, into a folder beside other caches; without npm or its registry the tests are skipped, and say so.
"""

import base64
import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from config.tests import npm
from config.tests.surface_kit import PROVIDER_KEY, Surface, running
from proxy.tests.kit import SECRET
from sandbox.processes import free_port
from sandbox.provider.media import wave

PACKAGES = ["@copilotkit/aimock@1.43.0", "openai@6.49.0"]
# One worker installs them, or finds out that it cannot.
pytestmark = pytest.mark.xdist_group("foreign peers")

INPUT, OUTPUT = 1_000, 2_000
PNG = base64.b64encode(b"a picture").decode()
FIXTURES = {
    "fixtures": [
        {"match": {"endpoint": "image"}, "response": {"images": [{"b64Json": PNG}]}},
        {
            "match": {"endpoint": "transcription"},
            "response": {"transcription": {"text": "Hello world", "duration": 2.5}},
        },
        {"match": {"endpoint": "speech"}, "response": {"audio": base64.b64encode(b"sound").decode(), "format": "mp3"}},
        {
            "match": {"userMessage": "hello"},
            "response": {
                "content": "Hello from afar",
                "usage": {"prompt_tokens": 11, "completion_tokens": 4, "total_tokens": 15},
            },
        },
    ]
}


@pytest.fixture(scope="module")
def packages() -> Path:
    """The folder with the packages; installed once, whichever test worker comes first."""
    return npm.installed("node-peers", *PACKAGES)


@pytest.fixture(scope="module")
def aimock(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Surface]:
    """A gateway before aimock."""
    folder = tmp_path_factory.mktemp("aimock")
    (folder / "fixtures.json").write_text(json.dumps(FIXTURES))
    port = free_port()
    command = ["node", str(packages / ".bin" / "llmock"), "-p", str(port), "-f", str(folder)]
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "AIMOCK_API_KEYS": PROVIDER_KEY}
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(command, env=environment, stdout=log, stderr=log) as process,
    ):
        try:
            _wait_for(port)
            with running(upstream_url=f"http://127.0.0.1:{port}/v1") as surface:
                yield surface
        finally:
            process.terminate()


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            httpx.get(f"http://127.0.0.1:{port}/v1/models", timeout=2)
        except httpx.TransportError:
            time.sleep(0.1)
        else:
            return
    pytest.fail("aimock did not start")


def test_chat_and_its_stream(aimock: Surface) -> None:
    messages = [{"role": "user", "content": "hello"}]
    answer = aimock.sdk.chat.completions.create(model="gpt-4o-mini", messages=messages)  # type: ignore[arg-type]
    assert answer.choices[0].message.content == "Hello from afar"
    assert (aimock.capture().cost, aimock.capture().estimated) == (11 * INPUT + 4 * OUTPUT, False)
    stream = aimock.sdk.chat.completions.create(model="gpt-4o-mini", messages=messages, stream=True)  # type: ignore[call-overload]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == "Hello from afar"
    assert (aimock.capture().cost, aimock.capture().estimated) == (11 * INPUT + 4 * OUTPUT, False)


def test_responses_and_their_stream(aimock: Surface) -> None:
    answer = aimock.sdk.responses.create(model="gpt-4o-mini", input="hello")
    assert answer.output_text == "Hello from afar"
    assert answer.usage
    assert aimock.capture().cost == answer.usage.input_tokens * INPUT + answer.usage.output_tokens * OUTPUT
    events = list(aimock.sdk.responses.create(model="gpt-4o-mini", input="hello", stream=True))
    assert events[-1].type == "response.completed"
    assert not aimock.capture().estimated


def test_images_without_usage_are_estimated(aimock: Surface) -> None:
    made = aimock.sdk.images.generate(model="gpt-image-2", prompt="a fox", quality="low", size="1024x1024")
    assert made.data
    assert made.data[0].b64_json == PNG
    assert (aimock.capture().image_output_tokens, aimock.capture().estimated) == (272, True)


def test_a_transcription_is_charged_by_the_length_that_it_tells(aimock: Surface) -> None:
    heard = aimock.sdk.audio.transcriptions.create(
        model="whisper-1", file=("a.wav", wave("one two three")), response_format="verbose_json"
    )
    assert (heard.text, heard.duration) == ("Hello world", 2.5)
    assert aimock.capture().cost == 2_500 * 100


def test_speech(aimock: Surface) -> None:
    said = aimock.sdk.audio.speech.create(model="tts-1", voice="alloy", input="hello")
    assert said.content == b"sound"
    assert aimock.capture().cost == 5 * 15_000


def test_a_moderation(aimock: Surface) -> None:
    assert aimock.sdk.moderations.create(input="hello").results
    assert aimock.capture().cost == 0


@pytest.mark.filterwarnings("ignore:connect:DeprecationWarning")  # the SDK's way of connecting
def test_a_realtime_turn_whose_usage_says_nothing_is_counted(aimock: Surface) -> None:
    with aimock.sdk.realtime.connect(model="gpt-realtime-2.1") as connection:
        connection.session.update(session={"type": "realtime", "output_modalities": ["text"]})
        content = [{"type": "input_text", "text": "hello"}]
        connection.conversation.item.create(item={"type": "message", "role": "user", "content": content})  # type: ignore[arg-type,typeddict-item]
        connection.response.create()
        said = ""
        for event in connection:
            said += event.delta if event.type == "response.output_text.delta" else ""
            if event.type == "response.done":
                break
    assert said == "Hello from afar"
    deadline = time.monotonic() + 10
    while aimock.teller.holds and time.monotonic() < deadline:
        time.sleep(0.05)
    (turn,) = [one for one in aimock.teller.captures if one.endpoint == "/v1/realtime" and one.output_tokens]
    assert (turn.estimated, turn.output_tokens) == (True, 3)
    assert turn.cost >= 3 * 24_000


SCRIPT = """
import OpenAI, { toFile } from "openai";
import { readFileSync } from "node:fs";
const client = new OpenAI({ baseURL: process.env.BASE, apiKey: process.env.KEY, maxRetries: 0 });
const messages = [{ role: "user", content: "[[say=Hello there]] hi" }];
const told = {};
told.chat = (await client.chat.completions.create({ model: "gpt-4o-mini", messages })).choices[0].message.content;
told.stream = "";
for await (const chunk of await client.chat.completions.create({ model: "gpt-4o-mini", messages, stream: true }))
  told.stream += chunk.choices[0].delta.content ?? "";
told.response = (await client.responses.create({ model: "gpt-4o-mini", input: "[[say=Yes]] ?" })).output_text;
told.events = [];
for await (const event of await client.responses.create({ model: "gpt-4o-mini", input: "hi", stream: true }))
  told.events.push(event.type);
const image = await client.images.generate({ model: "gpt-image-2", prompt: "a fox", quality: "low" });
told.image = image.data[0].b64_json.length > 1000;
const file = await toFile(readFileSync(process.env.SOUND), "talk.wav");
told.heard = (await client.audio.transcriptions.create({ model: "whisper-1", file })).text;
const edited = await client.images.edit({ model: "gpt-image-2", prompt: "x", quality: "low",
  image: await toFile(Buffer.from("png"), "a.png", { type: "image/png" }) });
told.edited = edited.usage.input_tokens_details.image_tokens;
const said = await client.audio.speech.create({
  model: "tts-1", voice: "alloy", input: "hello", response_format: "wav" });
told.said = (await said.arrayBuffer()).byteLength;
told.flagged = (await client.moderations.create({ input: "attack" })).results[0].flagged;
try { await client.chat.completions.create({ model: "nothing", messages }); }
catch (error) { told.error = [error.status, error.code, error.constructor.name]; }
console.log(JSON.stringify(told));
"""


def test_openais_node_sdk_on_every_endpoint(packages: Path, tmp_path: Path) -> None:
    with running() as surface:
        sound = tmp_path / "talk.wav"
        sound.write_bytes(wave("one two three"))
        (tmp_path / "node_modules").symlink_to(packages)
        script = tmp_path / "script.mjs"
        script.write_text(SCRIPT)
        environment = {"PATH": os.environ["PATH"], "BASE": surface.url, "KEY": SECRET, "SOUND": str(sound)}
        done = subprocess.run(
            ["node", str(script)], env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr[-1000:]
        told = json.loads(done.stdout)
        assert (told["chat"], told["stream"], told["response"]) == ("Hello there", "Hello there", "Yes")
        assert told["events"][-1] == "response.completed"
        assert (told["image"], told["flagged"]) == (True, True)
        assert told["heard"].startswith("A recording of")
        assert (told["edited"], told["said"]) == (200, len(wave("hello")))
        assert told["error"] == [404, "model_not_found", "NotFoundError"]
        assert surface.teller.holds == {}
        assert sum(capture.cost > 0 for capture in surface.teller.captures) == 8
