"""The official SDK on images and sound, over real sockets. Charges are worked out by hand from usage and prices."""

import base64
import io
import threading
from collections.abc import Iterator
from dataclasses import replace

import httpx
import openai
import pytest
from PIL import Image

from config.tests.surface_kit import Surface, running
from proxy.tests.kit import KEY, SECRET
from sandbox.provider.media import wave

# Nano-dollars a token of gpt-image-2 there.
TEXT, IMAGE_IN, IMAGE_OUT = 5_000, 8_000, 30_000
MEDIUM = 1_056
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGNgYGD4DwABBAEAX+XDSwAAAABJRU5ErkJggg=="
)
WORDS = " ".join(["word"] * 60)  # 60 words are 3 seconds of the simulated voice
SOUND = ("talk.wav", wave(WORDS))
SECONDS = 3


@pytest.fixture(scope="module")
def surface() -> Iterator[Surface]:
    with running() as one:
        yield one


# ---------------------------------------------------------------- images


def test_an_image_is_made_and_charged_by_its_tokens(surface: Surface) -> None:
    made = surface.sdk.images.generate(model="gpt-image-2", prompt="a red fox", size="1024x1024", quality="medium", n=2)
    assert made.data
    assert [Image.open(io.BytesIO(base64.b64decode(one.b64_json or ""))).size for one in made.data] == [
        (1024, 1024)
    ] * 2
    assert made.usage
    assert made.usage.output_tokens == 2 * MEDIUM
    capture = surface.capture()
    assert capture.cost == made.usage.input_tokens * TEXT + 2 * MEDIUM * IMAGE_OUT
    assert (capture.image_output_tokens, capture.estimated, capture.endpoint) == (
        2 * MEDIUM,
        False,
        "/v1/images/generations",
    )


def test_partial_images_stream(surface: Surface) -> None:
    events = list(
        surface.sdk.images.generate(
            model="gpt-image-2", prompt="a fox", quality="low", size="1024x1024", stream=True, partial_images=2
        )
    )
    assert [event.type for event in events] == ["image_generation.partial_image"] * 2 + ["image_generation.completed"]
    last = events[-1]
    assert last.type == "image_generation.completed"
    assert surface.capture().cost == last.usage.input_tokens * TEXT + 272 * IMAGE_OUT
    assert surface.capture().stream


def test_an_edit_with_a_mask(surface: Surface) -> None:
    made = surface.sdk.images.edit(
        model="gpt-image-2",
        image=("a.png", PNG, "image/png"),
        mask=("m.png", PNG, "image/png"),
        prompt="more",
        quality="low",
    )
    assert made.usage
    assert made.usage.input_tokens_details.image_tokens == 400
    text = made.usage.input_tokens_details.text_tokens
    assert surface.capture().cost == text * TEXT + 400 * IMAGE_IN + 272 * IMAGE_OUT
    assert surface.provider.journal[-1].body["model"] == "gpt-image-2"


def test_several_images_and_a_streamed_edit(surface: Surface) -> None:
    files = [("a.png", PNG, "image/png"), ("b.png", PNG, "image/png")]
    events = list(
        surface.sdk.images.edit(model="gpt-image-2", image=files, prompt="both", quality="low", stream=True, n=2)
    )
    assert [event.type for event in events] == ["image_edit.completed"] * 2
    assert surface.capture().units == {}
    assert surface.capture().image_output_tokens == 2 * 272
    assert surface.capture().image_input_tokens == 400


def test_a_variation(surface: Surface) -> None:
    with pytest.deprecated_call():
        made = surface.sdk.images.create_variation(model="gpt-image-2", image=("a.png", PNG, "image/png"))
    assert made.data
    assert surface.capture().cost > 0


def test_images_priced_by_the_piece_are_charged_as_delivered(surface: Surface) -> None:
    surface.sdk.images.generate(model="flux", prompt="[[no-usage]] a fox", n=3)
    assert (surface.capture().cost, surface.capture().units) == (3 * 20_000_000, {"images": 3})
    assert not surface.capture().estimated
    surface.sdk.images.generate(model="tiled", prompt="[[no-usage]]", size="1024x1024", extra_body={"steps": 8})
    assert surface.capture().units == {"tiles": 4, "steps": 8}
    assert surface.capture().cost == 4 * 7_000_000 + 8 * 1_000_000


