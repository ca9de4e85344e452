"""Usage objects as upstreams send them."""

import json

import pytest

from billing.pricing import InvalidUsage, Usage, usage_from_openai

CHAT = {
    "prompt_tokens": 1500,
    "completion_tokens": 100,
    "total_tokens": 1600,
    "prompt_tokens_details": {"cached_tokens": 1024, "cache_write_tokens": 128, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 64, "audio_tokens": 0, "rejected_prediction_tokens": 5},
}


@pytest.mark.parametrize(
    ("raw", "usage"),
    [
        (CHAT, Usage(input=348, cached_input=1024, cache_write=128, output=100, reasoning=64)),
        # Compatible servers send no details.
        ({"prompt_tokens": 19, "completion_tokens": 10, "total_tokens": 29}, Usage(input=19, output=10)),
        ({"prompt_tokens": 19, "completion_tokens": 10, "prompt_tokens_details": None}, Usage(input=19, output=10)),
        ({"prompt_tokens": 2, "total_tokens": 2}, Usage(input=2)),  # embeddings
        ({"prompt_tokens": 2}, Usage(input=2)),
        # Responses.
        (
            {
                "input_tokens": 37,
                "input_tokens_details": {
                    "cached_tokens": 7,
                    "cache_write_tokens": 20,
                    "cache_write_tokens_details": {"ttl_30m_tokens": 15, "ttl_12h_tokens": 5},
                },
                "output_tokens": 11,
                "output_tokens_details": {"reasoning_tokens": 3},
                "total_tokens": 48,
            },
            Usage(input=10, cached_input=7, cache_write=15, cache_write_12h=5, output=11, reasoning=3),
        ),
        # Realtime: audio, and a split of what was cached.
        (
            {
                "total_tokens": 253,
                "input_tokens": 132,
                "output_tokens": 121,
                "input_token_details": {
                    "text_tokens": 119,
                    "audio_tokens": 13,
                    "image_tokens": 0,
                    "cached_tokens": 64,
                    "cached_tokens_details": {"text_tokens": 60, "audio_tokens": 4, "image_tokens": 0},
                },
                "output_token_details": {"text_tokens": 30, "audio_tokens": 91},
            },
            Usage(input=59, cached_input=60, audio_input=9, cached_audio_input=4, output=30, audio_output=91),
        ),
        # Cached without a split comes from text first, then from images, then from audio.
        (
            {
                "input_tokens": 100,
                "output_tokens": 0,
                "input_tokens_details": {"cached_tokens": 95, "audio_tokens": 10, "image_tokens": 20},
            },
            Usage(cached_input=70, cached_image_input=20, audio_input=5, cached_audio_input=5),
        ),
        # Reasoning outside of the completion: the total tells.
        ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 40}, Usage(input=10, output=30)),
        # A total that is too small changes nothing.
        ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 1}, Usage(input=10, output=5)),
        # Subsets never exceed the whole.
        (
            {"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 50}},
            Usage(cached_input=10, output=5),
        ),
        (
            {"prompt_tokens": 10, "completion_tokens": 5, "completion_tokens_details": {"reasoning_tokens": 99}},
            Usage(input=10, output=5, reasoning=5),
        ),
        # The input is missing, but the total tells.
        ({"completion_tokens": 5, "total_tokens": 40}, Usage(input=35, output=5)),
        # Servers that fill the names of both APIs.
        ({"prompt_tokens": 0, "input_tokens": 7, "completion_tokens": 0, "output_tokens": 3}, Usage(input=7, output=3)),
        # Transcription by duration; its seconds may have a fraction.
        ({"type": "duration", "seconds": 27}, Usage(units={"milliseconds": 27_000})),
        ({"type": "duration", "seconds": 27.1}, Usage(units={"milliseconds": 27_100})),
        (
            {
                "type": "tokens",
                "input_tokens": 14,
                "input_token_details": {"text_tokens": 0, "audio_tokens": 14},
                "output_tokens": 45,
                "total_tokens": 59,
            },
            Usage(audio_input=14, output=45),
        ),
    ],
)
def test_counts_become_disjoint(raw, usage):
    assert usage_from_openai(raw) == usage


