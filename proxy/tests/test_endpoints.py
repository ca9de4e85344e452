import base64
import struct

import orjson
import pytest

from proxy.gateway import audio, endpoints, fields, responses, texts, tokens
from proxy.gateway.errors import InvalidRequest
from proxy.gateway.snapshots import Deployment

CHAT = endpoints.ENDPOINTS["/v1/chat/completions"]
COMPLETIONS = endpoints.ENDPOINTS["/v1/completions"]
EMBEDDINGS = endpoints.ENDPOINTS["/v1/embeddings"]
HELLO = [{"role": "user", "content": "hello world"}]


def deployment(kind: str = "openai-compatible") -> Deployment:
    return Deployment(id=1, provider="p", kind=kind, base_url="http://up/v1", upstream_name="upstream-model")


@pytest.mark.parametrize(
    ("endpoint", "body", "param"),
    [
        (CHAT, {"messages": HELLO}, "model"),
        (CHAT, {"model": 7, "messages": HELLO}, "model"),
        (CHAT, {"model": "m"}, "messages"),
        (CHAT, {"model": "m", "messages": []}, "messages"),
        (CHAT, {"model": "m", "messages": HELLO, "n": 0}, "n"),
        (CHAT, {"model": "m", "messages": HELLO, "n": True}, "n"),
        (CHAT, {"model": "m", "messages": HELLO, "n": 1.5}, "n"),
        (CHAT, {"model": "m", "messages": HELLO, "stream": "yes"}, "stream"),
        (CHAT, {"model": "m", "messages": HELLO, "max_tokens": -2}, "max_tokens"),
        (CHAT, {"model": "m", "messages": HELLO, "max_completion_tokens": "5"}, "max_completion_tokens"),
        (CHAT, {"model": "m", "messages": HELLO, "max_completion_tokens": 10**12}, "max_completion_tokens"),
        (CHAT, {"model": "m", "messages": HELLO, "stream_options": 1}, "stream_options"),
        (CHAT, {"model": "m", "messages": HELLO, "service_tier": "golden"}, "service_tier"),
        (COMPLETIONS, {"model": "m", "prompt": {}}, "prompt"),
        (COMPLETIONS, {"model": "m", "prompt": "x", "n": 3, "best_of": 2}, "best_of"),
        (EMBEDDINGS, {"model": "m"}, "input"),
        (EMBEDDINGS, {"model": "m", "input": ""}, "input"),
        (EMBEDDINGS, {"model": "m", "input": []}, "input"),
        (EMBEDDINGS, {"model": "m", "input": ["x"] * 2049}, "input"),
        (EMBEDDINGS, {"model": "m", "input": "x", "encoding_format": "hex"}, "encoding_format"),
    ],
)
def test_a_wrong_field_is_named(endpoint, body, param):
    with pytest.raises(InvalidRequest) as refused:
        endpoint.parse(body)
    assert refused.value.param == param
    assert refused.value.status == 400


def test_the_clients_own_limit_bounds_the_output():
    assert CHAT.parse({"model": "m", "messages": HELLO}).output_tokens is None
    assert CHAT.parse({"model": "m", "messages": HELLO, "max_tokens": 7}).output_tokens == 7
    both = {"model": "m", "messages": HELLO, "max_tokens": 7, "max_completion_tokens": 9}
    assert CHAT.parse(both).output_tokens == 9
    assert COMPLETIONS.parse({"model": "m", "prompt": "x"}).output_tokens == 16


@pytest.mark.parametrize(
    ("limits", "most"),
    [
        ({"max_tokens": 900, "max_completion_tokens": 1}, 900),  # the provider may go by either
        ({"max_tokens": 1, "n_predict": 900}, 900),  # llama.cpp's own name counts before the others there
        ({"max_tokens": 1, "max_completion_tokens": -1}, None),
        ({"max_tokens": -1}, None),
    ],
)
@pytest.mark.parametrize(("endpoint", "more"), [(CHAT, {"messages": HELLO}), (COMPLETIONS, {"prompt": "x"})])
def test_the_hold_is_for_the_largest_of_several_limits(endpoint, more, limits, most):
    job = endpoint.parse({"model": "m", **more, **limits})
    assert job.output_tokens == most
    told = orjson.loads(endpoints.upstream_body(endpoint, job, deployment(), output_cap=50))
    assert {name: told[name] for name in told if name in fields.OUTPUT_LIMITS} == {"max_tokens": 50}


def test_a_completion_without_a_limit_is_told_the_one_that_is_held_for():
    job = COMPLETIONS.parse({"model": "m", "prompt": "x"})
    assert orjson.loads(endpoints.upstream_body(COMPLETIONS, job, deployment(), output_cap=None))["max_tokens"] == 16