def test_images_without_usage_are_estimated(surface: Surface) -> None:
    surface.sdk.images.generate(model="gpt-image-2", prompt="[[no-usage]] a fox", size="1024x1024", quality="low")
    capture = surface.capture()
    assert capture.estimated
    assert capture.image_output_tokens == 272


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": "x", "size": "1x1"}, "size"),
        ({"prompt": "x", "quality": "best"}, "quality"),
        ({"prompt": "x", "n": 11}, "n"),
        ({"prompt": "x", "partial_images": 4}, "partial_images"),
        ({"prompt": "x", "response_format": "url"}, "response_format"),
        ({"prompt": "x", "svg": {"model": "gpt-6"}}, "svg"),
        ({"prompt": ""}, "prompt"),
    ],
)
def test_wrong_fields_are_named(surface: Surface, fields: dict[str, object], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        surface.sdk.post("/images/generations", body={"model": "gpt-image-2", **fields}, cast_to=object)
    assert refused.value.param == param


# ---------------------------------------------------------------- recordings


def test_a_transcription_by_tokens(surface: Surface) -> None:
    heard = surface.sdk.audio.transcriptions.create(model="gpt-4o-mini-transcribe", file=SOUND)
    assert "3.0 seconds" in heard.text
    capture = surface.capture()
    assert capture.audio_input_tokens == SECONDS * 10
    assert capture.cost == SECONDS * 10 * 3_000 + capture.output_tokens * 5_000


def test_a_streamed_transcription(surface: Surface) -> None:
    events = list(surface.sdk.audio.transcriptions.create(model="gpt-4o-mini-transcribe", file=SOUND, stream=True))
    assert events[-1].type == "transcript.text.done"
    assert "".join(event.delta for event in events[:-1]) == events[-1].text
    assert surface.capture().audio_input_tokens == SECONDS * 10


def test_of_an_upload_fields_and_names_are_taken_down(surface: Surface, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surface.keyring, "key", replace(KEY, transcript_days=7))
    prompt = "Names: Ada"
    heard = surface.sdk.audio.transcriptions.create(model="gpt-4o-mini-transcribe", file=SOUND, prompt=prompt)
    surface.sdk.images.edit(model="gpt-image-2", image=[("a.png", PNG, "image/png")] * 2, prompt="both")
    (sound, written), (images, _) = surface.said(2)
    assert (sound["prompt"], sound["model"]) == (prompt, "gpt-4o-mini-transcribe")
    (file,) = sound["file"]
    assert (set(file), file["filename"], file["bytes"]) == (
        {"filename", "content_type", "bytes"}, SOUND[0], len(SOUND[1]),
    )  # fmt: skip
    assert written == heard.text
    assert [one["filename"] for one in images["image[]"]] == ["a.png", "a.png"]
    assert images["prompt"] == "both"


def test_a_transcription_by_the_minute(surface: Surface) -> None:
    surface.sdk.audio.transcriptions.create(model="whisper-1", file=SOUND)
    assert surface.capture().units == {"milliseconds": SECONDS * 1000}
    assert surface.capture().cost == SECONDS * 100_000


@pytest.mark.parametrize(
    ("shape", "begins"),
    [
        ("text", "A recording"),
        ("srt", "1\n00:00:00,000 --> 00:00:03,000\nA rec"),
        ("vtt", "WEBVTT\n\n00:00:00.000 --> 00:00:03.000\n"),
    ],
)
def test_formats_without_usage_are_written_here(surface: Surface, shape: str, begins: str) -> None:
    heard = surface.sdk.audio.transcriptions.create(model="whisper-1", file=SOUND, response_format=shape)  # type: ignore[call-overload]
    assert str(heard).startswith(begins)
    assert surface.capture().cost == SECONDS * 100_000
    assert surface.provider.journal[-1].body["response_format"] == ("json" if shape == "text" else "verbose_json")


def test_a_recording_that_tells_its_length_is_charged_by_it_where_the_answer_says_nothing(surface: Surface) -> None:
    surface.sdk.audio.transcriptions.create(model="whisper-1", file=SOUND, prompt="[[no-usage]]")
    assert (surface.capture().cost, surface.capture().estimated) == (SECONDS * 100_000, False)


def test_a_translation(surface: Surface) -> None:
    with pytest.deprecated_call():
        assert surface.sdk.audio.translations.create(model="whisper-1", file=SOUND).text
    assert surface.capture().endpoint == "/v1/audio/translations"
    assert surface.capture().cost == SECONDS * 100_000


def test_a_form_without_its_file_is_refused(surface: Surface) -> None:
    answer = httpx.post(
        f"{surface.url}/audio/transcriptions",
        headers={"authorization": f"Bearer {SECRET}"},
        files={"model": (None, "whisper-1")},
    )
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "file")
    as_json = httpx.post(f"{surface.url}/audio/transcriptions", headers={"authorization": f"Bearer {SECRET}"}, json={})
    assert (as_json.status_code, as_json.json()["error"]["code"]) == (415, "unsupported_media_type")


