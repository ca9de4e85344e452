"""Anthropic's official SDK on `/v1/messages`, over real sockets: the same models, the same exact charges."""

from collections.abc import Iterator

import anthropic
import httpx
import pytest

from config.tests.surface_kit import Surface, running
from proxy.tests.kit import SECRET

INPUT, CACHED, OUTPUT = 1_000, 500, 2_000
HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def surface() -> Iterator[Surface]:
    with running() as one:
        yield one


@pytest.fixture(scope="module")
def sdk(surface: Surface) -> Iterator[anthropic.Anthropic]:
    base = surface.url.removesuffix("/v1")
    with anthropic.Anthropic(base_url=base, api_key=SECRET, timeout=60, max_retries=0) as client:
        yield client


def said(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def test_a_message_is_charged_as_the_chat_completion_that_it_becomes(surface, sdk):
    made = sdk.messages.create(
        model="gpt-4o-mini", max_tokens=50, system="Be brief.", messages=said("[[say=Good day; cached-tokens=3]] hello")
    )
    assert (made.content[0].text, made.stop_reason, made.model) == ("Good day", "end_turn", "gpt-4o-mini")
    assert made.id.startswith("msg_")
    assert (made.usage.cache_read_input_tokens, made.usage.output_tokens) == (3, 2)
    capture = surface.capture()
    assert capture.cost == made.usage.input_tokens * INPUT + 3 * CACHED + 2 * OUTPUT
    assert capture.endpoint == "/v1/messages"
    sent = surface.provider.journal[-1]
    assert (
        sent.path,
        sent.body["max_completion_tokens" if "max_completion_tokens" in sent.body else "max_tokens"],
    ) == (
        "/v1/chat/completions",
        50,
    )


def test_a_stream_has_anthropics_events(surface, sdk):
    with sdk.messages.stream(model="gpt-4o-mini", max_tokens=500, messages=said("[[words=20]]")) as stream:
        kinds = [event.type for event in stream]
        message = stream.get_final_message()
    assert [kind for kind in kinds if "delta" not in kind and kind != "text"] == [
        "message_start",
        "content_block_start",
        "content_block_stop",
        "message_stop",
    ]
    assert len(message.content[0].text.split()) == 20
    capture = surface.capture()
    assert capture.cost == message.usage.input_tokens * INPUT + message.usage.output_tokens * OUTPUT
    assert (capture.stream, capture.estimated) == (True, False)


def test_max_tokens_is_told_and_kept(surface, sdk):
    made = sdk.messages.create(model="gpt-4o-mini", max_tokens=5, messages=said("[[words=50]]"))
    assert (made.stop_reason, made.usage.output_tokens) == ("max_tokens", 5)


TOOL = {
    "name": "weather",
    "description": "The weather of a place",
    "input_schema": {"type": "object", "properties": {"place": {"type": "string"}}},
}


@pytest.mark.parametrize("streams", [False, True])
def test_tools_go_there_and_back(surface, sdk, streams):
    asked = {
        "model": "gpt-4o-mini",
        "max_tokens": 100,
        "tools": [TOOL],
        "tool_choice": {"type": "any"},
        "messages": said("[[tools]] weather?"),
    }
    if streams:
        with sdk.messages.stream(**asked) as stream:
            made = stream.get_final_message()
    else:
        made = sdk.messages.create(**asked)
    (use,) = made.content
    assert (use.type, use.name, made.stop_reason) == ("tool_use", "weather", "tool_use")
    assert set(use.input) == {"place"}
    answered = sdk.messages.create(
        model="gpt-4o-mini",
        max_tokens=100,
        tools=[TOOL],
        messages=[
            *said("weather?"),
            {"role": "assistant", "content": [block.model_dump(exclude_none=True) for block in made.content]},
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": use.id, "content": [{"type": "text", "text": "sunny"}]},
                    {"type": "text", "text": "[[say=Thanks]] so?"},
                ],
            },
        ],
    )
    assert answered.content[0].text == "Thanks"


def test_an_image_goes_along(surface, sdk):
    source = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
    content = [{"type": "image", "source": source}, {"type": "text", "text": "[[say=A dot]] what is it?"}]
    made = sdk.messages.create(model="gpt-4o-mini", max_tokens=20, messages=[{"role": "user", "content": content}])
    assert made.content[0].text == "A dot"


def test_tokens_are_counted_for_nothing(surface, sdk):
    before = len(surface.teller.captures)
    counted = sdk.messages.count_tokens(model="gpt-4o-mini", messages=said("hello there"))
    assert 2 < counted.input_tokens < 20
    assert len(surface.teller.captures) == before


@pytest.mark.parametrize(
    ("fields", "error", "kind"),
    [
        ({"model": "nothing"}, anthropic.NotFoundError, "not_found_error"),
        ({"messages": []}, anthropic.BadRequestError, "invalid_request_error"),
        ({"messages": said("[[status=500]]")}, anthropic.InternalServerError, "api_error"),
        ({"messages": said("[[status=429]]")}, anthropic.InternalServerError, "overloaded_error"),
        ({"tools": [{"type": "web_search_20250305", "name": "w"}]}, anthropic.BadRequestError, "invalid_request_error"),
        ({"tool_choice": {"type": "x"}, "tools": [TOOL]}, anthropic.BadRequestError, "invalid_request_error"),
    ],
)
def test_errors_have_anthropics_shape(surface, sdk, fields, error, kind):
    with pytest.raises(error) as raised:
        sdk.messages.create(**{"model": "gpt-4o-mini", "max_tokens": 5, "messages": HELLO} | fields)
    body = raised.value.body
    assert (body["type"], body["error"]["type"]) == ("error", kind)
    assert body["request_id"] == raised.value.response.headers["x-request-id"]


def test_a_wrong_key_is_an_authentication_error(surface):
    with (
        anthropic.Anthropic(base_url=surface.url.removesuffix("/v1"), api_key="sk-no", max_retries=0) as client,
        pytest.raises(anthropic.AuthenticationError),
    ):
        client.messages.create(model="gpt-4o-mini", max_tokens=5, messages=HELLO)


def test_a_stream_that_breaks_off_ends_with_an_error(surface, sdk):
    with (
        pytest.raises(anthropic.APIStatusError),
        sdk.messages.stream(model="gpt-4o-mini", max_tokens=50, messages=said("[[cut=3; words=20]]")) as stream,
    ):
        list(stream)
    assert (surface.capture().outcome, surface.capture().estimated) == ("upstream_cut", True)


def test_a_missing_maximum_is_named(surface):
    answer = httpx.post(
        f"{surface.url}/messages",
        json={"model": "gpt-4o-mini", "messages": HELLO},
        headers={"x-api-key": SECRET, "anthropic-version": "2023-06-01"},
    )
    assert answer.status_code == 400
    assert "max_tokens" in answer.json()["error"]["message"]
