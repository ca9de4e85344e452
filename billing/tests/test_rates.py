"""The price book on PostgreSQL: rows that never change, dates that decide, whose word counts."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from billing import rates
from billing.price_list import Entry
from billing.price_models import Price
from billing.pricing import Usage, cost
from billing.rate_json import InvalidRates

pytestmark = pytest.mark.django_db


def entry(price: str, *, name: str = "m", **fields) -> Entry:
    return Entry(name=name, provider="", rates={"input": price}, **fields)


def price_of(name: str = "m") -> int:
    return rates.current_rates()[name].base.input // 1_000_000_000


def test_a_price_set_now_counts_now_and_is_its_own_version():
    row = rates.set_price(model="m", rates={"input": "1"}, source="contract of May")
    assert rates.current_rates()["m"].version == row.pk
    assert cost(Usage(input=5), rates.rate_of(row.pk)) == 5_000
    assert row.source == "contract of May"


def test_token_prices_may_be_given_in_nanos_per_million():
    rates.set_price(model="m", input=150_000_000, output=600_000_000)
    assert Price.objects.get().rates == {"input": "0.15", "output": "0.6"}
    with pytest.raises(InvalidRates, match="inptu"):
        rates.set_price(model="m", inptu=1)


def test_a_coming_price_waits_for_its_day():
    rates.set_price(model="m", rates={"input": "1"})
    day = timezone.now() + timedelta(days=1)
    rates.set_price(model="m", rates={"input": "2"}, effective_at=day)
    assert price_of() == 1
    assert rates.current_rates(day)["m"].base.input == 2_000_000_000
    assert rates.current_rates(day - timedelta(microseconds=1))["m"].base.input == 1_000_000_000


def test_the_past_is_not_priced_again():
    past = timezone.now() - timedelta(days=1)
    rates.set_price(model="m", rates={"input": "1"}, effective_at=past)
    with pytest.raises(rates.PriceInThePast):
        rates.set_price(model="m", rates={"input": "2"}, effective_at=timezone.now() - timedelta(seconds=1))


def test_a_model_without_a_price_is_in_no_book():
    assert rates.current_rates() == {}
    assert rates.current_rates(datetime(2000, 1, 1, tzinfo=UTC)) == {}
    with pytest.raises(rates.NoSuchPrice):
        rates.rate_of(5)


def test_wrong_prices_are_not_stored():
    with pytest.raises(InvalidRates):
        rates.set_price(model="m", rates={"input": 0.1})
    assert not Price.objects.exists()


def test_a_price_is_parsed_once():
    rates.set_price(model="m", rates={"input": "1"})
    first = rates.current_rates()["m"]
    assert rates.current_rates()["m"] is first
    rates.set_price(model="m", rates={"input": "2"})
    assert (first.base.input, rates.current_rates()["m"].base.input) == (1_000_000_000, 2_000_000_000)


def test_a_row_that_cannot_be_read_takes_only_its_own_model_off_sale():
    rates.set_price(model="m", rates={"input": "1"})
    Price.objects.create(model="broken", effective_at=timezone.now(), rates={"input": "x"})
    assert set(rates.current_rates()) == {"m"}


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE billing_price SET rates = '{}'",
        "UPDATE billing_price SET effective_at = now()",
        "DELETE FROM billing_price",
    ],
)
def test_postgresql_refuses_to_change_a_price(change):
    rates.set_price(model="m", rates={"input": "1"})
    with pytest.raises(IntegrityError, match="never changed"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(change)


def test_one_price_at_a_time_and_providers_on_costs_only():
    row = rates.set_price(model="m", rates={"input": "1"})
    for wrong in (
        {"model": "m", "effective_at": row.effective_at, "rates": {}},
        {"model": "n", "effective_at": row.effective_at, "rates": {}, "side": "sell", "provider": "p"},
        {"model": "n", "effective_at": row.effective_at, "rates": {}, "side": "cost", "provider": ""},
    ):
        with pytest.raises(IntegrityError), transaction.atomic():
            Price.objects.create(**wrong)


def test_costs_are_by_provider_and_its_own_name():
    rates.set_price(model="upstream-name", side="cost", provider="groq", rates={"input": "1"})
    assert list(rates.current_costs()) == [("groq", "upstream-name")]
    assert rates.current_rates() == {}


def test_loading_twice_adds_nothing():
    listed = [entry("1"), Entry(name="n", provider="p", rates={"input": "2"}, upstream_names={"p": "vendor/n"})]
    assert rates.load(listed) == rates.Loaded(added=3, unchanged=0)
    assert rates.load(listed) == rates.Loaded(added=0, unchanged=3)
    assert list(rates.current_costs()) == [("p", "vendor/n")]


def test_a_first_price_counts_from_the_lists_date_and_a_change_from_now():
    day = datetime(2026, 1, 1, tzinfo=UTC)
    rates.load([entry("1", effective_at=day)])
    before = timezone.now()
    rates.load([entry("2", effective_at=day)])
    first, second = Price.objects.order_by("effective_at")
    assert first.effective_at == day
    assert second.effective_at >= before
    assert rates.current_rates(day)["m"].version == first.pk
    assert price_of() == 2


def test_a_list_without_a_price_takes_none_away():
    rates.load([entry("1")])
    rates.load([Entry(name="m", provider="", rates=None), Entry(name="n", provider="p", rates=None)])
    assert price_of() == 1
    assert Price.objects.count() == 1


def test_staffs_price_stays_against_the_catalogue():
    rates.load([entry("1")])
    rates.set_price(model="m", rates={"input": "5"})
    rates.load([entry("1")])
    rates.load([entry("2")])
    assert price_of() == 5


def test_the_environment_overrides_until_staff_says_otherwise_and_it_changes_its_own_word():
    rates.load([entry("1")], overrides=[entry("3")])
    assert price_of() == 3
    rates.set_price(model="m", rates={"input": "5"})
    rates.load([entry("1")], overrides=[entry("3")])
    assert price_of() == 5
    rates.load([entry("1")], overrides=[entry("4")])
    assert price_of() == 4
    rates.load([entry("1")])
    assert price_of() == 5  # the setting is gone: what staff set stands


def test_after_the_environment_the_catalogue_counts_again_as_it_is_then():
    rates.load([entry("1")], overrides=[entry("3")])
    rates.load([entry("2")])
    assert price_of() == 2
    assert Price.objects.count() == 2


def test_an_operators_file_overrules_staff_only_where_it_changed():
    rates.load([entry("1")], origin="file")
    rates.set_price(model="m", rates={"input": "5"})
    rates.load([entry("1")], origin="file")
    assert price_of() == 5
    rates.load([entry("6")], origin="file")
    assert price_of() == 6


def test_every_new_price_is_told_to_the_gateways():
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE tgname = 'billing_price_notify'")
        (definition,) = cursor.fetchone()
    assert "AFTER INSERT ON" in definition
    assert "FOR EACH STATEMENT" in definition