def test_candidates_and_prompts_multiply_the_answers():
    assert CHAT.parse({"model": "m", "messages": HELLO, "n": 3}).answers == 3
    assert COMPLETIONS.parse({"model": "m", "prompt": ["a", "b"], "n": 2, "best_of": 5}).answers == 10
    assert COMPLETIONS.parse({"model": "m", "prompt": [1, 2, 3]}).answers == 1


def test_the_upstream_is_asked_for_usage_under_its_own_model_name():
    job = CHAT.parse(
        {"model": "m", "messages": HELLO, "stream": True, "stream_options": {"include_obfuscation": False}}
    )
    body = orjson.loads(endpoints.upstream_body(CHAT, job, deployment(), output_cap=None))
    assert body["model"] == "upstream-model"
    assert body["stream_options"] == {"include_obfuscation": False, "include_usage": True}
    assert job.body["model"] == "m"


def test_an_output_cap_uses_the_name_that_the_provider_knows():
    job = CHAT.parse({"model": "m", "messages": HELLO})
    assert orjson.loads(endpoints.upstream_body(CHAT, job, deployment(), output_cap=50))["max_tokens"] == 50
    capped = orjson.loads(endpoints.upstream_body(CHAT, job, deployment("openai"), output_cap=50))
    assert capped["max_completion_tokens"] == 50


def test_embeddings_get_the_encoding_that_was_asked_for():
    vector = [0.5, -1.0, 2.0]
    packed = base64.b64encode(struct.pack("<3f", *vector)).decode()
    job = EMBEDDINGS.parse({"model": "m", "input": "x", "encoding_format": "base64"})
    answer = {"data": [{"embedding": list(vector)}]}
    assert texts.rewrite_embeddings(job, answer)
    assert answer["data"][0]["embedding"] == packed
    assert not texts.rewrite_embeddings(job, answer)
    job = EMBEDDINGS.parse({"model": "m", "input": "x"})
    assert texts.rewrite_embeddings(job, answer)
    assert answer["data"][0]["embedding"] == vector


@pytest.mark.parametrize(
    ("text", "expected"), [("hello world", 2), ("tiktoken is great!", 6), ("お誕生日おめでとう", 8), ("2 + 2 = 4", 7)]
)
def test_tokens_are_counted_as_openai_counts_them(text, expected):
    assert tokens.count(text, "gpt-4o") == expected


def test_the_bound_covers_every_kind_of_content():
    plain = tokens.messages_bound({"messages": HELLO}, "gpt-4o")
    picture = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]}
    assert plain >= 2 + 3 + 4
    assert tokens.messages_bound({"messages": [*HELLO, picture]}, "gpt-4o") >= plain + tokens.IMAGE_TOKENS
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    assert tokens.messages_bound({"messages": HELLO, "tools": tools}, "gpt-4o") > plain + 5
    minute_of_audio = "A" * (60 * 2_000 * 4 // 3)
    audio = {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": minute_of_audio}}]}
    assert tokens.messages_bound({"messages": [audio]}, "gpt-4o") >= 10_000


def test_an_image_is_never_counted_as_text_however_deep_it_lies():
    data = "data:image/png;base64," + "Ab1/" * 50_000
    parts = [{"type": "input_text", "text": "hello"}, {"type": "input_image", "image_url": data}]
    call = {"type": "image_generation_call", "id": "ig_1", "result": "Ab1/" * 50_000}
    screen = {"type": "computer_call_output", "output": {"type": "computer_screenshot", "image_url": data}}
    for item in ({"role": "user", "content": parts}, call, screen):
        assert tokens.IMAGE_TOKENS <= tokens.parts_bound([item], "gpt-4o") < tokens.IMAGE_TOKENS + 50


def test_hostile_shapes_are_counted_without_failing():
    deep: dict = {}
    for _ in range(500):
        deep = {"a": [deep, None, 1.5, True]}
    for message in (deep, "text", None, 3, {"role": "user", "content": [deep, None, "x", {"type": "input_audio"}]}):
        assert tokens.messages_bound({"messages": [message]}, "gpt-4o") > 0


@pytest.mark.parametrize("seconds", [1e300, "1e300", "inf", float("nan"), -1, True, 10**18])
def test_a_length_beyond_any_recording_is_no_report(seconds):
    assert audio.delivered(CHAT.parse({"model": "m", "messages": HELLO}), {"duration": seconds}) == {}


def test_searches_beyond_any_request_are_no_report():
    told = {"output": [{"type": "web_search_call"}], "tool_usage": {"web_search": {"num_requests": 10**18}}}
    assert list(responses.searches(told).values()) == [1]
