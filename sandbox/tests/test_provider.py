"""The simulated provider as the official SDK sees it."""

import base64
import io
import math
import struct
from typing import Literal

import httpx
import openai
import pytest
from PIL import Image
from pydantic import BaseModel

from sandbox.provider.answers import count


@pytest.fixture
def client(running):
    with openai.OpenAI(api_key=running.key, base_url=running.url, max_retries=0, timeout=20) as one:
        yield one


def say(client, content, **options):
    options = {"model": "gpt-4o-mini", **options}
    return client.chat.completions.create(messages=[{"role": "user", "content": content}], **options)


def test_a_plain_answer_says_who_it_is_and_counts_with_a_real_tokenizer(client):
    answer = say(client, "What is a tuppence?")
    text = answer.choices[0].message.content
    assert "sandbox" in text
    assert "What is a tuppence?" in text
    assert len(text.split(".")) > 3
    assert answer.usage.completion_tokens == count(text)
    assert answer.usage.prompt_tokens == 3 + 3 + count("user") + count("What is a tuppence?")
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_a_stream_says_the_same_word_by_word(client):
    whole = say(client, "Hello").choices[0].message.content
    chunks = list(say(client, "Hello", stream=True))
    words = [chunk.choices[0].delta.content or "" for chunk in chunks]
    assert "".join(words) == whole
    assert len(words) > 20
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert all(chunk.usage is None for chunk in chunks)