def test_zero_is_not_missing():
    assert usage_from_openai({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}) == Usage()
    for missing in (None, {}, {"prompt_tokens": None}, {"completion_tokens": 5}, {"total_tokens": 5}, {"type": "x"}):
        assert usage_from_openai(missing) is None


def test_input_alone_is_nothing_where_output_was_expected():
    assert usage_from_openai({"prompt_tokens": 2}, needs_output=True) is None
    assert usage_from_openai({"prompt_tokens": 2, "total_tokens": 9}, needs_output=True) == Usage(input=2, output=7)
    assert usage_from_openai({"prompt_tokens": 2, "completion_tokens": 0}, needs_output=True) == Usage(input=2)


@pytest.mark.parametrize(
    ("details", "usage"),
    [
        ({"text_tokens": 0, "image_tokens": 272}, Usage(input=10, image_input=40, image_output=272)),
        (None, Usage(input=10, image_input=40, image_output=272)),
        ({"text_tokens": 2}, Usage(input=10, image_input=40, output=2, image_output=270)),
        ({"text_tokens": 2, "image_tokens": 270}, Usage(input=10, image_input=40, output=2, image_output=270)),
    ],
)
def test_the_output_of_images_is_image_tokens_unless_it_says_otherwise(details, usage):
    raw = {
        "input_tokens": 50,
        "input_tokens_details": {"text_tokens": 10, "image_tokens": 40},
        "output_tokens": 272,
        "output_tokens_details": details,
        "total_tokens": 322,
    }
    assert usage_from_openai(raw, output_kind="image") == usage


def test_the_output_of_speech_is_audio():
    raw = {"input_tokens": 5, "output_tokens": 70, "total_tokens": 75}
    assert usage_from_openai(raw, output_kind="audio") == Usage(input=5, audio_output=70)


@pytest.mark.parametrize(
    "bad", [True, False, "5", "", 5.0, float("nan"), float("inf"), -1, 10**12 + 1, 10**400, [], {}], ids=repr
)
@pytest.mark.parametrize(
    ("field", "make"),
    [
        ("prompt_tokens", lambda bad: {"prompt_tokens": bad, "completion_tokens": 1}),
        ("completion_tokens", lambda bad: {"prompt_tokens": 1, "completion_tokens": bad}),
        ("total_tokens", lambda bad: {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": bad}),
        (
            "prompt_tokens_details.cached_tokens",
            lambda bad: {"prompt_tokens": 1, "prompt_tokens_details": {"cached_tokens": bad}},
        ),
        (
            "completion_tokens_details.reasoning_tokens",
            lambda bad: {
                "prompt_tokens": 1,
                "completion_tokens": 1,
                "completion_tokens_details": {"reasoning_tokens": bad},
            },
        ),
    ],
)
def test_a_count_that_is_no_count_is_refused_by_its_name(field, make, bad):
    with pytest.raises(InvalidUsage) as refusal:
        usage_from_openai(make(bad))
    assert refusal.value.field == field
    assert len(str(refusal.value)) < 160


@pytest.mark.parametrize("bad", [True, "5", float("nan"), float("inf"), -0.5, 10**7], ids=repr)
def test_a_duration_that_is_none_is_refused(bad):
    with pytest.raises(InvalidUsage, match="seconds"):
        usage_from_openai({"type": "duration", "seconds": bad})


@pytest.mark.parametrize("raw", [[], "usage", 5, True, json.loads("NaN")], ids=repr)
def test_a_usage_that_is_no_object_is_refused(raw):
    with pytest.raises(InvalidUsage, match="usage"):
        usage_from_openai(raw)


@pytest.mark.parametrize("details", [[], "x", 5])
def test_details_that_are_no_object_are_refused(details):
    with pytest.raises(InvalidUsage, match="prompt_tokens_details"):
        usage_from_openai({"prompt_tokens": 1, "completion_tokens": 1, "prompt_tokens_details": details})
