"""The official SDK, a real socket, the gateway, a real llama.cpp server: what comes back, and what it costs.

Prices are set here in nano-dollars per token, so that every expected charge can be worked out by hand from the usage
that the answer itself states. The tiny model says exactly `max_tokens` tokens.
"""

import base64
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI

from config.tests import books
from config.tests.processes import Installation, Service

pytestmark = [pytest.mark.processes, pytest.mark.xdist_group("sdk")]

CREDIT = 50_000_000  # 5 credits
INPUT, CACHED, OUTPUT = 300, 100, 1_200
EMBEDDING = 20
MESSAGES: Any = [{"role": "user", "content": "What is a penny saved? ü €"}]


@dataclass
class Customer:
    """An organization, its SDK client, and what it must have spent by now."""

    site: Installation
    record: dict[str, Any]
    client: OpenAI
    spent: int = 0
    requests: list[str] = field(default_factory=list)

    def owes(self, usage: Any) -> int:
        """Add the price of a usage object to what is owed, worked out from the prices above; returns it."""
        cached = usage.prompt_tokens_details.cached_tokens if usage.prompt_tokens_details else 0
        cost = (usage.prompt_tokens - cached) * INPUT + cached * CACHED + usage.completion_tokens * OUTPUT
        self.spent += cost
        return int(cost)

    def rows(self) -> list[dict[str, Any]]:
        return books.usage(self.site, self.record["id"])

    def prove(self) -> None:
        books.prove(self.site, self.record, credit=CREDIT, spent=self.spent)


@pytest.fixture(scope="session")
def llama_models(installation: Installation, llama: Service, llama_embeddings: Service) -> None:
    clerk = installation.clerk
    prices = {"input": INPUT, "cached_input": CACHED, "output": OUTPUT}
    clerk.model(name="tiny-chat", base_url=f"{llama.url}/v1", upstream_name="tiny-llama", prices=prices)
    prices = {"input": EMBEDDING}
    clerk.model(name="tiny-embed", base_url=f"{llama_embeddings.url}/v1", upstream_name="tiny-llama", prices=prices)


@pytest.fixture
def customer(site: Installation, llama_models: None, web: Service) -> Iterator[Customer]:
    record = site.clerk.organization(name="sdk", credit_nanos=CREDIT)
    with OpenAI(base_url=f"{web.url}/v1", api_key=record["secret"], timeout=60, max_retries=0) as client:
        yield Customer(site, record, client)


@pytest.fixture
def sdk(customer: Customer) -> OpenAI:
    return customer.client


def test_a_plain_answer_costs_what_its_usage_says(customer: Customer, sdk: OpenAI) -> None:
    raw = sdk.chat.completions.with_raw_response.create(model="tiny-chat", messages=MESSAGES, max_tokens=12)
    answer = raw.parse()
    assert answer.model
    assert answer.choices[0].finish_reason == "length"
    assert len((answer.choices[0].message.content or "").split()) == 12
    assert answer.usage
    assert answer.usage.completion_tokens == 12
    cost = customer.owes(answer.usage)

    (row,) = books.usage_of(customer.site, raw.headers["x-request-id"])
    assert (row["cost_nanos"], row["outcome"], row["estimated"], row["stream"]) == (cost, "completed", False, False)
    assert (row["input_tokens"], row["output_tokens"]) == (answer.usage.prompt_tokens, 12)
    assert row["hold_nanos"] >= cost
    # 1 credit is 10,000,000 nano-dollars; what is shown is exact or rounded, never a credit off.
    assert float(raw.headers["x-cost-credits"]) == pytest.approx(cost / 10_000_000, abs=1e-4)
    assert float(raw.headers["x-credits-remaining"]) == pytest.approx((CREDIT - cost) / 10_000_000, abs=1e-4)
    customer.prove()


