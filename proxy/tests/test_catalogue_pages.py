"""The public catalogue: filters, comparing, and the calculator's arithmetic."""

import re
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts import organizations
from accounts.tests.factories import UserFactory
from billing import rates
from billing.models import UsageSlice
from proxy import showcase
from proxy.tests import api_kit

pytestmark = pytest.mark.django_db


@pytest.fixture
def models() -> None:
    api_kit.model("cheap", owned_by="ada", capabilities=["tools"], context_window=8_000)
    api_kit.model("@cf/dear", owned_by="bob", capabilities=["tools", "vision"], context_window=200_000, priced=False)
    rates.set_price(model="@cf/dear", rates={"input": "10", "cached_input": "1", "output": "30"})
    api_kit.model("painter", modality="image", endpoints=["/v1/images/generations"], priced=False)
    rates.set_price(model="painter", rates={"units": {"image": "0.04"}})
    api_kit.model("unpriced", priced=False)
    api_kit.model("hidden", is_listed=False)


def _text(response: Any) -> str:
    assert response.status_code == 200
    return unescape(response.content.decode())


def _names(**query: Any) -> list[str]:
    response = Client().get(reverse("proxy:catalogue"), query)
    return [offer.name for offer in response.context["page"]]


@pytest.mark.usefixtures("models")
def test_only_what_is_served_listed_and_priced_is_shown() -> None:
    assert _names() == ["cheap", "@cf/dear", "painter"]  # by short name


@pytest.mark.usefixtures("models")
@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"q": "DEA"}, ["@cf/dear"]),
        ({"q": "bob"}, ["@cf/dear"]),
        ({"kind": "image"}, ["painter"]),
        ({"maker": "ada"}, ["cheap"]),
        ({"can": "tools"}, ["cheap", "@cf/dear"]),
        ({"can": ["tools", "vision"]}, ["@cf/dear"]),
        ({"most": "1"}, ["cheap"]),
        ({"most": "0.99"}, []),
        ({"sort": "price"}, ["cheap", "@cf/dear", "painter"]),
        ({"sort": "context"}, ["@cf/dear", "cheap", "painter"]),
        ({"kind": "nonsense", "most": "x", "page": "z"}, ["cheap", "@cf/dear", "painter"]),
    ],
)
def test_filters_narrow_and_nonsense_does_not_break(query: dict[str, Any], expected: list[str]) -> None:
    assert _names(**query) == expected


@pytest.mark.usefixtures("models")
def test_featured_makers_come_first_and_their_newest_before_all(settings: Any) -> None:
    settings.FEATURED_MAKERS = ("acme", "ada")
    ending = {"status": "deprecated"}
    for name, fields in {
        "acme-2-70b": {},
        "acme-10.5": {},
        "acme-9": ending,
        "acme-99-art": {},
        "@cf/acme-12": {},
    }.items():
        modality = "image" if "art" in name else "text"
        api_kit.model(name, owned_by="acme", modality=modality, **fields)
    assert _names() == [
        "acme-10.5", "acme-2-70b", "@cf/acme-12", "acme-99-art", "acme-9", "cheap", "@cf/dear", "painter",
    ]  # fmt: skip
    assert _names(sort="name")[:2] == ["acme-10.5", "@cf/acme-12"]
    assert [one.name for one in showcase.samples(showcase.offers(), 3)] == ["acme-10.5", "acme-99-art", "acme-2-70b"]


@pytest.mark.usefixtures("models")
def test_what_ones_organizations_used_lately_comes_before_all(settings: Any) -> None:
    settings.FEATURED_MAKERS = ("bob",)
    user = UserFactory()
    for organization, model, requests, ago in (
        (organizations.create(name="Mine", owner=user), "painter", 2, 1),
        (organizations.create(name="Also", owner=user), "cheap", 1, 29),
        (organizations.create(name="Mine too", owner=user), "@cf/dear", 9, 31),
        (organizations.create(name="Theirs"), "@cf/dear", 9, 1),
    ):
        at = timezone.now() - timedelta(days=ago)
        dimensions = {"slice": "model", "grain": "day", "starts_at": at, "model": model}
        UsageSlice.objects.create(organization=organization, requests=requests, **dimensions)
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    page = client.get(reverse("proxy:catalogue"))
    assert [offer.name for offer in page.context["page"]] == ["painter", "cheap", "@cf/dear"]
    assert "Cookie" in page["vary"]
    assert _names() == ["@cf/dear", "cheap", "painter"]


@pytest.mark.usefixtures("models")
def test_a_filter_of_htmx_gets_the_rows_alone() -> None:
    page = _text(Client().get(reverse("proxy:catalogue"), {"q": "cheap"}, headers={"HX-Request": "true"}))
    assert "<html" not in page
    assert "cheap" in page


