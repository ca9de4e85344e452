"""The official SDK with the image tool of responses, over real sockets. Charges are worked out by hand."""

import base64
import io
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai.types.responses import Response, ToolParam
from PIL import Image

from billing.teller import Capture
from config.tests.surface_kit import Surface, running

# Nano-dollars a token: of gpt-4o-mini, and of gpt-image-2.
INPUT, OUTPUT = 1_000, 2_000
TEXT, IMAGE_OUT = 5_000, 30_000
LOW = 272
SMALL: ToolParam = {"type": "image_generation", "model": "gpt-image-2", "quality": "low", "size": "1024x1024"}


@pytest.fixture(scope="module")
def surface() -> Iterator[Surface]:
    with running() as one:
        yield one


def charges(surface: Surface) -> tuple[Capture, Capture]:
    """The last response's, and its images'; no hold is left."""
    assert surface.teller.holds == {}
    first, second = surface.teller.captures[-2:]
    return (second, first) if first.endpoint == "/v1/images/generations" else (first, second)


def cost_of_text(answer: Response) -> int:
    assert answer.usage
    return answer.usage.input_tokens * INPUT + answer.usage.output_tokens * OUTPUT


def pictures(answer: Response) -> list[tuple[int, int]]:
    made = [item for item in answer.output if item.type == "image_generation_call"]
    return [Image.open(io.BytesIO(base64.b64decode(item.result or ""))).size for item in made]


def test_a_picture_comes_with_the_answer_and_both_are_charged(surface: Surface) -> None:
    raw = surface.sdk.responses.with_raw_response.create(
        model="gpt-4o-mini", input="Draw a red fox. [[say=Here it is]]", tools=[SMALL]
    )
    answer = raw.parse()
    assert (answer.output_text, pictures(answer)) == ("Here it is", [(1024, 1024)])
    assert answer.tool_usage
    told = answer.tool_usage.image_gen
    assert told.output_tokens == LOW
    text, images = charges(surface)
    assert text.cost == cost_of_text(answer)
    assert images.cost == told.input_tokens * TEXT + LOW * IMAGE_OUT
    assert (images.model, images.estimated) == ("gpt-image-2", False)
    assert float(raw.headers["x-cost-credits"]) == (text.cost + images.cost) / 10**7
    assert raw.headers["x-image-request-id"] == f"req_{images.request_id.hex}"


def test_a_streamed_picture_with_partial_ones(surface: Surface) -> None:
    tool: Any = {**SMALL, "partial_images": 2}
    with surface.sdk.responses.create(
        model="gpt-4o-mini", input="Paint a hen", tools=[tool], stream=True
    ) as events:  # fmt: skip
        seen = list(events)
    kinds = [event.type for event in seen]
    assert kinds.count("response.image_generation_call.partial_image") == 2
    assert "response.image_generation_call.generating" in kinds
    last = seen[-1]
    assert last.type == "response.completed"
    assert pictures(last.response) == [(1024, 1024)]
    text, images = charges(surface)
    assert last.response.tool_usage
    assert images.cost == last.response.tool_usage.image_gen.input_tokens * TEXT + LOW * IMAGE_OUT
    assert (text.cost, images.stream) == (cost_of_text(last.response), True)


def test_a_tool_that_is_not_used_costs_nothing(surface: Surface) -> None:
    answer = surface.sdk.responses.create(model="gpt-4o-mini", input="How are you?", tools=[SMALL])
    assert pictures(answer) == []
    text, images = charges(surface)
    assert (text.cost, images.cost, images.error_code) == (cost_of_text(answer), 0, "tool_not_used")


def test_an_answer_without_usage_is_estimated_by_its_images(surface: Surface) -> None:
    surface.sdk.responses.create(model="gpt-4o-mini", input="[[images=2; no-usage]] two hens", tools=[SMALL])
    _, images = charges(surface)
    assert (images.estimated, images.image_output_tokens) == (True, 2 * LOW)


def test_a_stream_that_breaks_off_after_its_picture_is_charged_for_it(surface: Surface) -> None:
    with (
        pytest.raises(openai.APIError),
        surface.sdk.responses.create(
            model="gpt-4o-mini", input="[[cut=1]] draw a fox", tools=[SMALL], stream=True
        ) as events,
    ):  # fmt: skip
        list(events)
    text, images = charges(surface)
    assert (text.outcome, images.outcome) == ("upstream_cut", "upstream_cut")
    assert (images.estimated, images.image_output_tokens) == (True, LOW)


def test_the_next_turn_may_build_on_a_picture(surface: Surface) -> None:
    first = surface.sdk.responses.create(model="gpt-4o-mini", input="Draw a fox", tools=[SMALL])
    turns: Any = [
        {"role": "user", "content": "Draw a fox"},
        *(item.to_dict() for item in first.output),
        {"role": "user", "content": "Draw it with a hat"},
    ]
    again = surface.sdk.responses.create(model="gpt-4o-mini", input=turns, tools=[SMALL], max_output_tokens=100)
    assert len(pictures(again)) == 1
    # The picture is 1,600 tokens of the response's input for the hold, not its base64.
    assert charges(surface)[0].hold < 4_000 * INPUT
    by_id = surface.sdk.responses.create(
        model="gpt-4o-mini", input="Draw it at night", previous_response_id=first.id, tools=[SMALL]
    )
    assert len(pictures(by_id)) == 1


def test_a_tool_without_a_price_is_refused(surface: Surface) -> None:
    tools: list[ToolParam] = [{"type": "image_generation", "model": "gpt-image-9"}]
    with pytest.raises(openai.BadRequestError) as refused:
        surface.sdk.responses.create(model="gpt-4o-mini", input="Draw", tools=tools)
    assert (refused.value.code, refused.value.param) == ("unsupported_value", "tools[0].model")