@pytest.mark.parametrize("asks", [True, False, None], ids=["include_usage", "include_usage false", "no stream_options"])
def test_a_stream_shows_its_usage_only_to_those_who_ask(customer: Customer, sdk: OpenAI, asks: bool | None) -> None:
    options: Any = {} if asks is None else {"stream_options": {"include_usage": asks}}
    with sdk.chat.completions.create(
        model="tiny-chat", messages=MESSAGES, max_tokens=20, stream=True, **options
    ) as stream:
        request_id = stream.response.headers["x-request-id"]
        chunks = list(stream)

    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert len(text.split()) == 20
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "length"
    (row,) = books.usage_of(customer.site, request_id)
    assert (row["outcome"], row["estimated"], row["stream"], row["output_tokens"]) == ("completed", False, True, 20)
    if asks:
        *content, last = chunks
        assert last.choices == []
        assert last.usage
        assert all(chunk.choices for chunk in content)
        assert row["cost_nanos"] == customer.owes(last.usage)
    else:
        assert all(chunk.choices for chunk in chunks)
        assert all(chunk.usage is None for chunk in chunks)
        fresh = row["input_tokens"] - row["cached_tokens"]
        customer.spent = fresh * INPUT + row["cached_tokens"] * CACHED + 20 * OUTPUT
        assert row["cost_nanos"] == customer.spent
    customer.prove()


def test_several_choices_are_charged_as_the_upstream_counts_them(customer: Customer, sdk: OpenAI) -> None:
    answer = sdk.chat.completions.create(model="tiny-chat", messages=MESSAGES, max_tokens=9, n=2)
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert all(len((choice.message.content or "").split()) == 9 for choice in answer.choices)
    assert answer.usage
    # This llama.cpp states the tokens of one choice only; who says less than he made is paid less.
    assert answer.usage.completion_tokens in {9, 18}
    customer.owes(answer.usage)
    (row,) = customer.rows()
    assert row["hold_nanos"] >= 18 * OUTPUT
    customer.prove()


def test_legacy_completions_plain_and_streamed(customer: Customer, sdk: OpenAI) -> None:
    answer = sdk.completions.create(model="tiny-chat", prompt="Once there was", max_tokens=5)
    assert len(answer.choices[0].text.split()) == 5
    customer.owes(answer.usage)
    default = sdk.completions.create(model="tiny-chat", prompt="Once there was", max_tokens=16)  # OpenAI's default
    assert default.usage
    customer.owes(default.usage)

    options: Any = {"include_usage": True}
    chunks = list(
        sdk.completions.create(
            model="tiny-chat", prompt="Once there was", max_tokens=6, stream=True, stream_options=options
        )
    )
    assert len("".join(chunk.choices[0].text for chunk in chunks if chunk.choices).split()) == 6
    assert chunks[-1].usage
    customer.owes(chunks[-1].usage)
    customer.prove()


def test_embeddings_as_floats_and_as_base64_are_the_same_vectors(customer: Customer, sdk: OpenAI) -> None:
    texts = ["a penny", "two pounds and a shilling"]
    by_default = sdk.embeddings.create(model="tiny-embed", input=texts)  # the SDK asks for base64 and decodes it
    floats = sdk.embeddings.create(model="tiny-embed", input=texts, encoding_format="float")
    packed = sdk.embeddings.create(model="tiny-embed", input=texts, encoding_format="base64")
    assert [item.index for item in floats.data] == [0, 1]
    for one, two, three in zip(by_default.data, floats.data, packed.data, strict=True):
        assert len(two.embedding) == 64
        assert math.isclose(sum(x * x for x in two.embedding), 1.0, rel_tol=1e-4)
        raw = base64.b64decode(str(three.embedding))
        assert one.embedding == pytest.approx(two.embedding, rel=1e-5)
        assert struct.unpack(f"<{len(raw) // 4}f", raw) == pytest.approx(two.embedding, rel=1e-5)
    for answer in (by_default, floats, packed):
        assert answer.usage.total_tokens == answer.usage.prompt_tokens > 0
        customer.spent += answer.usage.prompt_tokens * EMBEDDING
    customer.prove()


def test_the_models_are_listed_and_found_one_by_one(customer: Customer, sdk: OpenAI) -> None:
    names = {model.id for model in sdk.models.list()}
    assert {"tiny-chat", "tiny-embed"} <= names
    assert sdk.models.retrieve("tiny-chat").owned_by == "test"
    with pytest.raises(openai.NotFoundError):
        sdk.models.retrieve("no-such-model")
    customer.prove()


def test_a_wrong_key_is_401_and_costs_nothing(customer: Customer, sdk: OpenAI) -> None:
    secret = customer.record["secret"]
    for wrong in ("sk-wrong", secret[:-1] + ("a" if secret[-1] != "a" else "b"), secret + "x"):
        with pytest.raises(openai.AuthenticationError) as caught:
            sdk.with_options(api_key=wrong).chat.completions.create(model="tiny-chat", messages=MESSAGES)
        assert caught.value.code == "invalid_api_key"
        assert caught.value.request_id
        assert wrong not in caught.value.message
    assert customer.rows() == []


