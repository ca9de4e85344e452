"""The simulated provider behind the gateway: what the demo of `make run` and a customer's own tests rely on."""

import secrets
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import OpenAI

from config.tests import books
from config.tests.processes import Installation, Service

pytestmark = [pytest.mark.processes, pytest.mark.xdist_group("sandbox")]

INPUT, CACHED, OUTPUT = 200, 50, 800
CREDIT = 100_000_000


@pytest.fixture(scope="module")
def sandbox_models(installation: Installation) -> None:
    key = secrets.token_urlsafe(16)
    provider = installation.provider(key)
    options = {"base_url": f"{provider.url}/v1", "kind": "sandbox", "api_key": key}
    prices = {"input": INPUT, "cached_input": CACHED, "output": OUTPUT}
    installation.clerk.model(name="box-chat", upstream_name="gpt-4o-mini", prices=prices, **options)
    installation.clerk.model(
        name="box-embed", upstream_name="text-embedding-3-small", prices={"input": INPUT}, **options
    )


@pytest.fixture
def record(site: Installation) -> dict[str, Any]:
    made: dict[str, Any] = site.clerk.organization(name="box", credit_nanos=CREDIT)
    return made


@pytest.fixture
def sdk(record: dict[str, Any], sandbox_models: None, web: Service) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{web.url}/v1", api_key=record["secret"], timeout=60, max_retries=0) as client:
        yield client


def ask(sdk: OpenAI, text: str, **options: Any) -> Any:
    options.setdefault("max_tokens", 50)
    return sdk.chat.completions.create(model="box-chat", messages=[{"role": "user", "content": text}], **options)


def test_the_usage_that_the_provider_states_is_what_is_charged(
    site: Installation, sdk: OpenAI, record: dict[str, Any]
) -> None:
    answer = ask(sdk, "[[say=two pence; prompt-tokens=1000; cached-tokens=400; completion-tokens=7]]")
    assert answer.choices[0].message.content == "two pence"
    # 600 fresh tokens at 200, 400 cached at 50, 7 said at 800
    spent = 600 * 200 + 400 * 50 + 7 * 800
    assert spent == 145_600
    books.prove(site, record, credit=CREDIT, spent=spent)


def test_a_stream_and_embeddings(site: Installation, sdk: OpenAI, record: dict[str, Any]) -> None:
    options: Any = {"include_usage": True}
    chunks = list(ask(sdk, "[[words=9]]", stream=True, stream_options=options))
    assert len("".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices).split()) == 9
    usage = chunks[-1].usage
    vectors = sdk.embeddings.create(model="box-embed", input=["a", "b"])
    assert [item.index for item in vectors.data] == [0, 1]
    spent = usage.prompt_tokens * INPUT + usage.completion_tokens * OUTPUT + vectors.usage.prompt_tokens * INPUT
    books.prove(site, record, credit=CREDIT, spent=spent)


def test_a_fault_after_the_third_word_ends_the_stream_with_an_error_and_charges_what_came(
    site: Installation, sdk: OpenAI, record: dict[str, Any]
) -> None:
    heard: list[str] = []
    stream = ask(sdk, "[[words=20; reset=4]]", stream=True)
    with pytest.raises(openai.APIError) as caught:
        heard.extend(chunk.choices[0].delta.content or "" for chunk in stream)
    assert caught.value.code == "upstream_error"
    assert "".join(heard).strip()
    (row,) = books.usage(site, record["id"])
    assert row["estimated"]
    assert 0 < row["cost_nanos"] <= row["hold_nanos"]
    books.prove(site, record, credit=CREDIT, spent=row["cost_nanos"])


def test_a_provider_that_refuses_or_fails_costs_nothing(
    site: Installation, sdk: OpenAI, record: dict[str, Any]
) -> None:
    with pytest.raises(openai.BadRequestError):
        ask(sdk, "[[status=400]]")
    with pytest.raises(openai.InternalServerError) as failed:
        ask(sdk, "[[status=500]]")
    assert failed.value.status_code == 502
    books.prove(site, record, credit=CREDIT, spent=0)