def test_a_repeat_of_an_upload_is_answered_from_the_first(surface: Surface) -> None:
    count = len(surface.teller.captures)
    headers = {"Idempotency-Key": "the-same-recording"}
    texts = {
        surface.sdk.audio.transcriptions.create(model="whisper-1", file=SOUND, extra_headers=headers).text
        for _ in range(2)  # each with a boundary of its own
    }
    assert len(texts) == 1
    assert len(surface.teller.captures) == count + 1
    with pytest.raises(openai.ConflictError):
        surface.sdk.audio.transcriptions.create(model="whisper-1", file=("b.wav", wave("other")), extra_headers=headers)


# ---------------------------------------------------------------- speech


def test_speech_by_characters_is_exact(surface: Surface) -> None:
    text = "Grüße, 世界!"
    said = surface.sdk.audio.speech.create(model="tts-1", voice="alloy", input=text, response_format="wav")
    assert said.content == wave(text)
    assert said.response.headers["content-type"] == "audio/wav"
    assert surface.capture().cost == len(text) * 15_000


def test_speech_by_tokens_is_charged_by_events_that_the_client_does_not_see(surface: Surface) -> None:
    said = surface.sdk.audio.speech.create(model="gpt-4o-mini-tts", voice="alloy", input=WORDS, response_format="wav")
    assert said.content == wave(WORDS)
    capture = surface.capture()
    assert capture.audio_output_tokens == SECONDS * 20
    assert capture.cost == capture.input_tokens * 600 + SECONDS * 20 * 12_000


def test_speech_as_events_for_who_asks(surface: Surface) -> None:
    body = {"model": "gpt-4o-mini-tts", "voice": "alloy", "input": WORDS, "stream_format": "sse"}
    with httpx.stream(
        "POST", f"{surface.url}/audio/speech", json=body, headers={"authorization": f"Bearer {SECRET}"}
    ) as answer:
        text = answer.read().decode()
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert text.index("speech.audio.delta") < text.index("speech.audio.done") < text.index("x-cost-credits")
    assert surface.capture().audio_output_tokens == SECONDS * 20


def test_speech_that_breaks_off_is_estimated_and_does_not_look_whole(surface: Surface) -> None:
    with pytest.raises((openai.APIConnectionError, httpx.HTTPError)):
        surface.sdk.audio.speech.create(model="gpt-4o-mini-tts", voice="alloy", input=f"[[cut=3]] {WORDS}")
    assert surface.capture().outcome == "upstream_cut"
    assert surface.capture().estimated


# ---------------------------------------------------------------- size


def resident_kb() -> int:
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


def test_a_large_upload_stays_out_of_memory() -> None:
    """The gateway and an upstream that throws the body away; the memory is that of both."""
    with running(discards=True) as surface:
        size = 120 * 1024 * 1024
        peak, done = [resident_kb()] * 2, threading.Event()

        def watch() -> None:
            while not done.wait(0.01):
                peak[1] = max(peak[1], resident_kb())

        watcher = threading.Thread(target=watch)
        watcher.start()
        boundary = "edge"
        head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n--{boundary}\r\n'
            'Content-Disposition: form-data; name="file"; filename="a.bin"\r\n\r\n'
        ).encode()
        tail = f"\r\n--{boundary}--\r\n".encode()

        def body() -> Iterator[bytes]:
            yield head
            for _ in range(size // 65_536):
                yield bytes(65_536)
            yield tail

        headers = {
            "authorization": f"Bearer {SECRET}",
            "content-type": f"multipart/form-data; boundary={boundary}",
            "content-length": str(len(head) + size + len(tail)),
        }
        answer = httpx.post(f"{surface.url}/audio/transcriptions", content=body(), headers=headers, timeout=60)
        done.set()
        watcher.join()
        assert answer.status_code == 400  # longer than six hours at any rate that a codec has
        assert "longer than" in answer.json()["error"]["message"]
        edit = head.replace(b"whisper-1", b"gpt-image-2").replace(b'name="file"', b'name="image"')
        fields = f'--{boundary}\r\nContent-Disposition: form-data; name="prompt"\r\n\r\nx\r\n'.encode()
        head = fields + edit
        headers["content-length"] = str(len(head) + size + len(tail))
        answer = httpx.post(f"{surface.url}/images/edits", content=body(), headers=headers, timeout=60)
        assert answer.status_code == 200
        assert surface.capture().outcome == "completed"
        assert peak[1] - peak[0] < 40 * 1024
