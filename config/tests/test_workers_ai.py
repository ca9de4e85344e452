"""Workers AI's own JSON behind OpenAI's endpoints: what goes there, what comes back, what it costs."""

import base64
from dataclasses import replace

import orjson
import pytest

from billing.rate_json import parse
from proxy.gateway.snapshots import Deployment, Route
from proxy.tests.kit import Kit, Script
from sandbox.provider.media import wave

BASE = "https://api.cloudflare.com/client/v4/accounts/acc/ai"
CLOUDFLARE = Deployment(
    id=1, provider="cloudflare", kind="cloudflare", base_url=f"{BASE}/v1", upstream_name="@cf/x/y", api_key="cf-secret"
)
SOUND = wave(" ".join(["word"] * 40))  # two seconds


def kit(name: str, units: dict[str, str], *scripts: Script) -> Kit:
    deployment = replace(CLOUDFLARE, upstream_name=name)
    route = Route(model="m", owned_by="us", created=1, rate=parse("m", {"units": units}), deployments=(deployment,))
    return Kit(*scripts, routes=(route,))


def result(**fields) -> Script:
    return Script([orjson.dumps({"success": True, "result": fields, "errors": []})])


async def test_an_image_in_json():
    one = kit("@cf/black-forest-labs/flux-1-schnell", {"tile": "0.0001", "step": "0.001"}, result(image="AAAA"))
    body = {"model": "m", "prompt": "a fox", "size": "1024x512", "steps": 8, "n": 2}
    answer = await one.call("/v1/images/generations", body)
    assert [item["b64_json"] for item in answer.json()["data"]] == ["AAAA", "AAAA"]
    url, headers, sent = one.client.requests[0]
    assert url == f"{BASE}/run/@cf/black-forest-labs/flux-1-schnell"
    assert headers["authorization"] == "Bearer cf-secret"
    assert sent == {"prompt": "a fox", "width": 1024, "height": 512, "steps": 8}
    assert len(one.client.requests) == 2
    assert one.teller.captures[0].units == {"tiles": 4, "steps": 16}
    assert one.teller.captures[0].cost == 4 * 100_000 + 16 * 1_000_000


async def test_an_image_as_it_is():
    one = kit(
        "@cf/stabilityai/stable-diffusion-xl-base-1.0", {"image": "0.01"}, Script([b"PNG!"], content_type="image/png")
    )
    answer = await one.call("/v1/images/generations", {"model": "m", "prompt": "a fox"})
    assert base64.b64decode(answer.json()["data"][0]["b64_json"]) == b"PNG!"
    assert one.teller.captures[0].cost == 10_000_000


async def test_flux_2_wants_a_form():
    one = kit("@cf/black-forest-labs/flux-2-klein-4b", {"tile": "0.0001"}, result(image="AAAA"))
    assert (
        await one.call("/v1/images/generations", {"model": "m", "prompt": "a fox", "size": "512x512"})
    ).status == 200
    _, headers, sent = one.client.requests[0]
    assert headers["content-type"].startswith("multipart/form-data; boundary=")
    assert b'name="prompt"\r\n\r\na fox\r\n' in sent


def form() -> tuple[bytes, dict[str, str]]:
    head = (
        '--e\r\nContent-Disposition: form-data; name="model"\r\n\r\nm\r\n--e\r\n'
        'Content-Disposition: form-data; name="file"; filename="a.wav"\r\nContent-Type: audio/wav\r\n\r\n'
    )
    return head.encode() + SOUND + b"\r\n--e--\r\n", {"content-type": "multipart/form-data; boundary=e"}


async def test_a_recording_goes_as_it_is():
    one = kit("@cf/openai/whisper", {"minute": "0.006"}, result(text=" hello ", word_count=1))
    body, headers = form()
    answer = await one.call("/v1/audio/transcriptions", body, headers=headers)
    assert answer.json() == {"text": "hello"}
    _, sent_headers, sent = one.client.requests[0]
    assert (sent, sent_headers["content-type"]) == (SOUND, "audio/wav")
    assert (one.teller.captures[0].cost, one.teller.captures[0].estimated) == (200_000, False)


async def test_the_turbo_takes_base64_and_tells_the_length():
    segments = [{"start": 0, "end": 1.5, "text": " hello", "words": []}]
    told = result(text="hello", segments=segments, transcription_info={"duration": 1.5, "language": "en"})
    one = kit("@cf/openai/whisper-large-v3-turbo", {"minute": "0.006"}, told)
    body, headers = form()
    answer = await one.call("/v1/audio/transcriptions", body, headers=headers)
    assert answer.json()["segments"] == [{"id": 0, "start": 0, "end": 1.5, "text": " hello"}]
    assert base64.b64decode(one.client.requests[0][2]["audio"]) == SOUND
    assert one.teller.captures[0].cost == 150_000


async def test_deepgrams_shape():
    nested = {"channels": [{"alternatives": [{"transcript": "hi"}]}]}
    one = kit("@cf/deepgram/nova-3", {"minute": "0.006"}, result(results=nested))
    body, headers = form()
    assert (await one.call("/v1/audio/transcriptions", body, headers=headers)).json() == {"text": "hi"}


@pytest.mark.parametrize(
    ("name", "script", "sent"),
    [
        (
            "@cf/deepgram/aura-1",
            Script([b"MP3"], content_type="audio/mpeg"),
            {"text": "hi", "speaker": "asteria", "encoding": "mp3"},
        ),
        ("@cf/myshell-ai/melotts", result(audio=base64.b64encode(b"MP3").decode()), {"prompt": "hi", "lang": "en"}),
    ],
)
async def test_speech(name, script, sent):
    one = kit(name, {"million_characters": "15"}, script)
    answer = await one.call("/v1/audio/speech", {"model": "m", "input": "hi", "voice": "alloy"})
    assert (answer.status, answer.body, answer.headers["content-type"]) == (200, b"MP3", "audio/mpeg")
    assert one.client.requests[0][2] == sent
    assert one.teller.captures[0].cost == 2 * 15_000


async def test_speech_priced_by_the_minute_is_charged_by_how_long_its_text_takes():
    one = kit("@cf/myshell-ai/melotts", {"minute": "0.0006"}, result(audio="AAAA"))
    assert (await one.call("/v1/audio/speech", {"model": "m", "input": "x" * 150, "voice": "v"})).status == 200
    capture = one.teller.captures[0]
    assert (capture.units, capture.cost, capture.estimated) == ({"milliseconds": 10_000}, 100_000, True)


@pytest.mark.parametrize(
    ("script", "status"),
    [
        (Script([b'{"success":false,"errors":[{"message":"no"}]}']), 502),
        (Script([b"<html>"]), 502),
        (result(), 502),
        (Script([b'{"error":{"message":"bad prompt"}}'], status=400), 400),
        (Script([b"{}"], status=500), 502),
        (Script([b"{}"], status=429), 503),
    ],
)
async def test_what_goes_wrong_costs_nothing(script, status):
    one = kit("@cf/black-forest-labs/flux-1-schnell", {"image": "0.01"}, script)
    assert (await one.call("/v1/images/generations", {"model": "m", "prompt": "a fox"})).status == status
    assert one.teller.captures[0].cost == 0
    assert one.teller.holds == {}


async def test_streams_of_images_are_refused():
    one = kit("@cf/black-forest-labs/flux-1-schnell", {"image": "0.01"}, result(image="AAAA"))
    refused = await one.call("/v1/images/generations", {"model": "m", "prompt": "a fox", "stream": True})
    assert (refused.status, refused.error["param"]) == (400, "stream")
