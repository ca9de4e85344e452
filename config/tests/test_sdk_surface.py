"""The official SDK on every endpoint beside chat, over real sockets. Charges are worked out by hand from the usage."""

from collections.abc import Iterator

import openai
import pytest

from config.tests.surface_kit import Surface, running

# Nano-dollars a token of gpt-4o-mini there.
INPUT, CACHED, OUTPUT = 1_000, 500, 2_000
SEARCH = 10_000_000


@pytest.fixture(scope="module")
def surface() -> Iterator[Surface]:
    with running() as one:
        yield one


def test_a_response_is_charged_by_its_usage(surface: Surface) -> None:
    answer = surface.sdk.responses.create(model="gpt-4o-mini", input="[[say=Good day; cached-tokens=2]] hello")
    assert answer.output_text == "Good day"
    assert answer.usage
    assert (answer.usage.input_tokens_details.cached_tokens, answer.usage.output_tokens) == (2, 2)
    cost = (answer.usage.input_tokens - 2) * INPUT + 2 * CACHED + 2 * OUTPUT
    assert surface.capture().cost == cost


def test_a_streamed_response_ends_with_its_terminal_event(surface: Surface) -> None:
    with surface.sdk.responses.create(model="gpt-4o-mini", input="[[words=20]]", stream=True) as events:
        seen = list(events)
    assert [event.type for event in seen[:2]] == ["response.created", "response.in_progress"]
    last = seen[-1]
    assert last.type == "response.completed"
    assert last.response.usage
    usage = last.response.usage
    assert surface.capture().cost == usage.input_tokens * INPUT + usage.output_tokens * OUTPUT
    assert surface.capture().stream


def test_an_incomplete_response_is_charged_for_what_it_made(surface: Surface) -> None:
    answer = surface.sdk.responses.create(model="gpt-4o-mini", input="tell me more", max_output_tokens=5)
    assert answer.status == "incomplete"
    assert answer.usage
    assert answer.usage.output_tokens == 5
    assert surface.capture().cost == answer.usage.input_tokens * INPUT + 5 * OUTPUT


def test_a_stream_that_breaks_off_raises(surface: Surface) -> None:
    with (
        pytest.raises(openai.APIError) as raised,
        surface.sdk.responses.create(model="gpt-4o-mini", input="[[cut=3]] hello", stream=True) as events,
    ):
        list(events)
    assert raised.value.code == "upstream_error"
    assert surface.capture().outcome == "upstream_cut"


def test_a_failed_response_costs_nothing(surface: Surface) -> None:
    answer = surface.sdk.responses.create(model="gpt-4o-mini", input="[[says=failed]] hello")
    assert answer.status == "failed"
    assert answer.error
    assert "10.0.0.7" not in answer.error.message
    assert "sk-secret" not in answer.error.message
    assert surface.capture().cost == 0


def test_web_searches_are_charged_by_the_call(surface: Surface) -> None:
    answer = surface.sdk.responses.create(
        model="gpt-4o-mini", input="[[searches=2; say=found]]", tools=[{"type": "web_search"}]
    )
    assert answer.usage
    cost = answer.usage.input_tokens * INPUT + answer.usage.output_tokens * OUTPUT + 2 * SEARCH
    assert surface.capture().cost == cost


def test_a_response_is_kept_for_its_maker(surface: Surface) -> None:
    made = surface.sdk.responses.create(model="gpt-4o-mini", input="[[say=first]]")
    assert surface.sdk.responses.retrieve(made.id).output_text == "first"
    assert surface.sdk.responses.input_items.list(made.id).data == []
    again = surface.sdk.responses.create(model="gpt-4o-mini", input="and?", previous_response_id=made.id)
    assert again.previous_response_id == made.id
    surface.sdk.responses.delete(made.id)
    with pytest.raises(openai.NotFoundError):
        surface.sdk.responses.retrieve(made.id)
    with pytest.raises(openai.BadRequestError) as refused:
        surface.sdk.responses.create(model="gpt-4o-mini", input="and?", previous_response_id="resp_foreign")
    assert (refused.value.code, refused.value.param) == ("previous_response_not_found", "previous_response_id")


def test_background_is_refused(surface: Surface) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        surface.sdk.responses.create(model="gpt-4o-mini", input="hello", background=True)
    assert (refused.value.code, refused.value.param) == ("unsupported_value", "background")


def test_moderations_are_free(surface: Surface) -> None:
    answer = surface.sdk.moderations.create(input="attack at dawn")
    assert answer.results[0].flagged
    assert surface.capture().cost == 0
    assert surface.capture().endpoint == "/v1/moderations"