def test_a_stream_has_its_usage_last_when_asked(client):
    chunks = list(say(client, "Hello", stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == count(say(client, "Hello").choices[0].message.content)


def test_max_tokens_and_n(client):
    answer = say(client, "Hello", max_tokens=5, n=2)
    assert [choice.finish_reason for choice in answer.choices] == ["length", "length"]
    assert answer.usage.completion_tokens == 10


def test_tokens_can_be_stated(client):
    answer = say(client, "Hi [[prompt-tokens=1000; completion-tokens=500; cached-tokens=200; say=ok]]")
    assert answer.choices[0].message.content == "ok"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (1000, 500)
    assert answer.usage.prompt_tokens_details.cached_tokens == 200


def test_tools_and_json(client):
    tool = {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}
    answer = say(client, "Hi", tools=[{"type": "function", "function": tool}], tool_choice="required")
    call = answer.choices[0].message.tool_calls[0].function
    assert (call.name, call.arguments) == ("weather", '{"city": "sandbox"}')
    assert answer.choices[0].finish_reason == "tool_calls"
    assert (
        say(client, "Hi", response_format={"type": "json_object"}).choices[0].message.content == '{"answer": "sandbox"}'
    )


class Leaf(BaseModel):
    kind: Literal["leaf"]
    weight: float | None


class Tree(BaseModel):
    name: str
    leaves: list[Leaf]
    below: list["Tree"]


def test_structured_answers_fit_their_schema_on_both_endpoints(client):
    told = client.responses.parse(model="gpt-4o-mini", input="a tree", text_format=Tree).output_parsed
    assert (told.name, told.leaves) == ("sandbox", [Leaf(kind="leaf", weight=1)])
    messages = [{"role": "user", "content": "a tree"}]
    chat = client.chat.completions.parse(model="gpt-4o-mini", messages=messages, response_format=Tree)
    assert chat.choices[0].message.parsed == told


def test_a_response_calls_the_function_that_it_must(client):
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    asked = {"model": "gpt-4o-mini", "input": "Rain?", "tool_choice": "required"}
    tools = [{"type": "function", "name": "weather", "parameters": schema, "strict": False}]
    (call,) = client.responses.create(tools=tools, **asked).output
    assert (call.type, call.name, call.arguments) == ("function_call", "weather", '{"city": "sandbox"}')
    with client.responses.stream(tools=tools, **asked) as stream:
        done = [event for event in stream if event.type == "response.function_call_arguments.done"]
    assert [event.arguments for event in done] == [call.arguments]


def test_legacy_completions(client):
    answer = client.completions.create(model="gpt-4o-mini", prompt=["a", "b"], max_tokens=4)
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert answer.usage.completion_tokens == 8
    text = "".join(chunk.choices[0].text for chunk in client.completions.create(model="m", prompt="a", stream=True))
    assert count(text) == 16


def test_embeddings_are_unit_vectors_in_both_encodings(client, running):
    def embed(text, **options):
        return client.embeddings.create(model="text-embedding-3-small", input=text, **options)

    one = embed(["a red apple", "a red pear", "quarterly report"], encoding_format="float")
    a, b, c = (item.embedding for item in one.data)
    assert len(a) == 1536
    assert math.isclose(sum(x * x for x in a), 1)
    assert sum(x * y for x, y in zip(a, b, strict=True)) > 2 * sum(x * y for x, y in zip(a, c, strict=True))
    assert one.usage.prompt_tokens == sum(map(count, ["a red apple", "a red pear", "quarterly report"]))
    raw = httpx.post(
        f"{running.url}/embeddings",
        headers={"authorization": f"Bearer {running.key}"},
        json={"model": "x", "input": "a red apple", "encoding_format": "base64"},
    ).json()["data"][0]["embedding"]
    assert struct.unpack("<1536f", base64.b64decode(raw)) == pytest.approx(a, abs=1e-6)
    assert len(embed("a", dimensions=64).data[0].embedding) == 64


def test_the_image_tool_draws_what_is_asked_for(client):
    tools = [{"type": "image_generation", "size": "512x512", "quality": "low"}]
    answer = client.responses.create(model="gpt-4o-mini", input="draw two coins", tools=tools)
    (made,) = (item for item in answer.output if item.type == "image_generation_call")
    with Image.open(io.BytesIO(base64.b64decode(made.result))) as image:
        assert (image.format, image.size) == ("PNG", (512, 512))
    assert (answer.tool_usage.image_gen.input_tokens, answer.tool_usage.image_gen.output_tokens) == (3, 272)
    plain = client.responses.create(model="gpt-4o-mini", input="two coins", tools=tools)
    assert [item.type for item in plain.output] == ["message"]
    assert plain.tool_usage.image_gen.total_tokens == 0


def test_an_image_is_a_real_one(client):
    answer = client.images.generate(model="gpt-image-2", prompt="two coins", size="1024x1536", quality="low")
    with Image.open(io.BytesIO(base64.b64decode(answer.data[0].b64_json))) as image:
        assert (image.format, image.size) == ("PNG", (1024, 1536))
        assert len(image.getcolors(maxcolors=10**7)) > 100
    assert answer.usage.output_tokens == 408
    assert answer.usage.input_tokens == count("two coins")


def test_models(client):
    assert "gpt-4o-mini" in [model.id for model in client.models.list()]
    assert client.models.retrieve("gpt-4.1").id == "gpt-4.1"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-0")


def test_strangers_get_401(running):
    with openai.OpenAI(api_key="other", base_url=running.url, max_retries=0) as stranger:
        with pytest.raises(openai.AuthenticationError):
            say(stranger, "Hello")
        with pytest.raises(openai.AuthenticationError):
            stranger.models.list()
    assert httpx.get(running.url.replace("/v1", "/__sandbox/requests")).status_code == 401
    assert httpx.get(running.url.replace("/v1", "/health")).json() == {"status": "ok"}


def test_the_journal_tells_how_each_request_ended(client, running):
    say(client, "a secret [[tag=journal]]", user="u1")
    with say(client, "two [[tag=journal; slow=100ms]]", stream=True) as stream:
        next(iter(stream))
    with pytest.raises(openai.InternalServerError):
        say(client, "three [[tag=journal; status=503]]")

    def journal():
        url = running.url.replace("/v1", "/__sandbox/requests?tag=journal")
        return httpx.get(url, headers={"authorization": f"Bearer {running.key}"}).json()

    with httpx.Client() as waiting:
        for _ in range(100):
            if "running" not in journal()["states"]:
                break
            waiting.get(running.url.replace("/v1", "/health"))
    told = journal()
    assert told["states"] == {"completed": 2, "disconnected": 1}
    assert told["requests"][0]["body"] == {"model": "gpt-4o-mini", "user": "u1"}
    assert "secret" not in str(told)


def test_a_directive_can_apply_to_the_first_requests_only(client):
    with pytest.raises(openai.InternalServerError):
        say(client, "x [[tag=once; times=1; status=500]]")
    assert say(client, "x [[tag=once; times=1; status=500]]").choices


def test_a_directive_with_a_typing_error_is_told(client):
    with pytest.raises(openai.BadRequestError, match="is not a directive"):
        say(client, "x [[sttaus=500]]")


def test_half_a_surrogate_pair_is_counted_not_choked_on(running):
    body = rb'{"model": "m", "messages": [{"role": "user", "content": "half \ud83d"}]}'
    headers = {"authorization": f"Bearer {running.key}"}
    answer = httpx.post(f"{running.url}/chat/completions", headers=headers, content=body)
    assert answer.json()["usage"]["prompt_tokens"] == 3 + 3 + count("user") + count("half ?")