def test_an_unknown_model_is_404_and_costs_nothing(customer: Customer, sdk: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        sdk.chat.completions.create(model="gpt-none", messages=MESSAGES)
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    customer.prove()


def test_an_empty_balance_is_429_insufficient_quota_after_one_attempt(site: Installation, customer: Customer) -> None:
    poor = site.clerk.organization(name="poor")
    attempts: list[httpx.Request] = []

    class Counting(openai.DefaultHttpxClient):
        def send(self, request: Any, **options: Any) -> Any:
            attempts.append(request)
            return super().send(request, **options)

    with OpenAI(base_url=customer.client.base_url, api_key=poor["secret"], http_client=Counting()) as client:
        assert client.max_retries == 2
        for stream in (False, True):
            attempts.clear()
            with pytest.raises(openai.RateLimitError) as caught:
                client.chat.completions.create(model="tiny-chat", messages=MESSAGES, max_tokens=5, stream=stream)
            assert (caught.value.code, caught.value.type) == ("insufficient_quota", "insufficient_quota")
            assert caught.value.response.headers["x-should-retry"] == "false"
            assert len(attempts) == 1
    assert all(row["cost_nanos"] == 0 for row in books.usage(site, poor["id"]))
    books.prove(site, poor, credit=0, spent=0)


def test_a_balance_too_small_for_the_default_still_buys_a_shorter_answer(
    site: Installation, customer: Customer
) -> None:
    """Without a limit of its own a request may use 4,096 tokens, or what the balance affords."""
    credit = 200 * INPUT + 40 * OUTPUT
    thrifty = site.clerk.organization(name="thrifty", credit_nanos=credit)
    with OpenAI(base_url=customer.client.base_url, api_key=thrifty["secret"], max_retries=0) as client:
        answer = client.chat.completions.create(model="tiny-chat", messages=MESSAGES)
    assert answer.usage
    assert 16 <= answer.usage.completion_tokens <= 90
    customer.spent = 0
    spent = customer.owes(answer.usage)
    assert spent <= credit
    books.prove(site, thrifty, credit=credit, spent=spent)


def test_a_repeat_under_the_same_idempotency_key_is_answered_and_not_charged(customer: Customer, sdk: OpenAI) -> None:
    def ask(text: str) -> Any:
        return sdk.chat.completions.create(
            model="tiny-chat",
            messages=[{"role": "user", "content": text}],
            max_tokens=10,
            extra_headers={"Idempotency-Key": "order-66"},
        )

    first, second = ask("once"), ask("once")
    assert first == second
    customer.owes(first.usage)
    with pytest.raises(openai.ConflictError):
        ask("another body")
    assert len([row for row in customer.rows() if row["cost_nanos"]]) == 1
    customer.prove()


def test_unmetered_paths_and_wrong_methods_are_json_errors(customer: Customer, sdk: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        sdk.post("/files", cast_to=object, body={})
    assert missing.value.code == "unknown_url"
    with pytest.raises(openai.APIStatusError) as wrong:
        sdk.get("/chat/completions", cast_to=object)
    assert (wrong.value.status_code, wrong.value.code) == (405, "method_not_supported")
    customer.prove()


def test_the_books_prove_everything_that_was_spent_here(customer: Customer, sdk: OpenAI) -> None:
    """The journey in one: several calls, then the balance has fallen by the sum, and `manage.py reconcile` agrees."""
    for tokens in (1, 7, 30):
        answer = sdk.chat.completions.create(model="tiny-chat", messages=MESSAGES, max_tokens=tokens)
        customer.owes(answer.usage)
    options: Any = {"include_usage": True}
    for chunk in sdk.chat.completions.create(
        model="tiny-chat", messages=MESSAGES, max_tokens=25, stream=True, stream_options=options
    ):
        if chunk.usage:
            customer.owes(chunk.usage)
    vectors = sdk.embeddings.create(model="tiny-embed", input="a penny")
    customer.spent += vectors.usage.prompt_tokens * EMBEDDING
    assert len(customer.rows()) == 5
    customer.prove()
    done = customer.site.manage("reconcile")
    assert done.returncode == 0
