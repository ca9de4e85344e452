"""What bodies of images and sound may cost at most, and what their endings are charged. Worked out by hand."""

import io

import pytest

from billing import pricing
from billing.rate_json import parse
from proxy.gateway import audio, images, speech
from proxy.gateway.forms import FilePart, Form
from proxy.gateway.snapshots import Route
from proxy.gateway.typed_events import TypedMeter
from sandbox.provider.media import wave

ROUTE = Route(model="m", owned_by="us", created=1, rate=None, deployments=())
TOKENS = parse("m", {"input": "5", "image_input": "8", "image_output": "30"})
TILES = parse("m", {"units": {"image": "0.028", "tile": "0.007", "step": "0.000132"}})
TILE_STEPS = parse("m", {"units": {"image": "0.041", "input_tile_step": "0.00021", "tile_step": "0.00041"}})
MEGAPIXELS = parse("m", {"units": {"image": "0.015", "megapixel": "0.015"}})
FREE = parse("m", {"units": {"image": "0", "step": "0"}})
MINUTES = parse("m", {"units": {"minute": "0.006"}})


def body(**fields):
    return {"model": "m", "prompt": "a fox", **fields}


@pytest.mark.parametrize(
    ("fields", "each"),
    [
        ({"quality": "low", "size": "1024x1024"}, 272),
        ({"quality": "low", "size": "1024x1536"}, 408),
        ({"quality": "medium", "size": "1536x1024"}, 1_568),
        ({"quality": "high", "size": "auto"}, 6_240),
        ({}, 6_240),
        ({"quality": "xhigh", "size": "1024x1024"}, 8_320),
        ({"quality": "max", "size": "1024x1024"}, 16_640),
        ({"quality": "low", "size": "2048x2048"}, 272 * 4 * 3 // 2),
        ({"quality": "low", "size": "1024x1024", "partial_images": 3}, 572),
    ],
)
def test_output_tokens_that_are_held(fields, each):
    assert images.generations(body(**fields)).output_tokens == each


@pytest.mark.parametrize(
    ("rate", "fields", "units", "nanos"),
    [
        (TILES, {"size": "1024x1024"}, {"tiles": 4, "steps": 4}, 4 * 7_000_000 + 4 * 132_000),
        (TILES, {"size": "1024x1025", "n": 2}, {"tiles": 12, "steps": 8}, 12 * 7_000_000 + 8 * 132_000),
        (TILES, {"size": "512x512", "steps": 20}, {"tiles": 1, "steps": 20}, 7_000_000 + 20 * 132_000),
        (TILE_STEPS, {"size": "1024x512", "steps": 10}, {"tile_steps": 20}, 20 * 410_000),
        (MEGAPIXELS, {"size": "2000x1500"}, {"megapixels": 3}, 45_000_000),
        (FREE, {"n": 2}, {"images": 2, "steps": 8}, 0),
    ],
)
def test_images_priced_by_something_else(rate, fields, units, nanos):
    job = images.generations(body(**fields))
    images.bound(job, ROUTE, rate)
    assert job.units == units
    assert pricing.cost(pricing.Usage(units=job.units), rate) == nanos
    assert (job.input_tokens, job.output_tokens) == (0, 0)


def test_only_images_that_came_are_charged_and_never_more_than_were_asked_for():
    job = images.generations(body(n=3, size="512x512"))
    images.bound(job, ROUTE, TILES)
    assert images.charge(job, TILES, None, {"images": 2}).units == {"tiles": 2, "steps": 8}
    assert images.charge(job, TILES, None, {"images": 9}).units == {"tiles": 3, "steps": 12}
    assert images.charge(job, TILES, None, {}).units == {}


def test_a_stream_cut_after_partial_images_is_charged_for_those():
    job = images.generations(body(n=1, stream=True, partial_images=2, quality="low", size="1024x1024"))
    meter = images.generation_meter(job)
    assert isinstance(meter, TypedMeter)
    meter.feed(b'event: image_generation.partial_image\ndata: {"type":"image_generation.partial_image"}\n\n' * 2)
    assert (meter.output_tokens("m"), meter.is_whole) == (200, False)
    assert images.estimate(job, TOKENS, 200).image_output == 200


def recording(sound: bytes, name: str = "a.wav") -> Form:
    return Form(io.BytesIO(sound), [("file", FilePart("file", name, "audio/wav", 0, len(sound)))])


@pytest.mark.parametrize(
    ("sound", "milliseconds", "is_measured"),
    [
        (wave(" ".join(["word"] * 40)), 2_000, True),
        (b"\x01" * 20_000, 10_000, False),
        (b"", 1_000, False),
        (b"RIFF" + b"\xff" * 100, 1_000, False),
    ],
)
def test_the_length_of_a_recording(sound, milliseconds, is_measured):
    form = recording(sound)
    assert audio.measured(form.spool, form.files("file")[0]) == (milliseconds, is_measured)


def test_a_recording_is_held_with_a_tenth_on_top():
    job = audio.transcriptions({"model": "m"}, recording(wave(" ".join(["word"] * 200))))
    audio.bound(job, ROUTE, MINUTES)
    assert job.units == {"milliseconds": 11_000}
    assert pricing.worst_case(job.input_tokens, job.output_tokens, MINUTES, units=job.units) == 11_000 * 100


@pytest.mark.parametrize(
    ("usage", "delivered", "milliseconds"),
    [
        (pricing.Usage(units={"milliseconds": 7_000}), {"milliseconds": 1}, 7_000),
        (None, {"milliseconds": 6_500}, 6_500),
        (None, {}, 2_000),
    ],
)
def test_what_tells_the_length_first(usage, delivered, milliseconds):
    job = audio.transcriptions({"model": "m"}, recording(wave(" ".join(["word"] * 40))))
    assert audio.charge(job, MINUTES, usage, delivered).units == {"milliseconds": milliseconds}


def test_a_length_that_nobody_tells_is_an_estimate():
    job = audio.transcriptions({"model": "m"}, recording(b"\x01" * 20_000))
    assert audio.charge(job, MINUTES, None, {}) is None
    assert audio.estimate(job, MINUTES, 0).units == {"milliseconds": 10_000}


@pytest.mark.parametrize("seconds", ["12.5", 12.5, "x", None, True, -1, float("nan")])
def test_odd_durations(seconds):
    job = audio.transcriptions({"model": "m"}, recording(wave("a")))
    expected = {"milliseconds": 12_500} if seconds in ("12.5", 12.5) else {}
    assert audio.delivered(job, {"duration": seconds}) == expected


def test_sound_is_found_whole_however_it_comes():
    job = speech.parse({"model": "m", "input": "hello", "voice": "v"})
    bare = speech.meter(job)
    got = b"".join(bare.feed(bytes([byte])) for byte in b"ID3sound") + bare.flush()
    assert got + bare.last(None) == b"ID3sound"
    assert bare.is_whole
    told = speech.meter(job)
    events = (
        b'data: {"type":"speech.audio.delta","audio":"aGVs"}\n\ndata: {"type":"speech.audio.delta","audio":"bG8="}\n\n'
    )
    done = b'data: {"type":"speech.audio.done","usage":{"input_tokens":1,"output_tokens":2}}\n\n'
    got = b"".join(told.feed((events + done)[at : at + 5]) for at in range(0, len(events + done), 5))
    assert got + told.last(None) == b"hello"
    assert told.usage == {"input_tokens": 1, "output_tokens": 2}
    assert told.is_done


@pytest.mark.parametrize(
    ("event", "error"),
    [
        (b'data: {"type":"error","error":{"message":"no"}}\n\n', {"message": "no"}),
        (b'data: {"type":"speech.audio.delta","audio":"!!"}\n\n', {"message": "sound that is not base64"}),
    ],
)
def test_broken_speech_is_an_error(event, error):
    meter = speech.meter(speech.parse({"model": "m", "input": "hello", "voice": "v"}))
    meter.feed(event)
    meter.flush()
    assert (meter.error, meter.is_whole) == (error, False)