@pytest.mark.usefixtures("models")
def test_what_was_ticked_stays_ticked_while_filtering() -> None:
    page = _text(Client().get(reverse("proxy:catalogue"), {"q": "cheap", "c": ["cheap", "painter", "gone"]}))
    assert re.search(r'name="c" value="cheap" form="filters" checked', page)
    assert '<input type="hidden" form="filters" name="c" value="painter">' in page
    assert "2 of 4 chosen" in page


@pytest.mark.usefixtures("models")
def test_at_most_four_are_compared() -> None:
    for number in range(3):
        api_kit.model(f"more-{number}")
    names = ["cheap", "@cf/dear", "painter", "more-0", "more-1", "cheap", "nobody"]
    response = Client().get(reverse("proxy:compare"), {"c": names})
    assert [offer.name for offer in response.context["offers"]] == names[:4]
    assert response.context["left_out"] == 1
    assert "$0.04" in _text(response)
    assert "Nothing to compare yet" in _text(Client().get(reverse("proxy:compare")))


@pytest.mark.usefixtures("models")
def test_the_calculator_charges_as_the_gateway_does() -> None:
    query = {"input": "1000", "cached_input": "400", "output": "100", "requests": "50"}
    response = Client().get(reverse("proxy:model", args=["@cf/dear"]), query)
    (estimate,) = response.context["estimates"]
    # 600 × 10,000 + 400 × 1,000 + 100 × 30,000 n$ = 9,400,000 n$
    assert (estimate.request, estimate.day, estimate.month) == (9_400_000, 470_000_000, 14_100_000_000)
    assert "$14.10" in _text(response)
    images = Client().get(reverse("proxy:model", args=["painter"]), {"images": "3", "requests": "1"})
    assert images.context["estimates"][0].request == 120_000_000  # 3 × $0.04


@pytest.mark.usefixtures("models")
@pytest.mark.parametrize("count", ["-1", "x", "99999999999", "1.5"])
def test_a_wrong_quantity_is_said(count: str) -> None:
    response = Client().get(reverse("proxy:model", args=["cheap"]), {"input": count})
    assert response.context["estimates"] == []
    assert "Whole numbers" in _text(response)


@pytest.mark.usefixtures("models")
def test_beside_each_other_each_model_counts_what_it_has() -> None:
    query = {"c": ["cheap", "painter"], "input": "1000", "output": "0", "images": "2", "requests": "1"}
    estimates = Client().get(reverse("proxy:compare"), query).context["estimates"]
    # 1,000 tokens × 1,000 n$; 2 × $0.04
    assert [(one.offer.name, one.request) for one in estimates] == [("cheap", 1_000_000), ("painter", 80_000_000)]


@pytest.mark.usefixtures("models")
def test_more_cached_than_sent_counts_as_all_of_it() -> None:
    query = {"input": "10", "cached_input": "99", "output": "0", "requests": "1"}
    response = Client().get(reverse("proxy:model", args=["@cf/dear"]), query)
    assert response.context["estimates"][0].request == 10_000  # 10 × 1,000 n$


def test_another_name_of_a_model_leads_to_it_and_no_name_to_nothing() -> None:
    api_kit.model("m", snapshots=["m-2026-01-01"])
    assert "m-2026-01-01" in _text(Client().get(reverse("proxy:model", args=["m-2026-01-01"])))
    assert Client().get(reverse("proxy:model", args=["unknown"])).status_code == 404


def test_long_context_and_tiers_are_on_the_page() -> None:
    api_kit.model("long", priced=False)
    table = {
        "input": "2", "output": "8", "tiers": {"priority": {"input": "4", "output": "16"}},
        "long_context": {"threshold": 200_000, "input": "3", "output": "12"},
    }  # fmt: skip
    rates.set_price(model="long", rates=table)
    page = _text(Client().get(reverse("proxy:model", args=["long"])))
    assert "more than 200,000 input tokens" in page
    assert "$16.00" in page


def test_the_catalogue_needs_few_queries(django_assert_max_num_queries: Any) -> None:
    for number in range(12):
        api_kit.model(f"model-{number}")
    for name, args in (("catalogue", []), ("model", ["model-1"]), ("compare", [])):
        with django_assert_max_num_queries(5):
            Client().get(reverse(f"proxy:{name}", args=args), {"c": ["model-1", "model-2"]})


def test_an_empty_catalogue_says_so() -> None:
    assert "No models on offer yet" in _text(Client().get(reverse("proxy:catalogue")))
